"""What the portal may not reach for by itself: time, randomness, ids, threads, the network outside, other nodes.

Everything in the portal takes one `Environment`. `Environment.of_this_process()` is the only place that reads
real clocks and real randomness; the simulator builds its own over virtual time and one seed. A test holds
that no other module of the portal imports `time`, `uuid`'s generators, `secrets`, or asks `datetime` for the
present.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from uuid import UUID

from wardgate.portal.bus import Bus, LocalBus
from wardgate.portal.mail.message import Mailer
from wardgate.portal.outbound import Answer, Failure, Outbound, OutboundFailed, Question

_Result = TypeVar("_Result")


class Clock(Protocol):
    """Two clocks that never mix: wall time for what is stored or sent, monotonic seconds for deadlines."""

    def now(self) -> datetime:
        """Return aware UTC wall time."""

    def monotonic(self) -> float:
        """Return seconds of the event loop's own clock."""

    async def sleep(self, seconds: float) -> None: ...


class Executor(Protocol):
    """Where work goes that would hold the event loop (password hashing)."""

    async def run(self, function: Callable[[], _Result]) -> _Result: ...


@dataclass(frozen=True, slots=True)
class Environment:
    """The portal's only source of time, randomness and ids, and its ways out of the process.

    Attributes:
        rng: cryptographically strong outside the simulator; tokens and keys are drawn from it.
        mailer: sends mail; None if the installation sends none.
    """

    clock: Clock
    rng: random.Random
    executor: Executor
    outbound: Outbound
    bus: Bus
    mailer: Mailer | None = None

    @classmethod
    def of_this_process(
        cls, *, mailer: Mailer | None = None, outbound: Outbound | None = None
    ) -> "Environment":
        """Real clocks, the operating system's randomness, one node."""
        return cls(
            clock=SystemClock(),
            rng=random.SystemRandom(),
            executor=ThreadExecutor(),
            outbound=outbound or NoOutbound(),
            bus=LocalBus(),
            mailer=mailer,
        )

    def new_id(self) -> UUID:
        """Draw a random UUID, version 4."""
        return UUID(bytes=self.rng.randbytes(16), version=4)


class SystemClock:
    """The machine's clocks. `monotonic` is what asyncio's event loop reads, so that it agrees with its timers."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ThreadExecutor:
    """A small thread pool, made on first use."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[[], _Result]) -> _Result:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=6, thread_name_prefix="portal")
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)


async def in_own_thread(function: Callable[[], _Result]) -> _Result:
    """Await a function that may block for minutes on somebody else's server.

    Its thread is in no pool: whoever ends the event loop, or the process, waits for the threads of those.
    """
    outcome: Future[_Result] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever awaits it sees it
            outcome.set_exception(error)

    threading.Thread(target=run, name="portal-apart", daemon=True).start()
    return await asyncio.wrap_future(outcome)


class InlineExecutor:
    """Runs at once, on the caller: for virtual time, where a thread would be a second clock."""

    async def run(self, function: Callable[[], _Result]) -> _Result:
        return function()


class NoOutbound:
    """Reaches nothing: for processes that ask nobody, such as the command line's and the simulator's."""

    async def ask(self, question: Question) -> Answer:
        """See `Outbound`."""
        raise OutboundFailed(Failure.NAME_UNKNOWN, f"nothing outside is reached from here: {question.url}")
