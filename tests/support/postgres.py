"""A PostgreSQL of the tests' own: started once a process, a fresh migrated database for each test.

The server is Debian's (package `postgresql`), in a temporary directory, on a unix socket only. It refuses to
run as root, so root hands it to the user `postgres`. It does not sync to disk: the machine does not lose its
power during a test, and a killed portal is no killed server.
"""

import asyncio
import atexit
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from wardgate.portal.database import postgres_database
from wardgate.portal.database.postgres_database import PostgresDatabase
from wardgate.portal.environment import Environment
from wardgate.portal.store import PostgresServer, Store
from wardgate.portal.tables import metadata

_START_S = 30.0
_OPTIONS = (
    "listen_addresses=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=300",
    "shared_buffers=32MB",
    "autovacuum=off",
    "jit=off",
)
_RESTART = "PERFORM setval(oid, 1, false) FROM pg_class WHERE relkind = 'S'"
"""Statement of PL/pgSQL after which every sequence begins anew."""
_DELETED_BETWEEN_TRUNCATIONS = 100
"""Clearings that leave deleted rows in the files, as nothing vacuums them here."""
CLEARING = "wardgate tests, clearing"
"""The application name of sessions that are no program's under test."""
_OTHERS_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class FrugalDatabase(PostgresDatabase):
    """Keeps what SQLAlchemy knows of a database after it is closed, for the next one at the same address.

    A statement is compiled once per engine, which takes longer than running it; stores in memory keep theirs, too
    (`sqlite_database`). A kept engine has no connection.
    """

    _idle: ClassVar[dict[PostgresServer, list[AsyncEngine]]] = {}

    async def close(self) -> None:
        await super().close()
        idle = self._idle.setdefault(self._server, [])
        if self._engine not in idle:
            idle.append(self._engine)

    def _make_engine(self) -> AsyncEngine:
        idle = self._idle.get(self._server)
        return idle.pop() if idle else super()._make_engine()


postgres_database.PostgresDatabase = FrugalDatabase  # type: ignore[misc]


class PostgresCluster:
    """A running server; `url(database)` leads to one database of it.

    Attributes:
        handed_out: how many databases tests have got so far.
        in_use: how many of those they have now.
    """

    def __init__(self) -> None:
        self.handed_out = 0
        self.in_use = 0
        self._directory = Path(
            tempfile.mkdtemp(prefix="wardgate-postgres-", dir="/tmp")
        )  # a socket's path is short
        self._directory.chmod(0o755)
        self._numbers = itertools.count()
        self._clearings = itertools.count(1)
        self._unused: list[str] = []
        self._sessions = _ClearingSessions()
        data = self._directory / "data"
        data.mkdir(mode=0o700)
        (self._directory / "socket").mkdir()
        (self._directory / "socket").chmod(0o777)
        self._become: tuple[str, ...] = ()
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(data, owner.pw_uid, owner.pw_gid)
            os.chown(self._directory, owner.pw_uid, owner.pw_gid)
            self._become = (
                "setpriv", "--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups",
            )  # fmt: skip
        self._run(
            "initdb", "-D", str(data), "-U", "wardgate", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )
        self.start()

    def start(self) -> None:
        """Start the server, for the first time or after `halt`."""
        self._has_answered = False
        options = [word for option in _OPTIONS for word in ("-c", option)]
        self._server = subprocess.Popen(
            [
                *self._become, str(binaries() / "postgres"), "-D", str(self._directory / "data"),
                "-k", str(self._directory / "socket"), *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )  # fmt: skip

    def url(self, database: str) -> str:
        return f"postgresql://wardgate@/{database}?host={self._directory / 'socket'}"

    async def ready(self) -> None:
        """Wait until the server answers, once after each start."""
        if self._has_answered:
            return
        deadline = time.monotonic() + _START_S
        while True:
            try:
                connection = await asyncpg.connect(self.url("postgres"))
            except (OSError, asyncpg.PostgresError):
                if time.monotonic() > deadline or self._server.poll() is not None:
                    raise
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                self._has_answered = True
                return

    async def empty_database(self) -> str:
        """Make a database without any table and return its name."""
        name = f"test_{next(self._numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    async def migrated_database(self) -> str:
        """Return the name of a database with the program's schema and nothing in it."""
        if self._unused:
            return self._unused.pop()
        name = await self.empty_database()
        store = await Store.open(PostgresServer(self.url(name)), Environment.of_this_process())
        await store.close()
        return name

    async def clear(self, database: str) -> None:
        """Empty a migrated database for the next test: much quicker than making another."""
        if next(self._clearings) % _DELETED_BETWEEN_TRUNCATIONS == 0:
            names = ", ".join(table.name for table in metadata.sorted_tables)
            emptying = f"TRUNCATE {names} RESTART IDENTITY"
        else:
            # A truncation makes new files for all tables and indexes, which takes ten times as long as to
            # delete the few rows of a test.
            emptying = "SELECT pg_temp.clear()"
        await self._sessions.execute(self.url(database), _OTHERS_END, emptying)
        self._unused.append(database)

    async def drop(self, database: str) -> None:
        await self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    def halt(self) -> None:
        """Stop the server and keep its data."""
        self._sessions.close()
        self._server.send_signal(signal.SIGINT)  # the "fast" end: it does not wait for open connections
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.wait(5)
        if self._server.poll() is None:
            self._server.kill()
            self._server.wait()

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._become, str(binaries() / program), *arguments],
            check=True,
            capture_output=True,
            cwd="/",
        )


