"""Turns: bounded, fair between keys, with a deadline, and none is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from wardgate.portal.channels.turns import Full, Turns
from wardgate.simulation.virtual_time import run_virtual


class Queue:
    """Peers who hold their turn until they are told to go."""

    def __init__(self, turns: Turns, now: list[float]) -> None:
        self.turns = turns
        self._now = now
        self.let_in: list[str] = []
        self._goes: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def comes(self, *names: str) -> None:
        """Let peers come; the key of one is the first letter of its name."""
        for name in names:
            self._goes[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._stay(name))
            await settled()

    async def goes(self, name: str, *, after_s: float = 0.0) -> None:
        self._now[0] += after_s
        self._goes[name].set()
        await settled()

    async def _stay(self, name: str) -> None:
        async with self.turns.turn(name[0]):
            self.let_in.append(name)
            await self._goes[name].wait()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def queue(
    *, at_once: int = 1, waiting: int = 9, of_one: int = 9, patience_s: float = 60.0, per_s: float = 100.0
) -> AsyncIterator[Queue]:
    now = [0.0]
    turns = Turns(
        at_once=at_once,
        most_waiting=waiting,
        most_of_one=of_one,
        patience_s=patience_s,
        expected_per_s=per_s,
        monotonic=lambda: now[0],
    )
    queue = Queue(turns, now)
    yield queue
    for task in queue.tasks.values():
        task.cancel()
    await asyncio.gather(*queue.tasks.values(), return_exceptions=True)
    assert (turns.under_way, turns.waiting) == (0, 0)


async def test_so_many_have_a_turn_and_the_next_follow_in_order() -> None:
    async with queue(at_once=2) as peers:
        await peers.comes("a1", "a2", "a3", "a4")
        assert peers.let_in == ["a1", "a2"]
        assert (peers.turns.under_way, peers.turns.waiting) == (2, 2)
        await peers.goes("a2")
        assert peers.let_in == ["a1", "a2", "a3"]
        await peers.goes("a1")
        assert peers.let_in[-1] == "a4"


async def test_a_crowd_of_one_key_delays_another_by_one_turn_only() -> None:
    async with queue() as peers:
        await peers.comes("a1", "a2", "a3", "a4", "b1", "c1", "b2")
        for name in ("a1", "a2", "b1", "c1", "a3", "b2"):
            await peers.goes(name)
        assert peers.let_in == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_the_queue_is_full_for_one_key_before_it_is_for_all() -> None:
    async with queue(waiting=3, of_one=2) as peers:
        await peers.comes("a1", "a2", "a3", "a4")
        with pytest.raises(Full):
            await peers.tasks["a4"]
        await peers.comes("b1", "c1")
        with pytest.raises(Full):
            await peers.tasks["c1"]
        await peers.goes("a1")
        await peers.comes("c2")
        assert peers.turns.waiting == 3


async def test_who_has_waited_too_long_leaves_and_is_not_called() -> None:
    async with queue(patience_s=0.0) as peers:
        await peers.comes("a1", "a2")
        with pytest.raises(Full):
            await peers.tasks["a2"]
        await peers.goes("a1")
        assert peers.let_in == ["a1"]
        await peers.comes("a3")
        assert peers.let_in == ["a1", "a3"]


def test_each_waits_as_long_as_every_other_whenever_it_came_and_whoever_has_left() -> None:
    async def wait() -> dict[str, float]:
        loop = asyncio.get_running_loop()
        turns = Turns(
            at_once=1,
            most_waiting=9,
            most_of_one=9,
            patience_s=8.0,
            expected_per_s=100.0,
            monotonic=loop.time,
        )
        began_at, gave_up_after_s = loop.time(), dict[str, float]()

        async def come(name: str, at_s: float) -> None:
            await asyncio.sleep(at_s)
            try:
                async with turns.turn(name[0]):
                    await asyncio.sleep(60)
            except Full:
                gave_up_after_s[name] = loop.time() - began_at

        coming = [
            asyncio.create_task(come(name, at_s))
            for name, at_s in (("a1", 0), ("b1", 1), ("b2", 3), ("c1", 3), ("b3", 5), ("d1", 20))
        ]
        await asyncio.sleep(4)
        coming[1].cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        assert (turns.under_way, turns.waiting) == (0, 0)
        return gave_up_after_s

    assert run_virtual(wait()) == {"b2": 11, "c1": 11, "b3": 13, "d1": 28}


async def test_who_leaves_while_waiting_takes_nobodys_turn() -> None:
    async with queue() as peers:
        await peers.comes("a1", "a2", "a3", "b1")
        peers.tasks["a2"].cancel()
        peers.tasks["b1"].cancel()
        await settled()
        assert peers.turns.waiting == 1
        await peers.goes("a1")
        assert peers.let_in == ["a1", "a3"]


async def test_a_turn_given_to_one_who_leaves_in_the_same_instant_goes_on_to_the_next() -> None:
    async with queue() as peers:
        await peers.comes("a1", "a2", "a3")
        peers._goes["a1"].set()
        await asyncio.sleep(0)  # `a1` passes its turn on to `a2`, which has not run yet
        peers.tasks["a2"].cancel()
        await settled()
        assert peers.let_in == ["a1", "a3"]


async def begun_by_iteration(*, peers: int, iteration_s: float) -> list[int]:
    """Return how many turns that wait for nothing begin in each iteration of the loop in which any does."""
    now, iteration, begun_in = 0.0, 0, list[int]()
    turns = Turns(
        at_once=3,
        most_waiting=999,
        most_of_one=999,
        patience_s=60.0,
        expected_per_s=100.0,
        monotonic=lambda: now,
    )

    async def stay_a_moment() -> None:
        async with turns.turn("a"):
            begun_in.append(iteration)

    tasks = [asyncio.create_task(stay_a_moment()) for _ in range(peers)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        now, iteration = now + iteration_s, iteration + 1
    assert (turns.under_way, turns.waiting) == (0, 0)
    return list(Counter(begun_in).values())


async def test_turns_that_wait_for_nothing_are_spread_over_iterations_of_the_loop() -> None:
    assert await begun_by_iteration(peers=30, iteration_s=0.0) == 10 * [3]


@pytest.mark.parametrize(("iteration_s", "begun"), [(0.001, 3), (0.04, 10), (100.0, 48)])
async def test_turns_have_their_share_of_a_long_iteration(iteration_s: float, begun: int) -> None:
    assert max(await begun_by_iteration(peers=300, iteration_s=iteration_s)) == begun


async def test_no_more_wait_than_have_a_turn_in_the_time_that_they_wait() -> None:
    async with queue(waiting=9, patience_s=40.0, per_s=0.1) as peers:
        await peers.comes("a1", "a2", "a3", "a4", "a5", "b1")
        assert not peers.tasks["a5"].done()
        assert isinstance(peers.tasks["b1"].exception(), Full)


async def test_the_pace_is_that_of_turns_for_which_somebody_waited() -> None:
    names = [f"a{number}" for number in range(400)]
    async with queue(waiting=400, of_one=400) as peers:
        await peers.comes(*names)
        for name in names[:-2]:
            await peers.goes(name, after_s=0.05)
        assert round(peers.turns.per_s) == 20
        await peers.goes(names[-2], after_s=0.05)
        await peers.goes(names[-1], after_s=1000.0)
        await peers.comes("b1")
        await peers.goes("b1", after_s=1000.0)
        assert round(peers.turns.per_s) == 20


async def test_a_standstill_is_forgotten() -> None:
    names = [f"a{number}" for number in range(100)]
    async with queue(waiting=100, of_one=100) as peers:
        await peers.comes(*names)
        await peers.goes("a0", after_s=0.01)
        for name in names[1:6]:
            await peers.goes(name, after_s=1000.0)
        assert peers.turns.per_s == 100
