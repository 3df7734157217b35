"""The names of DNS resources that programs have queried: their proxy addresses, the routes to them and to everything
else, and what gateways know of them.

A name gets proxy addresses with the first query for it (data-plane §4.5). They are routed, and announced to
every gateway that serves a matching resource; until the gateway confirms that it can translate them, the
engine holds packets to them (§4.8).
"""

import logging
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from typing import Final

import dns.message
import msgspec

from wardgate.client.pool_table import PoolTable
from wardgate.client.resource_table import Entry, ResourceTable
from wardgate.connect.control_packets import ASSIGNED_IPS, encode_assigned_ips, parse_domain_status
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath.programmable import Programmable
from wardgate.dns.name_states import Announce, Hold, NameKey, NameStates, Release
from wardgate.dns.plain_query import PlainQuery
from wardgate.dns.proxy_addresses import Proxies, ProxyAddresses
from wardgate.dns.recent_answers import RecentAnswers
from wardgate.dns.stub_resolver import NameRule, Resolution, StubResolver
from wardgate.model.addresses import IpAddress, is_proxy_ip, parse_ip
from wardgate.model.ids import GatewayId, ResourceId

log = logging.getLogger(__name__)


class NameLegacy(msgspec.Struct, frozen=True, array_like=True):
    """A name and its proxy addresses, as text, for the process that comes next."""

    name: str
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]


