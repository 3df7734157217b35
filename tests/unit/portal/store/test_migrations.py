"""Every released schema, up and down, empty and with data, on every kind of database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from support.postgres import postgres_database
from unit.portal.store.test_repositories import make_grant
from wardgate.portal.environment import Environment
from wardgate.portal.store import Database, PostgresServer, SqliteFile, Store, schema
from wardgate.portal.store.copying import Fingerprint, fingerprint
from wardgate.portal.store.database import DatabaseAdapter, adapter
from wardgate.portal.store.migrations import HEAD, upgrade
from wardgate.portal.store.migrations.steps import downgrade, revisions


@pytest.fixture(params=["file", "postgres"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database without any table."""
    if request.param == "file":
        yield SqliteFile(tmp_path / "wardgate.db")
    else:
        async with postgres_database(is_migrated=False) as url:
            yield PostgresServer(url)


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection", "ignore:autogenerate skipping")
async def test_the_revisions_lead_to_the_declared_schema(empty: Database, environment: Environment) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, schema.metadata))

    async with opened(empty, environment) as database:
        await run(database, upgrade)
        async with database.reading() as connection:
            found = await connection.run_sync(differences)
    # SQLite does not tell indexes on expressions; PostgreSQL is asked about those.
    assert [one for one in found if not (isinstance(empty, SqliteFile) and _is_expression(one))] == []


def test_the_newest_revision_is_the_one_that_programs_look_for() -> None:
    assert revisions()[-1] == HEAD


async def test_down_to_nothing_and_up_again(empty: Database, environment: Environment) -> None:
    async with opened(empty, environment) as database:
        await run(database, upgrade)
        await run(database, lambda connection: downgrade(connection, "base"))
        assert await tables(database) == {"alembic_version"}
        await run(database, upgrade)
        assert await tables(database) == {"alembic_version", *schema.metadata.tables}


@pytest.mark.parametrize("revision", revisions())
async def test_data_survives_the_way_down_to_each_release_and_up_again(
    empty: Database, environment: Environment, revision: str
) -> None:
    store = await Store.open(empty, environment)
    await make_grant(store)
    await store.close()
    async with opened(empty, environment) as database:
        before = await fingerprints(database)
        await run(database, lambda connection: downgrade(connection, revision))
        kept = await tables(database)
        await run(database, upgrade)
        after = await fingerprints(database)
    assert sum(one.rows for one in before) > 10
    assert [one for one in before if one.table in kept] == [one for one in after if one.table in kept]


async def test_programs_that_start_together_migrate_once(empty: Database, environment: Environment) -> None:
    stores = await asyncio.gather(*(Store.open(empty, environment) for _ in range(4)))
    for store in stores:
        assert await store.is_available()
        await store.close()


@contextlib.asynccontextmanager
async def opened(location: Database, environment: Environment) -> AsyncIterator[DatabaseAdapter]:
    database = adapter(location, environment)
    try:
        yield database
    finally:
        await database.close()


async def run(database: DatabaseAdapter, migration: Callable[[Connection], None]) -> None:
    await database.migrate(migration)


async def tables(database: DatabaseAdapter) -> set[str]:
    async with database.reading() as connection:
        return set(await connection.run_sync(lambda plain: inspect(plain).get_table_names()))


async def fingerprints(database: DatabaseAdapter) -> list[Fingerprint]:
    async with database.reading() as connection:
        return [await fingerprint(connection, table) for table in schema.metadata.sorted_tables]


def _is_expression(difference: object) -> bool:
    index = difference[1] if isinstance(difference, tuple) and len(difference) > 1 else None
    return any("lower(" in str(one) for one in getattr(index, "expressions", ()))
