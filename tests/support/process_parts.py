"""Parts of a peer's process without a host: a recording engine, a link that stays open, nothing to set."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from support.recording_engine import RecordingEngine
from wardgate.client.process import ClientProcess
from wardgate.connect.portal_session import PortalSession
from wardgate.datapath.commands import Command, TranslatedFlow, UpsertPeer
from wardgate.datapath.engine_news import EngineStopped
from wardgate.datapath.events import AnyEvent
from wardgate.datapath.figures import ConnectionFigures
from wardgate.gateway.process import GatewayProcess
from wardgate.model.addresses import IpAddress
from wardgate.net.boot_clock import ClockNews
from wardgate.net.netlink import Hop
from wardgate.net.portal_link import PortalLink
from wardgate.peer.portal_connection import MakeLink
from wardgate.peer.tunnel_process import FlowLogs, TunnelParts
from wardgate.wire.control_channel import ChannelEvent
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.reconnect import Reconnect

_Process = TypeVar("_Process")


class NoNews:
    """The thread of an engine that has nothing to say; `fault` is why it has ended, `stuck_s` for how long it hangs."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.stuck_s = 0
        self._news_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def news_fd(self) -> int:
        return self._news_fd

    def take_news(self) -> tuple[list[str], str | None]:
        return [], self.fault

    def check(self) -> int:
        return self.stuck_s


class HostedParts(NoNews, RecordingEngine):
    """A hosted engine that reports `events`; with a `fault` it takes no command."""

    def __init__(self) -> None:
        NoNews.__init__(self)
        RecordingEngine.__init__(self)
        self.events: list[AnyEvent] = []

    def apply(self, command: Command) -> None:
        if self.fault is not None:
            raise EngineStopped("the I/O thread has stopped")
        super().apply(command)

    def clock(self) -> float:
        return 1_000.0

    def stats(self) -> dict[str, int]:
        return {}

    def figures(self, peers: Sequence[str]) -> list[ConnectionFigures]:
        """Report one packet for each of those peers that were told to the engine."""
        known = {one.id for one in self.of(UpsertPeer)}
        return [
            ConnectionFigures(
                peer_id=peer,
                sent_packets=1,
                sent_bytes=100,
                received_packets=0,
                received_bytes=0,
                arrived_messages=0,
                missing_messages=0,
                handshake_age_s=None,
                is_idle=False,
                checks=(),
            )
            for peer in peers
            if peer in known
        ]

    def share_tun(self) -> int:
        return 99

    def translated_flows(self) -> tuple[TranslatedFlow, ...]:
        return (
            TranslatedFlow("client", "tcp", ("100.96.0.1", 4_000), ("10.0.0.1", 4_000), is_answered=True),
        )

    def on_readable(self, handle: Callable[[], None]) -> None: ...

    def drain_events(self) -> list[AnyEvent]:
        events, self.events = self.events, []
        return events


class OpenLink:
    """A link to the portal on which nothing is said."""

    portal_addresses: tuple[IpAddress, ...] = ()

    def __init__(self, handle: Callable[[ChannelEvent], None]) -> None:
        self.handle = handle
        self.reconnects = 0
        self.flushes = 0

    def reconnect(self) -> None:
        self.reconnects += 1

    def flush(self) -> None:
        self.flushes += 1

    async def run(self) -> None:
        await asyncio.Event().wait()


def session(kind: PeerKind) -> PortalSession:
    stamp_secret = "0" * 64 if kind is PeerKind.RELAY else None
    reconnect = Reconnect(budget_s=None, rng=random.Random(7))
    return PortalSession(Dialect(kind), reconnect=reconnect, stamp_secret=stamp_secret)


def with_link(make: Callable[[MakeLink], _Process]) -> tuple[_Process, OpenLink]:
    """Make a process, and return the link that it has made for itself."""
    links: list[OpenLink] = []

    def link(handle: Callable[[ChannelEvent], None]) -> PortalLink[ChannelEvent]:
        links.append(OpenLink(handle))
        return links[0]  # type: ignore[return-value]

    return make(link), links[0]


def tunnel_parts(kind: PeerKind, engine: HostedParts, link: MakeLink) -> TunnelParts:
    nothing: Any = NothingToSet()
    stand_in: Any = engine
    return TunnelParts(
        engine=stand_in,
        session=session(kind),
        link=link,
        kernel=NoNetwork(),
        tun=nothing,
        host_dns=nothing,
        flow_logs=FlowLogs(Path("/nonexistent")),
    )


def client_process(engine: HostedParts) -> tuple[ClientProcess, OpenLink]:
    return with_link(
        lambda link: ClientProcess(
            tunnel_parts(PeerKind.CLIENT, engine, link),
            set_private_key=lambda _key: None,
            is_internet_active=False,
        )
    )


def gateway_process(engine: HostedParts, *, drain_s: float = 0.0) -> tuple[GatewayProcess, OpenLink]:
    return with_link(
        lambda link: GatewayProcess(tunnel_parts(PeerKind.GATEWAY, engine, link), drain_s=drain_s)
    )


class NoNetwork:
    """A kernel that knows no way anywhere."""

    async def hop(self, _destination: IpAddress, *, mark: int) -> Hop | None:
        return None

    async def addresses(self, _interface: str | None) -> frozenset[str]:
        return frozenset()


class NothingToSet:
    """Interface and DNS of a host where nothing is wanted."""

    settings: tuple[Any, ...] = ()

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        return ()


def one_piece_of(news: ClockNews) -> Callable[[Callable[[ClockNews], None]], Awaitable[None]]:
    """Stands for `watch_clocks`: tells this, then the process ends."""

    async def watch(handle: Callable[[ClockNews], None]) -> None:
        handle(news)

    return watch
