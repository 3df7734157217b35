"""What is asked and written for every call of the REST API."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from support.api_requests import newest_api_requests
from unit.portal.store.conftest import make_account, make_api_request
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.api_calls import TokenUse, append_api_requests, find_api_caller, note_token_uses
from wardgate.portal.sign_in.tables import ApiToken
from wardgate.portal.store import Store, Transaction

pytestmark = pytest.mark.slow

AT = datetime(2030, 1, 1, tzinfo=UTC)


async def test_a_caller_is_found_with_actor_and_account(store: Store, account_id: UUID) -> None:
    token = await make_token(store, account_id)
    async with store.reading() as transaction:
        found = await find_api_caller(transaction, account_id, token.id)
        tables = transaction.of(account_id)
        assert found == (
            await tables.account(),
            await tables.actors.load(token.actor_id),
            await tables.api_tokens.load(token.id),
        )


async def test_a_token_is_found_in_its_own_account_only(store: Store, account_id: UUID) -> None:
    token, other_id = await make_token(store, account_id), await make_account(store, "other")
    async with store.reading() as transaction:
        assert await find_api_caller(transaction, other_id, token.id) is None


async def test_a_log_keeps_what_fits_of_an_odd_call(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        request = make_api_request(transaction, account_id)
        odd = replace(request, path="/a\0b", content_length=10**30, request_id="r" * 300)
        await append_api_requests(transaction, [odd])
    async with store.reading() as transaction:
        (kept,) = await newest_api_requests(transaction.of(account_id), limit=2)
    assert (kept.path, kept.content_length, kept.request_id) == ("/a\ufffdb", None, "r" * 255)


async def test_the_latest_use_stays_on_a_token_and_is_no_change_of_it(store: Store, account_id: UUID) -> None:
    token = await make_token(store, account_id)
    async with store.reading() as transaction:
        before = await transaction.sequence(account_id)
    first, last = token_use(token, AT), replace(token_use(token, AT.replace(year=2031)), region=None)
    async with store.writing() as transaction:
        await note_token_uses(transaction, [last, first])
    async with store.reading() as transaction:
        assert await transaction.sequence(account_id) == before
        noted = await transaction.of(account_id).api_tokens.load(token.id)
    assert noted == replace(
        token,
        last_seen_user_agent="terraform",
        last_seen_remote_ip="192.0.2.1",
        last_seen_remote_ip_location_city="Berlin",
        last_seen_remote_ip_location_lat=52.5,
        last_seen_remote_ip_location_lon=13.4,
        last_seen_at=last.at,
    )


async def test_a_call_is_logged_while_its_account_is_being_changed(store: Store, account_id: UUID) -> None:
    """On PostgreSQL; SQLite has one writer anyway, whose turns are short."""
    token, entered, over = await make_token(store, account_id), asyncio.Event(), asyncio.Event()

    async def change_slowly() -> None:
        async with store.writing() as transaction:
            await transaction.hold(account_id)
            entered.set()
            if transaction.dialect == "postgresql":
                await over.wait()

    change = asyncio.create_task(change_slowly())
    await entered.wait()
    async with store.writing() as transaction:
        await append_api_requests(transaction, [make_api_request(transaction, account_id)])
        await note_token_uses(transaction, [token_use(token, AT)])
    over.set()
    await change
    async with store.reading() as transaction:
        assert len(await newest_api_requests(transaction.of(account_id), limit=2)) == 1


def token_use(token: ApiToken, at: datetime) -> TokenUse:
    return TokenUse(token.account_id, token.id, "terraform", "192.0.2.1", "DE", "Berlin", 52.5, 13.4, at=at)


async def make_token(store: Store, account_id: UUID) -> ApiToken:
    async with store.writing() as transaction:
        return await _insert_token(transaction, account_id)


async def _insert_token(transaction: Transaction, account_id: UUID) -> ApiToken:
    tables = transaction.of(account_id)
    robot = await tables.actors.insert(
        Actor(id=transaction.new_id(), account_id=account_id, type="api_client", name="robot")
    )
    return await tables.api_tokens.insert(
        ApiToken(
            id=transaction.new_id(),
            account_id=account_id,
            actor_id=robot.id,
            name="robot",
            secret_salt="s" * 22,
            secret_hash="h" * 64,
            expires_at=AT,
        )
    )
