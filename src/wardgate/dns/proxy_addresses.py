"""Proxy addresses: the stand-ins that the client hands out for names of DNS resources (data-plane §3, §4.5).

On its first query a name gets four IPv4 and four IPv6 addresses, in sequence, and keeps them. At most
`MAX_NAMES` are known: when there are more, the one asked for longest ago is forgotten. Addresses of a
forgotten name are not used again before the whole range has been. A gateway recognises a restarted client by
an address that changed its name and then resets that client's translations (§5.4); early reuse within one
process would do the same.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice
from typing import Final, Generic, TypeVar

from wardgate.model.addresses import PROXY_IPV4, PROXY_IPV6, SENTINEL_IPV4, SENTINEL_IPV6, IpAddress

MAX_NAMES: Final = 4096  # ours
ADDRESSES_PER_NAME: Final = 4  # of each family; an AssignedIps message with another count is refused (§4.8)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proxies:
    """The addresses of one name, ascending; shorter than `ADDRESSES_PER_NAME` only when a pool ran dry."""

    ipv4: tuple[IPv4Address, ...]
    ipv6: tuple[IPv6Address, ...]


class ProxyAddresses:
    """The book of assigned addresses. Names are lower case without trailing dot."""

    def __init__(
        self, *, ipv4: IPv4Network = PROXY_IPV4, ipv6: IPv6Network = PROXY_IPV6, max_names: int = MAX_NAMES
    ) -> None:
        self._ipv4: _Sequence[IPv4Address] = _Sequence(lambda after: _unassigned_ipv4(ipv4, after))
        self._ipv6: _Sequence[IPv6Address] = _Sequence(lambda after: _unassigned_ipv6(ipv6, after))
        self._max_names = max_names
        self._by_name: OrderedDict[str, Proxies] = OrderedDict()  # the one asked for longest ago first
        self._names: dict[IpAddress, str] = {}

    def assign(self, name: str) -> Proxies:
        """Return the addresses of a name, drawing them if it has none yet."""
        known = self.touch(name)
        if known is not None:
            return known
        ipv4 = self._ipv4.draw(self._names)
        ipv6 = self._ipv6.draw(self._names)
        if len(ipv4) < ADDRESSES_PER_NAME or len(ipv6) < ADDRESSES_PER_NAME:
            log.warning("proxy addresses are exhausted; restart the client to number anew")
        proxies = self._by_name[name] = Proxies(ipv4, ipv6)
        self._names.update(dict.fromkeys((*ipv4, *ipv6), name))
        return proxies

    def forget_surplus(self) -> tuple[str, ...]:
        """Forget the names asked for longest ago if there are too many; returns them."""
        surplus = max(0, len(self._by_name) - self._max_names)
        forgotten = tuple(islice(self._by_name, surplus))
        for name in forgotten:
            proxies = self._by_name.pop(name)
            addresses: tuple[IpAddress, ...] = (*proxies.ipv4, *proxies.ipv6)
            for address in addresses:
                del self._names[address]
        return forgotten

    def restore(self, name: str, proxies: Proxies) -> None:
        """Give a name the addresses that it had in the process before this one, unless another name has them.

        Those that are drawn next come behind them.
        """
        addresses: tuple[IpAddress, ...] = (*proxies.ipv4, *proxies.ipv6)
        if (
            name in self._by_name
            or len(self._by_name) >= self._max_names
            or any(address in self._names for address in addresses)
        ):
            return
        self._by_name[name] = proxies
        self._names.update(dict.fromkeys(addresses, name))
        self._ipv4.pass_by(proxies.ipv4)
        self._ipv6.pass_by(proxies.ipv6)

    def of(self, name: str) -> Proxies | None:
        return self._by_name.get(name)

    def touch(self, name: str) -> Proxies | None:
        """The addresses of a name that is asked for now, None if it has none."""
        proxies = self._by_name.get(name)
        if proxies is not None:
            self._by_name.move_to_end(name)
        return proxies

    def name_of(self, address: IpAddress) -> str | None:
        return self._names.get(address)

    def __iter__(self) -> Iterator[tuple[str, Proxies]]:
        return iter(self._by_name.items())


_Address = TypeVar("_Address", IPv4Address, IPv6Address)


class _Sequence(Generic[_Address]):
    """Addresses in their order, and over again from the first when the last has been drawn."""

    def __init__(self, begin: Callable[[_Address | None], Iterator[_Address]]) -> None:
        """`begin` gives the addresses behind one, or all."""
        self._begin: Callable[[_Address | None], Iterator[_Address]] = begin
        self._rest: Iterator[_Address] = begin(None)
        self._passed: _Address | None = None

    def pass_by(self, addresses: tuple[_Address, ...]) -> None:
        """Go on behind these, if they lie ahead."""
        for address in addresses:
            if self._passed is None or address > self._passed:
                self._passed = address
        if self._passed is not None:
            self._rest = self._begin(self._passed)

    def draw(self, taken: Mapping[IpAddress, str]) -> tuple[_Address, ...]:
        """Draw the addresses of one name, fewer if all others are taken."""
        drawn: list[_Address] = []
        is_over = False
        while len(drawn) < ADDRESSES_PER_NAME:
            address = next(self._rest, None)
            if address is None:
                if is_over:
                    break
                is_over, self._rest = True, self._begin(None)
            elif address not in taken and address not in drawn:
                drawn.append(address)
        return tuple(drawn)


def is_sentinel(address: IpAddress) -> bool:
    return address in (SENTINEL_IPV4 if isinstance(address, IPv4Address) else SENTINEL_IPV6)


def _unassigned_ipv4(pool: IPv4Network, after: IPv4Address | None) -> Iterator[IPv4Address]:
    # The network's own address is never handed out: the first is 100.96.0.1.
    first = pool.network_address if after is None else after
    for number in range(int(first) + 1, int(pool.broadcast_address) + 1):
        address = IPv4Address(number)
        if address not in SENTINEL_IPV4:
            yield address


def _unassigned_ipv6(pool: IPv6Network, after: IPv6Address | None) -> Iterator[IPv6Address]:
    first = int(pool.network_address) if after is None else int(after) + 1
    for number in range(first, int(pool.broadcast_address) + 1):
        address = IPv6Address(number)
        if address not in SENTINEL_IPV6:
            yield address
