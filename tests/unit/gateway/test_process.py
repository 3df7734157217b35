"""The gateway's process around parts that only write down what is asked of them."""

import asyncio
import random
from typing import Any

import pytest

from support.patience import PATIENCE_S
from support.process_parts import HostedParts, NoNetwork, NothingToSet, OpenLink, one_piece_of
from wardgate.connect.portal_session import PortalSession
from wardgate.datapath.commands import RetainGrants, Shutdown
from wardgate.datapath.engine_news import EngineStopped
from wardgate.gateway.process import GatewayProcess
from wardgate.net.boot_clock import ClockNews
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.reconnect import Reconnect


def process(engine: HostedParts) -> tuple[GatewayProcess, OpenLink]:
    links: list[OpenLink] = []

    def link(handle: Any) -> Any:
        links.append(OpenLink(handle))
        return links[0]

    parts: dict[str, Any] = {
        "engine": engine,
        "session": PortalSession(
            Dialect(PeerKind.GATEWAY), reconnect=Reconnect(budget_s=None, rng=random.Random(7))
        ),
        "kernel": NoNetwork(),
        "tun": NothingToSet(),
        "settings": (),
        "host_dns": NothingToSet(),
        "link": link,
    }
    return GatewayProcess(**parts), links[0]


async def test_it_ends_when_its_engine_has() -> None:
    engine = HostedParts()
    gateway, _ = process(engine)
    engine.fault = "the TUN device is gone"

    with pytest.raises(EngineStopped, match="the TUN device is gone"):
        await asyncio.wait_for(gateway.run(), PATIENCE_S)


@pytest.mark.parametrize(
    ("news", "reconnects", "counted_anew"),
    [
        (ClockNews(slept_s=3600.0, stepped_s=0.0), 1, 0),
        (ClockNews(slept_s=3.0, stepped_s=0.0), 0, 0),
        (ClockNews(slept_s=0.0, stepped_s=-90.0), 0, 1),
        (ClockNews(slept_s=3600.0, stepped_s=90.0), 1, 1),
    ],
)
async def test_after_a_sleep_it_connects_anew_and_after_a_step_counts_expiries_anew(
    monkeypatch: pytest.MonkeyPatch, news: ClockNews, reconnects: int, counted_anew: int
) -> None:
    monkeypatch.setattr("wardgate.gateway.process.watch_clocks", one_piece_of(news))
    engine = HostedParts()
    gateway, link = process(engine)
    await asyncio.wait_for(gateway.run(), PATIENCE_S)

    assert link.reconnects == reconnects
    assert len(engine.of(RetainGrants)) == counted_anew
    assert len(engine.of(Shutdown)) == 1
