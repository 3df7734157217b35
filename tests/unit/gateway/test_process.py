"""The gateway's process around parts that only write down what is asked of them."""

import asyncio

import pytest

from support.patience import PATIENCE_S
from support.process_parts import HostedParts, gateway_process, one_piece_of
from wardgate.datapath.commands import RetainGrants
from wardgate.net.boot_clock import ClockNews


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
