"""The kernel's links, addresses, rules and routes as plain data, over rtnetlink.

Values are compared as sets, so each carries exactly what identifies it and what we care about. Refusals are
`OSError` with the kernel's errno. `tests/support/fake_kernel.py` is the same in memory.
"""

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeVar

from pyroute2 import AsyncIPRoute, NetlinkError

from wardgate.model.addresses import IpAddress, IpNetwork

MAIN_TABLE: Final = 254
_LOCAL_TABLE: Final = 255
_FIB_RULE_INVERT: Final = 0x2  # linux/fib_rules.h
_ACTION_LOOKUP: Final = 1
_ACTION_GOTO: Final = 2
_RTPROT_STATIC: Final = 4
_RTN_UNICAST: Final = 1
_SCOPE_LINK: Final = 253
_IFF_UP: Final = 0x1
_IFA_F_NODAD: Final = 0x02  # linux/if_addr.h
_DEFAULT_METRIC_IPV6: Final = 1024  # what the kernel makes of a metric that is not given
_LINK_LOCAL: Final = ipaddress.IPv6Network("fe80::/10")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    is_up: bool
    mtu: int
    queue_length: int
    gso_max_segs: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule: packets that match all of the selectors, or with `is_inverted` all other packets.

    It leads to a `table`, or past all rules before priority `goto`.
    """

    version: int
    priority: int
    table: int = 0
    goto: int = 0
    mark: int | None = None
    iif: str | None = None
    source: str | None = None
    is_inverted: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A route without a next hop, straight onto an interface."""

    network: IpNetwork
    interface: int
    table: int
    source: str | None = None
    metric: int = 0
    is_link_scope: bool = False


@dataclass(frozen=True, slots=True)
class Hop:
    """How the kernel would send to an address."""

    interface: int
    gateway: str | None
    source: str | None


class Kernel(Protocol):
    """What the settings ask of the kernel; every method may raise OSError."""

    async def link(self, name: str) -> Link | None: ...
    async def set_link(self, index: int, **properties: int | str) -> None: ...
    async def addresses(self, index: int | None) -> frozenset[str]:
        """Of one interface, or of all."""

    async def add_address(self, index: int, address: str) -> None: ...
    async def remove_address(self, index: int, address: str) -> None: ...
    async def rules(self, version: int) -> frozenset[Rule]: ...
    async def add_rule(self, rule: Rule) -> None: ...
    async def remove_rule(self, rule: Rule) -> None: ...
    async def on_link_routes(self, table: int, version: int) -> frozenset[Route]: ...
    async def add_route(self, route: Route) -> None: ...
    async def remove_route(self, route: Route) -> None: ...
    async def hop(self, destination: IpAddress, *, mark: int) -> Hop | None: ...


