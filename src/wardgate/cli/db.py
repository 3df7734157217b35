"""`wardgate db`: bring a database's schema up to date, or move an installation to another database."""

import asyncio
from contextlib import ExitStack

from wardgate.cli.commands.installation import SOURCE, TARGET
from wardgate.cli.commands.portal import DATABASE_URL
from wardgate.cli.errors import UserError
from wardgate.cli.profile import data_dir_of
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.portal import data_directory
from wardgate.portal.data_directory import LOCK_FILE, DataDirectoryUnusable, Lock
from wardgate.portal.database.copying import copy as copy_database
from wardgate.portal.environment import Environment
from wardgate.portal.store import Database, SqliteFile, Store, Unusable


def upgrade(settings: Settings) -> None:
    """Bring the schema up to this program's.

    Raises:
        UserError: the database cannot be used.
    """
    directory = data_dir_of(settings)
    database = settings[DATABASE_URL] or SqliteFile(directory / "wardgate.db")
    try:
        data_directory.require_database(directory, database)
        asyncio.run(_upgrade(database))
    except (DataDirectoryUnusable, Unusable) as error:
        raise UserError(str(error)) from error
    echo(f"{database} is up to date.")


def copy(settings: Settings) -> None:
    """Copy everything from one database to an empty one and verify counts and hashes.

    Raises:
        UserError: one of them cannot be used, or the portal is running.
    """
    old, new = settings[SOURCE], settings[TARGET]
    assert old is not None
    assert new is not None
    if str(old) == str(new):
        raise UserError(f"--from and --to are the same database, {old}")
    if isinstance(old, SqliteFile) and not old.path.exists():
        raise UserError(f"--from: there is no file {old.path}")
    try:
        with ExitStack() as stack:
            for database in (old, new):
                if isinstance(database, SqliteFile) and (database.path.parent / LOCK_FILE).exists():
                    stack.enter_context(Lock(database.path.parent))
            copied = asyncio.run(copy_database(old, new, Environment.of_this_process()))
    except (Unusable, DataDirectoryUnusable) as error:
        raise UserError(str(error)) from error
    for table in copied:
        echo(str(table))
    echo(f"{sum(table.rows for table in copied)} rows copied and verified.")


async def _upgrade(database: Database) -> None:
    store = await Store.open(database, Environment.of_this_process())
    await store.close()
