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
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

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
)
_RESTART = "SELECT setval(oid, 1, false) FROM pg_class WHERE relkind = 'S'"
"""Statement after which every sequence begins anew."""
_DELETED_BETWEEN_TRUNCATIONS = 100
"""Clearings that leave deleted rows in the files, as nothing vacuums them here."""


class PostgresCluster:
    """A running server; `url(database)` leads to one database of it."""

    def __init__(self) -> None:
        self._directory = Path(
            tempfile.mkdtemp(prefix="wardgate-postgres-", dir="/tmp")
        )  # a socket's path is short
        self._directory.chmod(0o755)
        self._numbers = itertools.count()
        self._clearings = itertools.count(1)
        self._unused: list[str] = []
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
        """Wait until the server answers."""
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
                return

    async def empty_database(self) -> str:
        """Make a database without any table and return its name."""
        name = f"test_{next(self._numbers)}"
        await self._execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
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
        names = [table.name for table in metadata.sorted_tables]
        if next(self._clearings) % _DELETED_BETWEEN_TRUNCATIONS == 0:
            emptying = f"TRUNCATE {', '.join(names)} RESTART IDENTITY"
        else:
            # A truncation makes new files for all tables and indexes, which takes ten times as long as to
            # delete the few rows of a test. As a replica, the server looks at no foreign key.
            deletions = "".join(f"DELETE FROM {name};" for name in names)
            emptying = f"SET session_replication_role = replica; {deletions} {_RESTART}"
        await self._execute(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            emptying,
        )
        self._unused.append(database)

    async def drop(self, database: str) -> None:
        await self._execute("postgres", f"DROP DATABASE {database} WITH (FORCE)")

    def halt(self) -> None:
        """Stop the server and keep its data."""
        self._server.send_signal(signal.SIGINT)  # the "fast" end: it does not wait for open connections
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.wait(5)
        if self._server.poll() is None:
            self._server.kill()
            self._server.wait()

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _execute(self, database: str, *statements: str) -> None:
        connection = await asyncpg.connect(self.url(database))
        try:
            for statement in statements:
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
    try:
        yield server.url(name)
    finally:
        await (server.clear(name) if is_migrated else server.drop(name))
