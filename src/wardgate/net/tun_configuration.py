"""What a TUN interface should look like, as plain data."""

from dataclasses import dataclass
from ipaddress import ip_network

import msgspec

from wardgate.model.addresses import IpNetwork


@dataclass(frozen=True, slots=True)
class TunConfiguration:
    """Addresses are text without prefix length; sentinels are local to the interface."""

    ipv4: str
    ipv6: str
    routes: frozenset[IpNetwork]
    sentinels: tuple[str, ...] = ()


class ConfigurationText(msgspec.Struct, frozen=True):
    """A configuration as one process writes it down for the next."""

    ipv4: str
    ipv6: str
    routes: tuple[str, ...]
    sentinels: tuple[str, ...] = ()

    @classmethod
    def of(cls, configuration: TunConfiguration) -> "ConfigurationText":
        routes = tuple(sorted(map(str, configuration.routes)))
        return cls(configuration.ipv4, configuration.ipv6, routes, configuration.sentinels)

    def read(self) -> TunConfiguration:
        """Raises ValueError."""
        return TunConfiguration(self.ipv4, self.ipv6, frozenset(map(ip_network, self.routes)), self.sentinels)
