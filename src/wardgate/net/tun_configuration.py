"""What a TUN interface should look like, as plain data."""

from dataclasses import dataclass

from wardgate.model.addresses import IpNetwork


@dataclass(frozen=True, slots=True)
class TunConfiguration:
    """Addresses are text without prefix length; sentinels are local to the interface."""

    ipv4: str
    ipv6: str
    routes: frozenset[IpNetwork]
    sentinels: tuple[str, ...] = ()
