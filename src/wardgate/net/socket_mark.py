"""The firewall mark of our own sockets: it takes them past the tunnel's routing rules (data-plane §6.2)."""

import socket
import sys
from typing import Final

SOCKET_MARK: Final = (
    0xFD002021  # the published client's, so that the two recognise each other's sockets on one host
)


def mark_option(mark: int) -> bytes:
    """The value for `setsockopt(SOL_SOCKET, SO_MARK)`: 4 bytes, native order; as an integer it would not fit
    C's int.
    """
    return mark.to_bytes(4, sys.byteorder)


def set_mark(own_socket: socket.socket, mark: int) -> None:
    own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark_option(mark))
