"""A resource as peers see it (control-plane-protocol §5.1–§5.3, §6.2–§6.3): adapted to their version.

None: the peer's version cannot represent it, so for that peer the resource does not exist.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from wardgate.model import filters as model
from wardgate.model.ids import ClientId
from wardgate.model.name_pattern import NamePattern
from wardgate.model.resources import (
    CidrResource,
    DnsResource,
    DynamicDevicePool,
    GatewayBackedResource,
    InternetResource,
    IpResource,
    Resource,
    StaticDevicePool,
    is_expressible,
    old_pattern,
)
from wardgate.model.versions import (
    CURRENT_PATTERNS_SINCE,
    INTERNET_RESOURCE_SINCE,
    ClientSoftware,
    Version,
    uses_site_names,
)
from wardgate.wire import messages as m


def client_view(
    resource: Resource,
    *,
    site: m.Site | None,
    software: ClientSoftware,
    members: Iterable[tuple[ClientId, IPv4Address, IPv6Address]] = (),
) -> m.ClientResource | None:
    """Return the resource as a client sees it.

    Args:
        resource: to be shown; whether it may be is the policy engine's decision.
        site: of a gateway-backed resource; without one it is withheld.
        software: decides the names of keys and the syntax of patterns.
        members: devices of a static pool, sent sorted by IPv4 address.
    """
    if isinstance(resource, StaticDevicePool):
        return m.ClientStaticDevicePool(
            id=resource.id,
            name=resource.name,
            filters=filter_views(resource.filters),
            devices=tuple(
                m.PoolDevice(client_id, f"{ipv4}/32", f"{ipv6}/128")
                for client_id, ipv4, ipv6 in sorted(members, key=lambda member: member[1])
            ),
        )
    if isinstance(resource, DynamicDevicePool):
        return m.ClientDynamicDevicePool(
            id=resource.id,
            name=resource.name,
            address=str(resource.address),
            filters=filter_views(resource.filters),
        )
    if site is None or not is_expressible(resource, software.version):
        return None
    if uses_site_names(software):
        return _sited_view(resource, software.version, sites=(site,), gateway_groups=UNSET)
    return _sited_view(resource, software.version, sites=UNSET, gateway_groups=(site,))


class ClientStyle(NamedTuple):
    """What of a client's software makes a difference to `client_view`: clients of one style see the same."""

    uses_site_names: bool
    knows_current_patterns: bool
    knows_internet_resource: bool


def client_style(software: ClientSoftware) -> ClientStyle:
    version = software.version
    return ClientStyle(
        uses_site_names(software),
        version is None or version >= CURRENT_PATTERNS_SINCE,
        version is None or version >= INTERNET_RESOURCE_SINCE,
    )


def gateway_view(resource: Resource, version: Version | None) -> m.GatewayResource | None:
    """Return the resource as a gateway sees it; pools must never reach one."""
    if not is_expressible(resource, version):
        return None
    match resource:
        case DnsResource():
            return m.GatewayDnsResource(
                id=resource.id,
                name=resource.name,
                address=pattern_view(resource.address, version),
                filters=filter_views(resource.filters),
            )
        case CidrResource() | IpResource():
            return m.GatewayCidrResource(
                id=resource.id,
                name=resource.name,
                address=network_text(resource),
                filters=filter_views(resource.filters),
            )
        case InternetResource():
            return m.GatewayInternetResource(id=resource.id)
        case StaticDevicePool() | DynamicDevicePool():
            return None


def filter_views(filters: Iterable[model.Filter]) -> tuple[m.Filter, ...]:
    """Write filters for the wire: one object per port range, or one without ports."""
    views: list[m.Filter] = []
    for one in filters:
        if one.ports:
            views += (m.Filter(one.protocol.value, ports.first, ports.last) for ports in one.ports)
        else:
            views.append(m.Filter(one.protocol.value))
    return tuple(views)


def network_text(resource: CidrResource | IpResource) -> str:
    """Return the address with its prefix length and without host bits."""
    return str(ip_network(resource.address))


def pattern_view(pattern: NamePattern, version: Version | None) -> str:
    """Return a pattern in the syntax of the peer's version; `is_expressible` must hold."""
    if version is None or version >= CURRENT_PATTERNS_SINCE:
        return str(pattern)
    return old_pattern(pattern) or str(pattern)


def _sited_view(
    resource: GatewayBackedResource,
    version: Version | None,
    *,
    sites: tuple[m.Site, ...] | UnsetType,
    gateway_groups: tuple[m.Site, ...] | UnsetType,
) -> m.ClientResource:
    match resource:
        case DnsResource():
            return m.ClientDnsResource(
                id=resource.id,
                name=resource.name,
                address=pattern_view(resource.address, version),
                address_description=resource.address_description,
                ip_stack=resource.ip_stack,
                filters=filter_views(resource.filters),
                sites=sites,
                gateway_groups=gateway_groups,
            )
        case CidrResource() | IpResource():
            return m.ClientCidrResource(
                id=resource.id,
                name=resource.name,
                address=network_text(resource),
                address_description=resource.address_description,
                filters=filter_views(resource.filters),
                sites=sites,
                gateway_groups=gateway_groups,
            )
        case InternetResource():
            return m.ClientInternetResource(
                id=resource.id, can_be_disabled=True, sites=sites, gateway_groups=gateway_groups
            )
