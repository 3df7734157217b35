"""Ports for servers that must be told one."""

import os
import random
import socket
from contextlib import suppress

_DICE = random.Random(os.getpid())


def free_port() -> int:
    """Return a port on which nobody listens on loopback, over TCP or UDP.

    It is below those that the kernel gives to outgoing connections, so that none of those is in its place by the time
    the server begins.
    """
    while True:
        port = _DICE.randrange(20_000, 32_768)
        with suppress(OSError), socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            stream.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
            return port
