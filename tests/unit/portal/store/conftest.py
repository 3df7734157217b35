"""A store in a file or in memory, with one account in it."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from support.migrated_file import migrated_file
from support.postgres import postgres_database
from wardgate.portal.environment import Environment
from wardgate.portal.installation.tables import Account
from wardgate.portal.logs.tables import ApiRequest
from wardgate.portal.store import Database, PostgresServer, Store, Transaction


@pytest.fixture
def environment() -> Environment:
    return Environment.of_this_process()


@pytest.fixture(params=["memory", "file", "postgres"])
async def location(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database | None]:
    """Each kind of database in turn, with the schema and nothing else in it."""
    if request.param == "memory":
        yield None
    elif request.param == "file":
        yield migrated_file(tmp_path / "wardgate.db")
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


def make_api_request(transaction: Transaction, account_id: UUID) -> ApiRequest:
    return ApiRequest(
        account_id=account_id,
        log_id="a" * 24,
        actor_id=None,
        token_id=transaction.new_id(),
        method="GET",
        path="/sites",
        content_length=None,
        request_id="r",
        user_agent="x",
        ip="192.0.2.1",
        ip_region="DE",
        ip_city=None,
        ip_lat=52.5,
        ip_lon=13.4,
        inserted_at=transaction.now,
    )
