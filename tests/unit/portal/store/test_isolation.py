"""An account never finds, changes or names another's rows: every table that accounts have, every verb, both
databases.
"""

from dataclasses import replace
from uuid import UUID

import pytest

from unit.portal.store.conftest import make_account
from unit.portal.store.whole_account import WholeAccount, fill_account
from wardgate.portal.database.consequences import ACCOUNT_TABLES_IN_DELETION_ORDER
from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.portal.schema.row import TenantRow
from wardgate.portal.store import DanglingReference, Store
from wardgate.portal.tables import metadata

pytestmark = pytest.mark.slow


@pytest.fixture
async def theirs(store: Store) -> WholeAccount:
    """Another account with a row in every table."""
    other_id = await make_account(store, "other")
    async with store.writing() as transaction:
        return await fill_account(transaction, other_id)


def test_the_account_of_these_tests_leaves_no_table_out(theirs: WholeAccount) -> None:
    assert {row.table for row in theirs.rows} == set(ACCOUNT_TABLES_IN_DELETION_ORDER)


async def test_no_verb_finds_another_accounts_row(
    store: Store, account_id: UUID, theirs: WholeAccount
) -> None:
    position = await _position(store, theirs)
    async with store.writing() as transaction:
        for row in theirs.rows:
            mine = transaction.of(account_id).by_name(row.table)
            is_it = mine.c.id == row.id
            assert await mine.load(row.id) is None, row.table
            assert await mine.find(is_it) is None
            assert await mine.load_all() == await mine.load_all(is_it) == []
            assert await mine.load_column(mine.c.id) == []
            assert [rows async for rows in mine.slices(size=10)] == []
            assert await mine.count() == await mine.count(is_it) == 0
            assert not await mine.delete(row.id)
            assert await mine.delete_where() == await mine.delete_where(is_it) == 0
            with pytest.raises(DanglingReference):
                await mine.save(replace(row, account_id=account_id))
    async with store.reading() as transaction:
        for row in theirs.rows:
            assert await transaction.of(row.account_id).by_name(row.table).load(row.id) == row
    assert await _position(store, theirs) == position


async def test_no_verb_takes_a_row_of_another_account(
    store: Store, account_id: UUID, theirs: WholeAccount
) -> None:
    async with store.writing() as transaction:
        for row in theirs.rows:
            mine = transaction.of(account_id).by_name(row.table)
            for refused in (
                lambda mine=mine, row=row: mine.insert(row),
                lambda mine=mine, row=row: mine.insert_all([row]),
                lambda mine=mine, row=row: mine.save(row),
            ):
                with pytest.raises(ValueError, match="another account"):
                    await refused()


async def test_no_row_can_name_one_of_another_account(
    store: Store, account_id: UUID, theirs: WholeAccount
) -> None:
    """Each reference of each table in turn leads into the other account while all others stay at home."""
    async with store.writing() as transaction:
        ours = await fill_account(transaction, account_id)
    foreign = {row.table: row for row in reversed(theirs.rows)}
    tried = set()
    for row in ours.rows:
        for column, target in _references(row.table):
            if getattr(row, column) is None or column == "id":
                continue
            stranger = replace(row, **{column: _like(theirs, foreign[target], row, column).id})
            with pytest.raises(DanglingReference):
                async with store.writing() as transaction:
                    await transaction.of(account_id).by_name(row.table).save(stranger)
            tried.add((row.table, column))
    assert tried == {
        (table, column)
        for table in ACCOUNT_TABLES_IN_DELETION_ORDER
        for column, _ in _references(table)
        if column != "id"
    }


async def test_details_without_their_parent_are_refused(
    store: Store, account_id: UUID, theirs: WholeAccount
) -> None:
    details = [row for row in theirs.rows if row.table.endswith("_auth_providers")]
    for row in details:
        with pytest.raises(DanglingReference):  # noqa: PT012
            async with store.writing() as transaction:
                table = metadata.tables[row.table]
                values = {column.name: getattr(row, column.name) for column in table.c}
                await transaction.execute(table.insert().values(values | {"account_id": account_id}))
    assert len(details) == 6


async def test_another_accounts_feed_and_logs_are_out_of_reach(
    store: Store, account_id: UUID, theirs: WholeAccount
) -> None:
    async with store.reading() as transaction:
        tables = transaction.of(account_id)
        changes = await tables.changes(limit=1000)
        assert {change.account_id for change in changes} == {account_id}
        assert await newest_decisions(tables, limit=10) == []
        assert len(await transaction.of(theirs.actor.account_id).changes(limit=1000)) > len(changes)


def _references(table: str) -> list[tuple[str, str]]:
    """Return the columns of a table that name a row of the same account, each with the table that it names."""
    return [
        (key.parent.name, key.column.table.name)
        for constraint in metadata.tables[table].foreign_key_constraints
        for key in constraint.elements
        if key.column.name == "id" and key.column.table.name != "accounts"
    ]


def _like(theirs: WholeAccount, any_of_them: TenantRow, row: TenantRow, column: str) -> TenantRow:
    """Return the row over there that a copy of this one would name: of the right type, where the table has several."""
    for candidate in theirs.rows:
        if candidate.table == any_of_them.table and getattr(candidate, "type", "") == {
            "initiating_device_id": "client",
            "receiving_device_id": "gateway",
            "device_id": "client" if row.table == "static_device_pool_members" else "gateway",
        }.get(column, getattr(candidate, "type", "")):
            return candidate
    return any_of_them


async def _position(store: Store, whole: WholeAccount) -> int:
    return (await store.sequences())[whole.actor.account_id]
