"""Address ranges that both ends of a tunnel agree on by constant (data-plane §3, control-plane-protocol §4.4).

`fd00:2021:1111::` and 100.64.0.0/10 are the protocol's, never tuned: a gateway *tests* addresses against them.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

TUNNEL_IPV4: Final = IPv4Network("100.64.0.0/11")
TUNNEL_IPV6: Final = IPv6Network("fd00:2021:1111::/107")
LAST_TUNNEL_OFFSET: Final = 2_097_150  # of both ranges; the first is 1

PROXY_IPV4: Final = IPv4Network("100.96.0.0/11")
PROXY_IPV6: Final = IPv6Network("fd00:2021:1111:8000::/107")

SENTINEL_IPV4: Final = IPv4Network("100.100.111.0/24")
SENTINEL_IPV6: Final = IPv6Network("fd00:2021:1111:8000:100:100:111:0/120")

RESERVED: Final = (IPv4Network("100.64.0.0/10"), IPv6Network("fd00:2021:1111::/48"))
"""Refused by the portal in resources and DNS servers."""

EVERYWHERE: Final = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
"""What the internet resource covers."""

GATEWAY_DNS_PORT: Final = 53535  # on both tunnel addresses of a gateway


_NEVER_TRANSLATED_IPV4: Final = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("224.0.0.0/3"),
    TUNNEL_IPV4,
    PROXY_IPV4,
)
_NEVER_TRANSLATED_IPV6: Final = (
    IPv6Network("::/127"),
    IPv6Network("::ffff:0:0/96"),
    IPv6Network("fe80::/10"),
    IPv6Network("ff00::/8"),
    TUNNEL_IPV6,
    PROXY_IPV6,
)


def parse_ip(text: str) -> IpAddress:
    """Parse a bare address.

    Raises:
        ValueError: not an address, or an IPv6 one with a zone.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r} has a zone")
    return address


def parse_network(text: str) -> IpNetwork:
    """Parse `address/length` and clear the host bits.

    Raises:
        ValueError: no prefix length, or not a network.
    """
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length")
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    address, _, length = text.partition("/")
    if not length.isascii() or not length.isdigit():
        raise ValueError(f"{text!r} has no numeric prefix length")
    return ip_network(f"{address}/{length}", strict=False)


def normalized(address: IpAddress) -> IpAddress:
    """Return the IPv4 address inside an IPv4-mapped IPv6 one, any other address as it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_proxy_ip(address: IpAddress) -> bool:
    """Tell whether a client may let it stand for a name's address: in the proxy ranges, and no sentinel."""
    if isinstance(address, IPv4Address):
        return address in PROXY_IPV4 and address not in SENTINEL_IPV4
    return address in PROXY_IPV6 and address not in SENTINEL_IPV6


def may_be_translated_to(address: IpAddress) -> bool:
    """Tell whether a gateway lets a name stand for it: it can be forwarded to, and is none of the tunnels' own."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NEVER_TRANSLATED_IPV4)
    return not any(address in network for network in _NEVER_TRANSLATED_IPV6)


def overlap(one: IpNetwork, other: IpNetwork) -> bool:
    """Tell whether two networks share an address; networks of different families never do."""
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return one.overlaps(other)
    return False
