"""Routing tables and rules that put resources above the LAN and the LAN above the Internet resource (data-plane §6.2).

| table | rule priority | holds |
|---|---|---|
| `USER_TABLE` | 100 | routes to resources and the tunnel's own ranges |
| `LINK_TABLE` | 200 | copies of the main table's link-scope routes |
| `INTERNET_TABLE` | 300 | default routes of the Internet resource |

Every rule applies to packets *without* `SOCKET_MARK`; our own sockets carry it and so use the main table only.
"""

import errno
import socket
from collections.abc import Iterable
from typing import Any, Final

from pyroute2 import AsyncIPRoute, NetlinkError

from wardgate.model.addresses import IpNetwork
from wardgate.net.socket_mark import SOCKET_MARK

# These numbers are those of the published client, so that the two recognise each other's routes on one host.
USER_TABLE: Final = 0x2021FD00
LINK_TABLE: Final = 0x2021FD01
INTERNET_TABLE: Final = 0x2021FD02
_RULES: Final = ((USER_TABLE, 100), (LINK_TABLE, 200), (INTERNET_TABLE, 300))

_FIB_RULE_INVERT: Final = 0x2  # linux/fib_rules.h
_RTPROT_KERNEL: Final = 2
_RTPROT_STATIC: Final = 4
_MAIN_TABLE: Final = 254
_SCOPE_LINK: Final = 253
# Already as wanted, or gone with its interface: both are the state that was asked for.
_HARMLESS: Final = frozenset(
    {errno.EEXIST, errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}
)


async def install_rules(netlink: AsyncIPRoute) -> None:
    """Empty our tables and add the rules of both families; repeated calls change nothing."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for table, priority in _RULES:
            await tolerated(netlink.flush_routes(family=family, table=table))
            await tolerated(
                netlink.rule(
                    "add",
                    family=family,
                    table=table,
                    priority=priority,
                    fwmark=SOCKET_MARK,
                    flags=_FIB_RULE_INVERT,
                    protocol=_RTPROT_KERNEL,
                )
            )


async def remove_rules(netlink: AsyncIPRoute) -> None:
    """Take the rules and routes away again."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for table, priority in _RULES:
            await tolerated(netlink.flush_routes(family=family, table=table))
            await tolerated(netlink.rule("del", family=family, table=table, priority=priority))


async def change_routes(
    netlink: AsyncIPRoute,
    interface_index: int,
    *,
    removed: Iterable[IpNetwork],
    added: Iterable[IpNetwork],
    source_ipv4: str,
    source_ipv6: str,
) -> None:
    """Route prefixes into the interface, stale ones going first.

    Each route names its source address: sentinels live on the same interface, and the kernel's own choice for IPv6
    (longest common prefix) would take one of them.
    """
    for operation, networks in (("del", removed), ("replace", added)):
        for network in networks:
            await tolerated(
                netlink.route(
                    operation,
                    dst=str(network),
                    oif=interface_index,
                    table=INTERNET_TABLE if network.prefixlen == 0 else USER_TABLE,
                    proto=_RTPROT_STATIC,
                    prefsrc=source_ipv4 if network.version == 4 else source_ipv6,
                    family=socket.AF_INET if network.version == 4 else socket.AF_INET6,
                )
            )


async def copy_link_routes(netlink: AsyncIPRoute, *, except_interface: int) -> None:
    """Copy the link-scope routes of the main table, so that the LAN wins over the Internet resource."""
    dump = await netlink.get_routes(family=socket.AF_INET, table=_MAIN_TABLE, scope=_SCOPE_LINK)
    routes = [route async for route in dump]
    for route in routes:
        destination, interface = route.get("dst"), route.get("oif")
        if destination and interface and interface != except_interface:
            await tolerated(
                netlink.route(
                    "replace",
                    dst=f"{destination}/{route['dst_len']}",
                    oif=interface,
                    table=LINK_TABLE,
                    scope=_SCOPE_LINK,
                    proto=_RTPROT_STATIC,
                    family=socket.AF_INET,
                )
            )


async def tolerated(operation: Any) -> None:
    """Await a netlink operation whose failure to change anything is no failure."""
    try:
        await operation
    except NetlinkError as error:
        if error.code not in _HARMLESS:
            raise
