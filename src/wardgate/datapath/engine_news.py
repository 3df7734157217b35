"""What a hosted engine says of itself: warnings for the log, and that its thread has ended or hangs."""

import asyncio
import logging
from typing import Final, Protocol

CHECK_S: Final = 1.0  # the engine counts checks; 15 of them are its patience
NOTICEABLE_S: Final = 3  # ours: work of this length is worth showing

log: Final = logging.getLogger(__name__)


class EngineStopped(Exception):
    """The engine's thread has ended by itself, or hangs, and no packet passes any more: the process must end, too."""


class NewsSource(Protocol):
    def news_fd(self) -> int: ...
    def take_news(self) -> tuple[list[str], str | None]: ...
    def check(self) -> int: ...


async def follow_news(source: NewsSource) -> None:
    """Log each warning as it comes.

    Raises:
        EngineStopped: the engine's thread has ended.
    """
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(source.news_fd(), changed.set)
    try:
        while True:
            warnings, fault = source.take_news()
            for warning in warnings:
                log.warning(warning)
            if fault is not None:
                raise EngineStopped(fault)
            changed.clear()
            await changed.wait()
    finally:
        loop.remove_reader(source.news_fd())


class ThreadWatch:
    """Looks every second whether the engine's thread goes on.

    A thread that waits for packets may do so for ever; one that stays at the same piece of work hangs: in a system call
    that does not return, or in a loop. The engine reports that in its news when it has lasted too long.
    """

    def __init__(self, source: NewsSource) -> None:
        self._source = source
        self._busy_s = 0

    @property
    def is_responsive(self) -> bool:
        return self._busy_s < NOTICEABLE_S

    def notes(self) -> tuple[str, ...]:
        """What `/readyz` says."""
        return () if self.is_responsive else (f"the I/O thread is stuck for {self._busy_s} s",)

    def counts(self) -> dict[str, int]:
        """What `/metrics` says."""
        return {"io_busy_seconds": self._busy_s}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self._busy_s = self._source.check()
