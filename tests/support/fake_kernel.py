"""A kernel's links, addresses, rules and routes in memory, with the behaviour that the settings of
`wardgate.net` rely on.
"""

import errno
import ipaddress
import os
from dataclasses import replace
from typing import Any

from wardgate.model.addresses import IpAddress
from wardgate.net.netlink import Hop, Link, Route, Rule


class FakeKernel:
    """Refuses what Linux refuses: doubles, what is not there, routes from an address that nobody has, or over
    a link that is down.
    """

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.addresses_by_link: dict[int, list[str]] = {}
        self.all_rules: set[Rule] = set()
        self.all_routes: set[Route] = set()
        self.hops: dict[IpAddress, Hop] = {}
        self.refused: dict[str, int] = {}  # method → errno

    def add_link(self, name: str, *, is_up: bool = False) -> Link:
        made = Link(index=len(self.links) + 1, is_up=is_up, mtu=1500, queue_length=500, gso_max_segs=65535)
        self.links[name] = made
        self.addresses_by_link[made.index] = []
        return made

    def take_down(self, name: str) -> None:
        """As `ip link set … down`: IPv6 addresses and all routes over the link go too."""
        link = self.links[name]
        self.links[name] = replace(link, is_up=False)
        kept = [address for address in self.addresses_by_link[link.index] if ":" not in address]
        self.addresses_by_link[link.index] = kept
        self.all_routes = {route for route in self.all_routes if route.interface != link.index}

    async def link(self, name: str) -> Link | None:
        self._admit("link")
        return self.links.get(name)

    async def set_link(self, index: int, **properties: Any) -> None:
        self._admit("set_link")
        [(name, link)] = [(name, link) for name, link in self.links.items() if link.index == index]
        self.links[name] = replace(
            link,
            mtu=properties.get("mtu", link.mtu),
            queue_length=properties.get("queue_length", link.queue_length),
            gso_max_segs=properties.get("gso_max_segs", link.gso_max_segs),
            is_up=properties.get("is_up", link.is_up),
        )

    async def addresses(self, index: int | None) -> frozenset[str]:
        self._admit("addresses")
        return frozenset(
            address
            for owner, addresses in self.addresses_by_link.items()
            if index is None or owner == index
            for address in addresses
        )

    async def add_address(self, index: int, address: str) -> None:
        self._admit("add_address")
        if address in self.addresses_by_link[index]:
            _refuse(errno.EEXIST)
        self.addresses_by_link[index].append(address)

    async def remove_address(self, index: int, address: str) -> None:
        self._admit("remove_address")
        if address not in self.addresses_by_link[index]:
            _refuse(errno.EADDRNOTAVAIL)
        self.addresses_by_link[index].remove(address)

    async def rules(self, version: int) -> frozenset[Rule]:
        self._admit("rules")
        return frozenset(rule for rule in self.all_rules if rule.version == version)

    async def add_rule(self, rule: Rule) -> None:
        self._admit("add_rule")
        if rule in self.all_rules:
            _refuse(errno.EEXIST)
        self.all_rules.add(rule)

    async def remove_rule(self, rule: Rule) -> None:
        self._admit("remove_rule")
        if rule not in self.all_rules:
            _refuse(errno.ENOENT)
        self.all_rules.remove(rule)

    async def on_link_routes(self, table: int, version: int) -> frozenset[Route]:
        self._admit("on_link_routes")
        return frozenset(
            route for route in self.all_routes if route.table == table and route.network.version == version
        )

    async def add_route(self, route: Route) -> None:
        self._admit("add_route")
        if not any(link.index == route.interface and link.is_up for link in self.links.values()):
            _refuse(errno.ENETDOWN)
        if route.source is not None and route.source not in await self.addresses(None):
            _refuse(errno.EINVAL)
        self.all_routes.add(route)

    async def remove_route(self, route: Route) -> None:
        self._admit("remove_route")
        if route not in self.all_routes:
            _refuse(errno.ESRCH)
        self.all_routes.remove(route)

    async def hop(self, destination: IpAddress, *, mark: int) -> Hop | None:
        return self.hops.get(destination)

    def table(self, number: int) -> dict[str, int]:
        """Prefix → interface of one table."""
        return {str(route.network): route.interface for route in self.all_routes if route.table == number}

    def _admit(self, method: str) -> None:
        if method in self.refused:
            _refuse(self.refused[method])


def main_route(network: str, interface: int, *, source: str | None = None) -> Route:
    """An on-link route of the main table, as an address of a LAN makes one."""
    parsed = ipaddress.ip_network(network)
    return Route(parsed, interface, 254, source=source, is_link_scope=parsed.version == 4)


def _refuse(code: int) -> None:
    raise OSError(code, os.strerror(code))
