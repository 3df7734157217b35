"""A few minutes of a random installation's life, from one seed, with the invariants checked all the way.

While things happen only safety is checked, packet by packet (`World`). At the end everything is brought up,
left in peace, and the installation must do what the model says: what is granted is reached, what is not is
refused, lists agree.

Invariants, by the names under which a failure reports them:

- A-I-1  each probe comes out once, at the right server, and its answer goes back once
- A-I-2  what a filter refuses gets exactly one ICMP error
- A-I-6  a client is shown exactly what the model grants it
- grants no packet reaches a resource that no policy grants, later than a second after its end
- records whatever a gateway enforces is stored, whatever is stored follows from a policy, and no gateway was told
          to end it
- errors nothing is logged as an error, but what the portal cannot write while its disk is full
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from wardgate.simulation.administration import Counts
from wardgate.simulation.model import Grant, SimResource, Violation
from wardgate.simulation.network import Nat, NatKind
from wardgate.simulation.peers import Cable, SimGateway
from wardgate.simulation.virtual_time import run_virtual
from wardgate.simulation.world import World, random_cable

_SETTLE_S: Final = 100.0  # longer than a peer needs to notice a dead portal link (40 s) and come back
ATTEMPTS: Final = 4
_NOWHERE: Final = UUID(int=0)
GROUPS: Final = ("ops", "devs", "leads")
ACTORS: Final = ("ada", "bob")
_WRITERS: Final = ("wardgate.portal.channels.journal", "wardgate.portal.channels.endpoint")
"""Who says so when nothing can be written: a grant is lost, a connect is refused."""

Step = Callable[[], Awaitable[None]]


def run_seed(seed: int, *, steps: int = 40, gateway_type: type[SimGateway] = SimGateway) -> Counts:
    """Live one seed's life. Raises Violation with the command that replays it."""
    return live(lambda: RandomWorld(seed, steps, gateway_type), f"--seed {seed} --steps {steps}")


def live(make: Callable[[], RandomWorld], how: str) -> Counts:
    """Live a life. Raises Violation with the command that replays it, whose arguments are `how`."""
    errors = _Errors()
    logging.getLogger().addHandler(errors)

    async def life() -> Counts:
        world = make()
        errors.is_expected = lambda record: record.name in _WRITERS and world.world.is_disk_full
        return await world.run()

    try:
        counts = run_virtual(life())
        gc.collect()  # a task that nobody ended is told of when it is collected
        errors.check()
    except Violation as violation:
        raise Violation(f"{violation}\nreplay: python -m wardgate.simulation {how}") from violation
    else:
        return counts
    finally:
        logging.getLogger().removeHandler(errors)


