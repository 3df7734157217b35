"""A deleted account: found by nobody at once, and taken away slice by slice."""

import contextlib
from uuid import UUID

import pytest
from sqlalchemy import func, select

from unit.portal.store.conftest import make_account
from unit.portal.store.whole_database import fill_database
from wardgate.portal.installation import repositories as account_repositories
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.account_finding import accounts_of_address
from wardgate.portal.sign_in.api_calls import find_api_caller
from wardgate.portal.sign_in.tables import ApiToken
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import Store
from wardgate.portal.tables import metadata

pytestmark = pytest.mark.slow


async def test_nobody_finds_an_account_from_the_moment_it_is_deleted(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        actor = await tables.actors.insert(
            Actor(
                id=transaction.new_id(),
                account_id=account_id,
                type="account_user",
                name="Ada",
                email="ada@example.org",
            )
        )
        token = await tables.api_tokens.insert(
            ApiToken(
                id=transaction.new_id(),
                account_id=account_id,
                actor_id=actor.id,
                name="ci",
                secret_salt="s" * 22,
                secret_hash="h" * 64,
                expires_at=transaction.now,
            )
        )
        assert await find_api_caller(transaction, account_id, token.id) is not None
        assert await accounts_of_address(transaction, "ada@example.org") != []
    async with store.writing() as transaction:
        assert await transaction.accounts.delete(account_id)
    async with store.reading() as transaction:
        accounts = transaction.accounts
        assert await transaction.of(account_id).actors.load(actor.id) is not None  # what it had goes later
        assert await accounts.load(account_id) is None
        assert await accounts.by_slug("acme") is None
        assert await accounts.load_all() == []
        assert await accounts.count() == 0
        assert await find_api_caller(transaction, account_id, token.id) is None
        assert await accounts_of_address(transaction, "ada@example.org") == []
        assert await accounts.with_remains() == [account_id]
    async with store.writing() as transaction:
        assert not await transaction.accounts.delete(account_id)


async def test_the_name_of_a_deleted_account_is_free(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        await transaction.accounts.delete(account_id)
        site = Site(id=transaction.new_id(), account_id=account_id, name="left over")
        await transaction.of(account_id).sites.insert(site)
    async with store.writing() as transaction:
        account = await transaction.accounts.insert(
            Account(
                id=transaction.new_id(),
                name="acme",
                legal_name="acme",
                slug="acme",
                key="other0",
                ingest_signing_key=b"k" * 32,
            )
        )
        assert await transaction.of(account.id).sites.load_all() == []


async def test_nothing_is_left_however_often_the_clearing_up_was_interrupted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = 2
    monkeypatch.setattr(account_repositories, "DELETED_WITH_ACCOUNT_AT_ONCE", at_once)
    account_id = await fill_database(store)
    other_id = await make_account(store, "other")
    others = await _rows_of(store, other_id)
    async with store.writing() as transaction:
        for number in range(5):
            site = Site(id=transaction.new_id(), account_id=account_id, name=f"site {number}")
            await transaction.of(account_id).sites.insert(site)
    async with store.writing() as transaction:
        await transaction.accounts.delete(account_id)
    counts: list[int] = []
    while not counts or counts[-1]:
        # Begun, and undone by a crash before the commit; then carried out.
        with contextlib.suppress(_Crash):
            async with store.writing() as transaction:
                await transaction.accounts.delete_remains(account_id)
                raise _Crash
        async with store.writing() as transaction:
            counts.append(await transaction.accounts.delete_remains(account_id))
        if len(counts) == 20:  # a request that was under way, about a table that was empty already
            async with store.writing() as transaction:
                site = Site(id=transaction.new_id(), account_id=account_id, name="late")
                await transaction.of(account_id).sites.insert(site)
    assert len(counts) > 20
    assert max(counts) == at_once
    left = {name: count for name, count in (await _rows_of(store, account_id)).items() if count}
    assert left == {"changes": 1, "change_counters": 1}
    assert await _rows_of(store, other_id) == others
    async with store.reading() as transaction:
        accounts = await transaction.execute(select(metadata.tables["accounts"].c.id))
        assert set(accounts.scalars()) == {other_id, *await transaction.accounts.with_remains()}
        assert account_id not in await transaction.accounts.with_remains()


async def test_what_an_account_has_stays_while_it_is_not_deleted(store: Store) -> None:
    account_id = await fill_database(store)
    before = await _rows_of(store, account_id)
    async with store.writing() as transaction:
        assert await transaction.accounts.delete_remains(account_id) == 0
    assert await _rows_of(store, account_id) == before


class _Crash(Exception):
    """The process ends here."""


async def _rows_of(store: Store, account_id: UUID) -> dict[str, int]:
    """Return how many rows of each table name an account."""
    async with store.reading() as transaction:
        counts = {}
        for name, table in metadata.tables.items():
            if "account_id" in table.c:
                statement = select(func.count()).select_from(table).where(table.c.account_id == account_id)
                counts[name] = (await transaction.execute(statement)).scalar_one()
        return counts
