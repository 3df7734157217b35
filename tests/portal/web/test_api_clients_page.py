"""The page of API clients: making and disabling them, and their tokens, which are shown once."""

import re
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from support.browser import caller, make_api_token
from support.pages import hidden_of, post, rows_of, shown_names, toast_after
from support.portal import World, make_world

PATH = "/acme/settings/api_clients"


async def test_an_api_client_is_made_and_its_token_works_and_is_shown_once(
    admin: httpx2.AsyncClient, world: World
) -> None:
    answer = await post(admin, f"{PATH}/new", name="Terraform")
    assert answer.status_code == 303
    panel = answer.headers["location"]
    assert "No tokens yet" in (await admin.get(panel)).text
    blank = (await admin.get(f"{panel}/tokens")).text
    in_a_year = (datetime.now(UTC) + timedelta(days=365)).date().isoformat()
    assert f'value="{in_a_year}"' in blank
    shown = (await post(admin, f"{panel}/tokens", name="CI", expires_at=in_a_year)).text
    (token,) = re.findall(r'<code id="token"[^>]*>([^<]+)</code>', shown)
    async with caller(world.portal, token) as api:
        assert (await api.get("/account")).status_code == 200
    page = (await admin.get(panel)).text
    assert (token in page, ">CI</span>" in page) == (False, True)
    assert token not in (await admin.get(f"{panel}/tokens")).text
    assert shown_names((await admin.get(PATH)).text) == ["Terraform"]


@pytest.mark.parametrize(
    ("name", "expires_at", "told"),
    [
        ("", "2999-01-01", "can&#39;t be blank"),
        ("CI", "", "can&#39;t be blank"),
        ("CI", "2001-01-01", "must be in the future"),
        ("CI", "someday", "must be a date"),
    ],
)
async def test_what_is_wrong_with_a_token_is_said_beside_the_field(
    admin: httpx2.AsyncClient, world: World, name: str, expires_at: str, told: str
) -> None:
    _, id_ = await make_api_token(world)
    answer = await post(admin, f"{PATH}/{id_}/tokens", name=name, expires_at=expires_at)
    assert answer.status_code == 422
    assert told in answer.text
    assert await tokens_of(world) == 1


async def test_a_disabled_client_is_refused_until_it_is_enabled(
    admin: httpx2.AsyncClient, world: World
) -> None:
    token, id_ = await make_api_token(world)
    async with caller(world.portal, token) as api:
        assert (await api.get("/account")).status_code == 200
        told = await toast_after(admin, await post(admin, f"{PATH}/{id_}/disable"))
        assert told == "API client “robot” is disabled."
        assert (await api.get("/account")).status_code == 401
        assert "Disabled" in rows_of((await admin.get(f"{PATH}?status=disabled")).text)[0]
        assert rows_of((await admin.get(f"{PATH}?status=active")).text) == []
        await post(admin, f"{PATH}/{id_}/enable")
        assert (await api.get("/account")).status_code == 200


async def test_a_client_is_renamed_and_deleted_and_a_token_deleted(
    admin: httpx2.AsyncClient, world: World
) -> None:
    token, id_ = await make_api_token(world)
    seen = hidden_of((await admin.get(f"{PATH}/{id_}/edit")).text)
    assert (await post(admin, f"{PATH}/{id_}/edit", **seen, name="Ansible")).status_code == 303
    page = (await admin.get(f"{PATH}/{id_}")).text
    (delete,) = re.findall(rf'action="({PATH}/{id_}/tokens/[^"]+/delete)"', page)
    assert await toast_after(admin, await post(admin, delete)) == "Token “test” was deleted."
    async with caller(world.portal, token) as api:
        assert (await api.get("/account")).status_code == 401
    assert (await post(admin, f"{PATH}/{id_}/delete", typed="robot")).status_code == 422
    told = await toast_after(admin, await post(admin, f"{PATH}/{id_}/delete", typed="Ansible"))
    assert told == "API client “Ansible” was deleted."


async def test_people_and_other_accounts_clients_are_none_of_these(
    admin: httpx2.AsyncClient, world: World
) -> None:
    other = await make_world(world.portal, "other")
    _, foreign = await make_api_token(other)
    for id_ in (foreign, world.actor.id):
        assert await toast_after(admin, await admin.get(f"{PATH}/{id_}")) == "This API client does not exist."
        made = await post(admin, f"{PATH}/{id_}/tokens", name="x", expires_at="2999-01-01")
        assert await toast_after(admin, made) == "This API client does not exist."
        await post(admin, f"{PATH}/{id_}/delete", typed="robot")
    assert (await tokens_of(other), await tokens_of(world)) == (1, 0)


async def test_every_form_needs_its_sessions_token(admin: httpx2.AsyncClient, world: World) -> None:
    _, id_ = await make_api_token(world)
    for path in (
        "new",
        f"{id_}/edit",
        f"{id_}/disable",
        f"{id_}/delete",
        f"{id_}/tokens",
        f"{id_}/tokens/{id_}/delete",
    ):
        answer = await admin.post(
            f"{PATH}/{path}", data={"name": "x", "typed": "robot", "expires_at": "2999-01-01"}
        )
        assert answer.status_code == 403, path
    assert await tokens_of(world) == 1


async def tokens_of(world: World) -> int:
    async with world.portal.services.store.reading() as transaction:
        return await transaction.of(world.account_id).api_tokens.count()
