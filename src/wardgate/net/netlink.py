"""The kernel's links, addresses, rules and routes as plain data, over rtnetlink.

Values are compared as sets, so each carries exactly what identifies it and what we care about. Refusals are
`OSError` with the kernel's errno. `tests/support/fake_kernel.py` is the same in memory.
"""

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Final, Protocol, Self

from wardgate.model.addresses import IpAddress, IpNetwork
from wardgate.net import rtnetlink as r

MAIN_TABLE: Final = 254
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

# Attributes: linux/if_link.h, linux/if_addr.h, linux/fib_rules.h, linux/rtnetlink.h
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_TXQLEN: Final = 13
_IFLA_GSO_MAX_SEGS: Final = 40
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
_FRA_SRC: Final = 2
_FRA_IIFNAME: Final = 3
_FRA_GOTO: Final = 4
_FRA_PRIORITY: Final = 6
_FRA_FWMARK: Final = 10
_FRA_TABLE: Final = 15
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_PREFSRC: Final = 7
_RTA_TABLE: Final = 15
_RTA_MARK: Final = 16
_RTA_VIA: Final = 18
_RTM_TYPE: Final = 7  # where it stands in the fixed part of a route


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
    async def set_link(
        self,
        index: int,
        *,
        mtu: int | None = None,
        queue_length: int | None = None,
        gso_max_segs: int | None = None,
        is_up: bool | None = None,
    ) -> None:
        """Change what is given."""

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
        self._routing: r.RouteSocket | None = None

    async def __aenter__(self) -> Self:
        self._routing = r.RouteSocket()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._routing is not None:
            self._routing.close()

    async def link(self, name: str) -> Link | None:
        try:
            [found] = await self._socket.ask(
                r.GET_LINK, r.LINK_PART.pack(0, 0, 0, 0, 0), {_IFLA_IFNAME: name}
            )
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        _family, _type, index, flags, _changed = found.fixed
        return Link(
            index=index,
            is_up=bool(flags & _IFF_UP),
            mtu=found.attributes.number(_IFLA_MTU) or 0,
            queue_length=found.attributes.number(_IFLA_TXQLEN) or 0,
            gso_max_segs=found.attributes.number(_IFLA_GSO_MAX_SEGS) or 0,
        )

    async def set_link(
        self,
        index: int,
        *,
        mtu: int | None = None,
        queue_length: int | None = None,
        gso_max_segs: int | None = None,
        is_up: bool | None = None,
    ) -> None:
        wanted = {_IFLA_MTU: mtu, _IFLA_TXQLEN: queue_length, _IFLA_GSO_MAX_SEGS: gso_max_segs}
        attributes = {name: value for name, value in wanted.items() if value is not None}
        changed = 0 if is_up is None else _IFF_UP
        fixed = r.LINK_PART.pack(0, 0, index, _IFF_UP if is_up else 0, changed)
        await self._socket.ask(r.NEW_LINK, fixed, attributes)

    async def addresses(self, index: int | None) -> frozenset[str]:
        dumped = await self._socket.dump(r.GET_ADDRESS, r.ADDRESS_PART.pack(0, 0, 0, 0, index or 0))
        # Older kernels list those of all interfaces.
        own = (found for found in dumped if index is None or found.fixed[-1] == index)
        texts = (
            found.attributes.address(_IFA_LOCAL) or found.attributes.address(_IFA_ADDRESS) for found in own
        )
        return frozenset(text for text in texts if text is not None)

    async def add_address(self, index: int, address: str) -> None:
        # A tentative address cannot be a route's source, and nobody else is on this link.
        flags: dict[int, r.Value] = {_IFA_FLAGS: _IFA_F_NODAD} if ":" in address else {}
        await self._socket.ask(r.NEW_ADDRESS, *_address_request(index, address, flags), flags=r.REPLACE)

    async def remove_address(self, index: int, address: str) -> None:
        await self._socket.ask(r.DELETE_ADDRESS, *_address_request(index, address, {}))

    async def rules(self, version: int) -> frozenset[Rule]:
        fixed = r.RULE_PART.pack(_family(version), *[0] * 8)
        return frozenset(_rule(found, version) for found in await self._socket.dump(r.GET_RULE, fixed))

    async def add_rule(self, rule: Rule) -> None:
        await self._socket.ask(r.NEW_RULE, *_rule_request(rule), flags=r.CREATE)

    async def remove_rule(self, rule: Rule) -> None:
        await self._socket.ask(r.DELETE_RULE, *_rule_request(rule))

    async def on_link_routes(self, table: int, version: int) -> frozenset[Route]:
        fixed = r.ROUTE_PART.pack(_family(version), *[0] * 8)
        try:
            dumped = await self._socket.dump(r.GET_ROUTE, fixed, {_RTA_TABLE: table})
        except OSError as error:
            if error.errno == errno.ENOENT:  # a table that never held a route
                return frozenset()
            raise
        routes = (_route(found, version) for found in dumped)
        return frozenset(route for route in routes if route is not None and route.table == table)

    async def add_route(self, route: Route) -> None:
        await self._socket.ask(r.NEW_ROUTE, *_route_request(route), flags=r.REPLACE)

    async def remove_route(self, route: Route) -> None:
        await self._socket.ask(r.DELETE_ROUTE, *_route_request(route))

    async def hop(self, destination: IpAddress, *, mark: int) -> Hop | None:
        fixed = r.ROUTE_PART.pack(_family(destination.version), destination.max_prefixlen, *[0] * 7)
        try:
            [found, *_] = await self._socket.ask(
                r.GET_ROUTE, fixed, {_RTA_DST: destination.packed, _RTA_MARK: mark}
            )
        except OSError:
            return None  # unreachable, or no such family
        interface = found.attributes.number(_RTA_OIF)
        if found.fixed[_RTM_TYPE] != _RTN_UNICAST or interface is None:
            return None
        return Hop(interface, found.attributes.address(_RTA_GATEWAY), found.attributes.address(_RTA_PREFSRC))

    @property
    def _socket(self) -> r.RouteSocket:
        assert self._routing is not None, "use it as a context manager"
        return self._routing


