"""Moving an installation between databases loses nothing, and says so when it would."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.postgres import postgres_database
from unit.portal.store.conftest import make_account
from unit.portal.store.test_migrations import fingerprints, opened
from unit.portal.store.whole_database import fill_database
from wardgate.portal.database import copying
from wardgate.portal.database.copying import Fingerprint, copy
from wardgate.portal.environment import Environment
from wardgate.portal.store import PostgresServer, SqliteFile, Store, Unusable
from wardgate.portal.tables import metadata

pytestmark = pytest.mark.slow


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    async with postgres_database() as url:
        yield PostgresServer(url)


async def test_everything_arrives(tmp_path: Path, environment: Environment, server: PostgresServer) -> None:
    file = SqliteFile(tmp_path / "wardgate.db")
    store = await Store.open(file, environment)
    account_id = await fill_database(store)
    await store.close()
    copied = await copy(file, server, environment)
    assert {table.table for table in copied if table.rows} == set(metadata.tables)
    for location in (file, server):
        async with opened(location, environment) as database:
            assert await fingerprints(database) == copied
    store = await Store.open(server, environment)
    position = (await store.sequences())[account_id]
    await make_account(store, "second")
    async with store.writing() as transaction:
        account = await transaction.accounts.load(account_id)
        assert account is not None
        await transaction.accounts.delete(account.id)
    assert (await store.sequences())[account_id] > position
    await store.close()


async def test_the_way_back_leads_to_the_same(
    tmp_path: Path, environment: Environment, server: PostgresServer
) -> None:
    store = await Store.open(server, environment)
    await fill_database(store)
    await store.close()
    back = SqliteFile(tmp_path / "back.db")
    copied = await copy(server, back, environment)
    async with opened(back, environment) as database:
        assert await fingerprints(database) == copied


async def test_a_target_that_holds_something_is_refused(
    tmp_path: Path, environment: Environment, server: PostgresServer
) -> None:
    store = await Store.open(server, environment)
    await make_account(store, "acme")
    await store.close()
    with pytest.raises(Unusable, match="is not empty"):
        await copy(SqliteFile(tmp_path / "wardgate.db"), server, environment)


async def test_what_arrives_otherwise_is_taken_back(
    tmp_path: Path, environment: Environment, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SqliteFile(tmp_path / "wardgate.db")
    store = await Store.open(file, environment)
    await make_account(store, "acme")
    await store.close()
    true_fingerprint = copying.fingerprint

    async def damaged(connection: object, table: object) -> Fingerprint:
        found = await true_fingerprint(connection, table)  # type: ignore[arg-type]
        return Fingerprint(found.table, found.rows, found.content ^ 1)

    monkeypatch.setattr(copying, "fingerprint", damaged)
    with pytest.raises(Unusable, match="did not keep what it was given"):
        await copy(file, server, environment)
    monkeypatch.undo()
    async with opened(server, environment) as database:
        assert sum(one.rows for one in await fingerprints(database)) == 0
