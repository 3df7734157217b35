"""Backups of an installation: made while the portal runs, restored into an empty place, and compared.

A backup is a directory of mode 0700:

    manifest.json      version, schema, when, and what each table holds (rows and a hash of their content)
    secret.key         the master secret
    wardgate.db        SQLite's own online backup, or
    wardgate.dump      `pg_dump --format=custom`, of the very moment that the manifest describes

The schema is that of the database when it was backed up; whoever restores may be a newer program, never an older one.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import wardgate
from wardgate.portal.data_directory import SECRET_FILE, DataDirectoryUnusable, load_keys
from wardgate.portal.database.errors import Unusable
from wardgate.portal.database.location import PostgresServer, SqliteFile
from wardgate.portal.database.migrations import HEAD

MANIFEST: Final = "manifest.json"
SQLITE: Final = "wardgate.db"
DUMP: Final = "wardgate.dump"
_PAGES_AT_ONCE: Final = 1024
"""Of SQLite's backup: between two slices a running portal writes as it likes."""


class BackupFailed(Exception):
    """The message says what is wrong with a backup, or with the place to restore it to."""


@dataclass(frozen=True, slots=True)
class TableContent:
    """How much a table holds, and a hash of it that does not depend on the order of rows."""

    name: str
    rows: int
    content: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a backup."""

    version: str
    schema: str
    made_at: str
    database: str
    tables: tuple[TableContent, ...]

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the manifest of a backup.

        Raises:
            BackupFailed: the directory is no backup, or a newer program made it.
        """
        try:
            found = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
            tables = tuple(TableContent(**table) for table in found.pop("tables"))
            manifest = cls(**found, tables=tables)
        except OSError as error:
            raise BackupFailed(f"{directory} is no backup: {error.strerror}: {MANIFEST}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise BackupFailed(f"{directory / MANIFEST} is damaged") from error
        if manifest.schema > HEAD:
            raise BackupFailed(
                f"the backup is of Wardgate {manifest.version} (schema {manifest.schema}), which is newer than this"
                f" program ({wardgate.__version__}, schema {HEAD}): restore it with that release"
            )
        return manifest

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


async def back_up(
    database: SqliteFile | PostgresServer, data_dir: Path, target: Path, *, now: datetime
) -> Manifest:
    """Make a backup; the portal may run.

    Args:
        target: a directory that does not exist yet; it appears when the backup is whole.

    Raises:
        BackupFailed: the target exists or cannot be written, a tool is missing or failed.
        DataDirectoryUnusable, Unusable: there is no installation, or its database cannot be read.
    """
    load_keys(data_dir)
    draft = _draft_of(target)
    try:
        _copy_private(data_dir / SECRET_FILE, draft / SECRET_FILE)
        if isinstance(database, SqliteFile):
            schema, tables = _back_up_sqlite(database.path, draft / SQLITE)
        else:
            schema, tables = await _dump(database, draft / DUMP)
        name = SQLITE if isinstance(database, SqliteFile) else DUMP
        manifest = Manifest(wardgate.__version__, schema, now.isoformat(), name, tables)
        _write_private(draft / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        draft.rename(target)
    except OSError as error:
        raise BackupFailed(f"cannot write {target}: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


async def restore(source: Path, data_dir: Path, server: PostgresServer | None) -> Manifest:
    """Restore a backup into an empty place, and compare what arrived with what was backed up.

    Args:
        data_dir: gets the key and, of SQLite, the database; must hold neither.
        server: an empty database for a dump of PostgreSQL.

    Raises:
        BackupFailed: the place is not empty, the backup is damaged, or what arrived differs.
    """
    manifest = Manifest.load(source)
    try:
        _require_empty(data_dir)
        if manifest.database == SQLITE:
            if server is not None:
                raise BackupFailed(
                    "the backup is of SQLite: restore it there, then move it by `wardgate db copy`"
                )
            _copy_private(source / SQLITE, data_dir / SQLITE)
            arrived = _contents_of(data_dir / SQLITE)
        else:
            if server is None:
                raise BackupFailed(
                    "the backup is of PostgreSQL: name an empty database with --database-url postgresql://…"
                )
            arrived = await _load(server, source / DUMP)
        _require_same(manifest.tables, arrived)
        # Last: with the key, the directory is an installation.
        _copy_private(source / SECRET_FILE, data_dir / SECRET_FILE)
        load_keys(data_dir)
    except OSError as error:
        raise BackupFailed(f"cannot restore to {data_dir}: {error.strerror}: {error.filename}") from error
    except DataDirectoryUnusable as error:
        raise BackupFailed(f"the key of the backup is of no use: {error}") from error
    return manifest


@asynccontextmanager
async def temporary_database(server: PostgresServer, name: str) -> AsyncIterator[PostgresServer]:
    """Make an empty database on a server, and drop it in the end.

    Raises:
        BackupFailed: the user may not make one.
    """
    import asyncpg

    try:
        connection = await asyncpg.connect(server.url, timeout=10)
    except (OSError, asyncpg.PostgresError) as error:
        raise BackupFailed(f"cannot use {server}: {error}") from error
    try:
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        except asyncpg.PostgresError as error:
            raise BackupFailed(f"cannot make a database on {server} to verify in: {error}") from error
        try:
            yield PostgresServer(_with_database(server.url, name))
        finally:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


async def schema_of(database: SqliteFile | PostgresServer) -> str:
    """Return the schema of a database without changing anything.

    Raises:
        Unusable: it is no database of Wardgate's, or cannot be reached.
    """
    rows = await read_rows(database, "SELECT version_num FROM alembic_version")
    return str(rows[0][0]) if rows else ""


async def read_rows(database: SqliteFile | PostgresServer, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a constant query, whatever the schema; the database is not changed.

    Raises:
        Unusable: it is no database of Wardgate's, or cannot be reached.
    """
    if isinstance(database, SqliteFile):
        try:
            with closing(_read_only(database.path)) as connection:
                return list(connection.execute(query))
        except sqlite3.Error as error:
            raise Unusable(f"{database} is no database of Wardgate's: {error}") from error
    import asyncpg

    try:
        connection = await asyncpg.connect(database.url, timeout=10)
        try:
            return [tuple(row.values()) for row in await connection.fetch(query)]
        finally:
            await connection.close()
    except (asyncpg.PostgresError, OSError) as error:
        raise Unusable(f"cannot use {database}: {error}") from error


def _back_up_sqlite(source: Path, target: Path) -> tuple[str, tuple[TableContent, ...]]:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(descriptor)
    try:
        with closing(_read_only(source)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new, pages=_PAGES_AT_ONCE)
            # One file: a log of its own would have to travel along.
            new.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise Unusable(f"{source}: {error}") from error
    with closing(_read_only(target)) as made:
        return _schema(made), _contents_of(target)


def _contents_of(path: Path) -> tuple[TableContent, ...]:
    try:
        with closing(_read_only(path)) as connection:
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            if faults != ["ok"]:
                raise BackupFailed(f"{path} is damaged: {faults[0]}")
            names = [
                row[0]
                for row in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
                )
            ]
            contents = list[TableContent]()
            for name in names:
                total = _Total(name)
                for row in connection.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - from the catalogue
                    total.add(tuple(row))
                contents.append(total.content())
            return tuple(contents)
    except sqlite3.Error as error:
        raise BackupFailed(f"{path} is damaged: {error}") from error


class _Total:
    """The sum of the rows' hashes, so that the order of rows does not matter."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows = self._sum = 0

    def add(self, row: tuple[object, ...]) -> None:
        digest = hashlib.sha256(repr(row).encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % (1 << 256)
        self._rows += 1

    def content(self) -> TableContent:
        return TableContent(self._name, self._rows, f"{self._sum:064x}")


def _require_same(expected: Sequence[TableContent], arrived: Sequence[TableContent]) -> None:
    found = {table.name: table for table in arrived}
    for table in expected:
        if found.get(table.name) != table:
            held = found.get(table.name)
            rows = "no such table" if held is None else f"{held.rows} rows"
            raise BackupFailed(
                f"what was restored differs from the backup's manifest: {table.name} has {rows} instead of {table.rows}"
                if held is None or held.rows != table.rows
                else f"what was restored differs from the backup's manifest: other content in {table.name}"
            )


async def _dump(server: PostgresServer, target: Path) -> tuple[str, tuple[TableContent, ...]]:
    import asyncpg

    _write_private(target, b"")  # the mode stays while pg_dump fills it
    try:
        connection = await asyncpg.connect(server.url, timeout=10)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
                schema = str(await connection.fetchval("SELECT version_num FROM alembic_version"))
                tables = await _server_contents(connection)
                options = ("--format=custom", "--no-owner", "--no-privileges")
                await _run_tool("pg_dump", server, *options, f"--snapshot={snapshot}", f"--file={target}")
        finally:
            await connection.close()
    except (asyncpg.PostgresError, OSError) as error:
        raise Unusable(f"cannot use {server}: {error}") from error
    return schema, tables


async def _load(server: PostgresServer, dump: Path) -> tuple[TableContent, ...]:
    import asyncpg

    try:
        connection = await asyncpg.connect(server.url, timeout=10)
        try:
            async with connection.transaction():
                if await _server_contents(connection):
                    raise BackupFailed(f"{server} is not empty: name a database of its own")
            await _run_tool(
                "pg_restore", server, "--exit-on-error", "--single-transaction", "--no-owner", str(dump)
            )
            async with connection.transaction():
                return await _server_contents(connection)
        finally:
            await connection.close()
    except (asyncpg.PostgresError, OSError) as error:
        raise BackupFailed(f"cannot use {server}: {error}") from error


async def _server_contents(connection: Any) -> tuple[TableContent, ...]:
    """Count and hash what a server's database holds, a slice of rows at a time; inside a transaction."""
    tables = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
    )
    contents = list[TableContent]()
    for (name,) in tables:
        total = _Total(name)
        async for row in connection.cursor(f'SELECT * FROM "{name}"', prefetch=500):  # noqa: S608 - from the catalogue
            total.add(tuple(row.values()))
        contents.append(total.content())
    return tuple(contents)


async def _run_tool(tool: str, server: PostgresServer, *options: str) -> None:
    """Run one of PostgreSQL's own programs; a password stands in no list of processes."""
    program = shutil.which(tool)
    if program is None:
        raise BackupFailed(f"{tool} is missing: install PostgreSQL's client programs of the server's version")
    url, password = _without_password(server.url)
    process = await asyncio.create_subprocess_exec(
        program,
        f"--dbname={url}",
        *options,
        env={**os.environ, **({} if password is None else {"PGPASSWORD": password})},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    if process.returncode != 0:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise BackupFailed(f"{tool} failed: {last or 'it does not say why'}")


def _without_password(url: str) -> tuple[str, str | None]:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    password = options.pop("password", None)
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, own = user.partition(":")
    if colon:
        password = unquote(own)
    query = f"?{urlencode(options)}" if options else ""
    return (
        f"{parts.scheme}://{name}{at}{hosts}{parts.path}{query}",
        password,
    )  # urlunsplit drops an empty host


def _with_database(url: str, name: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{name}{f'?{parts.query}' if parts.query else ''}"


def _schema(connection: sqlite3.Connection) -> str:
    try:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        raise Unusable(f"it is no database of Wardgate's ({error})") from error
    return str(found[0]) if found else ""


def _read_only(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise Unusable(f"there is no file {path}")
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)


def _draft_of(target: Path) -> Path:
    if target.exists():
        raise BackupFailed(f"{target} exists: name a directory that does not")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise BackupFailed(f"cannot write {target}: {error.strerror}") from error
    return draft


def _require_empty(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (SECRET_FILE, SQLITE, f"{SQLITE}-wal"):
        if (data_dir / name).exists():
            raise BackupFailed(
                f"{data_dir / name} exists: stop the portal, and move what is there away; it may be wanted later"
            )


def _copy_private(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb") as old, os.fdopen(descriptor, "wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
