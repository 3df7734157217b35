"""Which servers answer foreign names, and under which sentinel address the operating system sees each
(data-plane §4.5).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from wardgate.dns.proxy_addresses import is_sentinel
from wardgate.model.addresses import SENTINEL_IPV4, SENTINEL_IPV6, IpAddress, parse_ip


@dataclass(frozen=True, slots=True)
class Do53:
    """A plain DNS server on port 53. `is_custom`: the portal named it, so that queries may go through the tunnel."""

    address: IpAddress
    is_custom: bool


@dataclass(frozen=True, slots=True)
class Doh:
    """DNS over HTTPS (RFC 8484) at an https URL."""

    url: str


Upstream = Do53 | Doh


def choose_upstreams(
    *, do53: Iterable[str] = (), doh: Iterable[str] = (), system: Iterable[IpAddress] = ()
) -> tuple[Upstream, ...]:
    """Take the first list that is not empty, in the order of the arguments, without duplicates and sentinels.

    Args:
        do53: addresses from the portal; what does not parse is skipped.
        doh: URLs from the portal.
        system: the resolvers that the host had before we took over.
    """
    custom = _servers((address for text in do53 if (address := _parse(text)) is not None), is_custom=True)
    return custom or tuple(dict.fromkeys(Doh(url) for url in doh)) or _servers(system, is_custom=False)


class Sentinels:
    """Sentinel → upstream. A changed set of upstreams gets fresh sentinels, so that no cache of the host goes stale."""

    def __init__(self) -> None:
        self._upstreams: dict[IpAddress, Upstream] = {}

    @property
    def mapping(self) -> Mapping[IpAddress, Upstream]:
        """In order of preference."""
        return self._upstreams

    def update(self, upstreams: tuple[Upstream, ...]) -> None:
        """Replace the upstreams; the same set, in whatever order, changes nothing."""
        if set(upstreams) == set(self._upstreams.values()):
            return
        previous = set(self._upstreams)
        ipv4 = _free(map(IPv4Address, range(int(SENTINEL_IPV4[1]), int(SENTINEL_IPV4[-1]))), previous)
        ipv6 = _free(map(IPv6Address, range(int(SENTINEL_IPV6[0]), int(SENTINEL_IPV6[-1]) + 1)), previous)
        self._upstreams = {
            next(ipv6 if isinstance(upstream, Do53) and upstream.address.version == 6 else ipv4): upstream
            for upstream in upstreams
        }


def _servers(addresses: Iterable[IpAddress], *, is_custom: bool) -> tuple[Upstream, ...]:
    return tuple(dict.fromkeys(Do53(address, is_custom) for address in addresses if not is_sentinel(address)))


def _parse(text: str) -> IpAddress | None:
    try:
        return parse_ip(text)
    except ValueError:
        return None


def _free(candidates: Iterable[IpAddress], taken: set[IpAddress]) -> Iterator[IpAddress]:
    return (candidate for candidate in candidates if candidate not in taken)