class Netlink:
    """The real kernel; an async context manager. One request at a time: the kernel allows one dump per socket."""

    def __init__(self) -> None:
        self._netlink = AsyncIPRoute(strict_check=True)
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._netlink.setup_endpoint()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._netlink.close()

    async def link(self, name: str) -> Link | None:
        try:
            [found] = await self._do(self._netlink.link("get", ifname=name))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return Link(
            index=found["index"],
            is_up=bool(found["flags"] & _IFF_UP),
            mtu=found.get("mtu"),
            queue_length=found.get("txqlen"),
            gso_max_segs=found.get("gso_max_segs") or 0,
        )

    async def set_link(self, index: int, **properties: int | str) -> None:
        await self._do(self._netlink.link("set", index=index, **properties))

    async def addresses(self, index: int | None) -> frozenset[str]:
        selected = {} if index is None else {"index": index}
        dumped = await self._dump(self._netlink.get_addr(**selected))
        return frozenset(
            found.get("local") or found.get("address")
            for found in dumped
            if index is None or found["index"] == index
        )

    async def add_address(self, index: int, address: str) -> None:
        is_ipv6 = ":" in address
        await self._do(
            self._netlink.addr(
                "replace",
                index=index,
                address=address,
                prefixlen=128 if is_ipv6 else 32,
                family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
                # A tentative address cannot be a route's source, and nobody else is on this link.
                flags=_IFA_F_NODAD if is_ipv6 else 0,
            )
        )

    async def remove_address(self, index: int, address: str) -> None:
        prefixlen = 128 if ":" in address else 32
        await self._do(self._netlink.addr("del", index=index, address=address, prefixlen=prefixlen))

    async def rules(self, version: int) -> frozenset[Rule]:
        dumped = await self._dump(self._netlink.get_rules(family=_family(version)))
        return frozenset(_rule(found, version) for found in dumped)

    async def add_rule(self, rule: Rule) -> None:
        await self._do(self._netlink.rule("add", **_rule_request(rule)))

    async def remove_rule(self, rule: Rule) -> None:
        await self._do(self._netlink.rule("del", **_rule_request(rule)))

    async def on_link_routes(self, table: int, version: int) -> frozenset[Route]:
        try:
            dumped = await self._dump(self._netlink.get_routes(family=_family(version), table=table))
        except OSError as error:
            if error.errno == errno.ENOENT:  # a table that never held a route
                return frozenset()
            raise
        routes = (_route(found, version) for found in dumped if found.get("table") == table)
        return frozenset(route for route in routes if route is not None)

    async def add_route(self, route: Route) -> None:
        await self._do(self._netlink.route("replace", **_route_request(route)))

    async def remove_route(self, route: Route) -> None:
        await self._do(self._netlink.route("del", **_route_request(route)))

    async def hop(self, destination: IpAddress, *, mark: int) -> Hop | None:
        try:
            [found, *_] = await self._do(
                self._netlink.route(
                    "get", dst=str(destination), family=_family(destination.version), mark=mark
                )
            )
        except OSError:
            return None  # unreachable, or no such family
        interface = found.get("oif")
        if found["type"] != _RTN_UNICAST or interface is None:
            return None
        return Hop(interface, found.get("gateway"), found.get("prefsrc"))

    async def _do(self, request: Any) -> Any:
        async with self._turn:
            try:
                return await request
            except NetlinkError as error:
                raise OSError(error.code, os.strerror(error.code)) from error

    async def _dump(self, request: Any) -> list[Any]:
        async with self._turn:
            try:
                return await _collected(await request)
            except NetlinkError as error:
                raise OSError(error.code, os.strerror(error.code)) from error


async def present_link(kernel: Kernel, interface: str) -> Link:
    """The link of that name. Raises OSError with ENODEV."""
    link = await kernel.link(interface)
    if link is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface)
    return link


def default_metric(version: int) -> int:
    return _DEFAULT_METRIC_IPV6 if version == 6 else 0


async def _collected(dump: AsyncIterator[_T]) -> list[_T]:
    return [one async for one in dump]


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _rule(found: Any, version: int) -> Rule:
    source = found.get("src")
    return Rule(
        version=version,
        priority=found.get("priority") or 0,
        table=found.get("FRA_TABLE") or 0 if found["action"] == _ACTION_LOOKUP else 0,
        goto=found.get("goto") or 0,
        mark=found.get("fwmark"),
        iif=found.get("iifname"),
        source=str(source) if source else None,
        is_inverted=bool(found["flags"] & _FIB_RULE_INVERT),
    )


def _rule_request(rule: Rule) -> dict[str, Any]:
    request: dict[str, Any] = {
        "family": _family(rule.version),
        "priority": rule.priority,
        "flags": _FIB_RULE_INVERT if rule.is_inverted else 0,
    }
    if rule.goto:
        request |= {"action": _ACTION_GOTO, "goto": rule.goto}
    else:
        request["table"] = rule.table
    if rule.mark is not None:
        request["fwmark"] = rule.mark
    if rule.iif is not None:
        request["iifname"] = rule.iif
    if rule.source is not None:
        request |= {"src": rule.source, "src_len": 32 if rule.version == 4 else 128}
    return request


def _route(found: Any, version: int) -> Route | None:
    """Return None if the route has a next hop, is not unicast, or is the link's own."""
    interface = found.get("oif")
    if found["type"] != _RTN_UNICAST or interface is None or found.get("gateway") or found.get("via"):
        return None
    destination = found.get("dst") or ("0.0.0.0" if version == 4 else "::")  # noqa: S104
    network = ipaddress.ip_network(f"{destination}/{found['dst_len']}")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_LINK_LOCAL):
        return None
    return Route(
        network=network,
        interface=interface,
        table=found.get("table"),
        source=found.get("prefsrc"),
        metric=found.get("priority") or 0,
        is_link_scope=found["scope"] == _SCOPE_LINK,
    )


def _route_request(route: Route) -> dict[str, Any]:
    request: dict[str, Any] = {
        "dst": str(route.network),
        "oif": route.interface,
        "table": route.table,
        "proto": _RTPROT_STATIC,
        "scope": _SCOPE_LINK if route.is_link_scope else 0,
        "family": _family(route.network.version),
        "priority": route.metric,
    }
    if route.source is not None:
        request["prefsrc"] = route.source
    return request
