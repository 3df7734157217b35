"""The page of service accounts: made with a token that is shown once, more tokens, and the end of each."""

import html
import re
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from support.pages import heading_of, hidden_of, post, rows_of, shown_names, toast_after
from support.portal import Refused, World, make_world
from wardgate.portal.people.tables import Actor


def later(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


async def test_a_service_account_is_made_with_a_token_that_works_and_is_shown_once(
    admin: httpx2.AsyncClient, world: World
) -> None:
    form = (await admin.get("/acme/service_accounts/new")).text
    assert f'type="date" id="expires_at" name="expires_at" required value="{later(365)}"' in re.sub(
        r' aria-describedby="[^"]*"', "", form
    )
    answer = await post(
        admin,
        "/acme/service_accounts/new",
        name="Build server",
        expires_at=later(30),
        group_ids=[str(world.group.id)],
    )
    token = token_of(answer.text)
    async with world.client(token=token, external_id="build-1", query={"name": "build-1"}) as client:
        await client.join()
        await world.portal.journal.flush()
        page = (await admin.get("/acme/service_accounts")).text
        assert shown_names(page) == ["Build server"]
        assert ("1 token" in rows_of(page)[0], "Online" in rows_of(page)[0]) == (True, True)
        robot = await robot_of(world)
        panel = (await admin.get(f"/acme/service_accounts/{robot.id}")).text
        assert ("build-1" in panel, token in panel) == (True, False)
    groups = (await admin.get(f"/acme/service_accounts/{robot.id}?tab=groups")).text
    assert f'href="/acme/groups/{world.group.id}"' in groups
    assert "Everyone" not in groups, "service accounts are not in it"
    assert (robot.type, robot.email) == ("service_account", None)


async def test_a_further_token_is_made_and_deleted(admin: httpx2.AsyncClient, world: World) -> None:
    robot = await made(admin, world)
    path = f"/acme/service_accounts/{robot.id}"
    assert heading_of((await admin.get(f"{path}/tokens")).text) == "New token of Build server"
    second = token_of((await post(admin, f"{path}/tokens", expires_at=later(2))).text)
    assert second not in (await admin.get(f"{path}/tokens")).text
    ids = re.findall(r'id="token-([0-9a-f-]{36})"', (await admin.get(path)).text)
    assert len(ids) == 2
    for id_ in ids:
        assert "revoked" in await toast_after(admin, await post(admin, f"{path}/tokens/{id_}/revoke"))
    with pytest.raises(Refused):
        async with world.client(token=second, external_id="build-2"):
            pass
    assert "No tokens" in (await admin.get(path)).text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": ""}, "can&#39;t be blank"),
        ({"expires_at": ""}, "can&#39;t be blank"),
        ({"expires_at": "soon"}, "must be a date"),
        ({"expires_at": "2020-01-01"}, "must be in the future"),
        ({"group_ids": "nonsense"}, "is invalid"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_made(
    admin: httpx2.AsyncClient, world: World, fields: dict[str, str], told: str
) -> None:
    given = {"name": "Build server", "expires_at": later(1), **fields}
    answer = await post(admin, "/acme/service_accounts/new", **given)
    assert answer.status_code == 422
    assert told in answer.text
    assert "No service accounts yet" in (await admin.get("/acme/service_accounts")).text


async def test_a_further_token_needs_a_day_to_come(admin: httpx2.AsyncClient, world: World) -> None:
    robot = await made(admin, world)
    answer = await post(admin, f"/acme/service_accounts/{robot.id}/tokens", expires_at="2020-01-01")
    assert answer.status_code == 422
    assert "must be in the future" in answer.text


async def test_a_service_account_is_renamed_disabled_enabled_and_deleted(
    admin: httpx2.AsyncClient, world: World
) -> None:
    robot = await made(admin, world)
    path = f"/acme/service_accounts/{robot.id}"
    hidden = hidden_of((await admin.get(f"{path}/edit")).text)
    saved = await post(admin, f"{path}/edit", **hidden, name="Builder")
    assert await toast_after(admin, saved) == "Service account “Builder” was saved."
    assert "its tokens are deleted" in await toast_after(admin, await post(admin, f"{path}/disable"))
    assert "Disabled" in (await admin.get(path)).text
    assert "No tokens" in (await admin.get(path)).text
    assert "was enabled" in await toast_after(admin, await post(admin, f"{path}/enable"))
    assert (await post(admin, f"{path}/delete", typed="Build server")).status_code == 422
    assert "was deleted" in await toast_after(admin, await post(admin, f"{path}/delete", typed="Builder"))


async def test_people_are_no_service_accounts(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/service_accounts/{world.actor.id}"
    for verb in ("", "/edit", "/tokens", "/groups"):
        answer = await admin.get(f"{path}{verb}")
        assert await toast_after(admin, answer) == "This service account does not exist."
    await post(admin, f"{path}/tokens", expires_at=later(1))
    await post(admin, f"{path}/disable")
    async with world.portal.services.store.reading() as transaction:
        tables = transaction.of(world.account_id)
        assert await tables.client_tokens.count() == 1
        assert await tables.actors.load(world.actor.id) == world.actor


async def test_every_form_of_service_accounts_needs_its_sessions_token(
    admin: httpx2.AsyncClient, world: World
) -> None:
    robot = await made(admin, world)
    id_ = robot.id
    for path in (
        "new",
        *(f"{id_}/{verb}" for verb in ("edit", "disable", "enable", "delete", "groups", "tokens")),
        f"{id_}/tokens/{id_}/revoke",
        f"{id_}/groups/{id_}/leave",
    ):
        for wrong in ({}, {"csrf_token": "a" * 64}):
            answer = await admin.post(
                f"/acme/service_accounts/{path}", data={**wrong, "typed": "Build server"}
            )
            assert answer.status_code == 403, path
    assert await robot_of(world) == robot


async def test_a_service_account_of_another_account_does_not_exist(
    admin: httpx2.AsyncClient, world: World
) -> None:
    other = await make_world(world.portal, "other")
    async with world.portal.services.store.writing() as transaction:
        robot = Actor(
            id=transaction.new_id(), account_id=other.account_id, type="service_account", name="Theirs"
        )
        await transaction.of(other.account_id).actors.insert(robot)
    answer = await post(admin, f"/acme/service_accounts/{robot.id}/tokens", expires_at=later(1))
    assert await toast_after(admin, answer) == "This service account does not exist."


def token_of(page: str) -> str:
    (token,) = re.findall(r'<code id="token"[^>]*>([^<]+)</code>', page)
    return html.unescape(token)


async def made(admin: httpx2.AsyncClient, world: World) -> Actor:
    given = {"name": "Build server", "expires_at": later(30)}
    assert (await post(admin, "/acme/service_accounts/new", **given)).status_code == 200
    return await robot_of(world)


async def robot_of(world: World) -> Actor:
    async with world.portal.services.store.reading() as transaction:
        actors = transaction.of(world.account_id).actors
        robot = await actors.find(actors.c.type == "service_account")
    assert robot is not None
    return robot
