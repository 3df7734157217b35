"""Notices that the machine has slept, or that somebody set its wall clock.

The timers of the event loop count CLOCK_MONOTONIC, which stands still while the machine sleeps: what was due
in 25 s before a night's sleep is due in 25 s after it, though the portal hung up hours ago. CLOCK_BOOTTIME
goes on, as the engine's timers do; the difference between both grows by each sleep. The difference between
wall time and CLOCK_BOOTTIME changes when the clock is set.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CHECK_S: Final = 2.0  # ours: how long either may go unnoticed after the machine runs again
LEAST_S: Final = 1.0  # data-plane §6.4: smaller differences are drift
LONG_SLEEP_S: Final = 10.0  # ours: after this a connection to the portal is not worth waiting for


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Seconds of each clock at one moment."""

    boot: float
    monotonic: float
    wall: float


@dataclass(frozen=True, slots=True)
class ClockNews:
    """What happened since the reading before.

    Attributes:
        slept_s: how long the machine was suspended; 0 if not at all.
        stepped_s: by how much the wall clock was put forward, or back if negative; 0 if not at all.
    """

    slept_s: float
    stepped_s: float

    @property
    def is_long_sleep(self) -> bool:
        return self.slept_s >= LONG_SLEEP_S


class ClockComparison:
    """Compares each reading with the last one that was reported."""

    def __init__(self, first: ClockReading) -> None:
        self._asleep_s = first.boot - first.monotonic
        self._wall_at_boot = first.wall - first.boot

    def compare(self, reading: ClockReading) -> ClockNews | None:
        """Return what to report, if anything; small differences add up until they are worth it."""
        asleep_s = reading.boot - reading.monotonic
        wall_at_boot = reading.wall - reading.boot
        slept_s, stepped_s = asleep_s - self._asleep_s, wall_at_boot - self._wall_at_boot
        if slept_s < LEAST_S and abs(stepped_s) < LEAST_S:
            return None
        if slept_s >= LEAST_S:
            self._asleep_s = asleep_s
        if abs(stepped_s) >= LEAST_S:
            self._wall_at_boot = wall_at_boot
        return ClockNews(
            slept_s=slept_s if slept_s >= LEAST_S else 0.0,
            stepped_s=stepped_s if abs(stepped_s) >= LEAST_S else 0.0,
        )


def read_clocks() -> ClockReading:
    return ClockReading(
        boot=time.clock_gettime(time.CLOCK_BOOTTIME), monotonic=time.monotonic(), wall=time.time()
    )


async def watch_clocks(
    handle: Callable[[ClockNews], None], *, read: Callable[[], ClockReading] = read_clocks
) -> None:
    """Call `handle` after each sleep and each step of the wall clock, forever."""
    comparison = ClockComparison(read())
    while True:
        await asyncio.sleep(CHECK_S)
        news = comparison.compare(read())
        if news is not None:
            handle(news)
