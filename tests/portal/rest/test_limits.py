"""How many there may be is checked where something is made or enabled."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from support.portal import World
from wardgate.portal import limits
from wardgate.portal.installation.tables import Account
from wardgate.portal.limits import LimitReached
from wardgate.portal.people.tables import Actor
from wardgate.portal.sites.tables import Site

USER = {"type": "account_user", "name": "Bob", "email": "bob@example.org"}


@pytest.mark.parametrize(
    ("limit", "path", "body", "told"),
    [
        ("users_count", "/actors", {"actor": USER}, "Users limit reached"),
        ("users_count", "/actors", {"actor": {**USER, "type": "account_admin_user"}}, "Users limit reached"),
        (
            "account_admin_users_count",
            "/actors",
            {"actor": {**USER, "type": "account_admin_user"}},
            "Admins limit reached",
        ),
        (
            "service_accounts_count",
            "/actors",
            {"actor": {"type": "service_account", "name": "x"}},
            "Service accounts limit reached",
        ),
        ("sites_count", "/sites", {"site": {"name": "x"}}, "Sites limit reached"),
    ],
)
async def test_one_more_is_refused_and_one_below_is_not(
    api: httpx2.AsyncClient, world: World, limit: str, path: str, body: dict[str, Any], told: str
) -> None:
    used = await used_now(world, limit)
    await limited(world, **{limit: used})
    refused = await api.post(path, json=body)
    assert (refused.status_code, refused.json()["detail"]) == (403, told)
    await limited(world, **{limit: used + 1})
    assert (await api.post(path, json=body)).status_code == 201


async def test_where_activity_is_limited_the_number_of_users_is_not_asked(
    api: httpx2.AsyncClient, world: World
) -> None:
    await limited(world, users_count=0, monthly_active_users_count=1)
    assert (await api.post("/actors", json={"actor": USER})).status_code == 201
    async with world.client() as client:
        await client.join()
    await world.portal.journal.flush()
    refused = await api.post("/actors", json={"actor": {**USER, "email": "eve@example.org"}})
    assert refused.json()["detail"] == "Users limit reached"
    await seen(world, timedelta(days=31))
    assert (
        await api.post("/actors", json={"actor": {**USER, "email": "eve@example.org"}})
    ).status_code == 201


async def test_enabling_counts_as_making_and_promotion_asks_for_admins_only(
    api: httpx2.AsyncClient, world: World
) -> None:
    path = f"/actors/{world.actor.id}"
    await api.patch(path, json={"actor": {"is_disabled": True}})
    await limited(world, users_count=1, account_admin_users_count=1)
    refused = await api.patch(path, json={"actor": {"is_disabled": False}})
    assert (refused.status_code, refused.json()["detail"]) == (403, "Users limit reached")
    await limited(world, users_count=2, account_admin_users_count=1)
    assert (await api.patch(path, json={"actor": {"is_disabled": False}})).status_code == 200
    refused = await api.patch(path, json={"actor": {"type": "account_admin_user"}})
    assert refused.json()["detail"] == "Admins limit reached"
    assert (await api.patch(path, json={"actor": {"name": "Ada L."}})).status_code == 200


async def test_api_clients_and_their_tokens_have_a_limit_without_one_being_set(world: World) -> None:
    account = await limited(world)
    assert limits.limits_of(account)["api_clients_count"] == 100
    async with world.portal.services.store.writing() as transaction:
        tables, now = transaction.of(world.account_id), transaction.now
        for number in range(100):
            await tables.actors.insert(
                Actor(
                    id=transaction.new_id(), account_id=account.id, type="api_client", name=f"client {number}"
                )
            )
        with pytest.raises(LimitReached, match="API clients limit reached"):
            await limits.check_actor(tables, account, "api_client", now=now)
        unlimited = replace(account, limits={"api_clients_count": None})
        await limits.check_actor(tables, unlimited, "api_client", now=now)
        none = replace(account, limits={"api_tokens_per_client_count": 0})
        with pytest.raises(LimitReached, match="API tokens limit reached"):
            await limits.check_api_token(tables, none, world.actor.id)
        await limits.check_api_token(tables, account, world.actor.id)


async def test_the_internet_site_and_disabled_people_do_not_count(world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        tables, now = transaction.of(world.account_id), transaction.now
        sites, users = [
            await limits.used_of(tables, name, now=now) for name in ("sites_count", "users_count")
        ]
        await tables.sites.insert(Site(id=transaction.new_id(), account_id=world.account_id, name="x"))
        await tables.actors.save(replace(world.actor, is_disabled=True))
        assert await limits.used_of(tables, "sites_count", now=now) == sites + 1
        assert await limits.used_of(tables, "users_count", now=now) == users - 1


async def used_now(world: World, limit: str) -> int:
    async with world.portal.services.store.reading() as transaction:
        return await limits.used_of(transaction.of(world.account_id), limit, now=transaction.now)


async def limited(world: World, **set_limits: int) -> Account:
    async with world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        return await transaction.accounts.save(replace(account, limits=set_limits))


async def seen(world: World, ago: timedelta) -> None:
    async with world.portal.services.store.writing() as transaction:
        devices = transaction.of(world.account_id).devices
        for device in await devices.load_all():
            await devices.save(replace(device, last_seen_at=transaction.now - ago))
