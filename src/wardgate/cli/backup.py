"""`wardgate backup`, `restore` and `upgrade --check`."""

import asyncio
import json
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from wardgate.cli.commands import installation as asked
from wardgate.cli.commands.portal import DATABASE_URL
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import AS_JSON
from wardgate.cli.profile import data_dir_of
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.model.shown_text import shown_text
from wardgate.portal import backups
from wardgate.portal.backups import BackupFailed, Manifest
from wardgate.portal.data_directory import DataDirectoryUnusable, Lock, prepare, require_own
from wardgate.portal.database.migrations import HEAD
from wardgate.portal.store import PostgresServer, SqliteFile, Unusable

_REFUSALS = (BackupFailed, DataDirectoryUnusable, Unusable)


def back_up(settings: Settings) -> None:
    """Make a backup.

    Raises:
        UserError: it cannot be made.
    """
    directory, target = data_dir_of(settings), settings[asked.BACKUP_TARGET]
    assert target is not None
    try:
        manifest = asyncio.run(
            backups.back_up(
                _database(settings, directory), directory, target.absolute(), now=datetime.now(UTC)
            )
        )
    except _REFUSALS as error:
        raise UserError(str(error)) from error
    _tell(
        settings, manifest, f"Backed up to {target}: {manifest.rows} rows of {len(manifest.tables)} tables."
    )


def restore(settings: Settings) -> None:
    """Restore a backup, or only look whether that would go well.

    Raises:
        UserError: it cannot be restored, or what arrived differs.
    """
    source, database = settings[asked.BACKUP_SOURCE], settings[DATABASE_URL]
    assert source is not None
    server = database if isinstance(database, PostgresServer) else None
    try:
        if settings[asked.VERIFY]:
            manifest = asyncio.run(_verify(source, server))
            rows, tables = manifest.rows, len(manifest.tables)
            said = f"{source} can be restored: {rows} rows of {tables} tables arrived as they were."
        else:
            directory = data_dir_of(settings)
            prepare(directory)
            require_own(directory)
            with Lock(directory):
                manifest = asyncio.run(backups.restore(source, directory, server))
            said = f"Restored to {directory}: {manifest.rows} rows of {len(manifest.tables)} tables, as they were."
    except _REFUSALS as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"cannot restore: {error.strerror}: {error.filename}") from error
    _tell(settings, manifest, said)


def check_upgrade(settings: Settings) -> int:
    """Say what starting this release on an installation would do; returns 1 if it cannot be started.

    Raises:
        UserError: the database cannot be read.
    """
    if not settings[asked.CHECK_ONLY]:
        raise settings.wrong_usage(
            "the portal upgrades the database when it starts; --check says what that would do"
        )
    directory = data_dir_of(settings)
    try:
        schema, agents = asyncio.run(_look(_database(settings, directory)))
    except _REFUSALS as error:
        raise UserError(str(error)) from error
    verdict = (
        f"a newer release wrote this database (schema {schema}, this one knows {HEAD}). The way back is a backup made"
        " before that upgrade: `wardgate restore`; or run the newer release"
        if schema > HEAD
        else "nothing to do: the schema is this release's"
        if schema == HEAD
        else f"the portal will bring the schema from {schema} to {HEAD} when it starts; earlier releases refuse it"
        " then: `wardgate backup` first"
    )
    if settings[AS_JSON]:
        echo(
            json.dumps(
                {"schema": schema, "release_schema": HEAD, "verdict": verdict, "peers": dict(agents)},
                indent=2,
            )
        )
    else:
        echo(f"schema  {schema}, of this release {HEAD}: {verdict}")
        for agent, count in sorted(agents.items()):
            echo(f"peers   {count} × {shown_text(agent)}")
    return 1 if schema > HEAD else 0


async def _verify(source: Path, server: PostgresServer | None) -> Manifest:
    with tempfile.TemporaryDirectory(prefix="wardgate-verify-", ignore_cleanup_errors=True) as place:
        if server is None:
            return await backups.restore(source, Path(place) / "data", None)
        name = f"wardgate_verify_{uuid4().hex[:12]}"
        async with backups.temporary_database(server, name) as empty:
            return await backups.restore(source, Path(place) / "data", empty)


async def _look(database: SqliteFile | PostgresServer) -> tuple[str, Counter[str]]:
    """Return the schema, and the software of the peers as they were seen last."""
    from wardgate.wire.user_agent import software_text

    rows = await backups.read_rows(
        database, "SELECT last_seen_user_agent FROM devices WHERE last_seen_user_agent IS NOT NULL"
    )
    return await backups.schema_of(database), Counter(software_text(str(agent)) for (agent,) in rows)


def _database(settings: Settings, directory: Path) -> SqliteFile | PostgresServer:
    return settings[DATABASE_URL] or SqliteFile(directory / "wardgate.db")


def _tell(settings: Settings, manifest: Manifest, said: str) -> None:
    if settings[AS_JSON]:
        rows = {table.name: table.rows for table in manifest.tables}
        described = {"version": manifest.version, "schema": manifest.schema, "made_at": manifest.made_at}
        echo(json.dumps({**described, "rows": rows}, indent=2))
    else:
        echo(said)
