"""Whether the host's way into the network has changed, so that a session over the old one is no longer worth
waiting for.

The kernel is asked how it would send to a few addresses. That sees a new default route, another interface and
another address, and does not see what does not concern us: containers that come and go, temporary IPv6
addresses that retire while theirs still work.
"""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from wardgate.model.addresses import IpAddress
from wardgate.net.netlink import Hop, Kernel
from wardgate.net.socket_mark import SOCKET_MARK

# Nothing is sent to these; they stand for "anywhere" (RFC 5737, RFC 3849).
_ANYWHERE: Final = (IPv4Address("198.51.100.1"), IPv6Address("2001:db8::1"))

Hops = Mapping[IpAddress, Hop | None]


class NetworkPath:
    """Remembers how the host's sockets reach the portal and the rest of the world."""

    def __init__(self, kernel: Kernel, destinations: Callable[[], Iterable[IpAddress]]) -> None:
        self._kernel = kernel
        self._destinations = destinations
        self._hops: Hops = {}

    async def has_moved(self) -> bool:
        """Look again, and compare with the last time."""
        before = self._hops
        self._hops = {
            destination: await self._kernel.hop(destination, mark=SOCKET_MARK)
            for destination in (*self._destinations(), *_ANYWHERE)
        }
        return has_moved(before, self._hops, present=await self._kernel.addresses(None))


def has_moved(before: Hops, after: Hops, *, present: frozenset[str]) -> bool:
    """Whether any destination of both is reached in another way than before; one that is out of reach now is
    nothing to act upon.
    """
    return any(
        _is_other(before[destination], hop, present)
        for destination, hop in after.items()
        if hop is not None and destination in before
    )


def _is_other(before: Hop | None, after: Hop, present: frozenset[str]) -> bool:
    if before is None:
        return True
    if (before.interface, before.gateway) != (after.interface, after.gateway):
        return True
    return before.source != after.source and before.source not in present
