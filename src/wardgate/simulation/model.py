"""The model: what the administrator of a simulated installation has granted, in a few plain dictionaries.

It answers what a program must reach, may reach for a moment still, and must not reach; the installation is
compared with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

_REEVALUATION_S: Final = 120.0
REVOCATION_LIMIT_S: Final = 1.0  # ARCHITECTURE.md: access ends within a second
CLOCK_SLACK_S: Final = 1.0  # expiries cross the wire in whole seconds

Ports = tuple[int, int] | None  # first and last UDP port that a filter permits; None: everything


class Violation(Exception):
    """An invariant was broken; the message says which and where."""


@dataclass
class SimResource:
    """A resource as the model knows it."""

    id: UUID
    site_id: UUID
    kind: str
    address: str  # network, address or name pattern
    real_ip: str  # the server that probes go to
    name: str | None = None  # a DNS resource's name
    udp_ports: Ports = None
    former_ports: list[tuple[Ports, float]] = field(default_factory=list)  # until when each was in force


@dataclass
class SimPool:
    """A device pool as the model knows it: static with members, or dynamic, which leads to whose host name it covers.

    Attributes:
        devices: names of the clients that it leads to.
        left_at: when each client was last taken out.
        udp_ports: as of a resource, with those before and until when each was in force.
    """

    id: UUID
    is_dynamic: bool
    devices: set[str] = field(default_factory=set)
    left_at: dict[str, float] = field(default_factory=dict)
    udp_ports: Ports = None
    former_ports: list[tuple[Ports, float]] = field(default_factory=list)


@dataclass
class Grant:
    """A policy in the model.

    Attributes:
        ends_at: when a time condition ends, on the loop's clock.
        only_for: the actors whose address satisfies a second condition; None: there is none.
    """

    policy_id: UUID
    group: str
    ends_at: float | None = None
    is_disabled: bool = False
    only_for: frozenset[str] | None = None

    def fits(self, actor: str) -> bool:
        return not self.is_disabled and (self.only_for is None or actor in self.only_for)


class Model:
    """Times are seconds on `clock`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.resources: dict[str, SimResource] = {}
        self.pools: dict[str, SimPool] = {}
        self.removed: set[str] = set()
        self.grants: dict[str, list[Grant]] = {}  # by resource
        self.members: dict[str, set[str]] = {}  # group → actors
        self.actors: set[str] = set()
        self.database_far_until = 0.0
        """Until when the portal may have learnt late of what the administrator did."""
        self._ended: dict[tuple[str, str], float] = {}  # (actor, resource) → when it was last taken away

    def id_of(self, name: str) -> UUID:
        """Return the id of a resource or pool."""
        return self.pools[name].id if name in self.pools else self.resources[name].id

    # What is changed

    def put_in_pool(self, pool: str, device: str, *, is_in: bool) -> None:
        """Let a pool lead to a device, or no more."""
        changed = self.pools[pool]
        if is_in:
            changed.devices.add(device)
        elif device in changed.devices:
            changed.devices.discard(device)
            changed.left_at[device] = self.clock()

    def change_ports(self, name: str, ports: Ports) -> None:
        """Let a resource or pool permit other ports."""
        changed = self.pools[name] if name in self.pools else self.resources[name]
        changed.former_ports.append((changed.udp_ports, self.clock()))
        changed.udp_ports = ports

    def allowed_actors(self, resource: str) -> set[str]:
        return {actor for actor in self.actors if self.is_allowed(actor, resource)}

    def note_ended(self, resource: str, before: set[str]) -> None:
        """Note for whom the resource has just ended; `before`: who was allowed."""
        for actor in before - self.allowed_actors(resource):
            self._ended[actor, resource] = self.clock()

    # What follows

    def may_reach(self, actor: str, pool: str, device: str) -> bool:
        """Whether a client of this actor is to be granted a device of a pool now."""
        return device in self.pools[pool].devices and self.is_allowed(actor, pool)

    def why_no_device(self, actor: str, pool: str, device: str, *, asked_at: float) -> str | None:
        """Why a device of a pool must not have been granted to who asked for it then; None: it might be."""
        ended_at = 0.0
        if device not in self.pools[pool].devices:
            ended_at = self.pools[pool].left_at.get(device, 0.0)
        elif self.is_allowed(actor, pool, at=asked_at - CLOCK_SLACK_S):
            return None
        else:
            ended_at = self._ended_at(actor, [pool])
        if asked_at - max(ended_at, self.database_far_until) <= REVOCATION_LIMIT_S:
            return None
        return f"{device} of {pool}, asked for {asked_at - ended_at:.3f} s after its access ended"

    def pools_to(self, actor: str, device: str) -> list[str]:
        """By which pools a client of this actor is to reach a device now."""
        return [name for name in self.pools if self.may_reach(actor, name, device)]

    def why_no_way(self, actor: str, device: str, port: int, *, informed_at: float | None) -> str | None:
        """Why a packet from a client of this actor must not come out at a device now; None: some pool gives it.

        Args:
            informed_at: since when the device is connected to the portal; None: it is cut off, and what it had
                granted goes on.
        """
        if informed_at is None or any(
            self._may_have_been_in(name, device, informed_at)
            and self._may_have_been_allowed(actor, name, informed_at)
            and self._may_have_permitted(pool.udp_ports, pool.former_ports, port, informed_at)
            for name, pool in self.pools.items()
        ):
            return None
        return f"{device} at port {port}, to which no pool leads them"

    def _may_have_been_in(self, pool: str, device: str, informed_at: float) -> bool:
        members = self.pools[pool]
        return device in members.devices or self._is_recent(members.left_at.get(device, 0.0), informed_at)

    def _may_have_been_allowed(self, actor: str, name: str, informed_at: float) -> bool:
        return self.is_allowed(actor, name, at=self.clock() - CLOCK_SLACK_S) or self._is_recent(
            self._ended_at(actor, [name]), informed_at
        )

    def _may_have_permitted(
        self, ports: Ports, former: list[tuple[Ports, float]], port: int, informed_at: float | None
    ) -> bool:
        return _permits(ports, port) or any(
            _permits(before, port) and self._is_recent(until, informed_at) for before, until in former
        )

    def is_allowed(self, actor: str, resource: str, *, at: float | None = None) -> bool:
        when = self.clock() if at is None else at
        return any(
            actor in self.members[grant.group] and (grant.ends_at is None or when < grant.ends_at)
            for grant in self.grants[resource]
            if grant.fits(actor)
        )

    def justifies(self, actor: str, resource: str, policy_id: UUID, ends_at: float) -> bool:
        """Whether a stored grant of a policy, until then, follows from what the administrator has granted."""
        return any(
            grant.policy_id == policy_id
            and actor in self.members[grant.group]
            and grant.fits(actor)
            and (grant.ends_at is None or ends_at <= grant.ends_at + CLOCK_SLACK_S)
            for grant in self.grants[resource]
        )

    def is_uncertain(self, actor: str, resource: str) -> bool:
        """A time condition of this actor's ended less than two minutes ago, or will before the portal's next look."""
        now = self.clock()
        return any(
            grant.ends_at is not None
            and actor in self.members[grant.group]
            and abs(grant.ends_at - now) < _REEVALUATION_S
            for grant in self.grants[resource]
        )

    def shown_to(self, actor: str) -> set[str]:
        """Ids of the resources that this actor's clients are shown."""
        return {str(self.resources[name].id) for name in self.resources if self.is_allowed(actor, name)}

    def about_to_end(self, actor: str) -> set[str]:
        """Ids of resources whose time condition ended or ends within the portal's interval of re-evaluation."""
        return {str(self.resources[name].id) for name in self.resources if self.is_uncertain(actor, name)}

    def why_refused(self, actor: str, resource: str, port: int, *, informed_at: float | None) -> str | None:
        """Why a packet must not pass now; None: it may.

        Args:
            informed_at: since when the gateway is connected to the portal; None: it is cut off, and what it
                had goes on.
        """
        return self._why_port_refused(resource, port, informed_at) or self._why_access_refused(
            actor, resource, informed_at
        )

    def _why_port_refused(self, resource: str, port: int, informed_at: float | None) -> str | None:
        wanted = self.resources[resource]
        if self._may_have_permitted(wanted.udp_ports, wanted.former_ports, port, informed_at):
            return None
        return f"port {port} of {resource}, which its filter refuses"

    def _why_access_refused(self, actor: str, resource: str, informed_at: float | None) -> str | None:
        # Someone else's resource may cover the same address: each grant of an equal address counts.
        names = self._same_target(resource)
        if any(self.is_allowed(actor, name, at=self.clock() - CLOCK_SLACK_S) for name in names):
            return None
        ended_at = self._ended_at(actor, names)
        if self._is_recent(ended_at, informed_at):
            return None
        return f"{resource} {self.clock() - ended_at:.3f} s after its access ended"

    def _ended_at(self, actor: str, names: list[str]) -> float:
        """When the last access of an actor to any of these ended."""
        ends = [self._ended.get((actor, name), 0.0) for name in names]
        ends += [
            grant.ends_at
            for name in names
            for grant in self.grants[name]
            if grant.ends_at is not None and actor in self.members[grant.group]
        ]
        return max(ends)

    def _is_recent(self, ended_at: float, informed_at: float | None) -> bool:
        return (
            informed_at is None
            or self.clock() - max(ended_at, informed_at, self.database_far_until) <= REVOCATION_LIMIT_S
        )

    def _same_target(self, resource: str) -> list[str]:
        wanted = self.resources[resource]
        return [
            name
            for name, other in self.resources.items()
            if other.real_ip == wanted.real_ip and other.kind == wanted.kind
        ]


def _permits(ports: Ports, port: int) -> bool:
    return ports is None or ports[0] <= port <= ports[1]
