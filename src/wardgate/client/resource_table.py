"""The resources that the portal lists for a client, and the routes that they need (data-plane §4.1, §4.2)."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import UNSET

from wardgate.connect import log_fields as fields
from wardgate.connect.filters import engine_filters
from wardgate.connect.log_names import name_of, resource_fields
from wardgate.datapath.commands import Route
from wardgate.dns.proxy_addresses import Proxies
from wardgate.dns.stub_resolver import NameRule
from wardgate.model.addresses import (
    EVERYWHERE,
    PROXY_IPV4,
    PROXY_IPV6,
    TUNNEL_IPV4,
    TUNNEL_IPV6,
    IpAddress,
    IpNetwork,
    parse_network,
)
from wardgate.model.ids import ResourceId, SiteId
from wardgate.model.name_pattern import NamePattern
from wardgate.model.resources import IpStack
from wardgate.wire import messages as m

Routable = m.ClientDnsResource | m.ClientCidrResource | m.ClientInternetResource

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One usable resource. `rule` is set for DNS resources, `network` for CIDR resources."""

    resource: Routable
    rule: NameRule | None = None
    network: IpNetwork | None = None

    @property
    def site_ids(self) -> frozenset[SiteId]:
        return frozenset(site.id for site in self.resource.served_by)

    @property
    def name(self) -> str:
        return name_of(self.resource)

    def site_names(self, site_id: SiteId) -> dict[str, str]:
        """Log fields with the name of a site; empty unless it is one of the resource's."""
        for site in self.resource.served_by:
            if site.id == site_id:
                return {fields.SITE: site.name}
        return {}

    def needs_new_access(self, other: "Entry") -> bool:
        """Tell whether the update `other` invalidates an authorization; new names and descriptions do not."""
        return self.authorized_by != other.authorized_by

    @property
    def authorized_by(self) -> tuple[object, ...]:
        """The properties that an authorization depends on."""
        filters = () if isinstance(self.resource, m.ClientInternetResource) else self.resource.filters
        return type(self.resource), self.rule, self.network, filters, self.site_ids


