"""The operator's accounts and banners, and the account that asks for its own end."""

from typing import Any
from uuid import UUID

import httpx2
import pytest

from support.browser import caller
from support.letterbox import Letterbox
from support.portal import World, make_world, portal_running
from wardgate.portal.settings import PortalSettings

NEW = {"name": "Globex", "slug": "globex", "admin_email": "hank@globex.example"}


async def test_an_account_is_made_complete_and_usable_at_once(
    operator: httpx2.AsyncClient, world: World
) -> None:
    answer = await create(operator)
    assert answer.status_code == 201
    made = answer.json()["data"]
    assert answer.headers["location"] == f"/wardgate/accounts/{made['id']}"
    assert (made["legal_name"], made["is_disabled"], made["limits"]["users_count"]) == ("Globex", False, None)
    assert made["features"] == {"policy_conditions": True, "internet_resource": True}
    async with caller(world.portal, made["api_token"]) as api:
        names = {one["name"] for one in (await api.get("/sites")).json()["data"]}
        assert names == {"Internet", "Default Site"}
    async with caller(world.portal) as browser:
        path = made["sign_in_link"].partition("127.0.0.1:8080")[2]
        assert (await browser.get(path)).headers["location"] == "/globex"
    shown = (await operator.get(f"/wardgate/accounts/{made['id']}")).json()["data"]
    assert shown == {name: value for name, value in made.items() if name in shown}
    assert not {"api_token", "sign_in_link"} & shown.keys()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "ab"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": None}, "name"),
        ({"slug": "x"}, "slug"),
        ({"slug": "has space"}, "slug"),
        ({"slug": "wardgate"}, "slug"),
        ({"slug": "actors"}, "slug"),
        ({"slug": "healthz"}, "slug"),
        ({"slug": "assets"}, "slug"),
        ({"slug": "client"}, "slug"),
        ({"slug": "ACME"}, "slug"),  # taken, whatever its case
        ({"admin_email": "nobody"}, "admin_email"),
        ({"admin_email": "x@y.example\r\nBcc: z@y.example"}, "admin_email"),
        ({"limits": {"users_count": -1}}, "limits"),
        ({"limits": {"sites_count": 2**31}}, "limits"),
        ({"limits": {"api_capacity": True}}, "limits"),
        ({"limits": {"api_capacity": 1.5}}, "limits"),
        ({"features": {"internet_resource": "yes"}}, "features"),
    ],
)
async def test_what_is_wrong_is_told_by_its_field_and_nothing_is_made(
    operator: httpx2.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    answer = await create(operator, **changes)
    assert answer.status_code == 422
    assert list(answer.json()["validation_errors"]) == [field]
    assert (await operator.get("/wardgate/accounts")).json()["metadata"]["count"] == 1


async def test_a_repeated_creation_gets_the_same_secrets_and_makes_one_account(
    operator: httpx2.AsyncClient,
) -> None:
    first = await create(operator, headers={"idempotency-key": "k"})
    again = await create(operator, headers={"idempotency-key": "k"})
    assert first.json() == again.json()
    assert (await operator.get("/wardgate/accounts")).json()["metadata"]["count"] == 2


async def test_accounts_are_listed_by_page_and_found_by_slug(operator: httpx2.AsyncClient) -> None:
    await create(operator)
    page = (await operator.get("/wardgate/accounts", params={"limit": "1"})).json()
    assert [one["slug"] for one in page["data"]] == ["acme"]
    following = {"limit": "1", "page_cursor": page["metadata"]["next_page"]}
    assert [
        one["slug"] for one in (await operator.get("/wardgate/accounts", params=following)).json()["data"]
    ] == ["globex"]
    found = (await operator.get("/wardgate/accounts", params={"slug": "GLOBEX"})).json()["data"]
    assert [one["name"] for one in found] == ["Globex"]


async def test_a_change_merges_limits_and_features_and_heeds_the_version(
    operator: httpx2.AsyncClient, world: World
) -> None:
    path = f"/wardgate/accounts/{world.account_id}"
    shown = await operator.get(path)
    changes = {
        "limits": {"users_count": 5, "api_clients_count": None},
        "features": {"internet_resource": False},
    }
    answer = await operator.patch(
        path, json={"account": changes}, headers={"if-match": shown.headers["etag"]}
    )
    assert answer.status_code == 200
    answer = await operator.patch(path, json={"account": {"limits": {"sites_count": 2}, "slug": "Acme-2"}})
    data = answer.json()["data"]
    assert data["slug"] == "acme-2"
    assert {name: data["limits"][name] for name in ("users_count", "api_clients_count", "sites_count")} == {
        "users_count": 5, "api_clients_count": None, "sites_count": 2,
    }  # fmt: skip
    assert data["limits"]["api_tokens_per_client_count"] == 100
    assert data["features"] == {"policy_conditions": True, "internet_resource": False}
    stale = await operator.patch(
        path, json={"account": {"name": "Other"}}, headers={"if-match": shown.headers["etag"]}
    )
    assert stale.status_code == 412


async def test_a_disabled_account_is_refused_and_enabled_again(
    operator: httpx2.AsyncClient, api: httpx2.AsyncClient, world: World
) -> None:
    path = f"/wardgate/accounts/{world.account_id}"
    off = {"is_disabled": True, "disabled_reason": "unpaid"}
    assert (await operator.patch(path, json={"account": off})).json()["data"]["disabled_reason"] == "unpaid"
    assert (await api.get("/account")).status_code == 401
    on = (await operator.patch(path, json={"account": {"is_disabled": False}})).json()["data"]
    assert (on["is_disabled"], on["disabled_reason"]) == (False, None)
    assert (await api.get("/account")).status_code == 200


async def test_a_locked_accounts_settings_and_life_stay(
    operator: httpx2.AsyncClient, api: httpx2.AsyncClient, world: World
) -> None:
    path = f"/wardgate/accounts/{world.account_id}"
    locked = (await operator.patch(path, json={"account": {"is_locked": True}})).json()["data"]
    again = (await operator.patch(path, json={"account": {"is_locked": True}})).json()["data"]
    assert locked["lock_enabled_at"] == again["lock_enabled_at"] is not None
    settings = {"account_settings": {"name": "Other"}}
    assert (await api.patch("/wardgate/account_settings", json=settings)).status_code == 403
    for client, where in ((api, "/wardgate/account_settings"), (operator, path)):
        assert (
            await client.post(f"{where}/deletion", json={"deletion": {"slug": "acme"}})
        ).status_code == 403
    await operator.patch(path, json={"account": {"is_locked": False}})
    assert (await api.patch("/wardgate/account_settings", json=settings)).status_code == 200


async def test_an_accounts_own_token_asks_for_its_end_and_the_operator_calls_it_off(
    operator: httpx2.AsyncClient, api: httpx2.AsyncClient, world: World
) -> None:
    own = "/wardgate/account_settings/deletion"
    for body, status in (({"slug": "other"}, 422), ({"slug": ""}, 422), ({}, 422), (None, 400)):
        assert (await api.post(own, json={"deletion": body})).status_code == status
    answer = await api.post(own, json={"deletion": {"slug": "acme"}})
    assert (answer.status_code, answer.json()["data"]["is_disabled"]) == (201, True)
    assert (await api.get("/account")).status_code == 401
    path = f"/wardgate/accounts/{world.account_id}"
    refused = await operator.patch(path, json={"account": {"is_disabled": False}})
    assert list(refused.json()["validation_errors"]) == ["is_disabled"]
    again = await operator.post(f"{path}/deletion", json={"deletion": {"slug": "acme"}})
    assert again.status_code == 409
    assert (await operator.delete(f"{path}/deletion")).json()["data"]["scheduled_deletion_at"] is None
    assert (await operator.delete(f"{path}/deletion")).status_code == 409
    assert (await api.get("/account")).status_code == 200


async def test_the_letter_says_who_decided() -> None:
    letterbox = Letterbox()
    async with portal_running(PortalSettings(api_capacity=1000.0), mailer=letterbox) as portal:
        world = await make_world(portal)
        async with caller(portal, world.operator_token) as operator:
            path = f"/wardgate/accounts/{world.account_id}/deletion"
            await operator.post(path, json={"deletion": {"slug": "acme"}})
            assert "the operator of this installation" in (await letterbox.receive()).message.text


async def test_nobody_but_the_operator_reaches_accounts_and_banners(
    api: httpx2.AsyncClient, world: World
) -> None:
    path = f"/wardgate/accounts/{world.account_id}"
    for method, target in (
        ("GET", "/wardgate/accounts"),
        ("GET", path),
        ("PATCH", path),
        ("DELETE", f"{path}/deletion"),
        ("GET", "/wardgate/banners"),
        ("POST", "/wardgate/banners"),
    ):
        assert (await api.request(method, target, json={})).status_code == 401


async def test_unknown_accounts_are_not_found(operator: httpx2.AsyncClient) -> None:
    path = f"/wardgate/accounts/{UUID(int=7)}"
    assert (await operator.get(path)).status_code == 404
    assert (await operator.patch(path, json={"account": {}})).status_code == 404
    deletion = {"deletion": {"slug": "acme"}}
    assert (await operator.post(f"{path}/deletion", json=deletion)).status_code == 404
    assert (await operator.delete(f"{path}/deletion")).status_code == 404


async def test_a_banner_is_shown_until_it_is_deleted(operator: httpx2.AsyncClient) -> None:
    made = await operator.post("/wardgate/banners", json={"banner": {"message": "Maintenance"}})
    banner = made.json()["data"]
    assert (made.status_code, banner["color"]) == (201, "warning")
    assert made.headers["location"] == f"/wardgate/banners/{banner['id']}"
    assert (await operator.get("/wardgate/banners")).json()["data"] == [banner]
    shown = await operator.get(f"/wardgate/banners/{banner['id']}")
    assert (shown.json()["data"], shown.headers["etag"]) == (banner, made.headers["etag"])
    assert (await operator.delete(f"/wardgate/banners/{banner['id']}")).json()["data"] == banner
    assert (await operator.delete(f"/wardgate/banners/{banner['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("banner", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": "x" * 1001}, "message"),
        ({}, "message"),
        ({"message": "x", "color": "pink"}, "color"),
        ({"message": "x", "color": None}, "color"),
    ],
)
async def test_a_wrong_banner_is_refused(
    operator: httpx2.AsyncClient, banner: dict[str, Any], field: str
) -> None:
    answer = await operator.post("/wardgate/banners", json={"banner": banner})
    assert answer.status_code == 422
    assert list(answer.json()["validation_errors"]) == [field]


async def create(
    operator: httpx2.AsyncClient, headers: dict[str, str] | None = None, **changes: Any
) -> httpx2.Response:
    return await operator.post("/wardgate/accounts", json={"account": {**NEW, **changes}}, headers=headers)
