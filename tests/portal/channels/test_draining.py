"""The end of a process, and what comes after it: everybody is closed in batches and let in again one after another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from portal.channels.test_authorization import grant
from support.portal import HeldClock, Peer, Refused, World, make_world, portal_running
from wardgate.portal.bus import EncodingBus
from wardgate.portal.channels import endpoint
from wardgate.portal.channels.journal import Journal
from wardgate.portal.environment import Environment
from wardgate.portal.settings import PortalSettings


class Busy(NamedTuple):
    world: World
    go_on: asyncio.Event


class Counted(HeldClock):
    """Counts how often somebody sleeps, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        if seconds == endpoint.DRAIN_PAUSE_S:
            self.pauses.append(seconds)
        await super().sleep(seconds)


@pytest.mark.one_database  # a held clock stands on SQLite
async def test_channels_are_closed_in_batches_with_1012(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "DRAINED_AT_ONCE", 2)
    clock = Counted()
    environment = replace(Environment.of_this_process(), clock=clock, bus=EncodingBus())
    settings = PortalSettings(connect_capacity=100.0)
    async with portal_running(settings, environment) as portal, contextlib.AsyncExitStack() as stack:
        world = await make_world(portal)
        peers = [await stack.enter_async_context(world.client(external_id=f"c{n}")) for n in range(5)]
        for peer in peers:
            await peer.join()
        await portal.channels.drain()
        assert [await peer.receive_close() for peer in peers] == [1012] * 5
        assert not [
            frame for peer in peers for frame in peer.frames if frame["event"] in ("disconnect", "phx_close")
        ]
        assert len(clock.pauses) == 3
        assert portal.services.counters["closed_drained"] == 5


@pytest.fixture
async def busy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Busy]:
    """A portal that looks at one upgrade at a time; two may wait, one of each token and address."""
    for name, value in (("MOST_UNDER_WAY", 1), ("MOST_WAITING", 2), ("MOST_WAITING_OF_ONE", 1)):
        monkeypatch.setattr(endpoint, name, value)
    connect, go_on = endpoint.connect_client, asyncio.Event()

    async def slow(*arguments: Any, **options: Any) -> Any:
        await go_on.wait()
        return await connect(*arguments, **options)

    monkeypatch.setattr(endpoint, "connect_client", slow)
    async with portal_running() as portal:
        yield Busy(await make_world(portal), go_on)


async def test_so_many_upgrades_are_looked_at_and_the_next_wait_in_a_queue_that_has_an_end(
    busy: Busy,
) -> None:
    world, turns = busy.world, busy.world.portal.channels._turns
    coming = [asyncio.create_task(world.client(external_id=f"c{n}").__aenter__()) for n in range(2)]
    while turns.waiting < 1:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0)
    with pytest.raises(Refused) as refused:
        await world.client(external_id="c3").__aenter__()
    assert (refused.value.refusal.status, refused.value.refusal.code) == (503, "rate_limit")
    assert refused.value.refusal.headers["retry-after"] == "1"
    assert world.portal.services.counters["connects_paced"] == 1
    # Whoever has no token of this portal is told so at once.
    with pytest.raises(Refused) as refused:
        await world.client(token="nonsense").__aenter__()
    assert refused.value.refusal.status == 401
    busy.go_on.set()
    for peer in await asyncio.gather(*coming):
        await peer.join()
        await peer.__aexit__()
    async with world.client(external_id="c3") as client:
        await client.join()
    assert (turns.under_way, turns.waiting) == (0, 0)


async def test_who_waits_while_the_portal_begins_to_stop_is_not_let_in(busy: Busy) -> None:
    world, turns = busy.world, busy.world.portal.channels._turns
    coming = [asyncio.create_task(world.client(external_id=f"c{n}").__aenter__()) for n in range(2)]
    while turns.waiting < 1:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0)
    await world.portal.channels.drain()
    busy.go_on.set()
    with pytest.raises(Refused) as refused:
        await coming[1]
    assert (refused.value.refusal.status, refused.value.refusal.code) == (503, "draining")
    await (await coming[0]).__aexit__()


async def test_nothing_is_done_for_a_peer_that_has_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint._NoTransport, "is_gone", lambda _self: True)
    with pytest.raises(AssertionError, match="ended the connection without a word"):
        await world.client(external_id="gone").__aenter__()
    monkeypatch.undo()
    assert world.portal.services.counters["connects_abandoned"] == 1
    async with world.portal.services.store.reading() as tx:
        assert await tx.of(world.account_id).devices.count() == 0


async def test_while_it_stops_nobody_is_let_in_and_told_to_come_back(world: World) -> None:
    await world.portal.channels.drain()
    for peer in (world.client(), world.gateway(), Peer(world.portal, "client", None, "x")):
        with pytest.raises(Refused) as refused:
            await peer.__aenter__()
        assert (refused.value.refusal.status, refused.value.refusal.code) == (503, "draining")
        assert refused.value.refusal.headers["retry-after"] == "1"


async def test_nothing_is_revoked_by_a_restart(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        await grant(world, client, gateway)
        await world.portal.channels.drain()
        assert (await gateway.receive_close(), await client.receive_close()) == (1012, 1012)
    world.portal.channels._is_draining = False
    async with world.gateway() as gateway:
        init = await gateway.join()
        assert [one["resource_id"] for one in init["authorizations"]] == [str(world.resource.id)]


async def test_nobody_is_let_in_whose_connect_would_not_be_recorded_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as behind:
        behind.setattr(Journal, "connects_waiting", endpoint.MOST_UNRECORDED)
        with pytest.raises(Refused) as refused:
            await world.client().__aenter__()
        assert (refused.value.refusal.status, refused.value.refusal.code) == (503, "rate_limit")
        assert refused.value.refusal.headers["retry-after"] == "1"
    async with world.client() as client:
        await client.join()


@pytest.mark.one_database  # a held clock stands on SQLite
async def test_a_crowd_with_good_tokens_is_called_back_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "CONNECTS_AT_ONCE", 3.0)
    monkeypatch.setattr(endpoint, "CONNECTS_PER_S", 1.0)
    clock = HeldClock()
    environment = replace(Environment.of_this_process(), clock=clock, bus=EncodingBus())
    async with portal_running(PortalSettings(connect_capacity=100.0), environment) as portal:
        world = await make_world(portal)
        # Whoever has no good token takes nobody's place.
        for _ in range(10):
            with pytest.raises(Refused) as refused:
                await world.client(token=world.gateway_token).__aenter__()
            assert refused.value.refusal.status == 401
        async with contextlib.AsyncExitStack() as stack:
            for number in range(3):
                await stack.enter_async_context(world.client(external_id=f"c{number}"))
            told = []
            for number in range(3, 6):
                with pytest.raises(Refused) as refused:
                    await world.client(external_id=f"c{number}").__aenter__()
                assert (refused.value.refusal.status, refused.value.refusal.code) == (503, "rate_limit")
                told.append(int(refused.value.refusal.headers["retry-after"]))
            assert told == [1, 2, 3]
            clock.at_s += 1
            await stack.enter_async_context(world.client(external_id="c3"))
        assert portal.services.counters["connects_paced"] == 3
