"""Who goes first: peers that ask, before what nobody waits for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from wardgate.portal.channels.precedence import PATIENCE_S, Precedence

ITERATION_S = PATIENCE_S / 40


class TickingClock:
    """Each iteration of the loop takes as long as the last one."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time_s, tz=UTC)

    def monotonic(self) -> float:
        return self.time_s

    async def sleep(self, seconds: float) -> None:
        assert seconds == 0
        self.time_s += ITERATION_S
        await asyncio.sleep(0)


@asynccontextmanager
async def asking(precedence: Precedence, iterations: int) -> AsyncIterator[None]:
    """A peer asks in each of so many iterations of the loop."""

    async def ask() -> None:
        for _ in range(iterations):
            precedence.note()
            await asyncio.sleep(0)

    task = asyncio.create_task(ask())
    yield
    await task


async def test_where_nobody_asks_work_goes_on_at_once() -> None:
    clock = TickingClock()
    precedence, quiet = Precedence(clock), list[float]()
    precedence.on_quiet = lambda: quiet.append(clock.time_s)
    await precedence.give_way()
    assert quiet == [2 * ITERATION_S]


async def test_work_waits_for_an_iteration_in_which_nobody_asks() -> None:
    clock = TickingClock()
    precedence, quiet = Precedence(clock), list[float]()
    precedence.on_quiet = lambda: quiet.append(clock.time_s)
    async with asking(precedence, 10):
        await precedence.give_way()
    assert len(quiet) == 1
    assert 10 * ITERATION_S <= quiet[0] <= 12 * ITERATION_S


async def test_what_came_while_a_piece_of_work_was_done_goes_before_the_next_one() -> None:
    clock = TickingClock()
    precedence, done = Precedence(clock), list[str]()

    async def work() -> None:
        for number in range(2):
            # A request comes meanwhile: the loop hears of it when this piece has ended.
            asyncio.get_running_loop().call_soon(request, number)
            done.append(f"piece {number}")
            await precedence.give_way()

    def request(number: int) -> None:
        precedence.note()
        done.append(f"request {number}")

    await work()
    assert done == ["piece 0", "request 0", "piece 1", "request 1"]


async def test_work_waits_only_for_so_long_and_then_no_moment_was_quiet() -> None:
    clock = TickingClock()
    precedence, quiet = Precedence(clock), list[float]()
    precedence.on_quiet = lambda: quiet.append(clock.time_s)
    async with asking(precedence, 100):
        await precedence.give_way()
        assert PATIENCE_S <= clock.time_s <= PATIENCE_S + 2 * ITERATION_S
    assert quiet == []
