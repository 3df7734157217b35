"""The client's process around parts that only write down what is asked of them."""

import asyncio
import random
from typing import Any

import pytest

from support.patience import PATIENCE_S
from support.process_parts import HostedParts, NoNetwork, NothingToSet, OpenLink, one_piece_of
from wardgate.client.process import ClientProcess
from wardgate.connect.portal_session import PortalSession
from wardgate.datapath.commands import Shutdown
from wardgate.datapath.engine_news import EngineStopped
from wardgate.net.boot_clock import ClockNews
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.reconnect import Reconnect


def process(engine: HostedParts) -> tuple[ClientProcess, OpenLink]:
    links: list[OpenLink] = []

    def link(handle: Any) -> Any:
        links.append(OpenLink(handle))
        return links[0]

    parts: dict[str, Any] = {
        "engine": engine,
        "session": PortalSession(
            Dialect(PeerKind.CLIENT), reconnect=Reconnect(budget_s=None, rng=random.Random(7))
        ),
        "kernel": NoNetwork(),
        "tun": NothingToSet(),
        "settings": (),
        "host_dns": NothingToSet(),
        "link": link,
        "set_private_key": lambda _key: None,
        "is_internet_active": False,
    }
    return ClientProcess(**parts), links[0]


async def test_it_ends_when_its_engine_has() -> None:
    engine = HostedParts()
    client, _ = process(engine)
    engine.fault = "the TUN device is gone"

    with pytest.raises(EngineStopped, match="the TUN device is gone"):
        await asyncio.wait_for(client.run(), PATIENCE_S)


@pytest.mark.parametrize(
    ("news", "reconnects"),
    [
        (ClockNews(slept_s=3600.0, stepped_s=0.0), 1),
        (ClockNews(slept_s=3.0, stepped_s=0.0), 0),
        (ClockNews(slept_s=0.0, stepped_s=-90.0), 0),
    ],
)
async def test_after_a_long_sleep_it_connects_anew(
    monkeypatch: pytest.MonkeyPatch, news: ClockNews, reconnects: int
) -> None:
    monkeypatch.setattr("wardgate.client.process.watch_clocks", one_piece_of(news))
    engine = HostedParts()
    client, link = process(engine)
    await asyncio.wait_for(client.run(), PATIENCE_S)

    assert link.reconnects == reconnects
    assert len(engine.of(Shutdown)) == 1
