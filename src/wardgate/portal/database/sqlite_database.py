"""The store on SQLite: a file, or memory for tests and the simulator.

One asynchronous lock admits one writer of this process at a time. Writers of other processes are waited for
outside SQLite, so that the event loop never stands still, and "database is locked" reaches no caller before
half a minute has passed.

A commit waits for the disk inside SQLite, and with it everything in this process. A transaction whose caller
can wait elsewhere is therefore committed on a connection that leaves the write-ahead log to the operating
system; `start_sync` brings that file to the disk in another thread. The log is read back up to its first torn
entry, so a later commit that the disk has proves all earlier ones. There the log is copied into the file too (a
checkpoint): in a commit that would keep the event loop waiting for the disk twice.
"""

import asyncio
import contextlib
import errno
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool

from wardgate.portal.database.errors import Unusable
from wardgate.portal.database.group_sync import GroupSync
from wardgate.portal.database.location import SqliteFile
from wardgate.portal.database.sqlite_driver import Creator, InlineConnection, creator, inline_connection
from wardgate.portal.environment import Environment, Executor
from wardgate.portal.schema.column_types import json_text
from wardgate.supervision import Tasks

log = logging.getLogger(__name__)

_WRITER_WAIT_S: Final = 30.0
_RETRY_S: Final = 0.005
_ROOM_BYTES: Final = 1 << 20
_ROWS_A_CHECKPOINT: Final = 4000
_ROWS_OF_A_COMMIT: Final = 40
"""A commit leaves about a page in the log for each row that it wrote, and some for itself. Some thousand pages are as
many as SQLite itself lets gather; at `MOST_LOG_PAGES` it would copy them in a commit, with everybody waiting.
"""

_READERS: Final = 8
_SEARCHERS: Final = 2
"""Long readings at a time: fewer than the executor has threads, as syncing and passwords need some too."""

_Result = TypeVar("_Result")

_IDLE: Final[dict[bytes, list[AsyncEngine]]] = {}
"""Engines without a connection, by the image with which their databases in memory begin.

SQLAlchemy compiles a statement once per engine, which takes longer than running it: a process that opens one
empty database after the other compiles each statement once.
"""


