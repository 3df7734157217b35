"""The relay's process around a server that only counts."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from support.patience import PATIENCE_S
from support.process_parts import NoNews, OpenLink, session, with_link
from wardgate.datapath.engine_news import EngineStopped
from wardgate.net.boot_clock import ClockReading, read_clocks
from wardgate.relay.process import LimitWatch, RelayProcess
from wardgate.wire.control_channel import Joined, Lost, LostReason
from wardgate.wire.dialect import PeerKind


class Server(NoNews):
    def __init__(self, allocations: int = 0) -> None:
        super().__init__()
        self.allocations = allocations
        self.is_draining = False

    def drain(self) -> None:
        self.is_draining = True

    def stats(self) -> dict[str, int]:
        if self.is_draining and self.allocations:
            self.allocations -= 1
        return {"allocations": self.allocations, "channels": 0, "relayed_bytes": 0}


def process(
    server: Server, *, drain_s: float = 0.0, clocks: Callable[[], ClockReading] = read_clocks
) -> tuple[RelayProcess, OpenLink]:
    return with_link(
        lambda link: RelayProcess(
            server=server, session=session(PeerKind.RELAY), link=link, drain_s=drain_s, read_clocks=clocks
        )
    )


async def terminated(relay: RelayProcess) -> None:
    before = signal.getsignal(signal.SIGTERM)
    running = asyncio.create_task(relay.run())
    async with asyncio.timeout(PATIENCE_S):
        while signal.getsignal(signal.SIGTERM) is before:  # noqa: ASYNC110 - the loop says nothing
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await running


def test_it_is_ready_only_while_it_is_joined() -> None:
    relay, link = process(Server())
    seen = [relay.is_ready]
    link.handle(Joined())
    seen.append(relay.is_ready)
    link.handle(Lost(LostReason.SOCKET_CLOSED))
    seen.append(relay.is_ready)

    assert seen == [False, True, False]


async def test_a_server_whose_thread_has_ended_ends_it() -> None:
    server = Server()
    server.fault = "its thread has failed"
    relay, _ = process(server)

    with pytest.raises(EngineStopped, match="its thread has failed"):
        await asyncio.wait_for(relay.run(), PATIENCE_S)


async def test_a_server_whose_thread_is_stuck_is_not_ready_and_is_not_asked_for_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wardgate.datapath.engine_news.CHECK_S", 0)
    server = Server()
    relay, link = process(server)
    link.handle(Joined())
    numbers = server.stats()
    running = asyncio.create_task(relay.run())
    seen = [(relay.is_ready, relay.counts())]
    server.stuck_s = 5
    async with asyncio.timeout(PATIENCE_S):
        while relay.is_ready:  # noqa: ASYNC110 - readiness is asked for
            await asyncio.sleep(0)
    seen.append((relay.is_ready, relay.counts()))
    running.cancel()

    assert seen == [(True, {**numbers, "io_busy_seconds": 0}), (False, {"io_busy_seconds": 5})]
    assert relay.notes() == ("the I/O thread is stuck for 5 s",)


async def test_after_a_night_it_connects_anew_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardgate.net.boot_clock.CHECK_S", 0)
    asleep_s = 0.0

    def clocks() -> ClockReading:
        return ClockReading(boot=100.0 + asleep_s, monotonic=100.0, wall=1e9 + asleep_s)

    relay, link = process(Server(), clocks=clocks)
    running = asyncio.create_task(relay.run())
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(20):
            await asyncio.sleep(0)
        assert link.reconnects == 0
        asleep_s = 8 * 3600.0
        while not link.reconnects:  # noqa: ASYNC110 - the link says nothing
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert link.reconnects == 1


def test_a_limit_is_told_of_when_it_begins_to_be_met_and_after_a_pause() -> None:
    watch = LimitWatch()

    def told(refused: int) -> list[tuple[str, int]]:
        return watch.newly_hit({"channels_refused": refused, "relayed_bytes": 10 * refused})

    assert told(0) == []
    assert told(3) == [("channels_refused", 3)]
    assert told(9) == []
    assert told(9) == []
    assert told(10) == [("channels_refused", 1)]


async def test_a_stop_without_draining_leaves_allocations_behind() -> None:
    server = Server(allocations=2)
    relay, _ = process(server)
    await terminated(relay)

    assert not server.is_draining


async def test_draining_waits_for_the_last_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardgate.relay.process.DRAIN_CHECK_S", 0)
    server = Server(allocations=3)
    relay, _ = process(server, drain_s=60)
    await terminated(relay)

    assert server.is_draining
    assert server.allocations == 0


async def test_draining_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardgate.relay.process.DRAIN_CHECK_S", 0.001)
    server = Server(allocations=10**9)
    relay, _ = process(server, drain_s=0.05)
    await terminated(relay)

    assert server.allocations > 0
