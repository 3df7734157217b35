"""Owners of background work: a task that nobody watches ends in silence, and what it did is not done any more.

Tasks       work that ends by itself (a look-up, a query): what fails is logged and counted, and the end of the
            owner ends all
Supervisor  work that must not end (a poll, a writer): what ends is logged, counted and begun again after a
            pause; when it ends again and again, the process is to end

Every other `create_task` stands in a function that awaits the task itself; a test holds the list of those.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0
STEADY_S: Final = 10.0
"""How long work runs after a failure until that failure counts no more."""

MAX_FAILURES: Final = 8
"""In a row; then somebody outside may do better by starting the process again."""

log = logging.getLogger(__name__)

Work = Coroutine[Any, Any, object]


class Clock(Protocol):
    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Tasks:
    """Owns tasks that end by themselves.

    Attributes:
        failures: how many have failed.
    """

    def __init__(self, on_failure: Callable[[], None] | None = None) -> None:
        """`on_failure` is called after each failure, for a counter."""
        self.failures = 0
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Work, *, name: str) -> "asyncio.Task[object]":
        """Run something beside the caller; `name` is for the log."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        """Ask all to end; for callers that cannot wait for it."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """End all and wait until they have ended."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.failures += 1
            log.error("background work failed", extra={"work": task.get_name()}, exc_info=error)
            if self._on_failure is not None:
                self._on_failure()


@dataclass(slots=True)
class _Kept:
    """Endless work. `failures` are those in a row; `running_since`: none while it waits to begin again."""

    running_since: float | None
    failures: int = 0


class Supervisor:
    """Keeps endless work going.

    Attributes:
        has_given_up: set when some work has failed too often in a row: the process is to end.
    """

    def __init__(self, clock: Clock, on_failure: Callable[[], None] | None = None) -> None:
        """`on_failure` is called after each failure, for a counter."""
        self.has_given_up = asyncio.Event()
        self._clock = clock
        self._on_failure = on_failure
        self._kept: dict[str, _Kept] = {}
        self._keepers = Tasks(self.has_given_up.set)

    def keep(self, begin: Callable[[], Awaitable[object]], *, name: str) -> None:
        """Run what `begin` returns; whenever it ends, also without an error, log that and begin again."""
        self._kept[name] = _Kept(self._clock.monotonic())
        self._keepers.start(self._keep(begin, name, self._kept[name]), name=name)

    @property
    def failing(self) -> list[str]:
        """The names of what is down, or has not been up for long enough since."""
        now = self._clock.monotonic()
        return [name for name, kept in self._kept.items() if kept.failures > 0 and not _is_steady(kept, now)]

    async def close(self) -> None:
        """End everything and wait until it has ended."""
        await self._keepers.close()
        self._kept.clear()

    async def _keep(self, begin: Callable[[], Awaitable[object]], name: str, kept: _Kept) -> None:
        while True:
            kept.running_since = self._clock.monotonic()
            try:
                await begin()
                log.error("background work ended that must not", extra={"work": name})
            except Exception:
                log.exception("background work failed", extra={"work": name})
            if _is_steady(kept, self._clock.monotonic()):
                kept.failures = 0
            kept.failures += 1
            kept.running_since = None
            if self._on_failure is not None:
                self._on_failure()
            if kept.failures >= MAX_FAILURES:
                self.has_given_up.set()
            await self._clock.sleep(min(FIRST_PAUSE_S * 2 ** (kept.failures - 1), LONGEST_PAUSE_S))


def _is_steady(kept: _Kept, now: float) -> bool:
    return kept.running_since is not None and now >= kept.running_since + STEADY_S
