"""A statement that runs in the executor brings its first rows along."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest

from wardgate.portal.database.sqlite_driver import ExecutorCursor, creator

_Result = TypeVar("_Result")


class CountingExecutor:
    def __init__(self) -> None:
        self.runs = 0

    async def run(self, function: Callable[[], _Result]) -> _Result:
        self.runs += 1
        return function()


COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n"


@contextlib.asynccontextmanager
async def counting(rows: int) -> AsyncIterator[tuple[ExecutorCursor, CountingExecutor]]:
    executor = CountingExecutor()
    connection = await creator(":memory:", executor=executor)()
    try:
        cursor = connection.cursor()
        assert isinstance(cursor, ExecutorCursor)
        await cursor.execute(COUNT, (rows,))
        yield cursor, executor
    finally:
        await connection.close()


@pytest.mark.parametrize(("rows", "runs"), [(1, 1), (499, 1), (500, 2), (1700, 2)])
async def test_all_rows_come_in_their_order_and_few_in_one_run(rows: int, runs: int) -> None:
    async with counting(rows) as (cursor, executor):
        assert [one for (one,) in await cursor.fetchall()] == list(range(1, rows + 1))
        assert executor.runs == runs
        assert list(await cursor.fetchall()) == []


async def test_rows_are_taken_in_whatever_parts() -> None:
    async with counting(1234) as (cursor, _):
        taken = [await cursor.fetchone()]
        for size in (3, 490, 20, 600):
            taken += await cursor.fetchmany(size)
        taken += [row async for row in cursor]
        assert [one for (one,) in taken] == list(range(1, 1235))
        assert await cursor.fetchone() is None


async def test_a_statement_without_rows_has_none() -> None:
    async with counting(1) as (cursor, _):
        await cursor.execute("CREATE TABLE t (x)")
        assert list(await cursor.fetchall()) == []


class GatedExecutor:
    """Runs nothing before its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def run(self, function: Callable[[], _Result]) -> _Result:
        await self.gate.wait()
        return function()


async def test_a_statement_that_nobody_waits_for_any_more_fails_in_silence() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    executor = GatedExecutor()
    connection = await creator(":memory:", executor=executor)()
    asking = asyncio.create_task(connection.cursor().execute(COUNT, (1,)))
    await asyncio.sleep(0)
    for _ in range(2):  # the second time while it waits for the statement's end
        asking.cancel()
        await asyncio.sleep(0)
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await connection.close()
    executor.gate.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
