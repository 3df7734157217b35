"""The processes of client and gateway around parts that only write down what is asked of them."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from msgspec import Raw, Struct

from support.patience import PATIENCE_S
from support.process_parts import (
    HostedParts,
    OpenLink,
    client_process,
    gateway_process,
    one_piece_of,
    tunnel_parts,
    with_link,
)
from wardgate.connect.connections import ConnectionView, RelayView
from wardgate.connect.deadlines import ClockOffset
from wardgate.datapath.commands import IceCredentials, Shutdown, UpsertPeer
from wardgate.datapath.engine_news import EngineStopped
from wardgate.datapath.events import AnyEvent, RelayUp
from wardgate.net.boot_clock import ClockNews
from wardgate.net.dns_listener import Query
from wardgate.net.succession import Legacy
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.peer.machine import Configure, Send
from wardgate.peer.portal_connection import MakeLink
from wardgate.peer.status import Status
from wardgate.peer.tunnel_process import TunnelProcess
from wardgate.wire import messages as m
from wardgate.wire.control_channel import Joined, Lost, LostReason, Received
from wardgate.wire.dialect import PeerKind

Make = Callable[[HostedParts], tuple[TunnelProcess[Any], OpenLink]]

both = pytest.mark.parametrize("make", [client_process, gateway_process], ids=["client", "gateway"])


@both
async def test_it_ends_when_its_engine_has(make: Make) -> None:
    engine = HostedParts()
    process, _ = make(engine)
    engine.fault = "the TUN device is gone"

    with pytest.raises(EngineStopped, match="the TUN device is gone"):
        await asyncio.wait_for(process.run(), PATIENCE_S)


@both
async def test_it_is_not_ready_while_its_engine_is_stuck_and_leaves_it_unasked(
    monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    monkeypatch.setattr("wardgate.datapath.engine_news.CHECK_S", 0)
    engine = HostedParts()
    process, link = make(engine)
    running = asyncio.create_task(process.run())
    async with asyncio.timeout(PATIENCE_S):
        link.handle(Joined())
        while not process.is_ready:  # noqa: ASYNC110 - readiness is asked for
            await asyncio.sleep(0)
        engine.stuck_s = 4
        while process.is_ready:  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert process.notes() == ("the I/O thread is stuck for 4 s",)
    counts = process.counts()
    assert (counts["io_busy_seconds"], "packets_sent" in counts) == (4, False)


@both
@pytest.mark.parametrize(
    ("news", "reconnects"),
    [
        (ClockNews(slept_s=3600.0, stepped_s=0.0), 1),
        (ClockNews(slept_s=3.0, stepped_s=0.0), 0),
        (ClockNews(slept_s=0.0, stepped_s=-90.0), 0),
        (ClockNews(slept_s=3600.0, stepped_s=90.0), 1),
    ],
)
async def test_after_a_long_sleep_it_connects_anew(
    monkeypatch: pytest.MonkeyPatch, make: Make, news: ClockNews, reconnects: int
) -> None:
    monkeypatch.setattr("wardgate.peer.tunnel_process.watch_clocks", one_piece_of(news))
    engine = HostedParts()
    process, link = make(engine)
    await asyncio.wait_for(process.run(), PATIENCE_S)

    assert link.reconnects == reconnects
    assert len(engine.of(Shutdown)) == 1


@pytest.mark.parametrize(("make", "goodbye"), [(client_process, False), (gateway_process, True)])
async def test_a_process_that_is_succeeded_leaves_the_host_as_it_is_and_hands_over_last(
    monkeypatch: pytest.MonkeyPatch, make: Make, *, goodbye: bool
) -> None:
    """A gateway keeps the translations of a client that says no goodbye; a client asks anew upon a gateway's."""
    left: list[tuple[Legacy, int]] = []

    class Next:
        def hand_over(self, legacy: Legacy, tun_device: int) -> None:
            left.append((legacy, tun_device))

    async def ready() -> Any:
        return Next()

    async def undo() -> None:
        raise AssertionError("the host is the next process's")

    monkeypatch.setattr("wardgate.peer.tunnel_process.successor", ready)
    engine = HostedParts()
    process, _ = make(engine)
    monkeypatch.setattr(process.host, "undo", undo)
    await asyncio.wait_for(process.run(), PATIENCE_S)
    assert not left, "not before all is closed"
    process.hand_over()

    ((legacy, device),) = left
    assert device == engine.share_tun()
    assert engine.of(Shutdown) == [Shutdown(goodbye=goodbye)]
    successor, _ = make(HostedParts())
    successor._machine.inherit(legacy.machine, now=0.0)


UPSERT = UpsertPeer(
    id="gw-1",
    public_key="",
    preshared_key="",
    local_ice=IceCredentials("a", "a"),
    remote_ice=IceCredentials("b", "b"),
    role="controlling",
    profile="client",
    ipv4="100.64.0.1",
    ipv6="fd00:2021:1111::1",
)


