"""What a hosted engine says of itself: warnings for the log, and that its thread has ended."""

import asyncio
import logging
from typing import Final, Protocol

log: Final = logging.getLogger(__name__)


class EngineStopped(Exception):
    """The engine's thread has ended by itself, and no packet passes any more: the process must end, too."""


class NewsSource(Protocol):
    def news_fd(self) -> int: ...
    def take_news(self) -> tuple[list[str], str | None]: ...


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
