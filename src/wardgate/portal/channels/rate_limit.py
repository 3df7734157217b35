"""Token buckets by key (protocol §1.6): `capacity` at once, `refill_per_s` after that."""

from collections.abc import Hashable
from typing import Final

_PRUNE_AT: Final = 4096


class TokenBuckets:
    """Buckets in memory; a full one is forgotten. Time is an argument (monotonic seconds)."""

    def __init__(self, *, capacity: float, refill_per_s: float) -> None:
        self._capacity = capacity
        self._refill_per_s = refill_per_s
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable, *, now: float) -> float:
        """Take one token and return 0, or return the seconds until there is one."""
        level = self._level(key, now)
        if level < 1.0:
            return (1.0 - level) / self._refill_per_s
        if len(self._levels) >= _PRUNE_AT:
            self._levels = {
                one: state for one, state in self._levels.items() if self._level(one, now) < self._capacity
            }
        self._levels[key] = (level - 1.0, now)
        return 0.0

    def _level(self, key: Hashable, now: float) -> float:
        level, at = self._levels.get(key, (self._capacity, now))
        return min(self._capacity, level + (now - at) * self._refill_per_s)
