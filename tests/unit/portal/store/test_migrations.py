"""Every released schema, up and down, empty and with data, on every kind of database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from support.postgres import postgres_database
from unit.portal.store.whole_database import fill_database
from wardgate.portal.database.base_store import DatabaseAdapter, adapter
from wardgate.portal.database.copying import Fingerprint, fingerprint
from wardgate.portal.database.migrations import HEAD, upgrade
from wardgate.portal.database.migrations.steps import downgrade, revisions, upgrade_to
from wardgate.portal.environment import Environment
from wardgate.portal.store import Database, PostgresServer, SqliteFile, Store, Unusable
from wardgate.portal.tables import metadata

pytestmark = pytest.mark.slow


@pytest.fixture
async def fresh(empty: Database, tmp_path: Path) -> AsyncIterator[Database]:
    """Another one of the same kind."""
    if isinstance(empty, SqliteFile):
        yield SqliteFile(tmp_path / "fresh.db")
    else:
        async with postgres_database(is_migrated=False) as url:
            yield PostgresServer(url)


@pytest.fixture(params=["file", "postgres"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database without any table."""
    if request.param == "file":
        yield SqliteFile(tmp_path / "wardgate.db")
    else:
        async with postgres_database(is_migrated=False) as url:
            yield PostgresServer(url)


async def test_the_revisions_lead_to_the_declared_schema(
    empty: Database, fresh: Database, environment: Environment
) -> None:
    """Columns, keys, references, checks and indexes are those of a database made from the declaration."""
    async with opened(empty, environment) as migrated, opened(fresh, environment) as declared:
        await run(migrated, upgrade)
        await run(declared, metadata.create_all)
        found = await shape(migrated)
        assert found - {one for one in found if "alembic_version" in one} == await shape(declared)


def test_the_newest_revision_is_known_without_alembic() -> None:
    assert revisions()[-1] == HEAD


@pytest.mark.parametrize("revision", revisions()[:-1])
async def test_the_way_down_leads_to_the_schema_that_was_released(
    empty: Database, fresh: Database, environment: Environment, revision: str
) -> None:
    async with opened(empty, environment) as returned, opened(fresh, environment) as released:
        await run(returned, upgrade)
        await run(returned, lambda connection: downgrade(connection, revision))
        await run(released, lambda connection: upgrade_to(connection, revision))
        assert await shape(returned) == await shape(released)


async def test_down_to_nothing_and_up_again(empty: Database, environment: Environment) -> None:
    async with opened(empty, environment) as database:
        await run(database, upgrade)
        await run(database, lambda connection: downgrade(connection, "base"))
        assert await tables(database) == {"alembic_version"}
        await run(database, upgrade)
        assert await tables(database) == {"alembic_version", *metadata.tables}


@pytest.mark.parametrize("revision", revisions())
async def test_data_of_each_release_survives_the_way_to_this_one_and_back(
    empty: Database, environment: Environment, revision: str
) -> None:
    store = await Store.open(empty, environment)
    await fill_database(store)
    await store.close()
    async with opened(empty, environment) as database:
        await run(database, lambda connection: downgrade(connection, revision))
        released = await content(database)
        unfilled = {
            f"{table}.{column}"
            for table, rows in released.items()
            for column in (rows[0] if rows else ["no row"])
            if all(row[column] is None for row in rows)
        }
        await run(database, upgrade)
        migrated = await content(database)
        kept = {
            table: [{column: row[column] for column in rows[0]} for row in migrated[table]]
            for table, rows in released.items()
        }
        await run(database, lambda connection: downgrade(connection, revision))
        returned = await content(database)
    # Providers came with 0003; before, nothing could be named there. An executing job has not finished.
    providers = {"client_tokens.auth_provider_id", "portal_sessions.auth_provider_id"}
    assert unfilled == {"jobs.finished_at"} & {f"{table}.finished_at" for table in released} | (
        providers if revision < "0003" else set()
    )
    assert kept == {**released, "alembic_version": [{"version_num": HEAD}]}
    assert returned == released


