"""The demo's story in the simulator: the same parts and decisions, virtual time and network, no root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final
from uuid import UUID

from wardgate.simulation.model import SimResource
from wardgate.simulation.network import Nat, NatKind
from wardgate.simulation.peers import Cable
from wardgate.simulation.virtual_time import run_virtual
from wardgate.simulation.world import World

Show = Callable[[str], None]
Step = Callable[[str], AbstractContextManager[Show]]

_SEED: Final = 7
_NEW: Final = UUID(int=0)


def tell(step: Step, say: Show, measures: dict[str, float]) -> None:
    """Tell it; raises AssertionError where the system does not do what the story says."""
    say("(times below are the simulator's own work; what a measure says is virtual time)")
    run_virtual(_Story(step, measures).tell())


class _Story:
    def __init__(self, step: Step, measures: dict[str, float]) -> None:
        self._step = step
        self._measures = measures

    async def tell(self) -> None:
        world = World(_SEED)
        await world.open()
        try:
            await self._build(world)
            await self._reach(world)
            await self._refuse(world)
            await self._revoke(world)
            await self._lose_the_portal(world)
            await self._lose_a_relay(world)
            if world.violation is not None:
                raise world.violation
        finally:
            await world.close()

    async def _build(self, world: World) -> None:
        with self._step(
            "Start the portal on SQLite in memory; make a site, a group, resources and policies"
        ) as show:
            site = await world.add_site()
            await world.add_group("engineers")
            await world.add_actor("build-server")
            await world.join_group("build-server", "engineers")
            app = SimResource(
                _NEW, site, "dns", "app.internal.example", "172.21.0.101", "app.internal.example"
            )
            await world.add_resource("app", app)
            await world.add_resource(
                "network", SimResource(_NEW, site, "cidr", "10.20.0.0/24", "10.20.0.100")
            )
            await world.add_resource("secret", SimResource(_NEW, site, "ip", "172.21.0.100", "172.21.0.100"))
            for resource in ("app", "network"):
                await world.grant("engineers", resource)
            show("engineers may use app.internal.example and 10.20.0.0/24; nobody may use 172.21.0.100")
        with self._step("Start two relays, a gateway and a client behind NAT routers") as show:
            for number in (1, 2):
                await world.add_relay(f"relay-{number}", f"203.0.113.{number}")
            await world.add_gateway(
                "gateway", site, _edge("198.51.100.32", "10.31.0.100", NatKind.PORT_RESTRICTED)
            )
            await world.add_client(
                "client", "build-server", _edge("198.51.100.31", "10.30.0.100", NatKind.PORT_RESTRICTED)
            )
            await _until(lambda: all(peer.is_joined for peer in world.peers()), "everyone online", 15)
            await asyncio.sleep(1)
            show("all four are connected to the portal")

    async def _reach(self, world: World) -> None:
        with self._step("Reach the private server by name and by address") as show:
            loop = asyncio.get_running_loop()
            started = loop.time()
            await _must_answer(world, "client", "network")
            self._measures["cold_connect_ms"] = round((loop.time() - started) * 1000, 1)
            show(
                f"first packet to its answer: {self._measures['cold_connect_ms']:.0f} ms, nothing connected before"
            )
            await _must_answer(world, "client", "app")
            paths = world.clients["client"].path_to
            assert set(paths.values()) == {"direct"}, f"the path was not direct: {paths}"
            show("the path is direct, through both routers")

    async def _refuse(self, world: World) -> None:
        with self._step("Request a resource without a policy, and ask the portal why it is denied") as show:
            outcome = await world.probe("client", "secret", wait_s=2)
            assert outcome == "silence", f"a resource without a policy was reached: {outcome}"
            for line in (await world.explain("build-server", "secret")).splitlines():
                show(f"| {line}")

    async def _revoke(self, world: World) -> None:
        with self._step("Delete the policy while packets flow") as show:
            loop = asyncio.get_running_loop()
            revoked_at = loop.time()
            await world.revoke("network")
            last_answer_at: float | None = None
            while loop.time() < revoked_at + 2:
                sent_at = loop.time()
                if await world.probe("client", "network", wait_s=0.1) == "answered":
                    last_answer_at = sent_at
            outlived_ms = 0.0 if last_answer_at is None else (last_answer_at - revoked_at) * 1000
            self._measures["revocation_ms"] = round(outlived_ms, 1)
            if last_answer_at is None:
                show("no packet that left after the deletion was answered")
            else:
                show(f"the last packet that was answered left {outlived_ms:.0f} ms after the deletion")
            assert outlived_ms < 1000, "access outlived its policy by more than a second"
            await world.grant("engineers", "network")
            await asyncio.sleep(1)
            await _must_answer(world, "client", "network")
            show("policy restored: the next request works")

    async def _lose_the_portal(self, world: World) -> None:
        with self._step("Stop the portal: tunnels keep working. Start it again: nothing breaks") as show:
            await world.stop_portal()
            await _must_answer(world, "client", "network")
            show("without it: answered")
            await world.start_portal()
            await _until(lambda: all(peer.is_joined for peer in world.peers()), "everyone back", 120)
            await _must_answer(world, "client", "network")
            show("with it again: everyone is back, answered")

    async def _lose_a_relay(self, world: World) -> None:
        with self._step("A client behind a symmetric router: a relay carries it") as show:
            cable = _edge("198.51.100.33", "10.32.0.100", NatKind.SYMMETRIC)
            await world.add_client("roamer", "build-server", cable)
            await _until(lambda: world.clients["roamer"].is_joined, "the second client", 15)
            await asyncio.sleep(1)
            await _must_answer(world, "roamer", "network")
            in_use = max(world.relays, key=lambda name: world.relays[name].stats()["relayed_packets"])
            show(f"answered; {in_use} relayed {world.relays[in_use].stats()['relayed_packets']} packets")
        with self._step(f"Kill {in_use}") as show:
            loop = asyncio.get_running_loop()
            killed_at = loop.time()
            world.relays[in_use].kill()
            while await world.probe("roamer", "network", wait_s=0.5) != "answered":
                assert loop.time() < killed_at + 30, "no path was found without the relay"
            self._measures["relay_failover_s"] = round(loop.time() - killed_at, 2)
            show(f"answered again after {self._measures['relay_failover_s']:.1f} s over the other relay")


def _edge(public_ip: str, ip: str, kind: NatKind) -> Cable:
    return Cable(ip, Nat(kind, public_ip), latency_s=0.005)


async def _must_answer(world: World, client: str, resource: str) -> None:
    outcome = await world.probe(client, resource)
    assert outcome == "answered", f"no answer from {resource} for {client}: {outcome}"


async def _until(condition: Callable[[], bool], what: str, limit_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while not condition():
        if loop.time() > deadline:
            raise TimeoutError(f"{what}: not within {limit_s:g} s of virtual time")
        await asyncio.sleep(0.1)
