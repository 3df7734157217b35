"""The TUN interface as the operating system sees it: link settings, addresses, routes, rules (data-plane §4.12, §6.1).

The device itself belongs to the engine's host; this module says what the interface of that name should look
like, and keeps it so. Sentinel addresses are local to it, so that ordinary sockets can serve DNS on them.
"""

import logging
from enum import Enum
from pathlib import Path
from typing import Any, Final

from wardgate.model.addresses import IpNetwork
from wardgate.net.families import Families
from wardgate.net.netlink import Kernel, Link, present_link
from wardgate.net.policy_routing import (
    Routes,
    Rules,
    client_rules,
    gateway_rules,
    is_reserved,
    tables_of,
    tolerated,
)
from wardgate.net.reconciler import Setting
from wardgate.net.reverse_path import ReversePath
from wardgate.net.sysctl import PROC_SYS, Sysctl
from wardgate.net.tun_configuration import TunConfiguration

MTU: Final = 1280  # data-plane §2.6
QUEUE_LENGTH: Final = 10_000  # packets; the kernel's 500 lose some under load (data-plane §6.1)
GSO_MAX_SEGMENTS: Final = (
    49  # × 1,312 bytes sealed: what one UDP GSO send takes; for hosts that do not forward
)

log = logging.getLogger(__name__)


class Role(Enum):
    CLIENT = "client"
    GATEWAY = "gateway"


class TunInterface:
    """What is wanted of one interface, as `settings` for a reconciler."""

    def __init__(
        self,
        name: str,
        kernel: Kernel,
        *,
        role: Role,
        families: Families,
        gso_max_segs: int | None = None,
        proc_sys: Path = PROC_SYS,
    ) -> None:
        """`gso_max_segs` caps super-packets of this host's own programs; None leaves the kernel's limit.

        A host that forwards must not set it: the kernel cuts a forwarded super-packet that exceeds it into
        single packets.
        """
        self.name: Final = name
        self._role = role
        self.families: Final = families
        self._addresses = Addresses(kernel, name)
        self._routes = Routes(kernel, name, families, warn=self._warn_of_overlap)
        self._rules = Rules(kernel, name, families)
        self._reverse_path = ReversePath(name, proc_sys=proc_sys)
        parameters = {}
        if families.ipv6:
            # No link-local address: nothing but tunnel addresses may appear as a source on this interface.
            parameters[f"net/ipv6/conf/{name}/addr_gen_mode"] = "1"
        if role is Role.GATEWAY:
            # A client on this host has its own tunnel address and routes, and reaches resources through this
            # gateway like any other.
            parameters[f"net/ipv4/conf/{name}/accept_local"] = "1"
            parameters[f"net/ipv4/conf/{name}/rp_filter"] = "2"  # loose, also where `all` says strict
        self.settings: tuple[Setting[Any], ...] = (
            *(Sysctl(key, value, proc_sys=proc_sys) for key, value in parameters.items()),
            LinkProperties(kernel, name, gso_max_segs),
            self._addresses,
            self._routes,
            self._rules,
            *((self._reverse_path,) if role is Role.CLIENT else ()),
        )

    def want(self, wanted: TunConfiguration) -> None:
        """Take over a new configuration, for the next pass of the reconciler."""
        own = self.families.of((wanted.ipv4, wanted.ipv6))
        self._addresses.wanted = (*own, *self.families.of(wanted.sentinels))
        self._routes.want(wanted.routes, {6 if ":" in address else 4: address for address in own})
        tables = tables_of(self.name)
        self._rules.wanted = (
            client_rules(tables, self.families)
            if self._role is Role.CLIENT
            else gateway_rules(tables, self.families, interface=self.name, sources=own)
        )
        # Nobody's relay or gateway is reached at an address of the tunnel's own ranges.
        self._reverse_path.is_wanted = not all(map(is_reserved, wanted.routes))

    def _warn_of_overlap(self, network: IpNetwork) -> None:
        log.warning(
            "a network of this host lies inside the tunnel's own range; it stays reachable, peers with "
            "these tunnel addresses do not",
            extra={"network": str(network), "interface": self.name},
        )


class LinkProperties:
    """Keeps MTU, queue length and segment limit, and the link up."""

    name = "link"
    is_necessary = True

    def __init__(self, kernel: Kernel, interface: str, gso_max_segs: int | None) -> None:
        self._kernel = kernel
        self._interface = interface
        self._gso_max_segs = gso_max_segs

    async def read(self) -> Link:
        return await present_link(self._kernel, self._interface)

    def differs(self, found: Link) -> tuple[str, ...]:
        differences = [
            phrase
            for phrase, is_so in (
                ("down", not found.is_up),
                ("MTU", found.mtu != MTU),
                ("queue length", found.queue_length != QUEUE_LENGTH),
                (
                    "segment limit",
                    self._gso_max_segs is not None and found.gso_max_segs != self._gso_max_segs,
                ),
            )
            if is_so
        ]
        return tuple(differences)

    async def repair(self, found: Link) -> None:
        if (found.mtu, found.queue_length) != (MTU, QUEUE_LENGTH):
            await self._kernel.set_link(found.index, mtu=MTU, queue_length=QUEUE_LENGTH)
        if self._gso_max_segs is not None and found.gso_max_segs != self._gso_max_segs:
            try:
                await self._kernel.set_link(found.index, gso_max_segs=self._gso_max_segs)
            except OSError as error:
                self._gso_max_segs = None
                # Its version decides; nobody can do anything about it here.
                log.info("the kernel refuses gso_max_segs; sending is slower", extra={"errno": error.errno})
        if not found.is_up:
            await self._kernel.set_link(found.index, is_up=True)

    async def undo(self) -> None:
        """The interface ends with the process that opened it."""


class Addresses:
    """Keeps exactly the wanted addresses on the interface."""

    name = "tunnel addresses"
    is_necessary = True

    def __init__(self, kernel: Kernel, interface: str) -> None:
        self._kernel = kernel
        self._interface = interface
        self.wanted: tuple[str, ...] | None = None

    async def read(self) -> frozenset[str]:
        link = await present_link(self._kernel, self._interface)
        return await self._kernel.addresses(link.index)

    def differs(self, found: frozenset[str]) -> tuple[str, ...]:
        if self.wanted is None:
            return ()
        wanted = frozenset(self.wanted)
        return tuple(phrase for phrase, some in (("lost", wanted - found), ("stale", found - wanted)) if some)

    async def repair(self, found: frozenset[str]) -> None:
        link = await present_link(self._kernel, self._interface)
        wanted = self.wanted or ()
        for address in sorted(found - frozenset(wanted)):
            await tolerated(self._kernel.remove_address(link.index, address))
        refusals = []
        for address in wanted:  # in this order: the first is the one that the kernel prefers as a source
            if address not in found:
                try:
                    await tolerated(self._kernel.add_address(link.index, address))
                except OSError as error:
                    refusals.append(error)  # one family may be refused and the other not
        if refusals:
            raise refusals[0]

    async def undo(self) -> None:
        """They end with the interface."""
