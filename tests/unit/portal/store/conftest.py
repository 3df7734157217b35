"""A store in a file or in memory, with one account in it."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from support.postgres import postgres_database
from wardgate.portal.environment import Environment
from wardgate.portal.store import Database, PostgresServer, SqliteFile, Store
from wardgate.portal.store.rows import Account


@pytest.fixture
def environment() -> Environment:
    return Environment.of_this_process()


@pytest.fixture(params=["memory", "file", "postgres"])
async def location(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database | None]:
    """Each kind of database in turn, with the schema and nothing else in it."""
    if request.param == "memory":
        yield None
    elif request.param == "file":
        yield SqliteFile(tmp_path / "wardgate.db")
    else:
        async with postgres_database() as url:
            yield PostgresServer(url)


@pytest.fixture
async def store(location: Database | None, environment: Environment) -> AsyncIterator[Store]:
    opened = await Store.open(location, environment)
    yield opened
    await opened.close()


@pytest.fixture
async def account_id(store: Store) -> UUID:
    return await make_account(store, "acme")


async def make_account(store: Store, slug: str) -> UUID:
    async with store.writing() as transaction:
        account = await transaction.accounts.insert(
            Account(
                id=transaction.new_id(),
                name=slug,
                legal_name=slug,
                slug=slug,
                key=slug[:6].ljust(6, "0"),
                ingest_signing_key=transaction.random_bytes(32),
            )
        )
    return account.id
