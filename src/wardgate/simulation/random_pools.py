"""Random lives of device pools: clients that reach clients, behind any router, by address and by name.

Each packet that comes out at a client is compared with the model; and since a client might ask for what it is not
shown, so is what the portal answers to requests of any kind. Invariants, beside those of `random_world` on records,
lists and errors:

- grants no packet comes out at a device that no pool leads to, or whose filters refuse it, later than a second after
         the end; no device is granted through a pool that no policy gives, or that does not lead to it
- liveness in peace, each device that a pool leads to is granted to whom a policy gives the pool, and answers
- A-I-1, A-I-2  as there
"""

from __future__ import annotations

import asyncio
import itertools

from wardgate.simulation.administration import Counts
from wardgate.simulation.model import Violation
from wardgate.simulation.peers import SimClient
from wardgate.simulation.pool_part import AUTHORIZED
from wardgate.simulation.random_world import ACTORS, ATTEMPTS, GROUPS, RandomWorld, Step, live
from wardgate.simulation.world import random_cable

_PATTERNS = {"lab": "*.lab.example", "office": "*.office.example"}
_STATIC = ("printers", "cameras")


def run_pools_seed(seed: int, *, steps: int = 40, client_type: type[SimClient] = SimClient) -> Counts:
    """Live one seed's life. Raises Violation with the command that replays it."""

    def make() -> RandomPools:
        lived = RandomPools(seed, steps)
        lived.world.client_type = client_type
        return lived

    return live(make, f"--pools --seed {seed} --steps {steps}")


