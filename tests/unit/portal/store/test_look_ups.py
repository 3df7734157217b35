"""Look-ups that are put together once: they find what SQLAlchemy finds, in the transaction that asks, and leave no
connection in a state that the next reader would notice.
"""

import asyncio
import sqlite3
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import bindparam, select

from support.migrated_file import migrated_file
from unit.portal.store.whole_database import fill_database
from wardgate.portal.database.base_store import adapter
from wardgate.portal.database.migrations import upgrade
from wardgate.portal.environment import Environment
from wardgate.portal.people.tables import Group
from wardgate.portal.store import Store
from wardgate.portal.tables import metadata

pytestmark = pytest.mark.slow


async def test_rows_of_every_table_are_what_sqlalchemy_makes_of_them(store: Store) -> None:
    account_id = await fill_database(store)
    async with store.reading() as transaction:
        for table in metadata.sorted_tables:
            column = table.c.get("account_id", next(iter(table.primary_key)))
            (value,) = (await transaction.execute(select(column).limit(1))).scalars()
            statement = (
                select(table).where(column == bindparam("wanted")).order_by(*table.primary_key).limit(2)
            )
            found = await transaction.look_up(statement, {"wanted": value})
            expected = (await transaction.execute(statement, {"wanted": value})).all()
            assert expected
            assert [tuple(row) for row in found] == [tuple(row) for row in expected]
        assert await transaction.of(account_id).groups.find_by(name="nobody has this name") is None


async def test_a_writer_finds_what_it_has_written_and_a_reader_only_what_is_committed(
    store: Store, account_id: UUID
) -> None:
    async with store.writing() as transaction:
        group = Group(id=transaction.new_id(), account_id=account_id, name="Engineering")
        await transaction.of(account_id).groups.insert(group)
        assert await transaction.of(account_id).groups.load(group.id) is not None
    async with store.reading() as transaction:
        assert await transaction.of(account_id).groups.find_by(name="Engineering") is not None


async def test_of_an_account_nothing_of_another_is_found(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        group = Group(id=transaction.new_id(), account_id=account_id, name="Engineering")
        await transaction.of(account_id).groups.insert(group)
        other = transaction.of(UUID(int=7)).groups
        assert await other.load(group.id) is None
        assert await other.find_by(name="Engineering") is None


async def test_rows_are_found_by_any_of_a_few_values_and_only_those_of_the_account(
    store: Store, account_id: UUID
) -> None:
    async with store.writing() as transaction:
        groups = transaction.of(account_id).groups
        made = [
            await groups.insert(Group(id=transaction.new_id(), account_id=account_id, name=f"g{number}"))
            for number in range(70)
        ]
        ids = [group.id for group in made]
        for count in (1, 2, 4, 5, 64):
            found = await groups.load_among(id=ids[:count])
            assert sorted(group.name for group in found) == sorted(group.name for group in made[:count])
        assert await groups.load_among(id=ids[:3], name=["g1", "g2", "g9"]) in (made[1:3], made[2:0:-1])
        assert await groups.still_there([*ids, UUID(int=7)]) == set(ids)
        assert await groups.still_there([]) == set()
        other = transaction.of(UUID(int=7)).groups
        assert (await other.load_among(id=ids[:3]), await other.still_there(ids)) == ([], set())
        for wrong in ([], [UUID(int=number) for number in range(65)]):
            with pytest.raises(ValueError, match="1 to 64 values"):
                await groups.load_among(id=wrong)


async def test_each_reader_of_a_file_sees_the_moment_at_which_it_began(
    tmp_path: Path, environment: Environment
) -> None:
    database = adapter(migrated_file(tmp_path / "wardgate.db"), environment)
    await database.open(upgrade)
    read, touch = "SELECT max(sequence) FROM change_counters", "INSERT INTO change_counters VALUES ('{}', {})"
    try:
        for number in range(3):
            async with database.writing() as connection:
                await connection.exec_driver_sql(touch.format(UUID(int=number).hex, number))
                await connection.commit()
            async with database.reading() as first, database.reading() as second:
                assert first is not second
                found = [(await one.exec_driver_sql(read)).scalar_one() for one in (first, second)]
                assert found == [number, number]
    finally:
        await database.close()


async def test_a_reader_that_fails_or_is_cancelled_leaves_no_transaction_behind(
    tmp_path: Path, environment: Environment
) -> None:
    store = await Store.open(migrated_file(tmp_path / "wardgate.db"), environment)

    async def read(*, fails: bool) -> None:
        async with store.reading() as transaction:
            await transaction.sequences()
            if fails:
                raise LookupError
            await asyncio.sleep(60)

    try:
        with pytest.raises(LookupError):
            await read(fails=True)
        reading = asyncio.create_task(read(fails=False))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await store.sequences()
    finally:
        await store.close()
    # A transaction that is still open would not let the log be emptied.
    plain = sqlite3.connect(tmp_path / "wardgate.db")
    assert plain.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    plain.close()
