import asyncio
import logging
import os

import pytest

from support.patience import PATIENCE_S
from support.process_parts import NoNews
from wardgate.datapath.engine_news import EngineStopped, ThreadWatch, follow_news


class Source:
    """Stands for a hosted engine: what it says, behind a descriptor as the real one's."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._warnings: list[str] = []
        self._fault: str | None = None

    def say(self, *warnings: str, fault: str | None = None) -> None:
        self._warnings += warnings
        self._fault = fault
        os.eventfd_write(self._fd, 1)

    def news_fd(self) -> int:
        return self._fd

    def take_news(self) -> tuple[list[str], str | None]:
        os.eventfd_write(self._fd, 1)  # so that there is something to read
        os.eventfd_read(self._fd)
        warnings, self._warnings = self._warnings, []
        return warnings, self._fault

    def check(self) -> int:
        return 0


async def test_each_warning_is_logged_once_and_the_end_raises(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.say("at the start")
    following = asyncio.create_task(follow_news(source))
    async with asyncio.timeout(PATIENCE_S):
        while len(caplog.messages) < 1:  # noqa: ASYNC110 - the log says nothing
            await asyncio.sleep(0)
        source.say("later")
        while len(caplog.messages) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        source.say(fault="the TUN device is gone")
        with pytest.raises(EngineStopped, match="the TUN device is gone"):
            await following

    assert caplog.record_tuples == [
        ("wardgate.datapath.engine_news", logging.WARNING, "at the start"),
        ("wardgate.datapath.engine_news", logging.WARNING, "later"),
    ]


async def test_a_thread_that_is_stuck_for_seconds_shows_and_one_that_goes_on_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wardgate.datapath.engine_news.CHECK_S", 0)
    source = NoNews()
    watch = ThreadWatch(source)
    running = asyncio.create_task(watch.run())
    seen = []
    for stuck_s in (0, 2, 3, 14, 0):
        source.stuck_s = stuck_s
        async with asyncio.timeout(PATIENCE_S):
            while watch.counts() != {"io_busy_seconds": stuck_s}:  # noqa: ASYNC110 - it has no such event
                await asyncio.sleep(0)
        seen.append((watch.is_responsive, watch.notes()))
    running.cancel()

    assert seen == [
        (True, ()),
        (True, ()),
        (False, ("the I/O thread is stuck for 3 s",)),
        (False, ("the I/O thread is stuck for 14 s",)),
        (True, ()),
    ]
