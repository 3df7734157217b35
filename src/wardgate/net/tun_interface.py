"""The TUN interface as the operating system sees it: addresses, link settings, routes (data-plane §4.12, §6.1).

The device itself belongs to the engine's host; this module configures the interface of that name through netlink.
Sentinel addresses are local to it, so that ordinary sockets can serve DNS on them.
"""

import contextlib
import logging
import socket
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pyroute2 import AsyncIPRoute, NetlinkError

from wardgate.model.addresses import IpNetwork
from wardgate.net.policy_routing import (
    change_routes,
    copy_link_routes,
    install_rules,
    remove_rules,
    tolerated,
)
from wardgate.net.tun_configuration import TunConfiguration

MTU: Final = 1280  # data-plane §2.6
QUEUE_LENGTH: Final = 10_000  # packets; the kernel's 500 lose some under load (data-plane §6.1)
GSO_MAX_SEGMENTS: Final = (
    49  # × 1,312 bytes sealed: what one UDP GSO send takes; for hosts that do not forward
)

_IFA_F_NODAD: Final = 0x02  # linux/if_addr.h

log = logging.getLogger(__name__)


class TunInterface:
    """Configures one interface; use as an async context manager, which removes rules and routes at the end.

    Each `configure` applies the difference to the one before. One address family that the host lacks is tolerated, the
    lack of both raises.
    """

    def __init__(self, name: str, *, gso_max_segs: int | None = None) -> None:
        """`gso_max_segs` caps super-packets of this host's own programs; None leaves the kernel's limit.

        A host that forwards must not set it: the kernel cuts a forwarded super-packet that exceeds it into single packets.
        """
        self._name = name
        self._gso_max_segs = gso_max_segs
        self._netlink = AsyncIPRoute()
        self._index = 0
        self._applied: TunConfiguration | None = None

    async def __aenter__(self) -> Self:
        await self._netlink.setup_endpoint()
        [self._index] = await self._netlink.link_lookup(ifname=self._name)
        await self._prepare_link()
        await install_rules(self._netlink)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(NetlinkError, OSError):
            await remove_rules(self._netlink)
        self._netlink.close()

    async def configure(self, wanted: TunConfiguration) -> None:
        """Make the interface look as wanted.

        Raises:
            OSError: neither address family could be configured.
        """
        previous = self._applied
        await self._set_addresses(wanted, previous)
        same_source = previous is not None and (previous.ipv4, previous.ipv6) == (wanted.ipv4, wanted.ipv6)
        kept = previous.routes & wanted.routes if previous is not None and same_source else frozenset()
        await change_routes(
            self._netlink,
            self._index,
            removed=_in_order(previous.routes - wanted.routes if previous is not None else ()),
            added=_in_order(wanted.routes - kept),
            source_ipv4=wanted.ipv4,
            source_ipv6=wanted.ipv6,
        )
        self._applied = wanted
        await self.follow_lan()

    async def follow_lan(self) -> None:
        """Let new routes of the host's LAN win over the Internet resource; to be called now and then."""
        if self._applied is not None and any(network.prefixlen == 0 for network in self._applied.routes):
            await copy_link_routes(self._netlink, except_interface=self._index)

    async def _prepare_link(self) -> None:
        # No link-local address: nothing but tunnel addresses may appear as a source on this interface.
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv6/conf/{self._name}/addr_gen_mode").write_text("1", encoding="ascii")  # noqa: ASYNC240
        await self._netlink.link("set", index=self._index, mtu=MTU, txqlen=QUEUE_LENGTH)
        if self._gso_max_segs is not None:
            try:
                await self._netlink.link("set", index=self._index, gso_max_segs=self._gso_max_segs)
            except NetlinkError as error:
                log.warning("the kernel refuses gso_max_segs; sending is slower", extra={"errno": error.code})
        await self._netlink.link("set", index=self._index, state="up")

    async def _set_addresses(self, wanted: TunConfiguration, previous: TunConfiguration | None) -> None:
        if previous is None:
            await self._netlink.flush_addr(index=self._index)
            stale: set[str] = set()
        else:
            stale = {previous.ipv4, previous.ipv6, *previous.sentinels} - {
                wanted.ipv4,
                wanted.ipv6,
                *wanted.sentinels,
            }
        for address in sorted(stale):
            await tolerated(
                self._netlink.addr("del", index=self._index, address=address, prefixlen=_host_length(address))
            )
        configured = 0
        for address in (wanted.ipv4, wanted.ipv6, *wanted.sentinels):
            is_ipv6 = ":" in address
            try:
                await self._netlink.addr(
                    "replace",
                    index=self._index,
                    address=address,
                    prefixlen=_host_length(address),
                    family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
                    # A tentative address cannot be a route's source, and nobody else is on this link.
                    flags=_IFA_F_NODAD if is_ipv6 else 0,
                )
                configured += 1
            except NetlinkError as error:
                log.warning(
                    "an address family of the tunnel cannot be configured",
                    extra={"family": "ipv6" if is_ipv6 else "ipv4", "errno": error.code},
                )
        if configured == 0:
            raise OSError(f"no address could be set on {self._name}")


def _host_length(address: str) -> int:
    return 128 if ":" in address else 32


def _in_order(networks: Iterable[IpNetwork]) -> list[IpNetwork]:
    return sorted(
        networks, key=lambda network: (network.version, int(network.network_address), network.prefixlen)
    )
