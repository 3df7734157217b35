"""What only a server does: it goes away, comes back, refuses, and lets accounts write side by side."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from support.patience import PATIENCE_S
from support.postgres import postgres_database
from unit.portal.store.conftest import make_account
from wardgate.portal.database import postgres_database as adapter_module
from wardgate.portal.environment import Environment
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import PostgresServer, Store, Unusable

pytestmark = pytest.mark.slow


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    async with postgres_database() as url:
        yield PostgresServer(url)


@pytest.fixture
async def store(server: PostgresServer, environment: Environment) -> AsyncIterator[Store]:
    opened = await Store.open(server, environment)
    yield opened
    await opened.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What connections execute; statements that are prepared do not come by here."""
    asked: list[str] = []
    execute = asyncpg.Connection.execute

    async def noted(connection: asyncpg.Connection, query: str, *rest: Any, **options: Any) -> str:
        asked.append(query)
        answer: str = await execute(connection, query, *rest, **options)
        return answer

    monkeypatch.setattr(asyncpg.Connection, "execute", noted)
    return asked


async def test_connections_that_the_server_ended_cost_no_request(
    server: PostgresServer, store: Store
) -> None:
    account_id = await make_account(store, "acme")
    await _end_connections(server)
    async with store.writing() as transaction:
        site = Site(id=transaction.new_id(), account_id=account_id, name="Berlin")
        await transaction.of(account_id).sites.insert(site)
    assert (await store.sequences())[account_id] == 2


async def test_a_connection_that_is_kept_is_not_asked_about_its_health(
    store: Store, asked: list[str]
) -> None:
    await store.sequences()
    asked.clear()
    await store.sequences()
    # One transaction; the query in it is prepared.
    assert [query.split()[0].rstrip(";") for query in asked] == ["BEGIN", "ROLLBACK"]


async def test_a_reader_of_several_moments_opens_no_transaction_and_the_next_one_sees_one_moment(
    store: Store, asked: list[str]
) -> None:
    async def seen_before_and_after_a_commit(slug: str, *, is_one_moment: bool) -> int:
        async with store.reading(is_one_moment=is_one_moment) as transaction:
            before = len(await transaction.sequences())
            await make_account(store, slug)
            return len(await transaction.sequences()) - before

    await make_account(store, "acme")
    assert await seen_before_and_after_a_commit("first", is_one_moment=False) == 1
    assert await seen_before_and_after_a_commit("second", is_one_moment=True) == 0
    asked.clear()
    async with store.reading(is_one_moment=False) as transaction:
        await transaction.sequences()
    assert asked == []


async def test_a_transaction_cut_off_leaves_nothing_behind(server: PostgresServer, store: Store) -> None:
    account_id = await make_account(store, "acme")
    with pytest.raises(Exception, match=r"(?i)connection"):  # noqa: PT012
        async with store.writing() as transaction:
            site = Site(id=transaction.new_id(), account_id=account_id, name="Berlin")
            await transaction.of(account_id).sites.insert(site)
            await _end_connections(server)
    async with store.reading() as transaction:
        assert await transaction.of(account_id).sites.count() == 0
    assert (await store.sequences())[account_id] == 1


async def test_accounts_do_not_wait_for_each_other(store: Store) -> None:
    first, second = await make_account(store, "first"), await make_account(store, "second")
    async with store.writing() as transaction:
        await transaction.hold(first)
        async with asyncio.timeout(PATIENCE_S), store.writing() as other:
            site = Site(id=other.new_id(), account_id=second, name="Berlin")
            await other.of(second).sites.insert(site)
        async with store.reading() as reader:
            assert await reader.of(second).sites.count() == 1


async def test_a_writer_waits_for_the_one_before_it_in_its_account(store: Store) -> None:
    account_id = await make_account(store, "acme")
    order = []

    async def second() -> None:
        async with store.writing() as transaction:
            await transaction.hold(account_id)
            order.append("second")

    async with store.writing() as transaction:
        await transaction.hold(account_id)
        waiting = asyncio.create_task(second())
        await asyncio.wait([waiting], timeout=0.2)
        order.append("first")
    await asyncio.wait_for(waiting, PATIENCE_S)
    assert order == ["first", "second"]


async def test_transactions_over_two_accounts_do_not_wait_for_each_other_for_ever(store: Store) -> None:
    accounts = [await make_account(store, slug) for slug in ("first", "second")]

    async def write(number: int) -> None:
        async with store.writing() as transaction:
            await transaction.hold(*(accounts if number % 2 else accounts[::-1]))
            for account_id in accounts if number % 2 else accounts[::-1]:
                site = Site(id=transaction.new_id(), account_id=account_id, name=f"site {number}")
                await transaction.of(account_id).sites.insert(site)

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(write(number) for number in range(16)))
    assert set((await store.sequences()).values()) == {17}


@pytest.mark.parametrize("path", ["/absent?host={directory}", "/postgres?host=/nowhere"])
async def test_a_server_that_does_not_answer_or_has_no_such_database_is_refused(
    server: PostgresServer, environment: Environment, path: str
) -> None:
    directory = server.url.partition("host=")[2]
    with pytest.raises(Unusable, match="cannot use postgresql://"):
        await Store.open(
            PostgresServer(f"postgresql://wardgate@{path.format(directory=directory)}"), environment
        )


async def test_an_empty_database_is_no_installations(environment: Environment) -> None:
    async with postgres_database(is_migrated=False) as url:
        empty = PostgresServer(url)
        with pytest.raises(Unusable, match=r"empty: restore it .* --new-database"):
            await Store.open(empty, environment, must_exist=True)
        await (await Store.open(empty, environment)).close()
        await (await Store.open(empty, environment, must_exist=True)).close()


async def test_a_server_that_is_too_old_is_refused(
    server: PostgresServer, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "OLDEST_VERSION", 99)
    with pytest.raises(Unusable, match=r"runs PostgreSQL \d+: 99 or newer is needed"):
        await Store.open(server, environment)


async def _end_connections(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
