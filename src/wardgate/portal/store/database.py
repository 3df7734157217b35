"""The store: transactions over one database, repositories inside them, and the change feed's rows written with each commit.

    async with store.writing(subject) as transaction:
        tables = transaction.of(account_id)
        site = await tables.sites.insert(Site(id=transaction.new_id(), account_id=account_id, name="Berlin"))

Leaving the block commits; an exception rolls back and nothing is written. Everything a transaction did is appended to `changes` with it:
the counter row of each account is raised last, so that commit order and sequence agree. Transactions do not nest: a task that
holds one must not open another (on SQLite one writer at a time is admitted).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool

from wardgate.portal.environment import Environment
from wardgate.portal.store.errors import DanglingReference, Unusable
from wardgate.portal.store.migrations import upgrade
from wardgate.portal.store.repositories import Transaction
from wardgate.portal.store.sqlite_driver import InlineConnection, creator

_WRITER_WAIT_S = 30.0
_RETRY_S = 0.005
_READERS = 8

Committed = Callable[[frozenset[UUID]], None]


class Store:
    """One database, SQLite in a file or in memory.

    Build it with `open`; `close` it at the end. `on_commit` callbacks get the ids of the accounts whose feed moved.
    """

    def __init__(self, engine: AsyncEngine, environment: Environment, path: Path | None) -> None:
        self._engine = engine
        self._environment = environment
        self._path = path
        self._writer = asyncio.Lock()
        self._listeners: list[Committed] = []
        self._watch_connection: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path | None, environment: Environment) -> "Store":
        """Open the database file, or one in memory for `None`, and bring its schema up to date.

        Raises:
            Unusable: it cannot be opened, is no database, or belongs to a newer program.
        """
        engine = _memory_engine(_EMPTY.image) if path is None else _file_engine(path)
        store = cls(engine, environment, path)
        try:
            if path is None and _EMPTY.image is None:
                await store._migrate()
                _EMPTY.image = await store._image()
            if path is not None:
                await store._migrate()
                store._watch_connection = _private_connection(path)
        except (exc.DBAPIError, sqlite3.Error) as error:
            await engine.dispose()
            raise Unusable(_reason(path, error)) from error
        except Unusable:
            await engine.dispose()
            raise
        return store

    async def close(self) -> None:
        """Close all connections; idempotent."""
        if self._watch_connection is not None:
            self._watch_connection.close()
            self._watch_connection = None
        await self._engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """Open a read transaction: one consistent view; writing in it is a programming error."""
        if self._path is None:
            async with self._writer, self._transaction("BEGIN") as connection:
                yield Transaction(connection, self._environment, subject=None, writable=False)
        else:
            async with self._transaction("BEGIN") as connection:
                yield Transaction(connection, self._environment, subject=None, writable=False)

    @asynccontextmanager
    async def writing(self, subject: dict[str, Any] | None = None) -> AsyncIterator[Transaction]:
        """Open a write transaction on behalf of `subject` (§10.2; none: the system itself).

        Raises:
            Conflict, DanglingReference: from the statements inside; nothing is written.
        """
        async with self._writer, self._transaction("BEGIN IMMEDIATE") as connection:
            transaction = Transaction(connection, self._environment, subject=subject, writable=True)
            yield transaction
            try:
                moved = await transaction.append_changes()
                await connection.commit()
            except exc.IntegrityError as error:
                raise DanglingReference(str(error.orig)) from error
        if moved:
            for listener in tuple(self._listeners):
                listener(moved)

    def on_commit(self, listener: Committed) -> Callable[[], None]:
        """Call `listener` after each commit that moved a feed; returns what ends it. A hint, never the only source."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def data_version(self) -> int:
        """Return a number that changes when another process commits to the file (SQLite's `data_version`)."""
        if self._watch_connection is None:
            return 0
        (version,) = self._watch_connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    async def sequences(self) -> dict[UUID, int]:
        """Return the feed position of every account."""
        async with self.reading() as transaction:
            return await transaction.sequences()

    async def is_available(self) -> bool:
        """Tell whether a statement succeeds now."""
        try:
            async with self.reading() as transaction:
                await transaction.sequences()
        except (exc.DBAPIError, sqlite3.Error):
            return False
        return True

    @asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            await self._begin(connection, begin)
            yield connection

    async def _begin(self, connection: AsyncConnection, begin: str) -> None:
        deadline_s = self._environment.clock.monotonic() + _WRITER_WAIT_S
        while True:
            try:
                await connection.exec_driver_sql(begin)
            except exc.OperationalError as error:
                await connection.rollback()
                if "locked" not in str(error.orig) or self._environment.clock.monotonic() >= deadline_s:
                    raise
            else:
                return
            await self._environment.clock.sleep(_RETRY_S * (1 + self._environment.rng.random()))

    async def _image(self) -> bytes:
        async with self._engine.connect() as connection:
            driver: InlineConnection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
            return driver.image()

    async def _migrate(self) -> None:
        async with self._writer, self._transaction("BEGIN IMMEDIATE") as connection:
            await connection.run_sync(upgrade)
            await connection.commit()


class _EmptyDatabase:
    """A migrated database without rows, kept so that a process migrates its first store in memory only."""

    image: bytes | None = None


_EMPTY = _EmptyDatabase()


def _memory_engine(image: bytes | None) -> AsyncEngine:
    return create_async_engine(
        "sqlite+aiosqlite://", async_creator=creator(":memory:", image=image), poolclass=StaticPool
    )


def _file_engine(path: Path) -> AsyncEngine:
    return create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        async_creator=creator(str(path)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=_READERS,
        max_overflow=4 * _READERS,
    )


def _private_connection(path: Path) -> sqlite3.Connection:
    path.chmod(0o600)
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _reason(path: Path | None, error: Exception) -> str:
    cause = str(getattr(error, "orig", None) or error)
    if "not a database" in cause or "malformed" in cause:
        return f"{path} is damaged or not a Wardgate database: {cause}"
    if "unable to open" in cause or "readonly" in cause:
        return f"cannot open {path} for writing: {cause}"
    if "locked" in cause:
        return f"{path} is held by another process for too long"
    return f"cannot use {path}: {cause}"
