"""How many connections there may be: in all, and of one address for those that have proved nothing yet.

Connections are counted where they are accepted, before TLS, and leave the count of their address when a token
has been found good. A trusted proxy speaks for many people: its own address is not counted, bounding each of
them is the proxy's work (docs/deploy/).
"""

import socket
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

from wardgate.model.addresses import normalized, parse_ip

MAX_OF_ONE_ADDRESS: Final = 1024
"""An office behind one address, all of it connecting anew at once; at 64 KiB a head, 64 MiB."""

_IPV6_SITE_BITS: Final = 64
"""One subscriber has at least as many addresses as these leave open (RFC 6177)."""

ACCEPTED_AT_ONCE: Final = 16
"""Each takes a fifth of a millisecond to be set up; then others have their turn."""

_REFUSED_AT_ONCE: Final = 64
_WAITING: Final = 2048
"""Connections that the kernel keeps until they are accepted."""


class Gate:
    """Counts connections by what is their own while they are open (the descriptor); a request that runs beside
    others on one connection counts as one more.
    """

    def __init__(
        self,
        *,
        most: int,
        most_of_one: int,
        trusted: Sequence[IPv4Network | IPv6Network],
        counters: "Counter[str]",
    ) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._trusted = trusted
        self._counters = counters
        self._open: dict[Hashable, str | None] = {}
        self._unproven: Counter[str] = Counter()

    def admit(self, number: Hashable, address: str) -> bool:
        """Count a new connection, if there may be one more."""
        key = self._key(address)
        if len(self._open) >= self._most or (key is not None and self._unproven[key] >= self._most_of_one):
            self._counters["connections_refused"] += 1
            return False
        self._open[number] = key
        if key is not None:
            self._unproven[key] += 1
        return True

    def prove(self, number: Hashable) -> None:
        """Count a connection no longer against its address: whoever is there has shown a good token."""
        if number in self._open:
            self._forget_address(number)
            self._open[number] = None

    def release(self, number: Hashable) -> None:
        if number in self._open:
            self._forget_address(number)
            del self._open[number]

    def _forget_address(self, number: Hashable) -> None:
        key = self._open[number]
        if key is not None:
            self._unproven[key] -= 1
            if not self._unproven[key]:
                del self._unproven[key]

    def _key(self, address: str) -> str | None:
        """Return the address that a connection counts against; None if it counts against none."""
        ip = normalized(parse_ip(address.partition("%")[0]))
        if any(ip in network for network in self._trusted):
            return None
        if isinstance(ip, IPv6Address):
            return str(IPv6Network((ip, _IPV6_SITE_BITS), strict=False))
        return str(ip)


class Listener(socket.socket):
    """A listening socket; with a gate it closes at once what the gate does not admit."""

    gate: Gate | None = None

    def listen(self, _backlog: int = 0, /) -> None:
        """Listen, whatever number is named: asyncio names the one that it accepts at once, and the kernel is
        to keep more.
        """
        super().listen(_WAITING)

    def accept(self) -> tuple[socket.socket, Any]:
        for _ in range(_REFUSED_AT_ONCE):
            connection, address = super().accept()
            if self.gate is None:
                return connection, address
            if self.gate.admit(connection.fileno(), address[0]):
                return _Admitted(connection, self.gate.release), address
            connection.close()
        # Others have their turn before more of these.
        raise BlockingIOError


class _Admitted(socket.socket):
    """A connection that tells when it is closed."""

    def __init__(self, connection: socket.socket, release: Callable[[int], None]) -> None:
        self._release = release
        family, kind, protocol = connection.family, connection.type, connection.proto
        super().__init__(family, kind, protocol, fileno=connection.detach())

    def close(self) -> None:
        number = self.fileno()
        super().close()
        if number >= 0:
            self._release(number)
