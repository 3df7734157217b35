"""The store: transactions over one database, repositories inside them, and the change feed's rows written
with each commit.

    async with store.writing(subject) as transaction:
        tables = transaction.of(account_id)
        site = await tables.sites.insert(Site(id=transaction.new_id(), account_id=account_id, name="Berlin"))

Leaving the block commits; an exception rolls back and nothing is written. Everything a transaction did is
appended to `changes` with it: the counter row of each account is raised last, so that commit order and
sequence agree. Transactions do not nest: a task that holds one must not open another (one writer at a time is
admitted, on PostgreSQL one an account).
"""

import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Generic, Protocol, Self, TypeVar
from uuid import UUID

from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection

from wardgate.portal.database.errors import DanglingReference, Unusable
from wardgate.portal.database.location import Database, PostgresServer
from wardgate.portal.database.migrations import upgrade, upgrade_existing
from wardgate.portal.database.sqlite_database import SqliteDatabase
from wardgate.portal.database.transaction import BaseTransaction
from wardgate.portal.environment import Environment
from wardgate.portal.schema.change_feed import Change

log = logging.getLogger(__name__)

COMPLAINT_EVERY_S: Final = 60.0

_TransactionT_co = TypeVar("_TransactionT_co", bound=BaseTransaction, covariant=True)

Committed = Callable[[frozenset[UUID]], None]
Appended = Callable[[UUID, list[Change]], None]


class DatabaseAdapter(Protocol):
    """What the store needs of a database; see `SqliteDatabase` and `PostgresDatabase`."""

    async def open(self, migrate: Callable[[Connection], None]) -> None: ...
    async def migrate(self, migration: Callable[[Connection], None]) -> None: ...
    async def close(self) -> None: ...
    def reading(
        self, *, is_long: bool = False, is_one_moment: bool = True
    ) -> AbstractAsyncContextManager[AsyncConnection]: ...
    def writing(self, *, is_synced: bool = True) -> AbstractAsyncContextManager[AsyncConnection]: ...
    async def commit(self, connection: AsyncConnection) -> None: ...
    def start_sync(self) -> Awaitable[None] | None: ...
    def check_room(self) -> None: ...
    async def hold(self, connection: AsyncConnection, account_id: UUID) -> None: ...
    async def accounts_changed_elsewhere(self, account_ids: Collection[UUID]) -> frozenset[UUID]: ...