class _Errors(logging.Handler):
    """Notes what is logged as an error while a life is lived."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.is_expected: Callable[[logging.LogRecord], bool] = lambda _: False
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not self.is_expected(record):
            why = "" if record.exc_info is None else f": {record.exc_info[1]!r}"
            self._lines.append(f"{record.name}: {record.getMessage()}{why}")

    def check(self) -> None:
        if self._lines:
            raise Violation(f"errors: {self._lines[0]} ({len(self._lines)} in all)")


class RandomWorld:
    """Throws the dice; `World` keeps the model."""

    def __init__(self, seed: int, steps: int, gateway_type: type[SimGateway] = SimGateway) -> None:
        self._steps = steps
        self.world = World(seed)
        self.world.gateway_type = gateway_type
        self._rng = random.Random(seed * 7919 + 1)  # noqa: S311  # replays by seed
        self._number = 0
        self._sites: list[UUID] = []

    async def run(self) -> Counts:
        world = self.world
        await world.open()
        try:
            await self._build()
            for _ in range(self._steps):
                await world.restart_who_gave_up()
                await self._step()
                self._raise_violation()
            await self._check_in_peace()
            return world.counts
        finally:
            await world.close()

    async def _build(self) -> None:
        world, rng = self.world, self._rng
        for _ in range(rng.randint(1, 2)):
            self._sites.append(await world.add_site())
        for name in GROUPS:
            await world.add_group(name)
        for name in ACTORS:
            await world.add_actor(name)
            for group in rng.sample(GROUPS, rng.randint(1, 2)):
                await world.join_group(name, group)
        for number in range(1, rng.randint(1, 2) + 1):
            await world.add_relay(f"relay-{number}", f"203.0.113.{number}")
        for site in self._sites:
            for _ in range(rng.choice((1, 1, 2))):
                await self._add_gateway(site)
        for actor in ACTORS:
            self._number += 1
            await world.add_client(f"{actor}s-laptop", actor, random_cable(rng, self._number))
        for kind in ("cidr", "dns", "ip", "dns"):
            await self._add_resource(kind)
        await asyncio.sleep(3)

    async def _step(self) -> None:
        (step,) = self._rng.choices(
            [step for _, step in self._steps_to_take], [weight for weight, _ in self._steps_to_take]
        )
        await step()
        await asyncio.sleep(self._rng.choice((0.0, 0.1, 1.0, 5.0)))

    @property
    def _steps_to_take(self) -> list[tuple[int, Step]]:
        """What may happen next, each with its weight."""
        return [
            (50, self._probe),
            (6, self._grant),
            (5, self._revoke),
            (3, self._change_membership),
            (2, self._exchange_policy),
            (3, self._switch_policy),
            (2, self._change_filter),
            (2, self._outlive_policy),
            (2, self._outlive_revocation),
            (2, self._outlive_filter),
            (1, self._move_policy),
            (2, self._supersede),
            (2, self._fill_disk),
            (3, self._race_at_connect),
            (2, self._race_with_grant),
            (2, self._check_records),
            (2, self._add_any_resource),
            (1, self._remove_resource),
            (1, self._restart_portal),
            (1, self._cut_from_portal),
            (1, self._restart_gateway),
            (1, self._restart_relay),
            (1, self._restart_client),
            (2, self._rest),
        ]

    async def _probe(self) -> None:
        """Several programs at once, so that changes meet packets in flight."""
        rng, world = self._rng, self.world
        probes = []
        for _ in range(rng.randint(1, 4)):
            client = rng.choice(list(world.clients))
            actor = world.actor_of[client]
            # Mostly what may be used or just might, often enough what may not.
            granted = [
                n
                for n in world.model.resources
                if world.model.is_allowed(actor, n) or world.model.is_uncertain(world.actor_of[client], n)
            ]
            resource = rng.choice(granted if granted and rng.random() < 0.75 else list(world.model.resources))
            probes.append(
                world.probe(client, resource, port=rng.choice((53, 53, 5000)), wait_s=rng.uniform(0.5, 3.0))
            )
        await asyncio.gather(*probes)

    async def _grant(self) -> None:
        world = self.world
        group, resource = self._rng.choice(GROUPS), self._rng.choice(list(world.model.grants))
        if resource in world.model.removed or any(
            grant.group == group for grant in world.model.grants[resource]
        ):
            return
        await world.grant(
            group, resource, for_s=self._rng.choice((None, 5.0, 30.0)), only_for=self._some_actors()
        )

    def _some_actors(self) -> frozenset[str] | None:
        """Whom a condition is about: mostly there is none."""
        return self._rng.choice((None, None, None, frozenset(), frozenset({"ada"}), frozenset(ACTORS)))

    async def _revoke(self) -> None:
        granted = [name for name, grants in self.world.model.grants.items() if grants]
        if granted:
            await self.world.revoke(self._rng.choice(granted))

    async def _exchange_policy(self) -> None:
        granted = [name for name, grants in self.world.model.grants.items() if grants]
        if granted:
            await self.world.exchange_policy(self._rng.choice(granted))

    async def _switch_policy(self) -> None:
        granted = [name for name, grants in self.world.model.grants.items() if grants]
        if granted:
            await self.world.switch_policy(self._rng.choice(granted))

    async def _change_filter(self) -> None:
        model = self.world.model
        left = [name for name in model.resources if name not in model.removed]
        name = self._rng.choice(left)
        await self.world.change_filter(name, (53, 53) if model.resources[name].udp_ports is None else None)

    async def _outlive_policy(self) -> None:
        """Use what a policy grants until its time is over, and beyond, by a client that does not hear of it."""
        world, now = self.world, asyncio.get_running_loop().time()
        ending = [
            (client, resource, grant.ends_at)
            for client, resource, grant in self._usable()
            if grant.ends_at is not None and grant.ends_at > now
        ]
        if ending:
            client, resource, ends_at = self._rng.choice(ending)
            await world.probe(client, resource, wait_s=2.0)
            await asyncio.sleep(max(0.0, ends_at - 1 - asyncio.get_running_loop().time()))
            world.clients[client].cut_portal()
            await asyncio.sleep(max(0.0, ends_at + 1.5 - asyncio.get_running_loop().time()))
            await world.probe(client, resource, wait_s=2.0)

    async def _outlive_revocation(self) -> None:
        """As before, but access is taken away, in any way."""
        usable = self._usable()
        if usable:
            client, resource, _ = self._rng.choice(usable)
            await self.world.probe(client, resource, wait_s=2.0)
            self.world.clients[client].cut_portal()
            await self._end_access(self.world.actor_of[client], resource)
            await asyncio.sleep(1.5)
            await self.world.probe(client, resource, wait_s=2.0)

    async def _end_access(self, actor: str, resource: str) -> None:
        """Take a resource away from somebody by each policy that grants it."""
        for grant in self.world.model.grants[resource]:
            if grant.fits(actor) and actor in self.world.model.members[grant.group]:
                await self._end_grant(actor, resource, grant)

    async def _end_grant(self, actor: str, resource: str, grant: Grant) -> None:
        world, rng = self.world, self._rng
        way = rng.choice(("revoke", "switch", "move", "narrow", "leave"))
        strangers = [
            group for group in self._groups_without(resource) if actor not in world.model.members[group]
        ]
        if way == "move" and strangers:
            await world.move_policy(resource, grant, rng.choice(strangers))
        elif way == "narrow" and grant.only_for is None:
            await world.narrow_policy(resource, grant, frozenset())
        elif way == "switch":
            await world.switch_policy(resource, grant)
        elif way == "leave":
            await world.leave_group(actor, grant.group)
        else:
            await world.revoke(resource, grant)

    def _groups_without(self, resource: str) -> list[str]:
        """Groups that no policy gives the resource to."""
        return [
            group
            for group in GROUPS
            if all(grant.group != group for grant in self.world.model.grants[resource])
        ]

    def _groups_of(self, client: str) -> list[str]:
        world = self.world
        return [group for group in GROUPS if world.actor_of[client] in world.model.members[group]]

    async def _outlive_filter(self) -> None:
        """A resource that is in use is narrowed down; its user does not hear of it, its gateways may be away
        at the time.
        """
        world = self.world
        open_ones = [one for one in self._usable() if world.model.resources[one[1]].udp_ports is None]
        if not open_ones:
            return
        client, resource, _ = self._rng.choice(open_ones)
        await world.probe(client, resource, wait_s=2.0)
        world.clients[client].cut_portal()
        is_away = self._rng.random() < 0.5
        if is_away:
            for gateway in world.gateways.values():
                gateway.reset_portal()
        await world.change_filter(resource, (53, 53))
        await asyncio.sleep(4.0 if is_away else 1.5)
        await world.probe(client, resource, port=5000, wait_s=2.0)

    async def _move_policy(self) -> None:
        granted = [(name, grant) for name, grants in self.world.model.grants.items() for grant in grants]
        if granted:
            resource, grant = self._rng.choice(granted)
            free = self._groups_without(resource)
            if free:
                await self.world.move_policy(resource, grant, self._rng.choice(free))

    async def _supersede(self) -> None:
        """Who uses a resource by a policy that ends comes to use it by a longer one; then the former is deleted."""
        world, rng = self.world, self._rng
        client = rng.choice(list(world.clients))
        actor, groups = world.actor_of[client], self._groups_of(client)
        if not groups:
            return
        former, latter = rng.choice(groups), rng.choice(GROUPS)
        resource = await self._grant_anew(former, for_s=60.0)
        (ending,) = world.model.grants[resource]
        await world.probe(client, resource, wait_s=3.0)
        if latter == former:
            latter = next(group for group in GROUPS if group != former)
        if actor not in world.model.members[latter]:
            await world.join_group(actor, latter)
        await world.grant(latter, resource)
        world.clients[client].kill()  # the next one asks again
        await world.restart_client(client)
        await asyncio.sleep(5.0)
        await world.probe(client, resource, wait_s=3.0)
        await world.revoke(resource, ending)
        await self._check_records()  # before a packet makes the client ask again

    async def _fill_disk(self) -> None:
        """Somebody is granted what cannot be stored."""
        world, client = self.world, self._rng.choice(list(self.world.clients))
        if groups := self._groups_of(client):
            resource = await self._grant_anew(self._rng.choice(groups))
            with world.disk_full():
                await world.probe(client, resource, wait_s=1.0)
            await self._check_records()

    async def _grant_anew(self, group: str, *, for_s: float | None = None) -> str:
        """A resource that nobody has used yet."""
        resource = await self._add_resource(self._rng.choice(("cidr", "dns", "ip")), is_granted=False)
        await self.world.grant(group, resource, for_s=for_s)
        await asyncio.sleep(1.0)
        return resource

    async def _race_at_connect(self) -> None:
        """A gateway comes back, and access of its users is taken away while its session is being loaded."""
        world, rng = self.world, self._rng
        gateway = rng.choice(list(world.gateways))
        usable = {
            (client, resource)
            for client, resource, _ in self._usable()
            if world.model.resources[resource].site_id == world.site_of[gateway]
        }
        chosen = rng.sample(sorted(usable), min(len(usable), 3))
        await asyncio.gather(*(world.probe(client, resource, wait_s=3.0) for client, resource in chosen))
        # First the gateway's token is read, then the grants that it holds.
        held = world.hold_reading(rng.choice((0, 1, 1, 1)))
        world.gateways[gateway].reset_portal()
        await asyncio.wait({held}, timeout=5.0)
        held.cancel()
        for client, resource in chosen:
            await self._end_access(world.actor_of[client], resource)
        await self._check_records()

    async def _race_with_grant(self) -> None:
        """Access is taken away while it is being granted."""
        world, rng = self.world, self._rng
        usable = self._usable()
        if not usable:
            return
        client, resource, _ = rng.choice(usable)
        world.clients[client].kill()
        await world.restart_client(client)
        await asyncio.sleep(2.0)
        with world.database_far(0.4):

            async def end_soon() -> None:
                await asyncio.sleep(rng.uniform(0.0, 0.8))
                await self._end_access(world.actor_of[client], resource)

            await asyncio.gather(world.probe(client, resource, wait_s=3.0), end_soon())
            await asyncio.sleep(2.0)
        await self._check_records()

    async def _check_records(self) -> None:
        """What is under way has a few seconds to settle."""
        if not self.world.is_portal_up:
            return
        await asyncio.sleep(2.0)
        for wrong in set(await self.world.wrong_records()):
            await asyncio.sleep(2.0)
            if wrong in await self.world.wrong_records():
                raise Violation(f"records: {wrong}")

    def _usable(self) -> list[tuple[str, str, Grant]]:
        model = self.world.model
        return [
            (client, resource, grant)
            for resource, grants in model.grants.items()
            for grant in grants
            for client, actor in self.world.actor_of.items()
            if actor in model.members[grant.group] and grant.fits(actor)
        ]

    async def _change_membership(self) -> None:
        actor, group = self._rng.choice(ACTORS), self._rng.choice(GROUPS)
        if actor in self.world.model.members[group]:
            await self.world.leave_group(actor, group)
        else:
            await self.world.join_group(actor, group)

    async def _add_any_resource(self) -> None:
        await self._add_resource(self._rng.choice(("cidr", "dns", "ip")))

    async def _add_resource(self, kind: str, *, is_granted: bool = True) -> str:
        self._number += 1
        number, rng = self._number, self._rng
        ports = rng.choice((None, None, (53, 53)))
        site = rng.choice(self._sites)
        real_ip = f"10.{20 + number}.0.5"
        if kind == "dns":
            name = f"app-{number}.internal.example"
            resource = SimResource(_NOWHERE, site, "dns", name, real_ip, name, ports)
        else:
            address = f"10.{20 + number}.0.0/24" if kind == "cidr" else real_ip
            resource = SimResource(_NOWHERE, site, kind, address, real_ip, None, ports)
        await self.world.add_resource(f"{kind}-{number}", resource)
        if is_granted and rng.random() < 0.7:  # most resources are granted to somebody
            await self.world.grant(rng.choice(GROUPS), f"{kind}-{number}", only_for=self._some_actors())
        return f"{kind}-{number}"

    async def _remove_resource(self) -> None:
        left = [name for name in self.world.model.resources if name not in self.world.model.removed]
        if len(left) > 2:  # something must stay to talk about
            await self.world.remove_resource(self._rng.choice(left))

    async def _restart_portal(self) -> None:
        await self.world.stop_portal()
        await asyncio.sleep(self._rng.uniform(0.1, 20))
        await self.world.start_portal()
        self.world.counts.portal_restarts += 1

    async def _cut_from_portal(self) -> None:
        self._rng.choice(self.world.peers()).cut_portal()

    async def _restart_gateway(self) -> None:
        name = self._rng.choice(list(self.world.gateways))
        if self._rng.random() < 0.5:  # as often killed as stopped
            self.world.gateways[name].kill()
        else:
            self.world.gateways[name].shut_down()
        await asyncio.sleep(self._rng.uniform(0, 3))
        await self.world.restart_gateway(name)

    async def _restart_relay(self) -> None:
        name = self._rng.choice(list(self.world.relays))
        self.world.relays[name].kill()
        await asyncio.sleep(self._rng.uniform(0, 10))
        await self.world.restart_relay(name)

    async def _restart_client(self) -> None:
        name = self._rng.choice(list(self.world.clients))
        self.world.clients[name].kill()
        await self.world.restart_client(name)

    async def _rest(self) -> None:
        await asyncio.sleep(self._rng.choice((30.0, 130.0, 200.0)))

    async def _add_gateway(self, site: UUID) -> None:
        self._number += 1
        # A gateway stands where somebody chose to put it: never behind the worst routers of hotel lobbies.
        kind = self._rng.choice((NatKind.OPEN, NatKind.FULL_CONE, NatKind.PORT_RESTRICTED, NatKind.SYMMETRIC))
        nat = None if kind is NatKind.OPEN else Nat(kind, f"198.51.100.{self._number}")
        ip = f"203.0.113.{100 + self._number}" if nat is None else f"10.{self._number}.0.2"
        cable = Cable(
            ip, nat, latency_s=self._rng.uniform(0.002, 0.1), loss=self._rng.choice((0.0, 0.0, 0.02))
        )
        await self.world.add_gateway(f"gateway-{self._number}", site, cable)

    async def _check_in_peace(self) -> None:
        """Liveness and lists, after everything had time to settle on cables without loss."""
        world = self.world
        await world.restart_who_gave_up()
        for host in world.network.hosts():
            host.loss = 0.0
        await asyncio.sleep(_SETTLE_S)
        for peer in world.peers():
            if not peer.is_joined:
                raise Violation(
                    f"liveness: {peer.name} is not connected to the portal after {_SETTLE_S:g} s of peace"
                )
        await self._check_records()
        await self._check_ends()
        self._raise_violation()

    async def _check_ends(self) -> None:
        """What everybody is shown, and reaches."""
        world = self.world
        for client in world.clients:
            # A time condition that ends within the minute may be shown until the portal looks again.
            shown, wanted, later = (
                world.clients[client].resource_ids,
                world.model.shown_to(world.actor_of[client]),
                world.model.about_to_end(world.actor_of[client]),
            )
            if shown - later != wanted - later:
                raise Violation(
                    f"A-I-6: {client} is shown {sorted(shown - wanted)} too much and "
                    f"{sorted(wanted - shown)} too little"
                )
        for client in world.clients:
            for resource in world.model.resources:
                if resource not in world.model.removed:
                    await self._check_reach(client, resource)

    async def _check_reach(self, client: str, resource: str) -> None:
        world = self.world
        ports = world.model.resources[resource].udp_ports
        if world.model.is_uncertain(world.actor_of[client], resource):
            return
        allowed = world.model.is_allowed(world.actor_of[client], resource)
        outcomes = [await world.probe(client, resource, port=53)]
        while allowed and outcomes[-1] != "answered" and len(outcomes) < ATTEMPTS:
            outcomes.append(await world.probe(client, resource, port=53))
        if allowed and outcomes[-1] != "answered":
            raise Violation(f"liveness: {client} may use {resource} and got {outcomes}")
        if not allowed and "answered" in outcomes:
            raise Violation(f"grants: {client} may not use {resource} and was answered")
        if allowed and ports is not None:
            outcome = await world.probe(client, resource, port=ports[1] + 1)
            if outcome != "prohibited":
                raise Violation(
                    f"A-I-2: {client} asked {resource} for a port that its filter refuses and got {outcome}"
                )

    def _raise_violation(self) -> None:
        if self.world.violation is not None:
            raise self.world.violation
