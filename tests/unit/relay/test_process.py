"""The relay's process around a server that only counts."""

import asyncio
import os
import random
import signal
from collections.abc import Callable

import pytest

from wardgate.connect.portal_session import PortalSession, SessionEnded
from wardgate.net.portal_link import PortalLink
from wardgate.relay.process import RelayProcess
from wardgate.wire.control_channel import ChannelEvent, Joined, Lost, LostReason
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.reconnect import Reconnect


class Server:
    def __init__(self, allocations: int = 0) -> None:
        self.allocations = allocations
        self.is_draining = False

    def drain(self) -> None:
        self.is_draining = True

    def stats(self) -> dict[str, int]:
        if self.is_draining and self.allocations:
            self.allocations -= 1
        return {"allocations": self.allocations, "channels": 0, "relayed_bytes": 0}


class Link:
    """Stands for the link to the portal: hands over the events it is given, then stays open."""

    def __init__(self, handle: Callable[[ChannelEvent], None]) -> None:
        self.handle = handle

    async def run(self) -> None:
        await asyncio.Event().wait()


def process(server: Server, *, drain_s: float = 0.0) -> tuple[RelayProcess, Link]:
    links: list[Link] = []

    def link(handle: Callable[[ChannelEvent], None]) -> PortalLink[ChannelEvent]:
        links.append(Link(handle))
        return links[0]  # type: ignore[return-value]

    session = PortalSession(
        Dialect(PeerKind.RELAY),
        reconnect=Reconnect(budget_s=None, rng=random.Random(7)),
        stamp_secret="0" * 64,
    )
    return RelayProcess(server=server, session=session, link=link, drain_s=drain_s), links[0]


async def terminated(relay: RelayProcess) -> None:
    before = signal.getsignal(signal.SIGTERM)
    running = asyncio.create_task(relay.run())
    async with asyncio.timeout(5):
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


def test_a_revoked_token_ends_it() -> None:
    _, link = process(Server())

    with pytest.raises(SessionEnded):
        link.handle(Lost(LostReason.TOKEN_EXPIRED))


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