class Script:
    """A machine that writes down what it is told and asks for what the test says."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.actions: list[Send | Configure | str] = []
        self.connections: tuple[ConnectionView, ...] = ()

    is_joined = False

    def handle_joined(self) -> None:
        self.told.append("joined")

    def handle_portal_lost(self) -> None:
        self.told.append("lost")

    def handle_shutdown(self) -> None: ...

    def bequeath(self) -> Struct:
        return m.NoRelays()

    def inherit(self, legacy: Raw, *, now: float) -> None: ...

    def shown_connections(self) -> tuple[ConnectionView, ...]:
        return self.connections

    def shown_relays(self) -> tuple[RelayView, ...]:
        return ()

    def poll_action(self) -> Send | Configure | str | None:
        return self.actions.pop(0) if self.actions else None


class Scripted(TunnelProcess[str]):
    def __init__(self, script: Script, engine: HostedParts, link: MakeLink) -> None:
        super().__init__(tunnel_parts(PeerKind.GATEWAY, engine, link), script, dns_port=53)
        self.script = script
        self.performed: list[str] = []

    def status(self) -> Status:
        return self._shown("client", "wardgate")

    def _handle_message(self, message: m.Message) -> None:
        self.script.told.append(type(message).__name__)

    def _handle_event(self, event: AnyEvent) -> None:
        self.script.told.append(type(event).__name__)

    def _perform(self, action: str) -> None:
        self.performed.append(action)
        if action == "what brings another":
            self.script.actions.append("another")

    async def _answer_query(self, query: Query) -> bytes | None:
        return None

    async def _serve(self, wanted: Configure) -> None: ...

    def _bequeath(self) -> Struct:
        return self.script.bequeath()

    def _handle_network_change(self) -> None: ...

    def _handle_clock_step(self, clock: ClockOffset) -> None: ...


@pytest.fixture
def scripted() -> tuple[Scripted, OpenLink, HostedParts]:
    engine = HostedParts()
    process, link = with_link(lambda link: Scripted(Script(), engine, link))
    return process, link, engine


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Joined(), "joined"),
        (Received(m.Disconnect("")), "Disconnect"),
        (Lost(LostReason.SOCKET_CLOSED), "lost"),
    ],
    ids=["joined", "message", "lost"],
)
def test_what_the_engine_has_reported_comes_before_what_the_portal_says(
    scripted: tuple[Scripted, OpenLink, HostedParts], event: Any, told: str
) -> None:
    process, link, engine = scripted
    engine.events.append(RelayUp("r", 1.0))
    link.handle(event)

    assert process.script.told == ["RelayUp", told]


def test_what_the_engine_counts_is_told_with_each_connection_unless_it_hangs(
    scripted: tuple[Scripted, OpenLink, HostedParts],
) -> None:
    process, _, engine = scripted
    engine.apply(UPSERT)
    process.script.connections = tuple(
        ConnectionView(
            peer_id=peer_id,
            names={},
            is_established=True,
            path="direct",
            why="",
            local=None,
            remote=None,
            local_candidates=(),
            remote_candidates=(),
        )
        for peer_id in (UPSERT.id, "one that the engine has lost")
    )

    known, lost = process.status().connections
    assert known.figures is not None
    assert (known.figures.peer_id, known.figures.sent_bytes, lost.figures) == (UPSERT.id, 100, None)

    process._thread._busy_s = 4
    assert [one.figures for one in process.status().connections] == [None, None]


def test_actions_are_carried_out_until_none_is_left(
    scripted: tuple[Scripted, OpenLink, HostedParts],
) -> None:
    process, link, _ = scripted
    configure = Configure(TunConfiguration("100.64.0.1", "fd00:2021:1111::1", routes=frozenset()))
    process.script.actions += [Send(m.NoRelays()), "what brings another", configure]
    link.handle(Joined())

    assert process.performed == ["what brings another", "another"]
    assert process._wanted.get_nowait() == configure
    assert link.flushes == 1


def configure(*routes: str) -> Configure:
    networks = frozenset(map(ip_network, routes))
    return Configure(TunConfiguration("100.64.0.1", "fd00:2021:1111::1", routes=networks))


OFFICE, LAB = "10.20.0.0/24", "10.30.0.0/24"


async def test_a_route_stays_when_its_resource_goes_and_comes_back(
    scripted: tuple[Scripted, OpenLink, HostedParts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "wardgate.peer.tunnel_process.LEAVE_S", PATIENCE_S
    )  # nothing here waits for it to pass
    process, _, _ = scripted
    process._configured = configure(OFFICE, LAB)
    for wanted in (configure(LAB), configure(), configure(OFFICE, LAB)):
        process._wanted.put_nowait(wanted)
    assert await process._next_wanted() == configure(OFFICE, LAB)


async def test_a_route_that_nothing_wants_any_more_leaves_and_a_new_one_comes_at_once(
    scripted: tuple[Scripted, OpenLink, HostedParts], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _, _ = scripted
    process._configured = configure(OFFICE)
    monkeypatch.setattr("wardgate.peer.tunnel_process.LEAVE_S", 0)
    process._wanted.put_nowait(configure())
    assert await process._next_wanted() == configure()
    monkeypatch.setattr("wardgate.peer.tunnel_process.LEAVE_S", PATIENCE_S)
    for wanted in (configure(LAB), configure(OFFICE, LAB)):
        process._wanted.put_nowait(wanted)
        assert await process._next_wanted() == wanted