class SqliteDatabase:
    """One file, or one database in memory that begins as `image`."""

    def __init__(
        self, file: SqliteFile | None, environment: Environment, *, image: bytes | None = None
    ) -> None:
        self._file = file
        self._environment = environment
        self._writer = asyncio.Lock()
        self._watching: sqlite3.Connection | None = None
        self._version = 0
        self._identity: tuple[int, int] | None = None
        self._image = image
        self._engine = self._make_engine()
        # Connections that are kept open: of readers, and of the writer that waits for the disk or does not.
        self._looking: list[AsyncConnection] = []
        self._writing: dict[bool, list[AsyncConnection]] = {True: [], False: []}
        self._is_closed = False
        self._unsynced: AsyncEngine | None = None
        if file is not None and file.is_durable:
            self._unsynced = self._make_file_engine(file, is_durable=False, connections=1)
        self._searchers = asyncio.Semaphore(_SEARCHERS)
        self._searching: AsyncEngine | None = None
        if file is not None:
            self._searching = self._make_file_engine(
                file, is_durable=False, connections=_SEARCHERS, executor=environment.executor
            )
        self._rows_logged = 0
        self._checkpoint: asyncio.Task[object] | None = None
        self._tasks = Tasks()
        self._group_sync = GroupSync(lambda: environment.executor.run(self._sync_log))

    async def open(self, migrate: Callable[[Connection], None]) -> None:
        """Bring the schema up to date; programs that start at the same time take turns.

        Raises:
            Unusable: it cannot be opened, is no database, or belongs to a newer program.
        """
        try:
            await self.migrate(migrate)
            if self._file is not None:
                self._file.path.chmod(0o600)
                self._watching = sqlite3.connect(
                    self._file.path, timeout=0, isolation_level=None, check_same_thread=False
                )
                self._version = self._data_version()
                self._identity = _identity_of(self._file)
        except (exc.DBAPIError, sqlite3.Error) as error:
            raise Unusable(_reason(self._file, error)) from error

    async def migrate(self, migration: Callable[[Connection], None]) -> None:
        """Change the schema, whole or not at all; foreign keys are looked at only in the end.

        SQLite changes a table by making it anew, during which those that name it would be left dangling.

        Raises:
            Unusable: a row would name another that is not there.
        """
        async with self._writer, self._engine.connect() as connection:
            driver: InlineConnection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
            # Inside a transaction this would have no effect.
            await driver.cursor().execute("PRAGMA foreign_keys = OFF")
            try:
                await self._retry_while_locked(lambda: self._begin(connection, "BEGIN IMMEDIATE"))
                await connection.run_sync(migration)
                dangling = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).fetchall()
                if dangling:
                    raise Unusable(f"{self._file}: rows of {dangling[0][0]} name rows that do not exist")
                await connection.commit()
            finally:
                await connection.rollback()
                await driver.cursor().execute("PRAGMA foreign_keys = ON")

    async def close(self) -> None:
        if self._checkpoint is not None:
            await asyncio.wait((self._checkpoint,))
        if self._watching is not None:
            self._watching.close()
            self._watching = None
        self._is_closed = True
        for kept in (self._looking, *self._writing.values()):
            while kept:
                await kept.pop().close()
        await self._engine.dispose()
        for engine in (self._unsynced, self._searching):
            if engine is not None:
                await engine.dispose()
        if self._image is not None:
            _IDLE.setdefault(self._image, []).append(self._engine)
            # Whoever uses or closes this one again must not meet the next database.
            self._engine = self._make_memory_engine()

    @asynccontextmanager
    async def reading(
        self,
        *,
        is_long: bool = False,
        is_one_moment: bool = True,  # noqa: ARG002 - it always is
    ) -> AsyncIterator[AsyncConnection]:
        if is_long and self._searching is not None:
            async with self._searchers, self._transaction("BEGIN", self._searching) as connection:
                yield connection
        elif self._file is None:
            # One connection for all: a reader must not see a writer's unfinished work.
            async with self._writer, self._transaction("BEGIN") as connection:
                yield connection
        else:
            async with self._on_kept(self._looking, self._engine, "BEGIN") as connection:
                yield connection

    @asynccontextmanager
    async def writing(self, *, is_synced: bool = True) -> AsyncIterator[AsyncConnection]:
        begin = "BEGIN IMMEDIATE"
        engine = (None if is_synced else self._unsynced) or self._engine
        opened = (
            self._transaction(begin)
            if self._file is None
            else self._on_kept(self._writing[engine is self._engine], engine, begin)
        )
        async with self._writer, opened as connection:
            driver = inline_connection(connection)
            assert driver is not None
            before = driver.rows_changed
            yield connection
            self._rows_logged += _ROWS_OF_A_COMMIT + driver.rows_changed - before
        if self._rows_logged >= _ROWS_A_CHECKPOINT and self._checkpoint is None and self._file is not None:
            self._rows_logged = 0
            self._checkpoint = self._tasks.start(self._copy_log(), name="checkpoint")

    async def commit(self, connection: AsyncConnection) -> None:
        """Commit a transaction that `writing` has opened."""
        if connection.in_transaction():
            await connection.commit()
        else:
            # All its statements went straight to the driver: the library believes that nothing has begun.
            driver = inline_connection(connection)
            assert driver is not None
            await driver.commit()

    def start_sync(self) -> Awaitable[None] | None:
        """Start to write what is committed to the disk; return an awaitable of its end, or None if already durable."""
        return None if self._unsynced is None else self._group_sync.begin()

    def check_room(self) -> None:
        """Check that the disk has room for transactions of any common size: a small one may fit into the last
        block of the log.

        Raises:
            OSError: it has not.
        """
        if self._file is not None:
            disk = os.statvfs(self._file.path.parent)
            if disk.f_bavail * disk.f_frsize < _ROOM_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._file))

    async def hold(self, connection: AsyncConnection, account_id: UUID) -> None:
        """Make this transaction the account's only writer: on SQLite it is everybody's already."""

    async def accounts_changed_elsewhere(self, account_ids: Collection[UUID]) -> frozenset[UUID]:
        """Return whose feed another process may have moved since the last call."""
        version = self._data_version()
        if version == self._version:
            return frozenset()
        self._version = version
        return frozenset(account_ids)

    async def image(self) -> bytes:
        """Return the whole database as bytes."""
        async with self._engine.connect() as connection:
            driver: InlineConnection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
            return driver.image()

    def _data_version(self) -> int:
        if self._watching is None:
            return 0
        (version,) = self._watching.execute("PRAGMA data_version").fetchone()
        return int(version)

    @asynccontextmanager
    async def _transaction(
        self, begin: str, engine: AsyncEngine | None = None
    ) -> AsyncIterator[AsyncConnection]:
        self._check_file()
        async with (engine or self._engine).connect() as connection:
            await self._retry_while_locked(lambda: self._begin(connection, begin))
            try:
                yield connection
            except BaseException:
                if connection.invalidated:
                    # Whoever asked has gone in the middle of a statement: the library has closed the connection.
                    raise
                # A commit that failed may leave the transaction open, and the library believes that it is over.
                driver: InlineConnection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
                await driver.rollback()
                raise

    @asynccontextmanager
    async def _on_kept(
        self, kept: list[AsyncConnection], engine: AsyncEngine, begin: str
    ) -> AsyncIterator[AsyncConnection]:
        """Open a transaction on a connection that is kept for the next one: to take one from the pool and to give it
        back costs as much as ten look-ups.
        """
        self._check_file()
        connection = kept.pop() if kept else await engine.connect()
        driver = inline_connection(connection)
        assert driver is not None
        is_sound = False
        try:
            await self._retry_while_locked(lambda: self._begin(connection, begin))
            yield connection
            if connection.in_transaction():
                await connection.rollback()
            else:
                await driver.rollback()
            is_sound = True
        finally:
            if is_sound and len(kept) < _READERS and not self._is_closed:
                kept.append(connection)
            else:
                await driver.rollback()
                await connection.close()

    def _check_file(self) -> None:
        """Check that the file is the one that was opened: a connection would go on with one that nobody will
        find again.
        """
        if (
            self._file is not None
            and self._identity is not None
            and self._identity != _identity_of(self._file)
        ):
            raise sqlite3.OperationalError(f"{self._file} was removed or replaced while it was in use")

    async def _begin(self, connection: AsyncConnection, begin: str) -> None:
        # Straight to the driver: for each statement the library in between takes longer than both of these together.
        driver = inline_connection(connection)
        assert driver is not None
        # A reader's view begins, and can be refused for a moment, with its first statement only.
        driver.begin(begin, looks=self._file is not None and begin == "BEGIN")

    async def _retry_while_locked(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        clock = self._environment.clock
        deadline_s = clock.monotonic() + _WRITER_WAIT_S
        while True:
            try:
                return await attempt()
            except (exc.OperationalError, sqlite3.OperationalError) as error:
                if "locked" not in str(error) or clock.monotonic() >= deadline_s:
                    raise
            await clock.sleep(_RETRY_S * (1 + self._environment.rng.random()))

    def _make_engine(self) -> AsyncEngine:
        if self._file is not None:
            return self._make_file_engine(self._file, is_durable=self._file.is_durable, connections=_READERS)
        if self._image is not None and _IDLE.get(self._image):
            return _IDLE[self._image].pop()
        return self._make_memory_engine()

    def _make_memory_engine(self) -> AsyncEngine:
        return create_async_engine(
            "sqlite+aiosqlite://",
            async_creator=creator(":memory:", image=self._image),
            poolclass=StaticPool,
            json_serializer=json_text,
            json_deserializer=msgspec.json.decode,
        )

    def _make_file_engine(
        self, file: SqliteFile, *, is_durable: bool, connections: int, executor: Executor | None = None
    ) -> AsyncEngine:
        return create_async_engine(
            "sqlite+aiosqlite://",
            async_creator=self._waiting_for_the_lock(
                creator(str(file.path), is_durable=is_durable, executor=executor)
            ),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=connections,
            max_overflow=4 * connections,
            json_serializer=json_text,
            json_deserializer=msgspec.json.decode,
        )

    async def _copy_log(self) -> None:
        """Copy the log into the file; most of it while others write, and the rest while nobody does: SQLite begins the
        log anew only when all of it has been copied.
        """
        run = self._environment.executor.run
        try:
            await run(self._copy_log_now)
            async with self._writer:
                await run(self._copy_log_now)
        except (sqlite3.Error, OSError):
            # Commits do it by themselves when the log has grown, and say then what is wrong.
            log.debug("the write-ahead log was not copied", exc_info=True)
        finally:
            self._checkpoint = None

    def _copy_log_now(self) -> None:
        assert self._file is not None
        self._check_file()
        opened = sqlite3.connect(f"{self._file.path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)
        with contextlib.closing(opened):
            opened.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _sync_log(self) -> None:
        assert self._file is not None
        try:
            descriptor = os.open(f"{self._file.path}-wal", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # Where the file system knows no write-ahead log, each commit has waited for the disk.
            return
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _waiting_for_the_lock(self, opening: Creator) -> Creator:
        async def open_connection(*arguments: object, **options: object) -> InlineConnection:
            return await self._retry_while_locked(lambda: opening(*arguments, **options))

        return open_connection


def _identity_of(file: SqliteFile) -> tuple[int, int] | None:
    try:
        found = file.path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _reason(file: SqliteFile | None, error: Exception) -> str:
    cause = str(getattr(error, "orig", None) or error)
    if "not a database" in cause or "malformed" in cause:
        return f"{file} is damaged or not a Wardgate database: {cause}"
    if file is not None and not file.path.parent.is_dir():
        return f"cannot open {file}: there is no directory {file.path.parent}"
    if "unable to open" in cause or "readonly" in cause:
        return f"cannot open {file} for writing: {cause}"
    if "locked" in cause:
        return f"{file} is held by another process for too long"
    return f"cannot use {file}: {cause}"
