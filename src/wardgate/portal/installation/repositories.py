"""The repository of accounts."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Table, delete, func, select, tuple_, update

from wardgate.portal.database.consequences import (
    ACCOUNT_TABLES_IN_DELETION_ORDER,
    DELETED_WITH_ACCOUNTS,
    DEPENDANTS_OF_ACCOUNTS,
)
from wardgate.portal.database.repositories import Repository
from wardgate.portal.database.transaction import BaseTransaction
from wardgate.portal.installation.tables import ACCOUNTS, Account
from wardgate.portal.schema.change_feed import CHANGES, is_deletion_of_account
from wardgate.portal.tables import TABLES

DELETED_WITH_ACCOUNT_AT_ONCE: Final = 500
"""Rows of a deleted account that one transaction deletes: each is looked for in the tables that may reference it,
which takes SQLite some ten milliseconds of the event loop.
"""


class AccountRepository(Repository[Account]):
    """The accounts themselves; each one's changes go to its own feed.

    A deleted account is found by nobody from the commit on; `delete_remains` then takes away what it had, a slice in
    each transaction.
    """

    def __init__(self, transaction: BaseTransaction) -> None:
        super().__init__(transaction, ACCOUNTS)

    @staticmethod
    def open_scope(table: Table) -> tuple[ColumnElement[bool], ...]:
        return (table.c.deleted_at.is_(None),)

    async def by_slug(self, slug: str) -> Account | None:
        return await self.find(func.lower(self.c.slug) == slug.lower())

    async def load(self, id_: UUID) -> Account | None:
        await self._transaction.hold(id_)
        return await super().load(id_)

    async def load_all(
        self,
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Account]:
        """Return the accounts that meet all conditions; in a write transaction, held as they are returned."""
        while True:
            rows = await super().load_all(*conditions, order_by=order_by, limit=limit, offset=offset)
            if self._transaction.holds(row.id for row in rows):
                return rows
            await self._transaction.hold(*(row.id for row in rows))

    async def _hold(self) -> None:
        """Which accounts a condition finds is known only afterwards: `load_all` holds those."""

    async def _delete_slice(self, rows: Sequence[Account]) -> None:
        """Mark accounts as deleted and give their slugs free; everything they have is still there."""
        for row in rows:
            await self._transaction.execute(
                update(self._table)
                .where(*self._scope, self.c.id == row.id)
                .values(
                    slug=f"deleted-{row.id.hex}",
                    is_disabled=True,
                    deleted_at=self._transaction.now,
                    updated_at=self._transaction.now,
                )
            )
            self._record("delete", row, None)

    async def with_remains(self) -> list[UUID]:
        """Return the deleted accounts that something is left of."""
        statement = select(self.c.id).where(self.c.deleted_at.is_not(None))
        return list((await self._transaction.execute(statement)).scalars())

    async def delete_remains(self, id_: UUID) -> int:
        """Delete the next rows, `DELETED_WITH_ACCOUNT_AT_ONCE` or fewer, of a deleted account, logs and its own row
        included; its feed then holds only its deletion. Returns how many, 0 when nothing is left.

        Whoever references goes before what is referenced. Tables are looked through from the first each time: what
        a request that was under way has added since goes too.
        """
        self._transaction.require_writable()
        await self._transaction.hold(id_)
        is_deleted = (self.c.id == id_) & self.c.deleted_at.is_not(None)
        if (await self._transaction.execute(select(self.c.id).where(is_deleted))).first() is None:
            return 0
        for dependant in DEPENDANTS_OF_ACCOUNTS:
            column = TABLES[dependant.table].c[dependant.column]
            of_account = _some(column.table, column == id_)
            if count := await self._count(update(column.table).where(of_account).values({column.name: None})):
                return count
        for name in (*ACCOUNT_TABLES_IN_DELETION_ORDER, *DELETED_WITH_ACCOUNTS):
            table = TABLES[name].table
            conditions = [table.c.account_id == id_]
            if name == CHANGES.name:
                conditions.append(~is_deletion_of_account())
            if count := await self._count(delete(table).where(_some(table, *conditions))):
                return count
        return await self._count(delete(self._table).where(is_deleted))

    async def _count(self, statement: Any) -> int:
        """Execute a statement and return how many rows it concerned."""
        return int((await self._transaction.execute(statement)).rowcount)

    def _feed_of(self, row: Account) -> UUID:
        return row.id


def _some(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Be true for a slice of the rows that meet all conditions."""
    key = tuple(table.primary_key)
    return tuple_(*key).in_(select(*key).where(*conditions).limit(DELETED_WITH_ACCOUNT_AT_ONCE))
