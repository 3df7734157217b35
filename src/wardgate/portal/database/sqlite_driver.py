"""SQLite without threads, under SQLAlchemy's asynchronous dialect.

aiosqlite runs each connection in a thread of its own, which costs two thread switches a statement and does
not run on virtual time. A statement here takes tens of microseconds on the event loop's own thread, so
`InlineConnection` runs it there and then, behind the coroutine methods that the dialect awaits. Nothing ever
waits inside SQLite: the busy time-out is zero and the store retries, so that a writer in another process does
not hold the loop. Statements that read through whole tables are the exception: their cursor runs them in the
environment's executor, SQLite lets go of the interpreter while it works, and the loop goes on.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from wardgate.portal.database.text_search import SQLITE_FUNCTION, folded_or_null
from wardgate.portal.environment import Executor

_Result = TypeVar("_Result")

_AHEAD: Final = 500

MOST_LOG_PAGES: Final = 20_000
"""A commit that leaves more in the write-ahead log copies it into the file by itself, and waits for the disk: 80 MB."""

Creator = Callable[..., Awaitable["InlineConnection"]]


def creator(
    database: str, *, image: bytes | None = None, is_durable: bool = True, executor: Executor | None = None
) -> Creator:
    """Return what opens one connection to the file `database` (or ":memory:", then with the content of `image`).

    With an executor, statements run there: for those whose cost grows with what the tables hold.
    """

    async def open_connection(*_arguments: object, **_options: object) -> "InlineConnection":
        connection = sqlite3.connect(database, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            if image is not None:
                connection.deserialize(image)
            connection.create_function(SQLITE_FUNCTION, 1, folded_or_null, deterministic=True)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {MOST_LOG_PAGES}")
        except BaseException:
            connection.close()
            raise
        return InlineConnection(connection, executor)

    return open_connection


class InlineConnection:
    """One connection; each coroutine completes without suspending."""

    def __init__(self, connection: sqlite3.Connection, executor: Executor | None = None) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._executor = executor

    def image(self) -> bytes:
        """Return the whole database as bytes, for `creator`."""
        return self._open().serialize()

    def begin(self, statement: str, *, looks: bool) -> None:
        """Open a transaction, and with `looks` fix what it sees; if the database is busy, none is open."""
        connection = self._open()
        connection.execute(statement)
        if looks:
            try:
                connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
            except sqlite3.OperationalError:
                connection.rollback()
                raise

    def cursor(self) -> "InlineCursor":
        connection = self._open()
        if self._executor is None:
            return InlineCursor(connection.cursor())
        return ExecutorCursor(connection, self._executor)

    @property
    def answers_at_once(self) -> bool:
        """Whether statements run on the event loop's own thread."""
        return self._executor is None

    @property
    def rows_changed(self) -> int:
        """How many rows this connection has inserted, updated and deleted."""
        return self._open().total_changes

    def look_up(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Return all rows at once; only where `answers_at_once`."""
        return self._open().execute(statement, parameters).fetchall()

    def run_for_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row at once; only where `answers_at_once`.

        Raises:
            sqlalchemy.exc.DBAPIError: as the library in between words what the driver raises.
        """
        try:
            self._open().executemany(statement, rows)
        except sqlite3.Error as error:
            raise exc.DBAPIError.instance(statement, None, error, sqlite3.Error) from error

    async def create_function(self, *arguments: Any, **options: Any) -> None:
        self._open().create_function(*arguments, **options)

    async def commit(self) -> None:
        self._open().commit()

    async def rollback(self) -> None:
        self._open().rollback()

    async def close(self) -> None:
        self.stop()

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError("no active connection")
        return self._connection


def inline_connection(connection: AsyncConnection) -> InlineConnection | None:
    """Return the driver's connection below an open one, if it is this driver's."""
    proxied = connection.sync_connection
    driver = None if proxied is None else proxied.connection.driver_connection
    return driver if isinstance(driver, InlineConnection) else None


class InlineCursor:
    """One cursor with the coroutine methods of an asynchronous driver's."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.arraysize = 1

    async def __aenter__(self) -> "InlineCursor":
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._cursor.close()

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> "InlineCursor":
        self._cursor.execute(statement, parameters)
        return self

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> "InlineCursor":
        self._cursor.executemany(statement, parameters)
        return self

    async def fetchone(self) -> Any:
        return self._cursor.fetchone()

    async def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        return self._cursor.fetchmany(self.arraysize if size is None else size)

    async def fetchall(self) -> Sequence[Any]:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()

    def __aiter__(self) -> "InlineCursor":
        return self

    async def __anext__(self) -> Any:
        row = await self.fetchone()
        if row is None:
            raise StopAsyncIteration
        return row


class ExecutorCursor(InlineCursor):
    """A cursor whose statements run elsewhere; its connection is used by nobody else meanwhile.

    The first rows come along with the statement: handing work to a thread and waiting for it costs more than most
    statements, and nearly all of them have few rows.
    """

    def __init__(self, connection: sqlite3.Connection, executor: Executor) -> None:
        super().__init__(connection.cursor())
        self._connection = connection
        self._executor = executor
        self._ahead: list[Any] = []
        self._has_more = False

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> InlineCursor:
        def run() -> list[Any]:
            return self._cursor.execute(statement, parameters).fetchmany(_AHEAD)

        self._ahead = await self._run(run)
        self._has_more = len(self._ahead) == _AHEAD
        return self

    async def fetchone(self) -> Any:
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        wanted = self.arraysize if size is None else size
        rows, self._ahead = self._ahead[:wanted], self._ahead[wanted:]
        if self._has_more and len(rows) < wanted:
            more = wanted - len(rows)
            rows += await self._run(lambda: self._cursor.fetchmany(more))
        return rows

    async def fetchall(self) -> Sequence[Any]:
        rows, self._ahead = self._ahead, []
        if self._has_more:
            rows += await self._run(self._cursor.fetchall)
            self._has_more = False
        return rows

    async def _run(self, function: Callable[[], _Result]) -> _Result:
        work = asyncio.ensure_future(self._executor.run(function))
        work.add_done_callback(_note_outcome)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Nobody waits for the answer any more, but the connection is in use until the statement has ended.
            self._connection.interrupt()
            await asyncio.wait((work,))
            raise


def _note_outcome(work: "asyncio.Future[Any]") -> None:
    """Look at how a statement ended: who waited for it may be gone, and the database closed."""
    if not work.cancelled():
        work.exception()