class BaseStore(Generic[_TransactionT_co]):
    """One database, SQLite in a file or in memory, or PostgreSQL.

    A subclass says of which class its transactions are. Build it with `open`; `close` it at the end. `on_commit`
    callbacks get the ids of the accounts whose feed moved.
    """

    transaction_class: type[_TransactionT_co]

    def __init__(self, database: DatabaseAdapter, environment: Environment) -> None:
        self._database = database
        self._environment = environment
        self._listeners: list[Committed] = []
        self._readers: list[Appended] = []
        self._can_write = True
        self._complained_at: float | None = None

    @classmethod
    async def open(
        cls, location: Database | None, environment: Environment, *, must_exist: bool = False
    ) -> Self:
        """Open a database, or one in memory for `None`, and bring its schema up to date.

        Args:
            must_exist: a database that has never been Wardgate's is refused instead of being made one.

        Raises:
            Unusable: it cannot be opened, is no database, or belongs to a newer program.
        """
        database = adapter(location, environment)
        try:
            await database.open(upgrade_existing if must_exist else upgrade)
        except BaseException:
            await database.close()
            raise
        if location is None and _EMPTY.image is None:
            assert isinstance(database, SqliteDatabase)
            _EMPTY.image = await database.image()
        return cls(database, environment)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._database.close()

    @asynccontextmanager
    async def reading(
        self, *, is_long: bool = False, is_one_moment: bool = True
    ) -> AsyncIterator[_TransactionT_co]:
        """Open a read transaction: one consistent view; writing in it is a programming error.

        Args:
            is_long: what is read grows with a table. Then statements leave the event loop alone, and few of
                these transactions are open at a time.
            is_one_moment: false: each statement may see what has been committed when it begins, by which PostgreSQL
                is spared two questions; for who hears of every change since before the first of them.
        """
        try:
            async with self._database.reading(is_long=is_long, is_one_moment=is_one_moment) as connection:
                yield self.transaction_class(
                    connection, self._environment, subject=None, hold=None, is_long=is_long
                )
        except UNAVAILABLE as error:
            self._complain(error)
            raise

    @asynccontextmanager
    async def writing(
        self, subject: dict[str, Any] | None = None, *, is_synced: bool = True
    ) -> AsyncIterator[_TransactionT_co]:
        """Open a write transaction on behalf of `subject` (portal-domain §10.2), or of the system if None.

        Args:
            is_synced: leaving the block waits until a power cut would not undo it. Otherwise it survives the
                end of this process only, until what `start_sync` returns has ended or a later transaction
                that waited.

        Raises:
            Conflict, DanglingReference, Unstorable: from the statements inside; nothing is written.
        """
        moved: frozenset[UUID] = frozenset()
        appended: dict[UUID, list[Change]] = {}
        try:
            async with self._database.writing(is_synced=is_synced) as connection:
                transaction = self.transaction_class(
                    connection, self._environment, subject=subject, hold=self._database.hold
                )
                yield transaction
                try:
                    moved = await transaction.append_changes()
                    await self._database.commit(connection)
                    appended = transaction.appended
                except exc.IntegrityError as error:
                    raise DanglingReference(str(error.orig)) from error
            self._can_write = True
        except exc.IntegrityError:
            raise
        except UNAVAILABLE as error:
            self._can_write = False
            self._complain(error)
            raise
        finally:
            # Also when the caller was cancelled after the commit, while the disk was synced: nobody else tells of
            # this process's own commits. A hint too many does no harm.
            self._tell(moved, appended)

    def start_sync(self) -> Awaitable[None] | None:
        """Start to make what is committed durable; return an awaitable of its end, or None if already durable."""
        return self._database.start_sync()

    def on_commit(self, listener: Committed) -> Callable[[], None]:
        """Call `listener` after each commit that moved a feed; returns a function that unsubscribes.

        A hint, never the only source.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def on_append(self, reader: Appended) -> None:
        """Hand over what each commit of this process has appended to a feed, before anybody is told that it moved;
        nothing if that is not certain.

        Two transactions may be handed over in any order, and those of other processes never are.
        """
        self._readers.append(reader)

    def stop_handing_over(self, reader: Appended) -> None:
        """End what `on_append` began."""
        self._readers.remove(reader)

    def _tell(self, moved: frozenset[UUID], appended: dict[UUID, list[Change]]) -> None:
        if not moved:
            return
        for account_id in moved:
            for reader in self._readers:
                reader(account_id, appended.get(account_id, []))
        for listener in tuple(self._listeners):
            try:
                listener(moved)
            except Exception:
                # What is committed holds: a listener's fault must not look like the transaction's.
                log.exception("a listener to commits failed")

    async def accounts_changed_elsewhere(self, account_ids: Collection[UUID]) -> frozenset[UUID]:
        """Return whose feed another process may have moved since the last call; a hint."""
        return await self._database.accounts_changed_elsewhere(account_ids)

    async def sequences(self) -> dict[UUID, int]:
        """Return the feed position of every account."""
        async with self.reading() as transaction:
            return await transaction.sequences()

    async def is_available(self) -> bool:
        """Return whether a statement succeeds now and, if the last write failed, whether another one does."""
        try:
            await self.sequences()
            if not self._can_write:
                self._database.check_room()
                async with self.writing() as transaction:
                    await transaction.touch()
        except DATABASE_ERRORS:
            return False
        return True

    def _complain(self, error: Exception) -> None:
        """Log that the database fails; once a minute, not for every request that meets it."""
        now = self._environment.clock.monotonic()
        if self._complained_at is None or now >= self._complained_at + COMPLAINT_EVERY_S:
            self._complained_at = now
            reason = str(getattr(error, "orig", None) or error).splitlines()[0][:200]
            log.error("the database does not answer as it should", extra={"reason": reason})


UNAVAILABLE: Final = (exc.DBAPIError, exc.TimeoutError, sqlite3.Error)
DATABASE_ERRORS = (*UNAVAILABLE, OSError)
"""What a statement raises when the database cannot be reached or cannot continue: transient failures, to be retried."""


def adapter(location: Database | None, environment: Environment) -> DatabaseAdapter:
    """Return the adapter to a database that may not exist yet."""
    if isinstance(location, PostgresServer):
        # The driver is an extra: an installation on SQLite does without it.
        try:
            from wardgate.portal.database.postgres_database import PostgresDatabase
        except ModuleNotFoundError as error:
            raise Unusable("PostgreSQL needs the driver asyncpg: install wardgate[postgres]") from error
        return PostgresDatabase(location)
    return SqliteDatabase(location, environment, image=_EMPTY.image if location is None else None)


class _EmptyDatabase:
    """A migrated database without rows, kept so that a process migrates its first store in memory only."""

    image: bytes | None = None


_EMPTY = _EmptyDatabase()
