"""Routing tables and rules of a tunnel: what is wanted, and how it is kept (data-plane §6.2).

Tables belong to an interface: a gateway and a client on one host, or two clients, do not share any. Rules are
tried by rising priority; a table without a matching route passes on to the next rule.

| who | priority | packets | table, what is in it |
|---|---|---|---|
| gateway | 90 | that come out of its tunnel | past all rules below: a client beside it must not take them |
| gateway | 91 | that are forwarded | `user`: the tunnel's own ranges |
| gateway | 92 | from its own tunnel address | `user` |
| client | 100 | without `SOCKET_MARK` | `user`: resources and the tunnel's own ranges |
| client | 200 | without `SOCKET_MARK` | `link`: copies of the main table's on-link routes |
| client | 300 | without `SOCKET_MARK` | `internet`: default routes of the Internet resource |
| gateway | 410 | without `SOCKET_MARK` | `user` |

So resources win over the LAN and the LAN over the Internet resource; our own sockets carry the mark and use
the main table only. A LAN that lies inside a range that is the tunnel's own is copied into `user` too, where
its longer prefix wins.
"""

import errno
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from wardgate.model.addresses import RESERVED, IpNetwork
from wardgate.net.families import Families
from wardgate.net.netlink import MAIN_TABLE, Kernel, Route, Rule, default_metric, present_link
from wardgate.net.socket_mark import SOCKET_MARK

