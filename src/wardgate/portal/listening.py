"""The socket that a portal listens on."""

import socket

from wardgate.portal.strangers import Listener


def listen(host: str, port: int) -> Listener:
    """Bind the listener before anything else is set up.

    Raises:
        OSError: the port is in use, the address is not ours, or the port needs a privilege.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns off the delay of small writes (Nagle) only where it is: 40
    # ms an answer otherwise.
    listener = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # One socket for both families when everything is listened on.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen()
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def any_address() -> str:
    """Return the host that stands for every address of this machine, of both families where there are both."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"  # noqa: S104 - that is what is asked for
    return "::"
