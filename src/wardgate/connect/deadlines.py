"""Wall-clock expiries as deadlines of the engine's clock.

`expires_at` crosses the wire as Unix seconds; the engine counts seconds of a monotonic clock that goes on during suspend. The
offset between both changes only when somebody sets the wall clock; deadlines given before are then stale and have to be
given again.
"""

from dataclasses import dataclass
from typing import Final

CLOCK_STEP_S: Final = 1.0  # data-plane §6.4: smaller differences are drift


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """`unix_at_zero`: the wall time, in Unix seconds, at which the engine's clock stood at zero."""

    unix_at_zero: float

    def deadline_s(self, expires_at: int | None) -> float | None:
        """The deadline of an expiry in Unix seconds; None, no expiry, stays None."""
        return None if expires_at is None else expires_at - self.unix_at_zero

    def is_stale(self, measured: "ClockOffset") -> bool:
        """Tell whether the wall clock was stepped since this offset was taken."""
        return abs(measured.unix_at_zero - self.unix_at_zero) >= CLOCK_STEP_S