async def present_link(kernel: Kernel, interface: str) -> Link:
    """The link of that name. Raises OSError with ENODEV."""
    link = await kernel.link(interface)
    if link is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface)
    return link


def default_metric(version: int) -> int:
    return _DEFAULT_METRIC_IPV6 if version == 6 else 0


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _address_request(index: int, address: str, more: dict[int, r.Value]) -> tuple[bytes, dict[int, r.Value]]:
    """The fixed part and the attributes of an address without a network."""
    packed = r.address_bytes(address)
    is_ipv6 = ":" in address
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    fixed = r.ADDRESS_PART.pack(family, 128 if is_ipv6 else 32, 0, 0, index)
    return fixed, {_IFA_LOCAL: packed, _IFA_ADDRESS: packed, **more}


def _rule(found: r.Found, version: int) -> Rule:
    *_, action, flags = found.fixed
    values = found.attributes
    return Rule(
        version=version,
        priority=values.number(_FRA_PRIORITY) or 0,
        table=values.number(_FRA_TABLE) or 0 if action == _ACTION_LOOKUP else 0,
        goto=values.number(_FRA_GOTO) or 0,
        mark=values.number(_FRA_FWMARK),
        iif=values.text(_FRA_IIFNAME),
        source=values.address(_FRA_SRC),
        is_inverted=bool(flags & _FIB_RULE_INVERT),
    )


def _rule_request(rule: Rule) -> tuple[bytes, dict[int, r.Value]]:
    """The fixed part and the attributes."""
    values: dict[int, r.Value] = {_FRA_PRIORITY: rule.priority}
    if rule.goto:
        values[_FRA_GOTO] = rule.goto
    else:
        values[_FRA_TABLE] = rule.table
    if rule.mark is not None:
        values[_FRA_FWMARK] = rule.mark
    if rule.iif is not None:
        values[_FRA_IIFNAME] = rule.iif
    source_length = 0
    if rule.source is not None:
        values[_FRA_SRC] = r.address_bytes(rule.source)
        source_length = 32 if rule.version == 4 else 128
    fixed = r.RULE_PART.pack(
        _family(rule.version),
        0,
        source_length,
        *(0, 0, 0, 0),
        _ACTION_GOTO if rule.goto else _ACTION_LOOKUP,
        _FIB_RULE_INVERT if rule.is_inverted else 0,
    )
    return fixed, values


def _route(found: r.Found, version: int) -> Route | None:
    """Return None if the route has a next hop, is not unicast, or is the link's own."""
    _family, length, _source, _tos, table, _protocol, scope, kind, _flags = found.fixed
    values = found.attributes
    interface = values.number(_RTA_OIF)
    if kind != _RTN_UNICAST or interface is None or _RTA_GATEWAY in values or _RTA_VIA in values:
        return None
    destination = values.address(_RTA_DST) or ("0.0.0.0" if version == 4 else "::")  # noqa: S104
    network = ipaddress.ip_network(f"{destination}/{length}")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_LINK_LOCAL):
        return None
    return Route(
        network=network,
        interface=interface,
        table=values.number(_RTA_TABLE) or table,
        source=values.address(_RTA_PREFSRC),
        metric=values.number(_RTA_PRIORITY) or 0,
        is_link_scope=scope == _SCOPE_LINK,
    )


def _route_request(route: Route) -> tuple[bytes, dict[int, r.Value]]:
    """The fixed part and the attributes."""
    network = route.network
    values: dict[int, r.Value] = {
        _RTA_OIF: route.interface,
        _RTA_TABLE: route.table,
        _RTA_PRIORITY: route.metric,
    }
    if network.prefixlen:
        values[_RTA_DST] = network.network_address.packed
    if route.source is not None:
        values[_RTA_PREFSRC] = r.address_bytes(route.source)
    scope = _SCOPE_LINK if route.is_link_scope else 0
    fixed = r.ROUTE_PART.pack(
        _family(network.version), network.prefixlen, 0, 0, 0, _RTPROT_STATIC, scope, _RTN_UNICAST, 0
    )
    return fixed, values
