"""Repositories: the verbs on each table, with account scoping, deletion map and change capture in one place.

`Repository` is made from its table's declaration. A tenant's repositories are reached through
`BaseTransaction.of(account_id)`; they add the account to every statement and refuse rows of another account, so
no caller can forget it. Conditions are SQLAlchemy expressions over `repository.c`:

    await tables.groups.load_all(tables.groups.c.name == "Engineering", limit=50)

To put such a statement together takes three times as long as everything else about a small one. What runs for each
connect, each grant and each call therefore has a statement that is put together once, with its values left open:
`load`, `find_by`, `load_among`, `insert` (`prepared`), `save`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Select,
    Table,
    Text,
    Update,
    Uuid,
    bindparam,
    cast,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)

from wardgate.portal.database.among import MOST_AMONG, count_for, is_among, open_values
from wardgate.portal.database.consequences import DEPENDANTS
from wardgate.portal.database.errors import DanglingReference
from wardgate.portal.database.permissions import require
from wardgate.portal.database.refusals import check_storable
from wardgate.portal.database.turns import MANY, ROWS_A_TURN, in_turns
from wardgate.portal.schema.declaration import OnDelete, TableDeclaration, nothing_on_delete
from wardgate.portal.schema.rights import Action
from wardgate.portal.schema.row import Row, TenantRow
from wardgate.portal.schema.row_building import values_of

if TYPE_CHECKING:
    from wardgate.portal.database.transaction import BaseTransaction

INSTALLATION: Final = UUID(int=0)
"""Stands in `changes.account_id` for what belongs to no account."""

OF_ACCOUNT: Final = "of_account"
"""The open value of a statement that is narrowed to an account; no column is called so."""
_ID: Final = "of_id"
_STATEMENTS: Final = 512
"""Of a kind, kept: more than the program has; which columns an update sets depends on what people change."""

_OpenScope = Callable[[Table], tuple[ColumnElement[bool], ...]]

_T = TypeVar("_T")
_RowT = TypeVar("_RowT", bound=Row)
_TenantRowT = TypeVar("_TenantRowT", bound=TenantRow)


class Repository(Generic[_RowT]):
    """The verbs on one table. `c` has its columns for conditions and ordering, `row_class` is its rows' class."""

    def __init__(self, transaction: "BaseTransaction", declaration: TableDeclaration[_RowT]) -> None:
        self._transaction = transaction
        self.row_class = declaration.row_class
        self._declaration = declaration
        self._table = declaration.table
        self.c = declaration.c

    @property
    def table(self) -> str:
        """The table's name."""
        return self._table.name

    @property
    def _scope(self) -> tuple[ColumnElement[bool], ...]:
        """What every statement is narrowed to."""
        return self.open_scope(self._table)

    @staticmethod
    def open_scope(_table: Table) -> tuple[ColumnElement[bool], ...]:
        """Return what every statement is narrowed to, with the values of `_open_values` left open."""
        return ()

    @property
    def _open_values(self) -> dict[str, Any]:
        return {}

    async def load(self, id_: UUID) -> _RowT | None:
        """Return the row with this id, or none."""
        return await self.find_by(id=id_)

    async def find_by(self, **values: Any) -> _RowT | None:
        """Return the oldest row that has these values, or none; no value may be None."""
        self._require(Action.READ)
        await self._hold()
        statement = _find_by(self.open_scope, self._table, tuple(values))
        rows = await self._transaction.look_up(statement, {**values, **self._open_values})
        return self._declaration.rows.of(rows[0]) if rows else None

    async def load_among(self, **values: Sequence[Any]) -> list[_RowT]:
        """Return the rows that have, in each of these columns, one of 1 to `MOST_AMONG` values, in no order."""
        self._require(Action.READ)
        await self._hold()
        count = count_for(*values.values())
        statement = _load_among(self.open_scope, self._table, tuple(values), count)
        wanted = dict(self._open_values)
        for name, some in values.items():
            wanted |= open_values(name, some, count)
        return [self._declaration.rows.of(row) for row in await self._transaction.look_up(statement, wanted)]

    async def still_there(self, ids: Collection[UUID]) -> set[UUID]:
        """Return which of these rows are there."""
        self._require(Action.READ)
        await self._hold()
        wanted, found = list(ids), set[UUID]()
        for start in range(0, len(wanted), MOST_AMONG):
            some = wanted[start : start + MOST_AMONG]
            count = count_for(some)
            values = {**open_values("id", some, count), **self._open_values}
            statement = _still_there(self.open_scope, self._table, count)
            found |= {id_ for (id_,) in await self._transaction.look_up(statement, values)}
        return found

    async def find(self, *conditions: ColumnElement[bool]) -> _RowT | None:
        """Return the first row that meets all conditions, or none."""
        rows = await self.load_all(*conditions, limit=1)
        return rows[0] if rows else None

    async def load_all(
        self,
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[_RowT]:
        """Return the rows that meet all conditions, oldest first unless ordered otherwise."""
        self._require(Action.READ)
        statement = select(self._table).where(*self._scope, *conditions).limit(limit).offset(offset or None)
        statement = statement.order_by(
            *(order_by if order_by is not None else (self.c.inserted_at, self.c.id))
        )
        await self._hold()
        result = await self._transaction.execute(statement)
        rows: list[_RowT] = []
        for some in in_turns(result.all()):
            await self._transaction.take_turns(len(some))
            rows += map(self._declaration.rows.of, some)
        return rows

    async def load_by_turns(self, *conditions: ColumnElement[bool]) -> list[_RowT]:
        """Return the rows that meet all conditions, oldest first, read a slice at a time.

        For conditions that an index of the table begins with, and continues with `inserted_at` and `id`: where there
        is none, each slice costs what all of them do.
        """
        place = tuple_(self.c.inserted_at, self.c.id)
        rows: list[_RowT] = []
        while True:
            later = [] if not rows else [place > tuple_(rows[-1].inserted_at, rows[-1].id)]
            some = await self.load_all(*conditions, *later, limit=ROWS_A_TURN)
            rows += some
            if len(some) < ROWS_A_TURN:
                return rows

    async def load_page(
        self, *conditions: ColumnElement[bool], order_by: Sequence[Any], limit: int, offset: int = 0
    ) -> list[_RowT]:
        """Return some of the rows that meet all conditions, in this order.

        Their ids are found first, so that an index that has what is asked and ordered by is read alone: to fetch each
        row of a large table only to leave it out costs ten times as much.
        """
        self._require(Action.READ)
        statement = select(self.c.id).where(*self._scope, *conditions).order_by(*order_by)
        await self._hold()
        result = await self._transaction.execute(statement.limit(limit).offset(offset or None))
        ids = list(result.scalars())
        # In no order: one would make SQLite read an index that has it, from end to end, in place of the key's.
        found = await self.load_all(self.c.id.in_(ids), order_by=()) if ids else []
        rows = {row.id: row for row in found}
        return [rows[id_] for id_ in ids if id_ in rows]

    async def load_column(self, column: ColumnElement[_T], *conditions: ColumnElement[bool]) -> list[_T]:
        """Return one column of the rows that meet all conditions, in no order."""
        self._require(Action.READ)
        await self._hold()
        result = await self._transaction.execute(select(column).where(*self._scope, *conditions))
        values = list(result.scalars())
        await self._transaction.take_turns(len(values))
        return values

    async def slices(self, *columns: str, size: int) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """Yield all rows as bare tuples, by ascending id, `size` rows at a time: for callers that read very
        many.

        A tuple begins with the id; the columns follow in their order. Ids are the text that the database has
        for them (`UUID(text)` reads it), because parsing is most of what a row costs, and few need it. Each
        slice is a statement of its own, so other tasks may run between two of them.
        """
        self._require(Action.READ)
        wanted = [_as_text(self.c[name]) for name in ("id", *columns)]
        statement = select(*wanted).where(*self._scope).order_by(self.c.id).limit(size)
        await self._hold()
        rows = (await self._transaction.execute(statement)).all()
        while rows:
            yield rows
            if len(rows) < size:
                return
            following = statement.where(self.c.id > UUID(rows[-1][0]))
            rows = (await self._transaction.execute(following)).all()

    @property
    def is_long(self) -> bool:
        """Whether statements may cost what the table has rows (`Store.reading`)."""
        return self._transaction.is_long

    async def count(self, *conditions: ColumnElement[bool], at_most: int | None = None) -> int:
        """Return how many rows meet all conditions, or `at_most` when there are more.

        Without a bound it costs what the table has rows: for long transactions.
        """
        self._require(Action.READ)
        found = select(literal(1)).select_from(self._table).where(*self._scope, *conditions)
        statement = select(func.count()).select_from(found.limit(at_most).subquery())
        await self._hold()
        result = await self._transaction.execute(statement)
        return int(result.scalar_one())

    async def count_by(self, column: ColumnElement[_T], *conditions: ColumnElement[bool]) -> dict[_T, int]:
        """Count the rows that meet all conditions, by the values of a column; a value that no row has is left out."""
        self._require(Action.READ)
        statement = select(column, func.count()).where(*self._scope, *conditions).group_by(column)
        await self._hold()
        result = await self._transaction.execute(statement)
        return {value: int(count) for value, count in result}

    async def insert(self, row: _RowT) -> _RowT:
        """Insert the row and return it as stored.

        Raises:
            Conflict: a unique index refuses it.
            DanglingReference: it names a row that is not there.
            Unstorable: a value is too long, too large, or no text.
        """
        self._transaction.require_writable()
        self._require(Action.INSERT)
        self._check(row)
        check_storable(self._table, values_of(row))
        await self._transaction.hold(self._feed_of(row))
        row = replace(row, inserted_at=self._transaction.now, updated_at=self._transaction.now)
        await self._transaction.insert_rows(self._table, [values_of(row)])
        self._record("insert", None, row)
        return row

    async def insert_all(self, rows: Sequence[_RowT]) -> list[_RowT]:
        """Insert all rows, many per statement; raises as `insert`, and then nothing of the transaction is written
        unless it stands in a savepoint.
        """
        self._transaction.require_writable()
        self._require(Action.INSERT)
        now = self._transaction.now
        stored: list[_RowT] = []
        await self._transaction.hold(*{self._feed_of(row) for row in rows})
        for some in in_turns(rows):
            stamped = [replace(row, inserted_at=now, updated_at=now) for row in some]
            values = [values_of(row) for row in stamped]
            for row, of_row in zip(stamped, values, strict=True):
                self._check(row)
                check_storable(self._table, of_row)
            await self._transaction.insert_rows(self._table, values)
            for row in stamped:
                self._record("insert", None, row)
            stored += stamped
        return stored

    async def save(self, row: _RowT) -> _RowT:
        """Replace the stored row of the same id, carry out what follows from it, and return it as stored.

        A row equal to the stored one changes nothing. Raises as `insert`, and DanglingReference when it is
        gone.
        """
        self._transaction.require_writable()
        self._require(Action.UPDATE)
        self._check(row)
        await self._transaction.hold(self._feed_of(row))
        before = await self.load(row.id)
        if before is None:
            raise DanglingReference(f"{self._table.name}: {row.id} does not exist")
        changed = {name for name, value in values_of(row).items() if value != getattr(before, name)}
        changed -= {"inserted_at", "updated_at"}
        if not changed:
            return before
        latest_session_only = changed <= self._declaration.latest_use
        # The stamp tells when an admin or a peer changed what the row says, not when it was last used.
        updated_at = before.updated_at if latest_session_only else self._transaction.now
        row = replace(row, inserted_at=before.inserted_at, updated_at=updated_at)
        values = {name: getattr(row, name) for name in sorted(changed | {"updated_at"})}
        check_storable(self._table, values)
        statement = _update(self.open_scope, self._table, tuple(values))
        await self._transaction.execute(statement, {**values, _ID: row.id, **self._open_values})
        if latest_session_only:
            return row
        self._record("update", before, row)
        for removal in self._declaration.removes_on_update(before, row):
            await self._transaction.of(self._feed_of(row)).remove(removal)
        return row

    async def delete(self, id_: UUID) -> bool:
        """Delete the row and everything that depends on it (deletion map); false: there was none."""
        self._transaction.require_writable()
        self._require(Action.DELETE)
        row = await self.load(id_)
        if row is None:
            return False
        await self.delete_rows([row])
        return True

    async def delete_where(self, *conditions: ColumnElement[bool], at_most: int | None = None) -> int:
        """Delete all rows that meet the conditions, or the oldest of them, each with what depends on it; returns
        how many.
        """
        self._transaction.require_writable()
        self._require(Action.DELETE)
        rows = await self.load_all(*conditions, limit=at_most)
        await self.delete_rows(rows)
        return len(rows)

    async def delete_rows(self, rows: Sequence[_RowT]) -> None:
        """Delete rows that this transaction has loaded, with what goes with them, many per statement: thousands of
        grants may go with one policy."""
        self._transaction.require_writable()
        self._require(Action.DELETE)
        for some in in_turns(rows):
            await self._transaction.take_turns(len(some))
            await self._delete_slice(some)

    async def delete_by_turns(self, *conditions: ColumnElement[bool]) -> None:
        """Delete all rows that meet the conditions, each with what goes with it; rows that nothing goes with are not
        even loaded before.
        """
        if self.cascades:
            await self.delete_where(*conditions)
            return
        self._transaction.require_writable()
        self._require(Action.DELETE)
        await self._hold()
        # PostgreSQL walks over what it has just deleted once more for each slice, and nobody here waits for it.
        size = ROWS_A_TURN if self._transaction.dialect == "sqlite" else MANY
        some = select(self.c.id).where(*self._scope, *conditions).limit(size)
        statement = delete(self._table).where(*self._scope, self.c.id.in_(some)).returning(self._table)
        is_more = True
        while is_more:
            # Deleting is a turn of its own: each row has entries in half a dozen indexes.
            await self._transaction.take_turns(ROWS_A_TURN)
            found = (await self._transaction.execute(statement)).all()
            is_more = len(found) == size
            for part in in_turns(found):
                await self._transaction.take_turns(len(part))
                rows = map(self._declaration.rows.of, part)
                for row in sorted(rows, key=lambda row: (row.inserted_at, row.id.int)):
                    self._record("delete", row, None)

    @property
    def cascades(self) -> bool:
        """Whether deletion of a row deletes or changes rows of other tables."""
        return self.table in DEPENDANTS or self._declaration.removes_on_delete is not nothing_on_delete

    async def _delete_slice(self, rows: Sequence[_RowT]) -> None:
        """Delete a few rows of one feed with what goes with them."""
        ids, tables = [row.id for row in rows], self._transaction.of(self._feed_of(rows[0]))
        for dependant in DEPENDANTS.get(self.table, ()):
            if dependant.on_delete is OnDelete.DELETE:
                await tables.remove_where(dependant.table, dependant.column, ids)
            else:
                await tables.clear_where(dependant.table, dependant.column, ids)
        for row in rows:
            for removal in self._declaration.removes_on_delete(row):
                await tables.remove(removal)
        # A row may be reached along two paths (an authorization by its device and by its token).
        result = await self._transaction.execute(
            delete(self._table).where(*self._scope, self.c.id.in_(ids)).returning(self.c.id)
        )
        deleted = set(result.scalars())
        for row in rows:
            if row.id in deleted:
                self._record("delete", row, None)

    async def _hold(self) -> None:
        """Become the only writer of what this repository reads: what was read then holds until the commit."""
        await self._transaction.hold(INSTALLATION)

    def _require(self, action: Action) -> None:
        """Refuse what the actor may not do; a tenant's repository overrides this."""

    def _check(self, row: _RowT) -> None:
        """Refuse a row of another account; a tenant's repository overrides this."""

    def _feed_of(self, _row: _RowT) -> UUID:
        return INSTALLATION

    def _record(self, operation: str, before: _RowT | None, after: _RowT | None) -> None:
        row = after if after is not None else before
        assert row is not None
        self._transaction.record(self._declaration, self._feed_of(row), operation, before, after)


class InstallationRepository(Repository[_RowT]):
    """Rows that belong to no account; their changes go to the installation's feed."""


class TenantRepository(Repository[_TenantRowT]):
    """Rows of one account."""

    def __init__(
        self,
        transaction: "BaseTransaction",
        declaration: TableDeclaration[_TenantRowT],
        account_id: UUID,
        role: str | None,
    ) -> None:
        """Make the repository for an actor of type `role`, or for the system itself if None."""
        super().__init__(transaction, declaration)
        self._account_id = account_id
        self._role = role

    @property
    def _scope(self) -> tuple[ColumnElement[bool], ...]:
        return (self.c.account_id == self._account_id,)

    @staticmethod
    def open_scope(table: Table) -> tuple[ColumnElement[bool], ...]:
        return (table.c.account_id == bindparam(OF_ACCOUNT),)

    @property
    def _open_values(self) -> dict[str, Any]:
        return {OF_ACCOUNT: self._account_id}

    async def _hold(self) -> None:
        await self._transaction.hold(self._account_id)

    def _require(self, action: Action) -> None:
        require(self._role, action, self.table)

    def _check(self, row: _TenantRowT) -> None:
        if row.account_id != self._account_id:
            raise ValueError(f"{row.table}: a row of another account")

    def _feed_of(self, row: _TenantRowT) -> UUID:
        return row.account_id


@lru_cache(_STATEMENTS)
def _find_by(scope: _OpenScope, table: Table, names: tuple[str, ...]) -> Select[Any]:
    wanted = (table.c[name] == bindparam(name) for name in names)
    statement = select(table).where(*scope(table), *wanted)
    return statement if "id" in names else statement.order_by(table.c.inserted_at, table.c.id).limit(1)


@lru_cache(_STATEMENTS)
def _load_among(scope: _OpenScope, table: Table, names: tuple[str, ...], count: int) -> Select[Any]:
    return select(table).where(*scope(table), *(is_among(table.c[name], name, count) for name in names))


@lru_cache(_STATEMENTS)
def _still_there(scope: _OpenScope, table: Table, count: int) -> Select[Any]:
    return select(table.c.id).where(*scope(table), is_among(table.c.id, "id", count))


@lru_cache(_STATEMENTS)
def _update(scope: _OpenScope, table: Table, names: tuple[str, ...]) -> Update:
    values: dict[str, BindParameter[Any]] = {name: bindparam(name) for name in names}
    return update(table).where(*scope(table), table.c.id == bindparam(_ID)).values(values)


def _as_text(column: Column[Any]) -> ColumnElement[Any]:
    return cast(column, Text) if isinstance(column.type, Uuid) else column