class ClientNames:
    """Keeps the engine and the gateways informed about all names."""

    def __init__(
        self,
        engine: Programmable,
        resources: ResourceTable,
        pools: PoolTable,
        *,
        recent: RecentAnswers,
        gateways_of: Callable[[ResourceId], Iterable[GatewayId]],
    ) -> None:
        """Start without names; `gateways_of` returns the gateways that currently serve a resource. `recent` is
        cleared when a name may get other addresses than it had.
        """
        self._engine: Final = engine
        self._resources: Final = resources
        self._recent: Final = recent
        self._pools: Final = pools
        self._gateways_of: Final = gateways_of
        self._proxies: Final = ProxyAddresses()
        self._resolver: Final = StubResolver(self._proxies)
        self._states: Final = NameStates()
        # What the engine has: routes of networks and devices, and of each name.
        self._routes: tuple[c.Route, ...] | None = None
        self._name_routes: dict[str, tuple[c.Route, ...]] = {}

    def resolve(self, query: dns.message.Message) -> Resolution:
        """Decide on a query; a name that matches a resource gets proxy addresses."""
        return self._resolver.resolve(query)

    def leaves_to_upstream(self, query: PlainQuery) -> bool:
        """Whether `resolve` would say `Recurse`."""
        return self._resolver.leaves_to_upstream(query)

    def handle_resources(self) -> None:
        """The resources have changed: match all names again and update the routes."""
        self._resolver.set_rules(self._resources.name_rules())
        self._recent.clear()
        self._set_routes()

    def handle_asked(self, name: str, *, now: float) -> None:
        """A query for the name is answered: route its addresses and have its gateways resolve it again."""
        self._states.handle_query(name, now=now)
        proxies = self._proxies.touch(name)
        if proxies is not None:
            self._route(name, proxies)
            for rule in self._resolver.matching(name):
                for gateway_id in self._gateways_of(rule.resource_id):
                    self._add_name(gateway_id, name, rule, proxies, now=now)
        self._carry_out()

    def name_of(self, address: str) -> str | None:
        """The name that a proxy address stands for."""
        return self._proxies.name_of(parse_ip(address))

    def handle_granted(
        self, gateway_id: GatewayId, entry: Entry, *, record_under: str | None = None, now: float
    ) -> None:
        """The gateway serves the resource from now on: announce its names, then authorise their addresses."""
        assert entry.rule is not None
        addresses: list[str] = []
        for name, proxies in self._proxies:
            if entry.rule.pattern.matches(name):
                addresses += entry.rule.addresses(proxies)
                key = NameKey(gateway_id, name, entry.resource.id)
                self._states.handle_authorized(key, entry.rule.addresses(proxies), now=now)
        self._carry_out()
        self._apply(
            c.Authorize(str(entry.resource.id), str(gateway_id), tuple(addresses), record_under=record_under)
        )

    def handle_status(self, gateway_id: GatewayId, payload: str) -> ResourceId | None:
        """Handle a gateway's DomainStatus; return the resource if it suggests that the grant is gone."""
        status = parse_domain_status(payload)
        if status is None:
            return None
        key = NameKey(gateway_id, status.domain.lower(), status.resource)
        is_doubtful = self._states.handle_status(key, is_active=status.is_active)
        self._carry_out()
        return status.resource if is_doubtful else None

    def handle_established(self, gateway_id: GatewayId, *, now: float) -> None:
        """The tunnel is up: earlier announcements go out now, so their repetition counts from here."""
        self._states.handle_established(gateway_id, now=now)

    def forget_gateway(self, gateway_id: GatewayId) -> None:
        """The connection is gone, and in the engine everything that belonged to it."""
        self._states.forget_gateway(gateway_id)

    def forget_resource(self, resource_id: ResourceId, *, except_at: GatewayId | None = None) -> None:
        """The resource is no longer granted, or only at the gateway `except_at`."""
        self._states.forget_resource(resource_id, except_at=except_at)
        self._carry_out()

    def bequeath(self) -> tuple["NameLegacy", ...]:
        """The names and their addresses, the one asked for longest ago first."""
        return tuple(
            NameLegacy(name, tuple(map(str, proxies.ipv4)), tuple(map(str, proxies.ipv6)))
            for name, proxies in self._proxies
        )

    def inherit(self, names: Iterable["NameLegacy"]) -> None:
        """Go on with the names of the process before this one: programs know their addresses. Raises ValueError."""
        for one in names:
            ipv4, ipv6 = tuple(map(IPv4Address, one.ipv4)), tuple(map(IPv6Address, one.ipv6))
            addresses: tuple[IpAddress, ...] = (*ipv4, *ipv6)
            if all(map(is_proxy_ip, addresses)):
                self._proxies.restore(one.name, Proxies(ipv4, ipv6))

    def handle_timeout(self, *, now: float) -> None:
        self._states.handle_timeout(now=now)
        self._carry_out()

    def poll_timeout(self) -> float | None:
        return self._states.poll_timeout()

    def _add_name(
        self, gateway_id: GatewayId, name: str, rule: NameRule, proxies: Proxies, *, now: float
    ) -> None:
        """Announce and authorise one more name at a gateway that serves its resource already."""
        key = NameKey(gateway_id, name, rule.resource_id)
        if self._states.state(key) is None:
            addresses = rule.addresses(proxies)
            self._states.handle_authorized(key, addresses, now=now)
            self._carry_out()
            self._apply(c.Authorize(str(rule.resource_id), str(gateway_id), addresses))

    def _set_routes(self) -> None:
        """Hand over the whole table if it is not what the engine has."""
        routes = (*self._pools.routes(), *self._resources.network_routes())
        name_routes = self._resources.name_routes(self._proxies)
        known = (set(self._routes), self._name_routes) if self._routes is not None else None
        if (set(routes), name_routes) != known:
            self._routes, self._name_routes = routes, name_routes
            self._apply(c.SetRoutes((*chain.from_iterable(name_routes.values()), *routes)))

    def _route(self, name: str, proxies: Proxies) -> None:
        """Route a name's addresses and make room for it; the cost does not grow with the number of names."""
        if name not in self._name_routes:
            routes = self._resources.name_routes([(name, proxies)])
            if routes and self._apply(c.AddRoutes(routes[name])):
                self._name_routes.update(routes)
        for forgotten in self._proxies.forget_surplus():
            log.debug("the name asked for longest ago is forgotten")
            self._recent.clear()
            self._states.forget_name(forgotten)
            self._carry_out()
            former = self._name_routes.pop(forgotten, ())
            if former:
                removed = (c.RemovedRoute(route.prefix, route.resource_id, route.table) for route in former)
                self._apply(c.RemoveRoutes(tuple(removed)))

    def _carry_out(self) -> None:
        while (action := self._states.poll_action()) is not None:
            key = action.key
            peer_id, resource_id = str(key.gateway_id), str(key.resource_id)
            match action:
                case Hold(addresses=addresses):
                    self._apply(c.HoldName(peer_id, resource_id, addresses))
                case Release(addresses=addresses, flush=flush):
                    self._apply(c.ReleaseName(peer_id, resource_id, addresses, flush))
                case Announce(addresses=addresses):
                    payload = encode_assigned_ips(key.resource_id, key.name, addresses)
                    self._apply(c.SendControlPacket(peer_id, ASSIGNED_IPS, payload))

    def _apply(self, command: c.AnyCommand) -> bool:
        return try_apply(self._engine, command)
