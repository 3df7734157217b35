"""Relay entries of a message, merged per relay (control-plane-protocol §5.5).

A dual-stack relay comes as two adjacent entries of one id. Entries of one id that do not follow each other are two
relays to the official peers; the later one replaces the earlier.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from wardgate.model.addresses import IpAddress
from wardgate.model.ids import RelayId
from wardgate.wire.messages import Relay, TurnRelay


@dataclass(frozen=True, slots=True)
class RelayServer:
    """One relay with an address per family it has."""

    id: RelayId
    ipv4: tuple[IPv4Address, int] | None
    ipv6: tuple[IPv6Address, int] | None
    username: str
    password: str = field(repr=False)
    expires_at_unix: int

    @property
    def socket_addresses(self) -> tuple[str, ...]:
        """`"192.0.2.1:3478"` and `"[2001:db8::1]:3478"`, IPv4 first."""
        return tuple(socket_address(*one) for one in (self.ipv4, self.ipv6) if one is not None)


def merge_relay_entries(entries: Iterable[Relay]) -> tuple[RelayServer, ...]:
    """Merge adjacent entries of one relay; STUN entries and unreadable addresses are left out."""
    merged: list[RelayServer] = []
    for entry in entries:
        server = _server(entry) if isinstance(entry, TurnRelay) else None
        if server is None:
            continue
        if merged and merged[-1].id == server.id:
            last = merged.pop()
            server = RelayServer(
                server.id,
                server.ipv4 or last.ipv4,
                server.ipv6 or last.ipv6,
                server.username,
                server.password,
                server.expires_at_unix,
            )
        merged.append(server)
    by_id = {server.id: server for server in merged}
    return tuple(by_id.values())


def socket_address(address: IpAddress, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def parse_socket_address(text: str) -> tuple[IpAddress, int]:
    """Parse `"192.0.2.1:3478"` or `"[2001:db8::1]:3478"`.

    Raises:
        ValueError: anything else.
    """
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port_text.isascii() or not port_text.isdecimal() or not 0 < int(port_text) < 65536:
        raise ValueError(f"{text!r} is no address with a port")
    address = ip_address(host[1:-1] if bracketed else host)
    if bracketed != (address.version == 6) or "%" in host:
        raise ValueError(f"{text!r} is no address with a port")
    return address, int(port_text)


def _server(entry: TurnRelay) -> RelayServer | None:
    try:
        address, port = parse_socket_address(entry.addr)
    except ValueError:
        return None
    return RelayServer(
        entry.id,
        (address, port) if isinstance(address, IPv4Address) else None,
        (address, port) if isinstance(address, IPv6Address) else None,
        entry.username,
        entry.password,
        entry.expires_at,
    )
