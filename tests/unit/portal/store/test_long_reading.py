"""Reading what grows with a table: elsewhere than on the event loop, and in the order of an index."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest
from sqlalchemy import ColumnElement, text

from support.migrated_file import migrated_file
from unit.portal.store.conftest import make_account
from wardgate.portal.database.log_reading import LogReader
from wardgate.portal.environment import Environment
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.logs.streams import LOGS, Stream, containing
from wardgate.portal.rest.pages import Page, PageQuery, load_page
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import Store

pytestmark = pytest.mark.slow

_Result = TypeVar("_Result")


class Workshop:
    """An executor whose work waits in a thread until the test lets it go."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.may_go.set()
        self.begun = 0

    async def run(self, function: Callable[[], _Result]) -> _Result:
        self.begun += 1

        def work() -> _Result:
            self.may_go.wait()
            return function()

        return await asyncio.get_running_loop().run_in_executor(None, work)


async def test_the_loop_goes_on_while_a_log_is_searched(tmp_path: Path) -> None:
    workshop = Workshop()
    environment = replace(Environment.of_this_process(), executor=workshop)
    store = await Store.open(migrated_file(tmp_path / "wardgate.db"), environment)
    try:
        account_id = await make_account(store, "acme")
        workshop.may_go.clear()

        async def search() -> int:
            condition = containing(Stream.CHANGE, "acme")
            return (await _reader(store, account_id, Stream.CHANGE, condition).count()).number

        searching = asyncio.create_task(search())
        while not (workshop.begun or searching.done()):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0)
        assert workshop.begun, "the search has run on the loop"
        # The search has begun and cannot end; everybody else is served.
        assert await store.is_available()
        await make_account(store, "other")
        assert not searching.done()
        workshop.may_go.set()
        assert await searching > 0
    finally:
        workshop.may_go.set()
        await store.close()


async def test_a_search_that_nobody_waits_for_any_more_leaves_its_connection_sound(tmp_path: Path) -> None:
    workshop = Workshop()
    environment = replace(Environment.of_this_process(), executor=workshop)
    store = await Store.open(migrated_file(tmp_path / "wardgate.db"), environment)
    try:
        account_id = await make_account(store, "acme")

        async def search() -> int:
            return (await _reader(store, account_id, Stream.CHANGE).count()).number

        for _ in range(5):
            workshop.may_go.clear()
            begun = workshop.begun
            searching = asyncio.create_task(search())
            while workshop.begun == begun and not searching.done():  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(0)
            searching.cancel()
            await asyncio.sleep(0)
            workshop.may_go.set()
            with pytest.raises(asyncio.CancelledError):
                await searching
        assert await search() > 0
    finally:
        workshop.may_go.set()
        await store.close()


async def test_whoever_goes_at_any_moment_of_a_search_ends_as_cancelled(tmp_path: Path) -> None:
    store = await Store.open(migrated_file(tmp_path / "wardgate.db"), Environment.of_this_process())
    try:

        async def count() -> dict[str, int]:
            async with store.reading(is_long=True) as transaction:
                return await JobQueue(transaction).counts()

        was_cancelled = []
        for steps in range(60):
            counting = asyncio.create_task(count())
            for _ in range(steps):
                await asyncio.sleep(0)
            counting.cancel()
            (outcome,) = await asyncio.gather(counting, return_exceptions=True)
            was_cancelled.append(isinstance(outcome, asyncio.CancelledError))
            assert was_cancelled[-1] or isinstance(outcome, dict), outcome
        assert any(was_cancelled)
        assert await count() is not None
    finally:
        await store.close()


async def test_the_loop_goes_on_while_a_list_is_read_and_counted(tmp_path: Path) -> None:
    workshop = Workshop()
    environment = replace(Environment.of_this_process(), executor=workshop)
    store = await Store.open(migrated_file(tmp_path / "wardgate.db"), environment)
    try:
        account_id = await make_account(store, "acme")
        async with store.writing() as transaction:
            sites = transaction.of(account_id).sites
            for name in ("Berlin", "Hamburg", "Leipzig"):
                await sites.insert(Site(id=transaction.new_id(), account_id=account_id, name=name))
        workshop.may_go.clear()

        async def read() -> Page[Site]:
            async with store.reading(is_long=True) as transaction:
                return await load_page(transaction.of(account_id).sites, PageQuery(limit=2, cursor=None))

        reading = asyncio.create_task(read())
        while not workshop.begun:  # noqa: ASYNC110 - the executor tells nobody
            await asyncio.sleep(0)
        async with store.writing() as transaction:
            await transaction.touch()
        assert not reading.done()
        workshop.may_go.set()
        assert (await reading).count == 3
        async with store.reading() as transaction:
            with pytest.raises(ValueError, match="everybody would wait"):
                await load_page(transaction.of(account_id).sites, PageQuery(limit=2, cursor=None))
            with pytest.raises(ValueError, match="everybody would wait"):
                await JobQueue(transaction).counts()
    finally:
        workshop.may_go.set()
        await store.close()


@pytest.mark.parametrize(
    ("table", "time"),
    [("api_request_logs", "inserted_at"), ("session_logs", "timestamp"), ("flow_logs", "flow_start")],
)
async def test_a_page_of_a_log_is_read_from_its_place_and_not_sorted(
    tmp_path: Path, table: str, time: str
) -> None:
    store = await Store.open(migrated_file(tmp_path / "wardgate.db"), Environment.of_this_process())
    try:
        async with store.reading() as transaction:
            plan = await transaction.execute(
                text(
                    f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE account_id = :account"
                    f" AND ({time}, log_id) < (:at, :id) ORDER BY {time} DESC, log_id DESC LIMIT 10"
                ),
                {"account": "a", "at": "b", "id": "c"},
            )
            steps = " / ".join(row.detail for row in plan)
    finally:
        await store.close()
    assert f"USING INDEX {table}_order_index" in steps
    assert f"{time}<?" in steps.replace(f"({time},log_id)<(?,?)", f"{time}<?")
    assert "TEMP B-TREE" not in steps


def _reader(store: Store, account_id: UUID, stream: Stream, *conditions: ColumnElement[bool]) -> LogReader:
    return LogReader(lambda: store.reading(is_long=True), LOGS[stream], account_id, *conditions)