class RandomPools(RandomWorld):
    """Throws the dice; `World` keeps the model."""

    async def _build(self) -> None:
        world, rng = self.world, self._rng
        for name in GROUPS:
            await world.add_group(name)
        for name in ACTORS:
            await world.add_actor(name)
            for group in rng.sample(GROUPS, rng.randint(1, 2)):
                await world.join_group(name, group)
        for number in (1, 2):
            await world.add_relay(f"relay-{number}", f"203.0.113.{number}")
        for number, (actor, kind) in enumerate(itertools.product(ACTORS, ("laptop", "nas"))):
            await world.add_client(f"{actor}s-{kind}", actor, random_cable(rng, number + 1))
        await asyncio.sleep(5)  # a device exists once it has been connected
        for pool in _STATIC:
            await world.add_pool(pool)
        for pool, pattern in _PATTERNS.items():
            await world.add_pool(pool, pattern)
        for pool in world.model.pools:
            await world.grant(rng.choice(GROUPS), pool, only_for=self._some_actors())
        for client in world.clients:
            await self._change_device(client)

    @property
    def _steps_to_take(self) -> list[tuple[int, Step]]:
        return [
            (20, self._ask),
            (40, self._probe),
            (3, self._change_filter),
            (1, self._restart_relay),
            (6, self._grant),
            (5, self._revoke),
            (3, self._change_membership),
            (2, self._exchange_policy),
            (3, self._switch_policy),
            (1, self._move_policy),
            (6, self._change_some_device),
            (3, self._outlive_access),
            (4, self._outlive_revocation),
            (3, self._race_with_answer),
            (3, self._race_with_init),
            (2, self._lose_grant),
            (2, self._check_records),
            (1, self._restart_portal),
            (2, self._cut_from_portal),
            (2, self._restart_client),
            (2, self._rest),
        ]

    async def _probe(self) -> None:
        """Several programs at once, in both directions, mostly to what may be reached."""
        rng, pairs = self._rng, [self._some_pair() for _ in range(self._rng.randint(1, 4))]
        probes = [
            self.world.probe_device(
                *(rng.sample((client, target), 2) if rng.random() < 0.2 else (client, target)),
                port=rng.choice((53, 53, 5000)),
                by_name=rng.random() < 0.5,
                wait_s=rng.uniform(0.5, 3.0),
            )
            for client, _, target in pairs
        ]
        await asyncio.gather(*probes)

    async def _change_filter(self) -> None:
        model = self.world.model
        name = self._rng.choice(list(model.pools))
        await self.world.change_filter(name, (53, 53) if model.pools[name].udp_ports is None else None)

    async def _ask(self) -> None:
        """Several at once, mostly for what may be had."""
        chosen = [self._some_pair() for _ in range(self._rng.randint(1, 4))]
        await asyncio.gather(*(self._ask_for(*pair) for pair in dict.fromkeys(chosen)))

    async def _ask_for(self, client: str, pool: str, target: str) -> str:
        return await self.world.ask_for_device(client, pool, target, wait_s=self._rng.uniform(0.5, 3.0))

    def _some_pair(self) -> tuple[str, str, str]:
        allowed = self._allowed_pairs()
        if allowed and self._rng.random() < 0.75:
            return self._rng.choice(allowed)
        client, target = self._rng.sample(list(self.world.clients), 2)
        return client, self._rng.choice(list(self.world.model.pools)), target

    def _allowed_pairs(self) -> list[tuple[str, str, str]]:
        world = self.world
        return [
            (client, pool, target)
            for client, target in itertools.permutations(world.clients, 2)
            for pool in world.model.pools
            if world.model.may_reach(world.actor_of[client], pool, target)
        ]

    async def _change_some_device(self) -> None:
        await self._change_device(self._rng.choice(list(self.world.clients)))

    async def _change_device(self, client: str) -> None:
        """Give a device another host name, or another place in a static pool."""
        world, rng = self.world, self._rng
        if rng.random() < 0.5:
            pool = rng.choice((None, *_PATTERNS))
            hostname = None if pool is None else _PATTERNS[pool].replace("*", client.upper())
            await world.name_host(client, hostname, set() if pool is None else {pool})
        else:
            pool = rng.choice(_STATIC)
            await world.set_member(pool, client, is_member=client not in world.model.pools[pool].devices)

    async def _outlive_access(self) -> None:
        """A grant ends while its target is away; the target comes back and must hear of it."""
        world, rng = self.world, self._rng
        if not (allowed := self._allowed_pairs()):
            return
        client, pool, target = rng.choice(allowed)
        await self._ask_for(client, pool, target)
        if rng.random() < 0.5:
            world.clients[target].cut_portal()
        else:
            world.clients[target].reset_portal()
        await self._end_grant_of(client, pool, target)
        await self._check_records()

    async def _outlive_revocation(self) -> None:
        """A grant ends, and the client that has it does not hear of that: its device does."""
        world = self.world
        if not (allowed := self._allowed_pairs()):
            return
        client, pool, target = self._rng.choice(allowed)
        await world.probe_device(client, target, by_name=True, wait_s=3.0)
        world.clients[client].cut_portal()
        await self._end_grant_of(client, pool, target)
        await asyncio.sleep(1.5)
        await world.probe_device(client, target, wait_s=2.0)

    async def _race_with_answer(self) -> None:
        """A grant ends on its way to the store."""
        if not (allowed := self._allowed_pairs()):
            return
        client, pool, target = self._rng.choice(allowed)
        with self.world.database_far(0.4):

            async def end_soon() -> None:
                await asyncio.sleep(self._rng.uniform(0.0, 0.8))
                await self._end_grant_of(client, pool, target)

            await asyncio.gather(self._ask_for(client, pool, target), end_soon())
            await asyncio.sleep(2.0)
        await self._check_records()

    async def _race_with_init(self) -> None:
        """A grant ends while the session of its target is being loaded."""
        world = self.world
        if not (allowed := self._allowed_pairs()):
            return
        client, pool, target = self._rng.choice(allowed)
        await self._ask_for(client, pool, target)
        held = world.hold_reading(self._rng.choice((0, 1, 1, 1)))
        world.clients[target].reset_portal()
        await asyncio.wait({held}, timeout=5.0)
        held.cancel()
        await self._end_grant_of(client, pool, target)
        await self._check_records()

    async def _lose_grant(self) -> None:
        """Somebody is granted what cannot be stored."""
        if not (allowed := self._allowed_pairs()):
            return
        with self.world.disk_full():
            await self._ask_for(*self._rng.choice(allowed))
        await self._check_records()

    async def _end_grant_of(self, client: str, pool: str, target: str) -> None:
        """Take the pool away from the actor, or the device from the pool."""
        if self._rng.random() < 0.6:
            await self._end_access(self.world.actor_of[client], pool)
        elif self.world.model.pools[pool].is_dynamic:
            await self.world.name_host(target, None, set())
        elif target in self.world.model.pools[pool].devices:
            await self.world.set_member(pool, target, is_member=False)

    async def _check_ends(self) -> None:
        world = self.world
        for client in world.clients:
            self._check_list(client)
        for client, target in itertools.permutations(world.clients, 2):
            for pool in world.model.pools:
                if world.model.is_uncertain(world.actor_of[client], pool):
                    continue
                answer = await world.ask_for_device(client, pool, target)
                if (answer == AUTHORIZED) is not world.model.may_reach(world.actor_of[client], pool, target):
                    raise Violation(
                        f"liveness: {client} asked for {target} in {pool} and was answered {answer}"
                    )
        await self._check_records()
        for client, target in itertools.permutations(world.clients, 2):
            await self._check_reach_of(client, target)

    async def _check_reach_of(self, client: str, target: str) -> None:
        """Whoever has a pool that leads to a device gets its answers, on the ports that some such pool permits."""
        world, actor = self.world, self.world.actor_of[client]
        if any(world.model.is_uncertain(actor, name) for name in world.model.pools):
            return
        ways = [world.model.pools[name] for name in world.model.pools_to(actor, target)]
        for port in (53, 5000) if ways else (53,):
            may = any(pool.udp_ports is None or port == 53 for pool in ways)
            wait_s = 5.0 if ways else 2.0
            outcomes = [await world.probe_device(client, target, port=port, by_name=True, wait_s=wait_s)]
            while may and outcomes[-1] != "answered" and len(outcomes) < ATTEMPTS:
                outcomes.append(await world.probe_device(client, target, port=port, by_name=True))
            if may and outcomes[-1] != "answered":
                raise Violation(f"liveness: {client} may reach {target} at port {port} and got {outcomes}")
            if not may and "answered" in outcomes:
                raise Violation(f"grants: {client} may not reach {target} at port {port} and was answered")
            if ways and not may and outcomes[-1] != "prohibited":
                raise Violation(
                    f"A-I-2: {client} asked {target} for a port that filters refuse and got {outcomes}"
                )

    def _check_list(self, client: str) -> None:
        """A client is shown the pools that it may use, with the addresses of all members of static ones."""
        world = self.world
        actor = world.actor_of[client]
        shown = world.clients[client].pools.shown
        for name, pool in world.model.pools.items():
            if world.model.is_uncertain(actor, name):
                continue
            members = frozenset() if pool.is_dynamic else frozenset(map(world.address_of, pool.devices))
            wanted = members if world.model.is_allowed(actor, name) else None
            if shown.get(pool.id) != wanted:
                raise Violation(f"A-I-6: {client} is shown {shown.get(pool.id)} of {name} and not {wanted}")
