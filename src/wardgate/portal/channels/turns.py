"""Turns for upgrades when more come than can be looked at: a queue that is bounded, fair and has a deadline.

at once     so many are let through; the others wait
rounds      so many begin in one iteration of the event loop, too: a turn that never waits for anything would otherwise
            end before the next one asks, a thousand of them would run in one iteration, and what these cause (joins,
            records, heartbeats of everybody else) would wait for the last of them. After an iteration that was long
            anyway, as while a flood is read and refused, more begin: else nobody would be let in for all the refusing
a row       whoever has the same key (one token from one address) waits in one row, in order of arrival
fairness    rows are served in rotation, so that a crowd behind one token delays its own and nobody else by more
            than one turn for each row
bounds      of everybody waiting, and of one row; beyond either, `Full`
deadline    whoever has waited too long gets `Full` too: peers do not wait for ever (protocol §1.10)
pace        no more wait than have a turn in that time, as soon as it is known how fast turns end
"""

import asyncio
import statistics
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Final

_SPANS: Final = 15
"""Spans of which the median is the pace: of `at_once` turns each. A standstill, as while a crowd's requests are read,
says nothing of the turns after it, and is outvoted.
"""

_SHARE_PER_S: Final = 250
"""Turns that may begin after an iteration of the loop, by its length, if that is more than `at_once`."""
_MOST_PLACES: Final = 16
"""Times `at_once`."""


class Full(Exception):
    """No turn: too many wait, or one has waited too long."""


class Turns:
    """Hands out turns; `turn` waits for one and gives it back at the end of its block.

    Attributes:
        under_way: how many have a turn.
        waiting: how many wait for one.
        per_s: how many turns end in a second while others wait; `expected_per_s` before that was seen.
    """

    def __init__(
        self,
        *,
        at_once: int,
        most_waiting: int,
        most_of_one: int,
        patience_s: float,
        expected_per_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._at_once: Final = at_once
        self._most_waiting: Final = most_waiting
        self._most_of_one: Final = most_of_one
        self._patience_s: Final = patience_s
        # Dictionaries are queues whose members can also leave from the middle.
        self._rows: dict[Hashable, dict[asyncio.Future[None], None]] = {}
        self._monotonic: Final = monotonic
        self._span_began_at: float | None = None
        self._ended_in_span = 0
        self._spacings: deque[float] = deque([1.0 / expected_per_s] * _SPANS, maxlen=_SPANS)
        self._begun = self._begun_before = 0  # in this iteration of the loop, and in the last one with any
        self._places = at_once
        self._round_at: float | None = None
        self._is_round_due = False
        self._spacing_s = 1.0 / expected_per_s
        # Who waits until when, in order; also who waits no more, until those before have gone.
        self._arrivals: deque[tuple[float, Hashable, asyncio.Future[None]]] = deque()
        self._patience: asyncio.TimerHandle | None = None
        self.under_way = 0
        self.waiting = 0

    @property
    def per_s(self) -> float:
        return 1.0 / self._spacing_s

    @property
    def is_crowded(self) -> bool:
        """Whether more than one begin in an iteration of the loop, now or when the last ones did."""
        return self.waiting > 0 or self._begun > 1 or self._begun_before > 1

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a turn.

        Raises:
            Full: there is none.
        """
        if self.waiting or not self._has_place():
            await self._wait(key)
        else:
            self._take_place()
            self._want_round()
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, key: Hashable) -> None:
        if self.waiting >= self._most_now() or len(self._rows.get(key, ())) >= self._most_of_one:
            raise Full
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rows.setdefault(key, {})[called] = None
        self.waiting += 1
        self._arrivals.append((self._monotonic() + self._patience_s, key, called))
        self._watch_patience()
        try:
            await called
        except Full:
            raise
        except BaseException:
            if not called.done() or called.cancelled():
                self._leave(key, called)
            elif called.exception() is None:
                # It was called in the same instant: the turn is somebody else's.
                self._pass_on()
            raise

    def _watch_patience(self) -> None:
        """Look again when the next one has waited too long: one timer for all, of whom each waits as long."""
        while self._arrivals and self._arrivals[0][2].done():
            self._arrivals.popleft()
        if self._arrivals and self._patience is None:
            delay_s = max(0.0, self._arrivals[0][0] - self._monotonic())
            self._patience = asyncio.get_running_loop().call_later(delay_s, self._end_patience)

    def _end_patience(self) -> None:
        self._patience = None
        now = self._monotonic()
        while self._arrivals and self._arrivals[0][0] <= now:
            _until, key, called = self._arrivals.popleft()
            if not called.done():
                self._leave(key, called)
                called.set_exception(Full())
        self._watch_patience()

    def _most_now(self) -> int:
        return min(self._most_waiting, max(self._at_once, int(self._patience_s / self._spacing_s)))

    def _take_the_pace(self) -> None:
        if not self.waiting:
            self._span_began_at = None
            return
        now = self._monotonic()
        if self._span_began_at is not None:
            self._ended_in_span += 1
            if self._ended_in_span < self._at_once:
                return
            self._spacings.append((now - self._span_began_at) / self._ended_in_span)
            self._spacing_s = statistics.median(self._spacings)
        self._span_began_at, self._ended_in_span = now, 0

    def _has_place(self) -> bool:
        return self.under_way < self._places and self._begun < self._places

    def _take_place(self) -> None:
        self.under_way += 1
        self._begun += 1

    def _pass_on(self) -> None:
        """A turn has ended: its place is free for another."""
        self._take_the_pace()
        self.under_way -= 1
        if self.waiting:
            self._want_round()

    def _want_round(self) -> None:
        if not self._is_round_due:
            self._is_round_due = True
            asyncio.get_running_loop().call_soon(self._begin_round)

    def _begin_round(self) -> None:
        """In the next iteration of the loop: let the first of each row begin, as far as there are places."""
        self._is_round_due = False
        self._begun_before, self._begun = self._begun, 0
        self._take_measure()
        while self._rows and self._has_place():
            key = next(iter(self._rows))
            row = self._rows.pop(key)
            called = next(iter(row))
            del row[called]
            if row:
                self._rows[key] = row
            self.waiting -= 1
            # One that is leaving has not come to it yet.
            if not called.done():
                called.set_result(None)
                self._take_place()
        if self._begun:
            # After those that begin now: the places of turns that wait for nothing are free again by then.
            self._want_round()

    def _take_measure(self) -> None:
        """Count the places of this round by how long the iteration before it was."""
        now, before = self._monotonic(), self._round_at
        self._round_at = now if self.waiting else None
        elapsed_s = 0.0 if before is None else now - before
        self._places = min(max(self._at_once, int(elapsed_s * _SHARE_PER_S)), _MOST_PLACES * self._at_once)

    def _leave(self, key: Hashable, called: asyncio.Future[None]) -> None:
        row = self._rows.get(key, {})
        if called in row:
            del row[called]
            self.waiting -= 1
            if not row:
                del self._rows[key]
