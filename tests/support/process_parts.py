"""What a gateway's or client's process is given, without a host: an engine that writes down, a link that stays open, nothing to set."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from support.recording_engine import RecordingEngine
from wardgate.datapath.commands import Command
from wardgate.datapath.engine_news import EngineStopped
from wardgate.datapath.events import AnyEvent
from wardgate.model.addresses import IpAddress
from wardgate.net.boot_clock import ClockNews
from wardgate.net.netlink import Hop
from wardgate.wire.control_channel import ChannelEvent


class HostedParts(RecordingEngine):
    """A hosted engine; `fault` is why its thread has ended, and then it takes no command."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: str | None = None
        self._news_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def apply(self, command: Command) -> None:
        if self.fault is not None:
            raise EngineStopped("the I/O thread has stopped")
        super().apply(command)

    def clock(self) -> float:
        return 1_000.0

    def on_readable(self, handle: Callable[[], None]) -> None: ...

    def drain_events(self) -> list[AnyEvent]:
        return []

    def news_fd(self) -> int:
        return self._news_fd

    def take_news(self) -> tuple[list[str], str | None]:
        return [], self.fault


class OpenLink:
    """A link to the portal on which nothing is said."""

    portal_addresses: tuple[IpAddress, ...] = ()

    def __init__(self, handle: Callable[[ChannelEvent], None]) -> None:
        self.handle = handle
        self.reconnects = 0

    def reconnect(self) -> None:
        self.reconnects += 1

    def flush(self) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


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