class ResourceTable:
    """Usable resources by id; device pools, which have a table of their own, and invalid addresses are left out."""

    def __init__(self, *, is_internet_active: bool) -> None:
        self._is_internet_active = is_internet_active
        self._entries: dict[ResourceId, Entry] = {}
        self._rules: tuple[NameRule, ...] | None = None  # of the entries as they are, once somebody has asked

    def __contains__(self, resource_id: ResourceId) -> bool:
        return resource_id in self._entries

    def get(self, resource_id: ResourceId) -> Entry | None:
        return self._entries.get(resource_id)

    def entries(self) -> list[Entry]:
        """Internet resource first, then by name, then by id."""
        return sorted(
            self._entries.values(),
            key=lambda entry: (
                not isinstance(entry.resource, m.ClientInternetResource),
                entry.name,
                entry.resource.id.int,
            ),
        )

    def upsert(self, resource: m.ClientResource) -> tuple[ResourceId, ...]:
        """Add or update one; return its id if its authorizations no longer hold."""
        entry = self._entry(resource)
        previous = self._entries.get(resource.id)
        if entry is None:
            return self.remove(resource.id)
        self._entries[resource.id] = entry
        self._rules = None
        return (resource.id,) if previous is not None and previous.needs_new_access(entry) else ()

    def remove(self, resource_id: ResourceId) -> tuple[ResourceId, ...]:
        """Remove one; return its id if it existed."""
        removed = self._entries.pop(resource_id, None)
        self._rules = None
        if removed is not None and isinstance(removed.resource, m.ClientInternetResource):
            # If the resource is created again later, users do not expect it to be on (data-plane §4.1).
            self._is_internet_active = False
        return () if removed is None else (resource_id,)

    def replace(self, resources: Iterable[m.ClientResource]) -> tuple[ResourceId, ...]:
        """Replace the whole list; return the ids whose authorizations no longer hold."""
        listed = {resource.id: resource for resource in resources}
        gone = [resource_id for resource_id in self._entries if resource_id not in listed]
        ended = [ended for resource_id in gone for ended in self.remove(resource_id)]
        return (*ended, *(ended for resource in listed.values() for ended in self.upsert(resource)))

    def name_rules(self) -> tuple[NameRule, ...]:
        """Most specific pattern first, then the greater id."""
        if self._rules is None:
            rules = (entry.rule for entry in self._entries.values() if entry.rule is not None)
            self._rules = tuple(
                sorted(rules, key=lambda rule: (rule.pattern.specificity, -rule.resource_id.int))
            )
        return self._rules

    def matching(self, target: IpAddress | str) -> tuple[Entry, ...]:
        """Return what an address or a name belongs to, in the order in which packets find it (data-plane §4.2)."""
        if isinstance(target, str):
            return tuple(
                self._entries[rule.resource_id] for rule in self.name_rules() if rule.pattern.matches(target)
            )
        networks = [entry for entry in self._entries.values() if entry.network and target in entry.network]
        networks.sort(key=lambda entry: (-entry.network.prefixlen if entry.network else 0, entry.name))
        everything = [
            entry
            for entry in self._entries.values()
            if self.has_internet and isinstance(entry.resource, m.ClientInternetResource)
        ]
        return (*networks, *everything)

    def name_routes(self, names: Iterable[tuple[str, Proxies]]) -> dict[str, tuple[Route, ...]]:
        """The routes of some names' addresses, for those names that a resource matches."""
        names, routes = tuple(names), dict[str, tuple[Route, ...]]()
        for rank, rule in enumerate(self.name_rules()):
            matching = [(name, assigned) for name, assigned in names if rule.pattern.matches(name)]
            if not matching:
                continue
            resource = self._entries[rule.resource_id].resource
            assert isinstance(resource, m.ClientDnsResource)
            filters = engine_filters(resource.filters)
            for name, assigned in matching:
                routes[name] = (
                    *routes.get(name, ()),
                    *(
                        Route(_single(address), str(resource.id), "dns", filters, rank)
                        for address in rule.addresses(assigned)
                    ),
                )
        return routes

    def network_routes(self) -> tuple[Route, ...]:
        """All routes but those of names."""
        routes = list[Route]()
        for entry in self._entries.values():
            if entry.network is not None and isinstance(entry.resource, m.ClientCidrResource):
                filters = engine_filters(entry.resource.filters)
                routes.append(Route(str(entry.network), str(entry.resource.id), "cidr", filters))
            elif isinstance(entry.resource, m.ClientInternetResource) and self._is_internet_active:
                routes += [Route(str(network), str(entry.resource.id), "internet") for network in EVERYWHERE]
        return tuple(routes)

    def networks(self) -> frozenset[IpNetwork]:
        """What the host routes into the tunnel (data-plane §4.12); the proxy ranges include the sentinels."""
        ranges: set[IpNetwork] = {TUNNEL_IPV4, TUNNEL_IPV6, PROXY_IPV4, PROXY_IPV6}
        ranges.update(entry.network for entry in self._entries.values() if entry.network is not None)
        if self.has_internet:
            ranges.update(EVERYWHERE)
        return frozenset(ranges)

    @property
    def has_internet(self) -> bool:
        """Whether the Internet resource is listed and switched on."""
        return self._is_internet_active and any(
            isinstance(entry.resource, m.ClientInternetResource) for entry in self._entries.values()
        )

    def carries_dns_to(self, server: IpAddress) -> bool:
        """Tell whether the tunnel carries DNS to a server, over UDP and TCP (data-plane §4.5, recursion)."""
        if self.has_internet:
            return True
        permitting = [
            entry.resource.filters
            for entry in self._entries.values()
            if entry.network is not None
            and isinstance(entry.resource, m.ClientCidrResource)
            and server in entry.network
        ]
        return all(
            any(_permits_dns(filters, protocol) for filters in permitting) for protocol in ("udp", "tcp")
        )

    def _entry(self, resource: m.ClientResource) -> Entry | None:
        try:
            match resource:
                case m.ClientDnsResource():
                    stack = IpStack.DUAL if resource.ip_stack in (UNSET, None) else IpStack(resource.ip_stack)
                    return Entry(
                        resource, rule=NameRule(resource.id, NamePattern.parse(resource.address), stack)
                    )
                case m.ClientCidrResource():
                    return Entry(resource, network=parse_network(resource.address))
                case m.ClientInternetResource():
                    return Entry(resource)
                case m.ClientStaticDevicePool() | m.ClientDynamicDevicePool():
                    return None  # theirs is the table of pools
        except ValueError as error:
            log.warning(
                "a resource's address cannot be read",
                extra={**resource_fields(resource), fields.REASON: str(error)},
            )
            return None


def _single(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _permits_dns(filters: tuple[m.Filter, ...], protocol: str) -> bool:
    return not filters or any(
        one.protocol == protocol and one.first_port <= 53 <= one.last_port for one in engine_filters(filters)
    )
