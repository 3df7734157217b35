"""When did the last packet arrive here? A packet socket inside a host, read on a thread.

The kernel stamps each frame (SO_TIMESTAMPNS), so a busy reader does not shift the answer.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from wardgate.lab.host import Host

_ETH_P_IP = 0x0800
_OUTGOING = 4
_SO_TIMESTAMPNS = 35
_TCP = 6


class PacketWatch:
    """Counts TCP packets that reach one port of a host from outside; `last_at` is Unix seconds of the newest."""

    def __init__(self, host: Host, port: int, interface: str = "eth0") -> None:
        self.count = 0
        self.last_at = 0.0
        self._port = port
        self._socket = host.inside(lambda: _packet_socket(interface))
        self._running = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = False
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while self._running:
            try:
                packet, ancillary, _flags, address = self._socket.recvmsg(128, 64)
            except TimeoutError:
                continue
            if address[2] == _OUTGOING or not self._is_wanted(packet):
                continue
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
            self.count += 1
            self.last_at = seconds + nanoseconds / 1e9

    def _is_wanted(self, packet: bytes) -> bool:
        header_size = (packet[0] & 0x0F) * 4
        if packet[9] != _TCP:
            return False
        return int.from_bytes(packet[header_size + 2 : header_size + 4], "big") == self._port


def _packet_socket(interface: str) -> socket.socket:
    # Without the link's header, which a TUN device has not.
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    packets.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    packets.bind((interface, _ETH_P_IP))
    packets.settimeout(0.1)
    return packets
