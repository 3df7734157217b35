"""Passwords and codes are hashed a few at a time, however many strangers ask."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from wardgate.portal.sign_in.hashing import AT_ONCE, MOST_WAITING, Hashing, HashingBusy

_Result = TypeVar("_Result")


class HeldExecutor:
    """Computes when it is let go."""

    def __init__(self) -> None:
        self.may_go = asyncio.Event()
        self.under_way = 0
        self.most = 0

    async def run(self, function: Callable[[], _Result]) -> _Result:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.may_go.wait()
            return function()
        finally:
            self.under_way -= 1


async def test_a_few_are_computed_some_wait_and_the_rest_are_told_to_come_again() -> None:
    hashing, executor = Hashing(), HeldExecutor()
    asked = [
        asyncio.create_task(hashing.run(executor, lambda number=number: number))  # type: ignore[misc]
        for number in range(AT_ONCE + MOST_WAITING)
    ]
    await asyncio.sleep(0)
    refused = asyncio.create_task(hashing.run(executor, lambda: 0))
    await asyncio.sleep(0)
    executor.may_go.set()
    assert refused.done()
    assert isinstance(refused.exception(), HashingBusy)
    assert await asyncio.gather(*asked) == list(range(AT_ONCE + MOST_WAITING))
    assert executor.most == AT_ONCE


async def test_who_goes_away_and_what_fails_leave_their_turn_to_others() -> None:
    hashing, executor = Hashing(), HeldExecutor()
    asked = [asyncio.create_task(hashing.run(executor, lambda: 0)) for _ in range(AT_ONCE + MOST_WAITING)]
    await asyncio.sleep(0)
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    executor.may_go.set()
    for _ in range(AT_ONCE + 1):
        with pytest.raises(ZeroDivisionError):
            await hashing.run(executor, lambda: 1 // 0)
    assert await hashing.run(executor, lambda: 7) == 7
