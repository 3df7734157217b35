"""Resources: what is protected (portal-domain §3.10), one frozen type per kind, already normalised.

Gateway-backed kinds carry the site whose gateways reach them; without one they are never offered. Pools are client
to client and have neither site nor gateway.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from wardgate.model.addresses import IpAddress, IpNetwork
from wardgate.model.filters import Filter
from wardgate.model.ids import ResourceId, SiteId
from wardgate.model.name_pattern import NamePattern
from wardgate.model.versions import CURRENT_PATTERNS_SINCE, INTERNET_RESOURCE_SINCE, Version


class IpStack(StrEnum):
    """Which families a DNS resource's names resolve to."""

    DUAL = "dual"
    IPV4_ONLY = "ipv4_only"
    IPV6_ONLY = "ipv6_only"


class ResourceType(StrEnum):
    DNS = "dns"
    CIDR = "cidr"
    IP = "ip"
    INTERNET = "internet"
    STATIC_DEVICE_POOL = "static_device_pool"
    DYNAMIC_DEVICE_POOL = "dynamic_device_pool"


@dataclass(frozen=True, slots=True)
class DnsResource:
    id: ResourceId
    name: str
    site_id: SiteId | None
    address: NamePattern
    ip_stack: IpStack = IpStack.DUAL
    address_description: str | None = None
    filters: tuple[Filter, ...] = ()
    type: Literal[ResourceType.DNS] = ResourceType.DNS


@dataclass(frozen=True, slots=True)
class CidrResource:
    id: ResourceId
    name: str
    site_id: SiteId | None
    address: IpNetwork
    address_description: str | None = None
    filters: tuple[Filter, ...] = ()
    type: Literal[ResourceType.CIDR] = ResourceType.CIDR


@dataclass(frozen=True, slots=True)
class IpResource:
    id: ResourceId
    name: str
    site_id: SiteId | None
    address: IpAddress
    address_description: str | None = None
    filters: tuple[Filter, ...] = ()
    type: Literal[ResourceType.IP] = ResourceType.IP


@dataclass(frozen=True, slots=True)
class InternetResource:
    id: ResourceId
    name: str
    site_id: SiteId | None
    type: Literal[ResourceType.INTERNET] = ResourceType.INTERNET


@dataclass(frozen=True, slots=True)
class StaticDevicePool:
    id: ResourceId
    name: str
    filters: tuple[Filter, ...] = ()
    type: Literal[ResourceType.STATIC_DEVICE_POOL] = ResourceType.STATIC_DEVICE_POOL


@dataclass(frozen=True, slots=True)
class DynamicDevicePool:
    id: ResourceId
    name: str
    address: NamePattern
    filters: tuple[Filter, ...] = ()
    type: Literal[ResourceType.DYNAMIC_DEVICE_POOL] = ResourceType.DYNAMIC_DEVICE_POOL


GatewayBackedResource = DnsResource | CidrResource | IpResource | InternetResource
DevicePool = StaticDevicePool | DynamicDevicePool
Resource = GatewayBackedResource | DevicePool


def is_device_pool(resource: Resource) -> bool:
    return isinstance(resource, StaticDevicePool | DynamicDevicePool)


def is_expressible(resource: Resource, version: Version | None) -> bool:
    """Tell whether a peer of this version can know the resource (§3.10 "version adaptation"); True if unknown."""
    if version is None:
        return True
    if isinstance(resource, InternetResource):
        return version >= INTERNET_RESOURCE_SINCE
    if isinstance(resource, DnsResource) and version < CURRENT_PATTERNS_SINCE:
        return old_pattern(resource.address) is not None
    return True


def knows_all_but_pools(version: Version | None) -> bool:
    """Tell whether `is_expressible` is true of every resource but pools."""
    return version is None or (version >= INTERNET_RESOURCE_SINCE and version >= CURRENT_PATTERNS_SINCE)


def old_pattern(pattern: NamePattern) -> str | None:
    """Rewrite a pattern for peers below 1.2.0: a leading `**` was `*` then, a leading `*` was `?`.

    Return None if that cannot be expressed, because a wildcard stands elsewhere.
    """
    first, _, rest = pattern.text.partition(".")
    if "*" in rest or "?" in rest:
        return None
    if first == "**":
        return f"*.{rest}"
    if first == "*":
        return f"?.{rest}"
    return None if "*" in first or "?" in first else pattern.text
