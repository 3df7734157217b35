"""Lives that once went wrong, told step by step so that they do not depend on dice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import pytest

from wardgate.portal.channels import relay_selection
from wardgate.simulation.model import SimResource
from wardgate.simulation.network import Nat, NatKind
from wardgate.simulation.peers import Cable
from wardgate.simulation.virtual_time import run_virtual
from wardgate.simulation.world import World
from wardgate.wire.messages import Relay

_NEW = UUID(int=0)
TEN_YEARS_S = 10 * 365 * 86_400


@pytest.mark.timeout(60)
def test_a_grant_that_ended_while_the_portal_was_away_is_asked_for_again() -> None:
    """Another policy grants the same when the portal is back, so the client is told of no change at all."""

    async def life(world: World) -> None:
        await build(world)
        await world.grant("ops", "app", for_s=5)
        (ending,) = world.model.grants["app"]
        assert ending.ends_at is not None
        await asyncio.sleep(1)
        assert await world.probe("laptop", "app") == "answered"
        # Something else keeps the connection to the gateway.
        assert await world.probe("laptop", "server") == "answered"

        await world.stop_portal()
        await world.grant("devs", "app")
        await asyncio.sleep(ending.ends_at + 1 - asyncio.get_running_loop().time())
        assert await world.probe("laptop", "app") == "prohibited"
        await world.start_portal()
        await until(lambda: all(peer.is_joined for peer in world.peers()))

        assert "answered" in [await world.probe("laptop", "app", wait_s=2) for _ in range(3)]

    run_virtual(lived(life))


@pytest.mark.timeout(60)
def test_a_relay_whose_clock_is_wrong_is_asked_once_a_second_and_the_portal_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To it, every client's credentials have ended. They end a moment before a client's token, too."""
    asked = 0
    offer = relay_selection.RelaySelection.choose

    def choose(self: relay_selection.RelaySelection) -> tuple[Relay, ...]:
        nonlocal asked
        asked += 1
        return offer(self)

    monkeypatch.setattr(relay_selection.RelaySelection, "choose", choose)

    async def life(world: World) -> None:
        await build(world)
        world.relays["relay"].kill()
        right = world._context
        world._context = replace(right, unix_at_zero=right.unix_at_zero + TEN_YEARS_S)
        relay = await world.restart_relay("relay")
        world._context = right
        await asyncio.sleep(20)
        # Two refusals each time: of the request without a nonce, and of that with one.
        assert 2 < relay.stats()["auth_failures"] <= 4 * 20
        assert 2 < asked <= 2 * 20  # hundreds without a limit

    run_virtual(lived(life))


@pytest.mark.timeout(60)
def test_a_policy_in_the_place_of_another_is_noticed_by_traffic_only() -> None:
    """Its grants go with the former policy; the client's list stays as it is."""

    async def life(world: World) -> None:
        await build(world)
        await world.grant("ops", "app")
        await asyncio.sleep(1)
        for resource in ("app", "server"):
            assert await world.probe("laptop", resource) == "answered"
        for resource in ("app", "server"):
            await world.exchange_policy(resource)
            await asyncio.sleep(1)
            assert "answered" in [await world.probe("laptop", resource, wait_s=2) for _ in range(3)]

    run_virtual(lived(life))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["laptop", "gateway", "relay"])
def test_a_portal_that_falls_silent_while_a_peer_connects_is_asked_again(name: str) -> None:
    """Seeds 100366, 100368, 100564 and 100909: cut off between the request and its answer, they waited for ever."""

    async def life(world: World) -> None:
        await build(world)
        restart = {
            "laptop": world.restart_client,
            "gateway": world.restart_gateway,
            "relay": world.restart_relay,
        }[name]
        (former,) = [peer for peer in world.peers() if peer.name == name]
        former.kill()
        await asyncio.sleep(1)
        peer = await restart(name)
        peer.cut_portal()
        await until(lambda: peer.is_joined, limit_s=20)

    run_virtual(lived(life))


@pytest.mark.timeout(60)
def test_a_grant_that_the_disk_has_no_room_for_is_withdrawn() -> None:
    async def life(world: World) -> None:
        await build(world)
        await world.grant("ops", "app")
        await asyncio.sleep(1)
        with world.disk_full():
            assert await world.probe("laptop", "app", wait_s=2) == "silence"
            assert await world.wrong_records() == []
        assert world.counts.refused_writes > 0

    run_virtual(lived(life))


async def lived(life: Callable[[World], Awaitable[None]]) -> None:
    world = World(7)
    await world.open()
    try:
        await life(world)
        assert world.violation is None
    finally:
        await world.close()


async def build(world: World) -> None:
    """A client whose actor is in two groups, a gateway and two resources of its site: `app` by name, `server`
    granted.
    """
    site = await world.add_site()
    await world.add_actor("bob")
    for group in ("ops", "devs"):
        await world.add_group(group)
        await world.join_group("bob", group)
    await world.add_resource(
        "app", SimResource(_NEW, site, "dns", "app.internal.example", "10.20.0.5", "app.internal.example")
    )
    await world.add_resource("server", SimResource(_NEW, site, "ip", "10.21.0.5", "10.21.0.5"))
    await world.grant("ops", "server")
    await world.add_relay("relay", "203.0.113.1")
    await world.add_gateway("gateway", site, edge("198.51.100.32", "10.31.0.2"))
    await world.add_client("laptop", "bob", edge("198.51.100.31", "10.30.0.2"))
    await until(lambda: all(peer.is_joined for peer in world.peers()))
    await asyncio.sleep(1)


def edge(public_ip: str, ip: str) -> Cable:
    return Cable(ip, Nat(NatKind.PORT_RESTRICTED, public_ip), latency_s=0.005)


async def until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  # virtual time, and nobody signals
            await asyncio.sleep(0.1)
