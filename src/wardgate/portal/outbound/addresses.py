"""Which addresses the portal may reach on somebody's word (identity §16): public ones, and those in networks that
the operator allows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from wardgate.model.addresses import IpAddress, IpNetwork


@dataclass(frozen=True, slots=True)
class ReachableAddresses:
    """The addresses that may be reached.

    Attributes:
        allowed: networks of special use in which the operator has hosts to be asked.
    """

    allowed: tuple[IpNetwork, ...] = ()

    def __contains__(self, address: IpAddress) -> bool:
        return self.is_allowed(address) or not _is_in(_plain(address), _SPECIAL)

    def is_allowed(self, address: IpAddress) -> bool:
        """Tell whether the operator allows the network of this address, where HTTP without TLS will do."""
        return _is_in(_plain(address), self.allowed)

    def may_name(self, uri: str) -> bool:
        """Tell whether a URI may be stored as one to ask: a name is looked at again when it is resolved."""
        if not uri.isascii() or not uri.isprintable() or " " in uri or "\\" in uri:
            return False
        try:
            parts = urlsplit(uri)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if not host or parts.username is not None or parts.fragment or port == 0:
            return False
        if parts.scheme != "https" and not (parts.scheme == "http" and self.allowed):
            return False
        try:
            address = ip_address(host)
        except ValueError:
            return self._is_name(host)
        return address in self

    def _is_name(self, host: str) -> bool:
        labels = host.rstrip(".").split(".")
        if labels[-1].isdigit() or not all(labels):
            return False
        # A name of one label, or below localhost, never leads to the public internet.
        return bool(self.allowed) or (len(labels) > 1 and labels[-1] != "localhost")


def _plain(address: IpAddress) -> IpAddress:
    """Return the address that packets would go to: a mapped one is an IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_in(address: IpAddress, networks: Iterable[IpNetwork]) -> bool:
    return any(address in network for network in networks)


_SPECIAL: Final = tuple(
    ip_network(text)
    for text in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/32",
        "2001:2::/48",
        "2001:db8::/32",
        "2001:20::/28",
        "2002::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ]
)
