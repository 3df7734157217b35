"""Readers see every committed change once, in order, also of another process and after a pause."""

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from unit.portal.store.conftest import make_account
from wardgate.portal.environment import Environment
from wardgate.portal.store import Feed, SqliteFile, Store
from wardgate.portal.store.rows import Site


async def test_a_reader_is_woken_by_each_commit(
    store: Store, environment: Environment, account_id: UUID
) -> None:
    feed = Feed(store, environment)
    seen: list[int] = []
    reader = asyncio.create_task(_collect(feed, account_id, 0, seen, until=4))
    for index in range(3):
        await _add_site(store, account_id, f"site {index}")
    await asyncio.wait_for(reader, 5)
    assert seen == [1, 2, 3, 4]


async def test_a_reader_resumes_behind_its_last_change(
    store: Store, environment: Environment, account_id: UUID
) -> None:
    feed = Feed(store, environment)
    for index in range(3):
        await _add_site(store, account_id, f"site {index}")
    seen: list[int] = []
    await asyncio.wait_for(_collect(feed, account_id, 2, seen, until=4), 5)
    assert seen == [3, 4]


async def test_commits_of_another_process_are_noticed(tmp_path: Path, environment: Environment) -> None:
    ours = await Store.open(SqliteFile(tmp_path / "wardgate.db"), environment)
    theirs = await Store.open(SqliteFile(tmp_path / "wardgate.db"), environment)
    account_id = await make_account(ours, "acme")
    feed = Feed(ours, environment)
    polling = asyncio.create_task(feed.run())
    seen: list[int] = []
    reader = asyncio.create_task(_collect(feed, account_id, 1, seen, until=2))
    await asyncio.sleep(0)
    await _add_site(theirs, account_id, "theirs")
    await asyncio.wait_for(reader, 5)
    assert seen == [2]
    polling.cancel()
    await ours.close()
    await theirs.close()


async def test_writers_of_two_processes_take_turns(tmp_path: Path, environment: Environment) -> None:
    stores = [await Store.open(SqliteFile(tmp_path / "wardgate.db"), environment) for _ in range(2)]
    account_id = await make_account(stores[0], "acme")
    await asyncio.gather(*(_add_site(stores[index % 2], account_id, f"site {index}") for index in range(16)))
    assert (await stores[0].sequences())[account_id] == 17
    for store in stores:
        await store.close()


async def _collect(feed: Feed, account_id: UUID, after: int, seen: list[int], until: int) -> None:
    async for changes in feed.follow(account_id, after):
        seen.extend(change.sequence for change in changes)
        if seen[-1] >= until:
            return


async def _add_site(store: Store, account_id: UUID, name: str) -> None:
    async with store.writing() as transaction:
        site = Site(id=transaction.new_id(), account_id=account_id, name=name)
        await transaction.of(account_id).sites.insert(site)
        await asyncio.sleep(0)
        await transaction.of(account_id).sites.save(replace(site))
