"""The gateway's process around parts that only write down what is asked of them."""

import asyncio
import os
import signal
from ipaddress import IPv4Address, IPv6Address

import pytest

from support.patience import PATIENCE_S
from support.process_parts import HostedParts, gateway_process, one_piece_of
from wardgate.datapath.commands import RecordFlows, RetainGrants
from wardgate.net.boot_clock import ClockNews
from wardgate.wire import messages as m
from wardgate.wire.control_channel import Joined, Received


@pytest.mark.parametrize(
    ("news", "counted_anew"),
    [
        (ClockNews(slept_s=3600.0, stepped_s=0.0), 0),
        (ClockNews(slept_s=0.0, stepped_s=-90.0), 1),
        (ClockNews(slept_s=3600.0, stepped_s=90.0), 1),
    ],
)
async def test_after_a_step_of_the_clock_it_counts_expiries_anew(
    monkeypatch: pytest.MonkeyPatch, news: ClockNews, counted_anew: int
) -> None:
    monkeypatch.setattr("wardgate.peer.tunnel_process.watch_clocks", one_piece_of(news))
    engine = HostedParts()
    gateway, _ = gateway_process(engine)
    await asyncio.wait_for(gateway.run(), PATIENCE_S)

    assert len(engine.of(RetainGrants)) == counted_anew


class Busy(HostedParts):
    """An engine with open flows, one less each time that it is asked."""

    def __init__(self, flows: int) -> None:
        super().__init__()
        self.flows = flows

    def stats(self) -> dict[str, int]:
        self.flows = max(self.flows - 1, 0)
        return {"flows_open": self.flows}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardgate.gateway.process.DRAIN_CHECK_S", 0)


async def terminated(engine: Busy, *, drain_s: float, signals: int = 1) -> bool:
    """Run a gateway until the signals have ended it; tell whether it drained."""
    gateway, link = gateway_process(engine, drain_s=drain_s)
    running = asyncio.create_task(gateway.run())
    link.handle(Joined())
    drained = False
    before = signal.getsignal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        while signal.getsignal(signal.SIGTERM) is before:  # noqa: ASYNC110 - the loop says nothing
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        while not running.done():
            if "draining" in gateway.notes() and not drained:
                drained = True
                if signals > 1:
                    os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
    await running
    return drained


@pytest.mark.usefixtures("impatient")
async def test_a_gateway_that_drains_ends_with_its_last_flow() -> None:
    engine = Busy(flows=200)
    assert await terminated(engine, drain_s=3600)
    assert engine.flows == 0


@pytest.mark.usefixtures("impatient")
async def test_a_drain_ends_with_its_time_and_with_a_second_signal() -> None:
    by_time, by_signal = Busy(flows=10**9), Busy(flows=10**9)
    assert await terminated(by_time, drain_s=0.2)
    assert await terminated(by_signal, drain_s=3600, signals=2)
    assert (by_time.flows > 0, by_signal.flows > 0) == (True, True)


async def test_without_a_time_to_drain_it_ends_at_once() -> None:
    engine = Busy(flows=10**9)
    assert not await terminated(engine, drain_s=0)


async def test_only_one_that_is_to_drain_has_flows_counted_that_nobody_wants_reported() -> None:
    counted = []
    for drain_s in (0.0, 60.0):
        engine = HostedParts()
        _, link = gateway_process(engine, drain_s=drain_s)
        link.handle(Joined())
        link.handle(Received(INIT))
        counted.append([command.is_on for command in engine.of(RecordFlows)])
    assert counted == [[False], [True]]


INIT = m.GatewayInit(
    interface=m.GatewayInterface(IPv4Address("100.64.0.1"), IPv6Address("fd00:2021:1111::1")),
    config=m.GatewayConfig(),
)