_TABLE_BASE: Final = 0x5747_0000  # ours; far from the numbers that distributions and the published client use
_LEAVE_PRIORITY: Final = 90
_FORWARDED_PRIORITY: Final = 91
_OWN_PRIORITY: Final = 92
_CLIENT_PRIORITIES: Final = (100, 200, 300)  # of `user`, `link`, `internet`
_GATEWAY_PRIORITY: Final = 410
_LOOPBACK: Final = "lo"
# Already as wanted, or gone with its interface: both are the state that was asked for.
_HARMLESS: Final = frozenset({errno.EEXIST, errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True)
class Tables:
    """The numbers of one interface's tables."""

    user: int
    link: int
    internet: int

    @property
    def all(self) -> tuple[int, ...]:
        return self.user, self.link, self.internet


def tables_of(interface: str) -> Tables:
    """The same for the same name, so that a run after a crash recognises what is left."""
    first = _TABLE_BASE | (zlib.crc32(interface.encode()) & 0x3FFF) << 2
    return Tables(first, first + 1, first + 2)


def client_rules(tables: Tables, families: Families) -> frozenset[Rule]:
    return frozenset(
        Rule(version, priority, table, mark=SOCKET_MARK, is_inverted=True)
        for version in families.versions
        for table, priority in zip(tables.all, _CLIENT_PRIORITIES, strict=True)
    )


def gateway_rules(
    tables: Tables, families: Families, *, interface: str, sources: Iterable[str]
) -> frozenset[Rule]:
    """`sources` are the gateway's own tunnel addresses."""
    rules = {
        rule
        for version in families.versions
        for rule in (
            Rule(version, _LEAVE_PRIORITY, goto=_GATEWAY_PRIORITY, iif=interface),
            Rule(version, _FORWARDED_PRIORITY, tables.user, iif=_LOOPBACK, is_inverted=True),
            Rule(version, _GATEWAY_PRIORITY, tables.user, mark=SOCKET_MARK, is_inverted=True),
        )
    }
    return frozenset(rules) | {
        Rule(6 if ":" in source else 4, _OWN_PRIORITY, tables.user, source=source) for source in sources
    }


def wanted_routes(
    tables: Tables,
    *,
    interface: int,
    networks: Iterable[IpNetwork],
    sources: dict[int, str],
    lan: Iterable[Route],
) -> frozenset[Route]:
    """The content of an interface's tables.

    Args:
        networks: what leads into the tunnel.
        sources: our tunnel address by IP version. Each route names it: sentinels live on the same interface,
            and the kernel's own choice for IPv6 (longest common prefix) would take one of them.
        lan: on-link routes of the main table.
    """
    into = {
        Route(
            network,
            interface,
            tables.internet if network.prefixlen == 0 else tables.user,
            source=sources[network.version],
            metric=default_metric(network.version),
        )
        for network in networks
    }
    elsewhere = [route for route in lan if route.interface != interface]
    beside = {replace(route, table=tables.user) for route in overlaps(elsewhere)}
    if any(network.prefixlen == 0 for network in networks):
        beside |= {replace(route, table=tables.link) for route in elsewhere}
    return frozenset(into | beside)


def overlaps(lan: Iterable[Route]) -> tuple[Route, ...]:
    """The host's networks inside the tunnel's own ranges; lone addresses are those of other tunnels."""
    return tuple(
        route
        for route in lan
        if route.network.prefixlen < route.network.max_prefixlen and is_reserved(route.network)
    )


def is_reserved(network: IpNetwork) -> bool:
    """Whether it lies in the tunnel's own ranges."""
    return any(
        network.version == reserved.version and network.subnet_of(reserved)  # type: ignore[arg-type]
        for reserved in RESERVED
    )


class Rules:
    """Keeps the rules that belong to one interface; another's are not touched."""

    name = "routing rules"
    is_necessary = True

    def __init__(self, kernel: Kernel, interface: str, families: Families) -> None:
        self._kernel = kernel
        self._interface = interface
        self._families = families
        self._tables = tables_of(interface)
        self.wanted: frozenset[Rule] = frozenset()

    async def read(self) -> frozenset[Rule]:
        """The rules of all families that are ours."""
        found: set[Rule] = set()
        for version in self._families.versions:
            found |= await self._kernel.rules(version)
        return frozenset(rule for rule in found if self._is_ours(rule))

    def differs(self, found: frozenset[Rule]) -> tuple[str, ...]:
        return tuple(
            phrase
            for phrase, rules in (("lost", self.wanted - found), ("stale", found - self.wanted))
            if rules
        )

    async def repair(self, found: frozenset[Rule]) -> None:
        for rule in sorted(found - self.wanted, key=_rule_order):
            await tolerated(self._kernel.remove_rule(rule))
        for rule in sorted(self.wanted - found, key=_rule_order):
            await tolerated(self._kernel.add_rule(rule))

    async def undo(self) -> None:
        self.wanted = frozenset()
        await self.repair(await self.read())

    def _is_ours(self, rule: Rule) -> bool:
        return rule.table in self._tables.all or (rule.goto != 0 and rule.iif == self._interface)


@dataclass(frozen=True, slots=True)
class RoutesFound:
    """Routes of our tables, and the on-link routes of the main table that some of them copy."""

    interface: int
    ours: frozenset[Route]
    lan: frozenset[Route]


class Routes:
    """Keeps the tables of one interface."""

    name = "routes"
    is_necessary = True

    def __init__(
        self, kernel: Kernel, interface: str, families: Families, *, warn: Callable[[IpNetwork], None]
    ) -> None:
        """`warn` is called once for each network of the host that takes addresses from the tunnel."""
        self._kernel = kernel
        self._interface = interface
        self._families = families
        self._tables = tables_of(interface)
        self._warn = warn
        self._warned: set[IpNetwork] = set()
        self._networks: tuple[IpNetwork, ...] = ()
        self._sources: dict[int, str] = {}

    def want(self, networks: Iterable[IpNetwork], sources: dict[int, str]) -> None:
        self._networks = self._families.of(networks)
        self._sources = sources

    async def read(self) -> RoutesFound:
        link = await present_link(self._kernel, self._interface)
        ours: set[Route] = set()
        lan: set[Route] = set()
        for version in self._families.versions:
            for table in self._tables.all:
                ours |= await self._kernel.on_link_routes(table, version)
            lan |= await self._kernel.on_link_routes(MAIN_TABLE, version)
        return RoutesFound(link.index, frozenset(ours), frozenset(lan))

    def differs(self, found: RoutesFound) -> tuple[str, ...]:
        wanted = self._wanted(found)
        return tuple(
            phrase
            for phrase, routes in (("lost", wanted - found.ours), ("stale", found.ours - wanted))
            if routes
        )

    async def repair(self, found: RoutesFound) -> None:
        wanted = self._wanted(found)
        for route in sorted(found.ours - wanted, key=_route_order):
            await tolerated(self._kernel.remove_route(route))
        for route in sorted(wanted - found.ours, key=_route_order):
            await tolerated(self._kernel.add_route(route))
        for route in overlaps(found.lan):
            if route.interface != found.interface and route.network not in self._warned:
                self._warned.add(route.network)
                self._warn(route.network)

    async def undo(self) -> None:
        self._networks = ()
        for version in self._families.versions:
            for table in self._tables.all:
                for route in await self._kernel.on_link_routes(table, version):
                    await tolerated(self._kernel.remove_route(route))

    def _wanted(self, found: RoutesFound) -> frozenset[Route]:
        if not self._networks:
            return frozenset()
        return wanted_routes(
            self._tables,
            interface=found.interface,
            networks=self._networks,
            sources=self._sources,
            lan=found.lan,
        )


async def tolerated(operation: Awaitable[None]) -> None:
    """Await a change that may already be made, or whose object is gone."""
    try:
        await operation
    except OSError as error:
        if error.errno not in _HARMLESS:
            raise


def _rule_order(rule: Rule) -> tuple[int, int, int]:
    # A jump needs its target: the higher priorities come first.
    return rule.version, -rule.priority, rule.table


def _route_order(route: Route) -> tuple[int, int, int, int]:
    return (
        route.table,
        route.network.version,
        int(route.network.network_address),
        route.network.prefixlen,
    )
