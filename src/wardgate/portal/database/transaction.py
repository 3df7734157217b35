"""One transaction over the store: what it reads and writes, and the changes that it leaves in the feed.

Everything is reached from here: `of(account_id)` leads to an account's tables. What repositories change is remembered
and appended to the feed at the end, with numbers that agree with the order of commits.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Table,
    TextClause,
    Update,
    Uuid,
    bindparam,
    delete,
    exc,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from wardgate.portal.database.prepared import prepared_insert, prepared_select, prepared_text, prepared_update
from wardgate.portal.database.refusals import is_bad_value, refusal
from wardgate.portal.database.sqlite_driver import InlineConnection, inline_connection
from wardgate.portal.database.tenant_tables import TenantTables
from wardgate.portal.database.turns import MANY, ROWS_A_TURN, STATEMENT_ROWS
from wardgate.portal.environment import Environment
from wardgate.portal.schema.change_feed import CHANGE_COUNTERS, CHANGES, Change, is_deletion_of_account
from wardgate.portal.schema.declaration import TableDeclaration

DELETED_AT_ONCE: Final = 1000
"""Rows deleted by one statement: on SQLite it blocks the event loop while it runs, so it must end within
milliseconds.
"""

HANDED_OVER: Final = 20_000
"""Changes of one transaction that readers of the feed get in memory; more are read from the database by batches."""

LAST_SEQUENCE: Final = (1 << 40) - 1
_LAST_MICROSECOND: Final = (1 << 52) - 1

_RowT = TypeVar("_RowT")
_ResultT = TypeVar("_ResultT")

Hold = Callable[[AsyncConnection, UUID], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change not yet numbered."""

    account_id: UUID
    object: str
    audience: str
    operation: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class BaseTransaction(ABC):
    """One open transaction; `of(account_id)` has a tenant's tables.

    Attributes:
        rows_a_turn: how many rows it works on before everybody else has a turn.
        pause: gives everybody else a turn.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        environment: Environment,
        *,
        subject: dict[str, Any] | None,
        hold: Hold | None,
        is_long: bool = False,
    ) -> None:
        """Wrap a connection in a transaction.

        Args:
            hold: makes it an account's only writer; None: it only reads.
            is_long: its statements may cost what a table has rows: nobody waits for them but the caller.
        """
        self._connection = connection
        self._environment = environment
        self._subject = subject
        self._hold = hold
        self.is_long = is_long
        self._held: frozenset[UUID] = frozenset()
        self._refusal: Exception | None = None
        self._pending: list[PendingChange] = []
        self._hints: set[UUID] = set()
        self._rows_this_turn = 0
        self.rows_a_turn = ROWS_A_TURN
        self.pause: Callable[[], Awaitable[None]] = self._pause
        self.now = environment.clock.now()
        self.appended: dict[UUID, list[Change]] = {}

    @cached_property
    def _driver(self) -> InlineConnection | None:
        """SQLite's driver, if it answers at once: what is made ready goes past the library in between."""
        driver = inline_connection(self._connection)
        return driver if driver is not None and driver.answers_at_once else None

    @property
    def dialect(self) -> str:
        """The database's name: `sqlite` or `postgresql`."""
        return self._connection.dialect.name

    async def hold(self, *account_ids: UUID) -> None:
        """Make a write transaction the only one of these accounts until its end.

        Repositories do it for their own account before their first statement. Who needs several accounts in
        one transaction names them all first: they are taken in order, so that two such transactions cannot
        wait for each other.
        """
        if self._hold is not None:
            for account_id in sorted(set(account_ids) - self._held):
                await self._hold(self._connection, account_id)
                self._held |= {account_id}

    def holds(self, account_ids: Iterable[UUID]) -> bool:
        """Tell whether `hold` would do nothing."""
        return self._hold is None or self._held.issuperset(account_ids)

    @abstractmethod
    def of(self, account_id: UUID) -> TenantTables:
        """Return the tables of one account for the system's own work, which may do everything."""

    def new_id(self) -> UUID:
        return self._environment.new_id()

    def random_bytes(self, count: int) -> bytes:
        return self._environment.rng.randbytes(count)

    async def touch(self) -> None:
        """Write without changing anything, to find out whether writing works."""
        counters = CHANGE_COUNTERS.table
        await self.execute(update(counters).values(sequence=counters.c.sequence))

    async def sequences(self) -> dict[UUID, int]:
        """Return the feed position of every account."""
        result = await self._connection.execute(
            select(CHANGE_COUNTERS.c.account_id, CHANGE_COUNTERS.c.sequence)
        )
        return {row.account_id: row.sequence for row in result}

    async def sequence(self, account_id: UUID) -> int:
        """Return the feed position of one account, 0 when nothing happened yet."""
        return await self._scalar(_COUNTER, account_id=account_id) or 0

    async def changes_after(self, account_id: UUID, sequence: int, limit: int) -> list[Change]:
        """Return the next changes of one account's feed, in order and without gaps; only its deletion where what came
        before goes or is gone.
        """
        later = CHANGES.c.sequence > sequence
        changes = await self.changes(account_id, later, limit=limit)
        if changes and changes[0].sequence != sequence + 1:
            # Nearly the newest: hardly anything is written behind it.
            ending = await self.changes(
                account_id, later, is_deletion_of_account(), limit=1, newest_first=True
            )
            return ending or changes
        return changes

    async def changes(
        self, account_id: UUID, *conditions: ColumnElement[bool], limit: int, newest_first: bool = False
    ) -> list[Change]:
        """Return rows of one account's feed by conditions over `CHANGES.c`."""
        order = CHANGES.c.sequence
        return await self.entries(
            CHANGES,
            account_id,
            *conditions,
            order_by=(order.desc() if newest_first else order,),
            limit=limit,
        )

    async def entries(
        self,
        declaration: TableDeclaration[_RowT],
        account_id: UUID,
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any],
        limit: int,
    ) -> list[_RowT]:
        """Return rows of one account in a table that has no repository: a log's."""
        result = await self._connection.execute(
            select(declaration.table)
            .where(declaration.c.account_id == account_id, *conditions)
            .order_by(*order_by)
            .limit(limit)
        )
        return [declaration.rows.of(row) for row in result]

    async def delete_oldest(
        self, column: Column[Any], before: datetime, *conditions: ColumnElement[bool]
    ) -> int:
        """Delete the oldest `DELETED_AT_ONCE` rows of a table whose `column` is before an instant, of those that meet
        the conditions; return how many.

        Call it again, in another transaction, until nothing is left. The change feed does not have such deletions,
        and keeps its numbering if they are its own.
        """
        key = tuple(column.table.primary_key)
        oldest = select(*key).where(column < before, *conditions).order_by(column).limit(DELETED_AT_ONCE)
        return int((await self.execute(delete(column.table).where(tuple_(*key).in_(oldest)))).rowcount)

    async def append_changes(self) -> frozenset[UUID]:
        """Number the recorded changes and append them to the feed; the store calls it once, last. Returns
        whose feed moved.
        """
        if self._refusal is not None:
            raise self._refusal
        by_account: dict[UUID, list[PendingChange]] = {}
        for change in self._pending:
            by_account.setdefault(change.account_id, []).append(change)
        self._pending.clear()
        # One order for all transactions, so that two of them cannot lock the counters crosswise.
        for account_id in sorted(by_account):
            pending = by_account[account_id]
            last = await self._scalar(_RAISE_COUNTER, account_id=account_id, count=len(pending))
            assert last is not None
            first = last - len(pending) + 1
            is_handed_over = len(pending) <= HANDED_OVER
            count = len(pending)
            while pending:
                # What is written is let go of at once: to free thousands of rows takes long too.
                some, pending[-ROWS_A_TURN:] = pending[-ROWS_A_TURN:], []
                rows = [
                    self._numbered(change, first + index) for index, change in enumerate(some, len(pending))
                ]
                await self.insert_rows(CHANGES.table, rows)
                if is_handed_over:
                    self.appended.setdefault(account_id, [])[:0] = [Change(**row) for row in rows]
            # The commit takes as long as they did.
            await self.take_turns(count)
        return frozenset(by_account) | self._hints

    async def _scalar(self, statement: TextClause, **values: Any) -> int | None:
        ready = prepared_text(statement, self._connection.dialect)
        if (driver := self._driver) is not None:
            rows = driver.look_up(ready.text, ready.parameters(**values))
            return rows[0][0] if rows else None
        result = await self._connection.exec_driver_sql(ready.text, ready.parameters(**values))
        found: int | None = result.scalar()
        return found

    def hint(self, topic: UUID) -> None:
        """Notify the commit's listeners of a topic that is not an account's feed."""
        self._hints.add(topic)

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run one statement; for the repositories.

        Raises:
            Conflict, DanglingReference, Unstorable: the database refused it. Nothing of the transaction will
                be written, unless the statement stands in a savepoint.
        """
        rows = len(parameters) if isinstance(parameters, list) else 0
        return await self._execute(lambda: self._connection.execute(statement, parameters), rows)

    async def look_up(self, statement: Select[Any], values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Return the few rows of a statement that is put together once, with `values` for what it leaves open; for the
        repositories. Raises as `execute`.
        """
        ready = prepared_select(statement, self._connection.dialect)
        parameters = ready.parameters(values)
        driver = self._driver
        if driver is None:
            found = await self._execute(lambda: self._connection.exec_driver_sql(ready.text, parameters), 0)
            return [ready.row(row) for row in found]
        if self._refusal is not None:
            raise RuntimeError("a statement of this transaction was refused: it cannot go on")
        await self.take_turns(STATEMENT_ROWS)
        return [ready.row(row) for row in driver.look_up(ready.text, parameters)]

    async def _execute(self, run: Callable[[], Awaitable[Any]], rows: int) -> Any:
        if self._refusal is not None:
            raise RuntimeError("a statement of this transaction was refused: it cannot go on")
        await self.take_turns(STATEMENT_ROWS + rows)
        try:
            return await run()
        except exc.DBAPIError as error:
            if not isinstance(error, exc.IntegrityError) and not is_bad_value(error):
                raise
            self._refusal = refusal(error)
            raise self._refusal from error

    async def insert_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows that have the same columns; for the repositories and the logs. Raises as `execute`."""
        if not rows:
            return
        ready = prepared_insert(table, tuple(rows[0]), self._connection.dialect)
        driver = self._driver

        async def run() -> None:
            parameters = ready.parameters(rows)
            if driver is None:
                await self._connection.exec_driver_sql(ready.text, parameters)
            else:
                driver.run_for_each(ready.text, parameters)

        await self._execute(run, len(rows))

    async def update_rows(self, statement: Update, values: Sequence[Mapping[str, Any]]) -> None:
        """Run an update that is put together once, for each of `values`; for the repositories. Raises as `execute`."""
        ready = prepared_update(statement, self._connection.dialect)
        await self._execute(
            lambda: self._connection.exec_driver_sql(ready.text, [ready.parameters(one) for one in values]),
            len(values),
        )

    async def pass_through(self, count: int, function: Callable[[], _ResultT]) -> _ResultT:
        """Return what a function makes of `count` values; of many in another thread, and everybody else has a turn.

        The function touches nothing but these values.
        """
        if count < MANY:
            return function()
        self._rows_this_turn = 0
        return await self._environment.executor.run(function)

    async def take_turns(self, rows: int) -> None:
        """Let everybody else have a turn if this transaction has worked on `rows_a_turn` rows since the last one, with
        the `rows` that it works on next.
        """
        self._rows_this_turn += rows
        if self._rows_this_turn > self.rows_a_turn:
            self._rows_this_turn = rows
            await self.pause()

    async def _pause(self) -> None:
        await self._environment.clock.sleep(0)

    def record(
        self,
        declaration: TableDeclaration[_RowT],
        account_id: UUID,
        operation: str,
        before: _RowT | None,
        after: _RowT | None,
    ) -> None:
        """Remember a change of a row for the feed of an account; for the repositories."""
        encode = declaration.rows.encode
        self._pending.append(
            PendingChange(
                account_id,
                declaration.name,
                declaration.recording.value,
                operation,
                None if before is None else encode(before),
                None if after is None else encode(after),
            )
        )

    def require_writable(self) -> None:
        if self._hold is None:
            raise RuntimeError("this transaction is for reading only")

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Open a savepoint: an exception inside undoes only what happened inside."""
        recorded, held = len(self._pending), self._held
        try:
            async with self._connection.begin_nested():
                yield
        except BaseException:
            del self._pending[recorded:]
            self._held, self._refusal = held, None
            raise

    def _numbered(self, change: PendingChange, sequence: int) -> dict[str, Any]:
        return {
            "account_id": change.account_id,
            "sequence": sequence,
            "log_id": change_id(microseconds_of(self.now), sequence & LAST_SEQUENCE),
            "object": change.object,
            "operation": change.operation,
            "audience": change.audience,
            "before": change.before,
            "after": change.after,
            "subject": self._subject,
            "committed_at": self.now,
        }


def change_id(microseconds: int, sequence: int) -> str:
    """Return the id of a change in the log: in the order of time, then of sequence."""
    return f"c{min(max(microseconds, 0), _LAST_MICROSECOND):013x}{sequence:010x}"


def microseconds_of(at: datetime) -> int:
    """Return the time of a change as its id has it; it may be one off."""
    return int(at.timestamp() * 1_000_000)


_COUNTER: Final = text("SELECT sequence FROM change_counters WHERE account_id = :account_id").bindparams(
    bindparam("account_id", type_=Uuid())
)
_RAISE_COUNTER: Final = text(
    "INSERT INTO change_counters (account_id, sequence) VALUES (:account_id, :count)"
    " ON CONFLICT (account_id) DO UPDATE SET sequence = change_counters.sequence + excluded.sequence"
    " RETURNING sequence"
).bindparams(bindparam("account_id", type_=Uuid()))