async def test_what_a_newer_schema_refuses_is_put_right_on_the_way_up(
    empty: Database, environment: Environment
) -> None:
    store = await Store.open(empty, environment)
    await fill_database(store)
    await store.close()
    async with opened(empty, environment) as database:
        await run(database, lambda connection: downgrade(connection, "0002"))
        for statement in (
            "UPDATE client_tokens SET auth_provider_id = actor_id",
            "UPDATE portal_sessions SET auth_provider_id = actor_id",
            "UPDATE resources SET site_id = (SELECT id FROM sites) WHERE type = 'static_device_pool'",
            "UPDATE static_device_pool_members"
            " SET device_id = (SELECT id FROM devices WHERE type = 'gateway')",
        ):
            await run(database, lambda connection, statement=statement: connection.execute(text(statement)))
        await run(database, upgrade)
        found = await content(database)
    assert {row["auth_provider_id"] for row in found["client_tokens"] + found["portal_sessions"]} == {None}
    assert [row["site_id"] is None for row in found["resources"]] == [
        row["type"] != "dns" for row in found["resources"]
    ]
    assert found["static_device_pool_members"] == []


async def test_a_migration_that_would_leave_a_row_dangling_is_taken_back(
    tmp_path: Path, environment: Environment
) -> None:
    """SQLite looks at references in the end only: then it must look."""
    async with opened(SqliteFile(tmp_path / "wardgate.db"), environment) as database:
        await run(database, upgrade)
        before = await tables(database)
        with pytest.raises(Unusable, match="rows of memberships name rows that do not exist"):
            await run(database, _leave_dangling)
        assert await tables(database) == before
        with pytest.raises(IntegrityError):
            async with database.writing() as connection:
                await connection.run_sync(_leave_dangling)


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


async def content(database: DatabaseAdapter) -> dict[str, list[dict[str, object]]]:
    """Return every row of every table as it lies there, in an order of its own."""

    def read(connection: Connection) -> dict[str, list[dict[str, object]]]:
        return {
            name: sorted(
                (dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()),
                key=repr,
            )
            for name in inspect(connection).get_table_names()
        }

    async with database.reading() as connection:
        found = await connection.run_sync(read)
    # Columns that are added anew come last.
    return {table: [dict(sorted(row.items())) for row in rows] for table, rows in found.items()}


async def shape(database: DatabaseAdapter) -> set[str]:
    """Return what a schema consists of, a line a piece, as the database itself tells it."""
    async with database.reading() as connection:
        if connection.dialect.name == "postgresql":
            queries = (
                "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)"
                " FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
                "SELECT concat_ws(' ', table_name, column_name, udt_name, character_maximum_length,"
                " is_nullable, column_default) FROM information_schema.columns WHERE table_schema = 'public'",
            )
            return {
                str(one) for query in queries for one in (await connection.execute(text(query))).scalars()
            }
        return await connection.run_sync(_shape_of_sqlite)


async def fingerprints(database: DatabaseAdapter) -> list[Fingerprint]:
    async with database.reading() as connection:
        return [await fingerprint(connection, table) for table in metadata.sorted_tables]


def _shape_of_sqlite(connection: Connection) -> set[str]:
    inspector, found = inspect(connection), set()
    for table in inspector.get_table_names():
        for kind, pieces in {
            "column": inspector.get_columns(table),
            "key": [inspector.get_pk_constraint(table)],
            "reference": inspector.get_foreign_keys(table),
            "check": inspector.get_check_constraints(table),
        }.items():
            found |= {
                f"{table} {kind} {sorted((key, str(value)) for key, value in piece.items())}"
                for piece in pieces
            }
    indexes = connection.execute(
        text("SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
    )
    return found | {str(sql) for sql in indexes.scalars()}


def _leave_dangling(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE half_done (id INTEGER)"))
    connection.execute(
        text(
            "INSERT INTO memberships (account_id, id, actor_id, group_id, inserted_at, updated_at)"
            " VALUES ('a', 'b', 'c', 'd', '2026-01-01', '2026-01-01')"
        )
    )