class _ClearingSessions:
    """A connection to each migrated database that outlives the tests, for emptying it: the first statements on a table
    cost a session ten times as much as the next ones.

    They live in a thread with an event loop of its own, as the loop of a test ends with it.
    """

    def __init__(self) -> None:
        self._open: dict[str, asyncpg.Connection] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def execute(self, url: str, *statements: str) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="postgres-clearing", daemon=True
            )
            self._thread.start()
        running = asyncio.run_coroutine_threadsafe(self._execute(url, statements), self._loop)
        await asyncio.wrap_future(running)

    def close(self) -> None:
        """Forget all connections; the server ends them."""
        if self._loop is None or self._thread is None:
            return
        for connection in self._open.values():
            self._loop.call_soon_threadsafe(connection.terminate)
        self._open.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    async def _execute(self, url: str, statements: tuple[str, ...]) -> None:
        kept = self._open.get(url)
        if kept is not None:
            try:
                await self._execute_on(kept, statements)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                if not kept.is_closed():
                    raise
            else:
                return
        # The first time, or a test has ended all sessions.
        self._open[url] = await _clearing_session(url)
        await self._execute_on(self._open[url], statements)

    async def _execute_on(self, connection: asyncpg.Connection, statements: tuple[str, ...]) -> None:
        for statement in statements:
            await connection.execute(statement)


async def _clearing_session(url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(url, server_settings={"application_name": CLEARING})
    # As a replica, the server looks at no foreign key.
    await connection.execute("SET session_replication_role = replica")
    deletions = "".join(f"DELETE FROM {table.name};" for table in metadata.sorted_tables)
    await connection.execute(
        "CREATE FUNCTION pg_temp.clear() RETURNS void LANGUAGE plpgsql AS"
        f" $$ BEGIN {deletions} {_RESTART}; END $$"
    )
    return connection


def binaries() -> Path:
    """Return the directory of Debian's newest PostgreSQL, 15 or later."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found or int(found[-1].parts[-3]) < 15:
        raise RuntimeError("PostgreSQL 15 or newer is missing: apt-get install postgresql")
    return found[-1].parent


def cluster() -> PostgresCluster:
    """Return this process's server, started by the first call and stopped at the end of the process."""
    if not _RUNNING:
        started = PostgresCluster()
        atexit.register(started.stop)
        _RUNNING.append(started)
    return _RUNNING[0]


_RUNNING: list[PostgresCluster] = []


@contextlib.asynccontextmanager
async def postgres_database(*, is_migrated: bool = True) -> AsyncIterator[str]:
    """Yield the URL of a database that nobody else uses: with the program's schema and no row, or with
    nothing at all.
    """
    server = cluster()
    await server.ready()
    name = await (server.migrated_database() if is_migrated else server.empty_database())
    server.handed_out += 1
    server.in_use += 1
    try:
        yield server.url(name)
    finally:
        server.in_use -= 1
        await (server.clear(name) if is_migrated else server.drop(name))
