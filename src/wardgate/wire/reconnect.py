"""When to try again (control-plane-protocol §1.10): pacing of connection attempts.

Until the first join since the process started: every second, and after 15 s of waiting it gives up, so that a wrong
URL shows at once. Later: 0.5 s × 1.5ⁿ, randomised, at most 60 s, within a budget of summed delays. A `Retry-After`
replaces the delay and costs no budget. A join, or `reset`, starts over.
"""

from dataclasses import dataclass
from typing import Final

from wardgate.model.randomness import Rng

INITIAL_INTERVAL_S: Final = 1.0
INITIAL_BUDGET_S: Final = 15.0
BASE_DELAY_S: Final = 0.5
FACTOR: Final = 1.5
MAX_DELAY_S: Final = 60.0
JITTER: Final = 0.5  # ours: a delay is drawn from ± half of its nominal value
GATEWAY_BUDGET_S: Final = 24 * 3600.0
RELAY_BUDGET_S: Final = 24 * 3600.0
MAX_RETRY_AFTER_S: Final = 3600.0  # ours: no answer of a portal silences a peer for longer


@dataclass(frozen=True, slots=True)
class RetryIn:
    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The budget is used up; `waited_s` is the sum of all delays since the last success."""

    waited_s: float


class Reconnect:
    """Paces the attempts of one process."""

    def __init__(self, *, budget_s: float | None, rng: Rng) -> None:
        """Start in the initial phase. `budget_s` limits the later phase; None if without end."""
        self._budget_s = budget_s
        self._rng = rng
        self._has_joined = False
        self._attempts = 0
        self._waited_s = 0.0

    def handle_joined(self) -> None:
        self._has_joined = True
        self.reset()

    def reset(self) -> None:
        """Start over, as after a join: the network changed, or the key did."""
        self._attempts = 0
        self._waited_s = 0.0

    def next_attempt(self, *, retry_after_s: float | None = None) -> RetryIn | GiveUp:
        """Decide after a failed attempt or a lost connection. `retry_after_s`: what the portal asked for."""
        if retry_after_s is not None:
            return RetryIn(min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S))
        budget_s = self._budget_s if self._has_joined else INITIAL_BUDGET_S
        delay_s = self._delay_s()
        if budget_s is not None and self._waited_s + delay_s > budget_s:
            return GiveUp(self._waited_s)
        self._attempts += 1
        self._waited_s += delay_s
        return RetryIn(delay_s)

    def _delay_s(self) -> float:
        if not self._has_joined:
            return INITIAL_INTERVAL_S
        nominal_s = BASE_DELAY_S * FACTOR ** min(self._attempts, _EXPONENT_AT_CAP)
        jittered_s = nominal_s * (1 - JITTER + 2 * JITTER * self._rng.random())
        return min(jittered_s, MAX_DELAY_S)


_EXPONENT_AT_CAP: Final = (
    14  # 0.5 × 1.5¹⁴ ≈ 146 s: even its smallest jitter is at the cap; larger ones would overflow
)
