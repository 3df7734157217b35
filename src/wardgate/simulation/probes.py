"""UDP probes over IPv4: what simulated programs send, and how what comes back is read."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

_ICMP: Final = 1
_UDP: Final = 17
_ICMP_UNREACHABLE: Final = 3
_ICMP_PROHIBITED: Final = 13


@dataclass(frozen=True)
class Probe:
    """A UDP datagram with an 8-byte identity as payload."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    identity: int

    def encode(self) -> bytes:
        """The IPv4 packet."""
        payload = self.identity.to_bytes(8, "big")
        length = 8 + len(payload)
        udp = struct.pack("!HHHH", self.source_port, self.destination_port, length, 0) + payload
        source, destination = (
            ipaddress.IPv4Address(self.source).packed,
            ipaddress.IPv4Address(self.destination).packed,
        )
        checksum = _checksum(source + destination + struct.pack("!BBH", 0, _UDP, length) + udp) or 0xFFFF
        udp = udp[:6] + checksum.to_bytes(2, "big") + udp[8:]
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0x4000, 64, _UDP, 0, source, destination
        )
        return header[:10] + _checksum(header).to_bytes(2, "big") + header[12:] + udp

    def reply(self) -> Probe:
        """The same identity on its way back."""
        return Probe(self.destination, self.source, self.destination_port, self.source_port, self.identity)


@dataclass(frozen=True)
class Refused:
    """An ICMP error: which packet it quotes, and whether it says "administratively prohibited"."""

    source_port: int
    destination: str
    is_prohibited: bool


class WrongChecksum(Exception):
    """A packet left the engine damaged."""


def parse(packet: bytes) -> Probe | Refused | None:
    """Read a packet that came out of an engine; None for other traffic. Raises WrongChecksum."""
    if packet[0] >> 4 != 4:  # IP version
        return None
    header_size = (packet[0] & 0x0F) * 4
    if _checksum(packet[:header_size]):
        raise WrongChecksum("IPv4 header")
    source, destination = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
    body = packet[header_size:]
    if packet[9] == _UDP:
        if _checksum(packet[12:20] + struct.pack("!BBH", 0, _UDP, len(body)) + body):
            raise WrongChecksum("UDP")
        source_port, destination_port = struct.unpack("!HH", body[:4])
        return Probe(source, destination, source_port, destination_port, int.from_bytes(body[8:16], "big"))
    if packet[9] == _ICMP and body[0] == _ICMP_UNREACHABLE:
        if _checksum(body):
            raise WrongChecksum("ICMP")
        quoted = body[8:]
        quoted_header = (quoted[0] & 0x0F) * 4
        (port,) = struct.unpack("!H", quoted[quoted_header : quoted_header + 2])
        return Refused(port, str(ipaddress.IPv4Address(quoted[16:20])), body[1] == _ICMP_PROHIBITED)
    return None


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
