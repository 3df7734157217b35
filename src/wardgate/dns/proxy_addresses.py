"""Proxy addresses: the stand-ins that the client hands out for names of DNS resources (data-plane §3, §4.5).

On its first query a name gets four IPv4 and four IPv6 addresses, in sequence; it keeps them for the life of the process
and no other name ever gets them. Absent on purpose: release and reuse. A gateway recognises a restarted client by
an address that changed its name and then resets that client's translations (§5.4); reuse within one process would do the same.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice
from typing import Final

from wardgate.model.addresses import PROXY_IPV4, PROXY_IPV6, SENTINEL_IPV4, SENTINEL_IPV6, IpAddress

ADDRESSES_PER_NAME: Final = 4  # of each family; an AssignedIps message with another count is refused (§4.8)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proxies:
    """The addresses of one name, ascending; shorter than `ADDRESSES_PER_NAME` only when a pool ran dry."""

    ipv4: tuple[IPv4Address, ...]
    ipv6: tuple[IPv6Address, ...]


class ProxyAddresses:
    """The book of assigned addresses. Names are lower case without trailing dot."""

    def __init__(self, *, ipv4: IPv4Network = PROXY_IPV4, ipv6: IPv6Network = PROXY_IPV6) -> None:
        self._free_ipv4 = _unassigned_ipv4(ipv4)
        self._free_ipv6 = _unassigned_ipv6(ipv6)
        self._by_name: dict[str, Proxies] = {}
        self._names: dict[IpAddress, str] = {}

    def assign(self, name: str) -> Proxies:
        """Return the addresses of a name, drawing them if it has none yet."""
        known = self._by_name.get(name)
        if known is not None:
            return known
        ipv4 = tuple(islice(self._free_ipv4, ADDRESSES_PER_NAME))
        ipv6 = tuple(islice(self._free_ipv6, ADDRESSES_PER_NAME))
        if len(ipv4) < ADDRESSES_PER_NAME or len(ipv6) < ADDRESSES_PER_NAME:
            log.warning("proxy addresses are exhausted; restart the client to number anew")
        proxies = self._by_name[name] = Proxies(ipv4, ipv6)
        self._names.update(dict.fromkeys((*ipv4, *ipv6), name))
        return proxies

    def of(self, name: str) -> Proxies | None:
        return self._by_name.get(name)

    def name_of(self, address: IpAddress) -> str | None:
        return self._names.get(address)

    def __iter__(self) -> Iterator[tuple[str, Proxies]]:
        return iter(self._by_name.items())


def is_sentinel(address: IpAddress) -> bool:
    return address in (SENTINEL_IPV4 if isinstance(address, IPv4Address) else SENTINEL_IPV6)


def _unassigned_ipv4(pool: IPv4Network) -> Iterator[IPv4Address]:
    # The network's own address is never handed out: the first is 100.96.0.1.
    for number in range(int(pool.network_address) + 1, int(pool.broadcast_address) + 1):
        address = IPv4Address(number)
        if address not in SENTINEL_IPV4:
            yield address


def _unassigned_ipv6(pool: IPv6Network) -> Iterator[IPv6Address]:
    for number in range(int(pool.network_address), int(pool.broadcast_address) + 1):
        address = IPv6Address(number)
        if address not in SENTINEL_IPV6:
            yield address
