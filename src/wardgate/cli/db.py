"""`wardgate db`: bring a database's schema up to date, or move an installation to another database."""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from wardgate.cli.errors import UserError
from wardgate.cli.portal_settings import database_of
from wardgate.cli.profile import data_dir_of
from wardgate.cli.settings import Settings
from wardgate.cli.usage import run
from wardgate.portal import data_directory
from wardgate.portal.data_directory import LOCK_FILE, DataDirectoryUnusable, Lock
from wardgate.portal.environment import Environment
from wardgate.portal.store import Database, SqliteFile, Store, Unusable, parse_database_url
from wardgate.portal.store.copying import copy as copy_database

APP = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(arguments: list[str]) -> None:
    """Run a sub-command."""
    run(APP, arguments, "wardgate db")


@APP.callback()
def describe() -> None:
    """Bring a database's schema up to date, or move an installation to another database."""


@APP.command()
def upgrade(
    database_url: Annotated[
        str | None, typer.Option(help="Which database. [env: WARDGATE_DATABASE_URL]")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data directory. [env: WARDGATE_DATA_DIR]")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file. [env: WARDGATE_CONFIG]")] = None,
) -> None:
    """Bring the schema up to this program's. `wardgate portal` does the same when it starts.

    Example: wardgate db upgrade --database-url postgresql://wardgate@db.example.org/wardgate
    """
    settings = Settings.load("portal", os.environ, config)
    directory = data_dir_of(settings, data_dir)
    database = database_of(settings, database_url) or SqliteFile(directory / "wardgate.db")
    try:
        data_directory.require_database(directory, database)
        asyncio.run(_upgrade(database))
    except (DataDirectoryUnusable, Unusable) as error:
        raise UserError(str(error)) from error
    typer.echo(f"{database} is up to date.")


@APP.command()
def copy(
    source: Annotated[
        str, typer.Option("--from", help="Database to read, such as sqlite:////path/wardgate.db")
    ],
    target: Annotated[str, typer.Option("--to", help="Empty database to fill, such as postgresql://…")],
) -> None:
    """Copy everything from one database to an empty one and verify counts and hashes. The portal must be stopped.

    Example: wardgate db copy --from sqlite:////var/lib/wardgate/wardgate.db --to postgresql://wardgate@db.example.org/wardgate
    """
    old, new = _parse("--from", source), _parse("--to", target)
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
        typer.echo(str(table))
    typer.echo(f"{sum(table.rows for table in copied)} rows copied and verified.")


def _parse(option: str, text: str) -> Database:
    try:
        return parse_database_url(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error


async def _upgrade(database: Database) -> None:
    store = await Store.open(database, Environment.of_this_process())
    await store.close()
