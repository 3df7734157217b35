"""The store on PostgreSQL 15 or newer, through asyncpg.

Transactions behave as they do on SQLite, account by account: the first statement of a write transaction on an
account takes that account's advisory lock until the end, so what it reads it may rely on when it writes, and
nothing has to be tried again. Writers of different accounts do not wait for each other; a transaction that
touches several takes them in order (`Transaction.hold`). Read transactions take no lock and see one moment.

`LISTEN/NOTIFY` is not used: a notifying commit takes a lock of the whole server. Other nodes' commits are
noticed by asking for the counters of the accounts that somebody waits for.
"""

import os
import select as select_module
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import BigInteger, Connection, bindparam, event, exc, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from wardgate.portal.database.errors import Unusable
from wardgate.portal.database.location import PostgresServer
from wardgate.portal.database.prepared import prepared_text
from wardgate.portal.schema.change_feed import CHANGE_COUNTERS
from wardgate.portal.schema.column_types import json_text

OLDEST_VERSION: Final = 15
_CONNECT_S: Final = 10.0
_CONNECTIONS: Final = 10
_MORE_CONNECTIONS: Final = 22
_SESSION: Final = {
    "application_name": "wardgate",
    "timezone": "UTC",
    "lock_timeout": "30s",
    # A node that stops in the middle of a transaction must not hold up the others.
    "idle_in_transaction_session_timeout": "60s",
}
_MIGRATION_LOCK: Final = 0x7761_7264_6761_7465  # "wardgate"
_LOCK: Final = text("SELECT pg_advisory_xact_lock(:key)").bindparams(bindparam("key", type_=BigInteger()))


class PostgresDatabase:
    """One database on a server."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._engine = self._make_engine()
        self._readers = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        # Each statement is a transaction of its own.
        self._single_readers = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writers = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._seen: dict[UUID, int] = {}

    async def open(self, migrate: Callable[[Connection], None]) -> None:
        """Bring the schema up to date; programs that start at the same time take turns.

        Raises:
            Unusable: it cannot be reached, refuses us, is too old, or belongs to a newer program.
        """
        try:
            async with self.reading() as connection:
                await self._check_version(connection)
            await self.migrate(migrate)
        except (exc.DBAPIError, exc.TimeoutError, asyncpg.PostgresError, OSError) as error:
            raise Unusable(f"cannot use {self._server}: {_why(error)}") from error

    async def migrate(self, migration: Callable[[Connection], None]) -> None:
        """Change the schema, whole or not at all, while no other program does."""
        async with self.writing() as connection:
            await connection.execute(_LOCK, {"key": _MIGRATION_LOCK})
            await connection.run_sync(migration)
            await connection.commit()

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def reading(
        self,
        *,
        is_long: bool = False,  # noqa: ARG002
        is_one_moment: bool = True,
    ) -> AsyncIterator[AsyncConnection]:
        """Open a read transaction; however long a statement takes, the server takes it, and nobody here waits."""
        async with (self._readers if is_one_moment else self._single_readers).connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self, *, is_synced: bool = True) -> AsyncIterator[AsyncConnection]:  # noqa: ARG002
        """Open a write transaction; the server always waits for its disk, which holds up nobody here."""
        async with self._writers.connect() as connection:
            yield connection

    async def commit(self, connection: AsyncConnection) -> None:
        """Commit a transaction that `writing` has opened."""
        await connection.commit()

    def start_sync(self) -> None:
        """Every commit is durable already."""

    def check_room(self) -> None:
        """The server's disk is the server's concern."""

    async def hold(self, connection: AsyncConnection, account_id: UUID) -> None:
        """Make this transaction the account's only writer, waiting for the one before."""
        high, low = account_id.bytes[:8], account_id.bytes[8:]
        key = int.from_bytes(bytes(a ^ b for a, b in zip(high, low, strict=True)), "big", signed=True)
        lock = prepared_text(_LOCK, connection.dialect)
        await connection.exec_driver_sql(lock.text, lock.parameters(key=key))

    async def accounts_changed_elsewhere(self, account_ids: Collection[UUID]) -> frozenset[UUID]:
        """Return whose feed has moved, or may have, since the last call."""
        if not account_ids:
            return frozenset()
        counters = CHANGE_COUNTERS.c
        async with self.reading() as connection:
            result = await connection.execute(
                select(counters.account_id, counters.sequence).where(
                    counters.account_id.in_(list(account_ids))
                )
            )
            latest = {row.account_id: row.sequence for row in result}
        moved = {
            account_id for account_id, sequence in latest.items() if self._seen.get(account_id) != sequence
        }
        self._seen = latest
        return frozenset(moved)

    def _make_engine(self) -> AsyncEngine:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=_CONNECTIONS,
            max_overflow=_MORE_CONNECTIONS,
            json_serializer=json_text,
            json_deserializer=msgspec.json.decode,
        )
        # The library's own way (`pool_pre_ping`) asks the server, three times for each transaction.
        event.listen(engine.sync_engine, "checkout", _check_alive)
        return engine

    async def _check_version(self, connection: AsyncConnection) -> None:
        number = (await connection.execute(text("SHOW server_version_num"))).scalar_one()
        major = int(number) // 10_000
        if major < OLDEST_VERSION:
            raise Unusable(f"{self._server} runs PostgreSQL {major}: {OLDEST_VERSION} or newer is needed")

    async def _connect(self, *_arguments: object, **_options: object) -> asyncpg.Connection:
        try:
            return await asyncpg.connect(self._server.url, timeout=_CONNECT_S, server_settings=dict(_SESSION))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            # As the library words the loss of a connection: one kind of error for whoever waits for the server.
            raise exc.OperationalError(None, None, error) from error


def _check_alive(adapted: Any, _record: object, _proxied: object) -> None:
    """Let the pool open another connection where the server has ended this one: a restarted server costs no request."""
    connection = adapted.driver_connection
    if connection.is_closed() or _is_readable(connection):
        raise exc.DisconnectionError("the server has ended the connection")


def _is_readable(connection: asyncpg.Connection) -> bool:
    """Tell whether something has come on a connection on which nothing was asked: its end, in nearly all cases."""
    poll = select_module.poll()
    poll.register(connection._transport.get_extra_info("socket").fileno(), select_module.POLLIN)  # noqa: SLF001
    return bool(poll.poll(0))


def _why(error: Exception) -> str:
    """Say in one line why; asyncio words the reason of a refused connection its own way, with numbers."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return f"{os.strerror(cause.errno)}; is the server running, and is this its address?"
    return str(cause).partition("\n")[0]
