"""Token buckets: `capacity` at once, `refill_per_s` after that. Many, by key, for requests (protocol §1.6);
one for a connection.
"""

import math
from collections.abc import Hashable
from typing import Final

_PRUNE_AT: Final = 4096


def retry_after(wait_s: float) -> int:
    """Return the value of `Retry-After`: whole seconds, at least one."""
    return max(1, math.ceil(wait_s))


class TokenBuckets:
    """Buckets in memory; a full one is forgotten. Time is an argument (monotonic seconds)."""

    def __init__(self, *, capacity: float, refill_per_s: float) -> None:
        self._capacity = capacity
        self._refill_per_s = refill_per_s
        self._levels: dict[Hashable, tuple[float, float]] = {}
        self._prune_at = _PRUNE_AT

    def take(self, key: Hashable, *, now: float) -> float:
        """Take one token and return 0, or return the seconds until there is one."""
        level = self._level(key, now)
        if level < 1.0:
            return (1.0 - level) / self._refill_per_s
        if len(self._levels) >= self._prune_at:
            self._levels = {
                one: state for one, state in self._levels.items() if self._level(one, now) < self._capacity
            }
            # A stranger with many addresses keeps many buckets from filling: each is looked through once, not at each
            # request.
            self._prune_at = max(_PRUNE_AT, 2 * len(self._levels))
        self._levels[key] = (level - 1.0, now)
        return 0.0

    def _level(self, key: Hashable, now: float) -> float:
        level, at = self._levels.get(key, (self._capacity, now))
        return min(self._capacity, level + (now - at) * self._refill_per_s)


class Pace:
    """Lets through so many a second, of everybody together, and tells the others when to come back: one after
    another, not all at once.
    """

    def __init__(self, *, at_once: float, per_s: float, longest_s: float) -> None:
        self._level = self._at_once = at_once
        self._per_s = per_s
        self._longest_s = longest_s
        self._at: float | None = None
        self._called_back_until = 0.0

    def take(self, *, now: float) -> float:
        """Take one token and return 0, or return in how many seconds to come back."""
        if self._at is not None:
            self._level = min(self._at_once, self._level + (now - self._at) * self._per_s)
        self._at = now
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return self.call_back(now=now)

    def call_back(self, *, now: float, per_s: float | None = None) -> float:
        """Return in how many seconds somebody is to come back who cannot be let through now for another reason.

        Args:
            per_s: how many are let through in a second at present, if that is known to be fewer.
        """
        # Those who are told to come back take the places behind each other; beyond the longest wait they
        # are spread over it anew.
        spacing_s = 1.0 / (self._per_s if per_s is None else min(per_s, self._per_s))
        until = max(self._called_back_until, now) + spacing_s
        self._called_back_until = now if until - now > self._longest_s else until
        return min(until - now, self._longest_s)


class Allowance:
    """The bucket of one connection. A cost is charged afterwards, when it is known, so the level may fall
    below zero.
    """

    __slots__ = ("_at", "_capacity", "_level", "_refill_per_s")

    def __init__(self, *, capacity: float, refill_per_s: float, now: float) -> None:
        self._capacity = capacity
        self._refill_per_s = refill_per_s
        self._level = capacity
        self._at = now

    def charge(self, cost: float, *, now: float) -> None:
        self._level = self._level_at(now) - cost
        self._at = now

    def delay_s(self, *, now: float) -> float:
        """Return the seconds until there is a token again; 0 if there is one now."""
        return max(0.0, (1.0 - self._level_at(now)) / self._refill_per_s)

    def _level_at(self, now: float) -> float:
        return min(self._capacity, self._level + (now - self._at) * self._refill_per_s)
