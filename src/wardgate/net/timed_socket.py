"""A socket that knows when the kernel was given what is sent, and when it had what is read.

With it a load generator measures a server by what passed on the wire: a process with thousands of connections comes to
read late what arrived long before, and that is not the server's doing.
"""

import socket
import struct
import time
from typing import Final

_SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h: x86-64, arm64 and RISC-V; Python has no name for it
_TIMESPEC: Final = struct.Struct("@ll")  # seconds, nanoseconds of CLOCK_REALTIME


class TimedSocket(socket.socket):
    """A TCP socket, as asyncio uses it.

    Attributes:
        sent_at: Unix seconds of the last call of `send`; 0 before that.
        received_at: Unix seconds at which the kernel had the end of what was read last; 0 before that.
    """

    __slots__ = ("received_at", "sent_at")

    def __init__(self, family: int, type_: int) -> None:
        super().__init__(family, type_)
        self.sent_at = self.received_at = 0.0
        self.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]  # any buffer; asyncio gives these
        self.sent_at = time.time()
        return super().send(data, flags)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data, ancillary, _flags, _address = self.recvmsg(size, socket.CMSG_SPACE(_TIMESPEC.size), flags)
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                self.received_at = seconds + nanoseconds / 1e9
        return data
