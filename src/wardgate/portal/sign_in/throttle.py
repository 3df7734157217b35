"""How often something may be tried: so many times in a window that each try extends, as long as nobody succeeds.

Counted in the memory of one process (identity §17): a restart forgets, and two nodes count apart. What that is worth to
who guesses is in docs/sign-in.md; guesses at one code are counted in its row.
"""

from collections.abc import Hashable
from typing import Final

MOST_KEYS: Final = 65_536
"""Kept at a time: strangers choose addresses to try. Beyond, what was tried least is forgotten, so that a flood of
addresses forgets itself and not the one at which somebody guesses.
"""
_PRUNE_AT: Final = 4096


class Throttle:
    """Counts tries by key. Time is an argument (monotonic seconds)."""

    def __init__(self, *, most: int, window_s: float) -> None:
        self._most = most
        self._window_s = window_s
        self._tries: dict[Hashable, tuple[int, float]] = {}
        self._prune_at = _PRUNE_AT

    def take(self, key: Hashable, *, now: float) -> float:
        """Count one more try and return 0, or return the seconds until there may be one."""
        count, ends_at = self._tries.get(key, (0, now))
        if now >= ends_at:
            count = 0
        if count >= self._most:
            return ends_at - now
        if len(self._tries) >= self._prune_at:
            self._tries = {one: tries for one, tries in self._tries.items() if now < tries[1]}
            if len(self._tries) >= MOST_KEYS:
                most_tried = sorted(self._tries.items(), key=lambda item: item[1], reverse=True)
                self._tries = dict(most_tried[: MOST_KEYS // 2])
            # What is left is alive; looking through it again and again would cost more than keeping it.
            self._prune_at = min(MOST_KEYS, max(_PRUNE_AT, 2 * len(self._tries)))
        self._tries[key] = (count + 1, now + self._window_s)
        return 0.0

    def reset(self, key: Hashable) -> None:
        """Forget the tries of a key: somebody succeeded."""
        self._tries.pop(key, None)
