"""Wall-clock expiries as deadlines of the engine's clock.

`expires_at` crosses the wire as Unix seconds; the engine counts seconds of a monotonic clock that keeps
running during suspend. The offset between the two changes only when the wall clock is set; deadlines handed
out before that are stale and must be handed out again.
"""

from dataclasses import dataclass
from typing import Final

CLOCK_STEP_S: Final = 1.0  # data-plane §6.4: smaller differences are drift


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """`unix_at_zero`: the wall time, in Unix seconds, at which the engine's clock was zero."""

    unix_at_zero: float

    def deadline_s(self, expires_at: int | None) -> float | None:
        """Convert an expiry in Unix seconds to a deadline; None (no expiry) stays None."""
        return None if expires_at is None else expires_at - self.unix_at_zero

    def is_stale(self, measured: "ClockOffset") -> bool:
        """Tell whether the wall clock was stepped since this offset was taken."""
        return abs(measured.unix_at_zero - self.unix_at_zero) >= CLOCK_STEP_S
