"""The objects of the API, one rule a test."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from support.browser import caller, make_api_token
from support.portal import World

NOWHERE = "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c"


async def made(api: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def errors(answer: httpx2.Response, status: int = 422) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json().get("validation_errors")


# ── Conventions ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("collection", "key"),
    [
        ("sites", "site"),
        ("groups", "group"),
        ("resources", "resource"),
        ("policies", "policy"),
        ("actors", "actor"),
        ("clients", "client"),
    ],
)
async def test_another_accounts_objects_do_not_exist(
    api: httpx2.AsyncClient, foreign: World, collection: str, key: str
) -> None:
    token, _ = await make_api_token(foreign)
    async with foreign.client(), caller(foreign.portal, token) as theirs:
        listed = (await theirs.get(f"/{collection}")).json()["data"]
    assert listed
    for id_ in (one["id"] for one in listed):
        for method, body in (("GET", None), ("PATCH", {key: {"name": "mine"}}), ("DELETE", None)):
            answer = await api.request(method, f"/{collection}/{id_}", json=body)
            assert answer.status_code == 404, (method, answer.text)


async def test_what_is_created_says_where_it_is_and_unknown_fields_are_ignored(
    api: httpx2.AsyncClient,
) -> None:
    answer = await api.post("/groups", json={"group": {"name": "  Staff ", "colour": "red"}, "x": 1})
    group = answer.json()["data"]
    assert answer.headers["location"] == f"/groups/{group['id']}"
    assert group["name"] == "Staff"
    assert (await api.get(answer.headers["location"])).json()["data"] == group


async def test_deleting_returns_the_last_representation(api: httpx2.AsyncClient) -> None:
    site = await made(api, "/sites", {"site": {"name": "short-lived"}})
    answer = await api.delete(f"/sites/{site['id']}")
    assert (answer.status_code, answer.json()["data"]) == (200, site)
    assert (await api.get(f"/sites/{site['id']}")).status_code == 404


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
async def test_both_verbs_merge(api: httpx2.AsyncClient, world: World, verb: str) -> None:
    path = f"/resources/{world.resource.id}"
    await api.request(verb, path, json={"resource": {"address_description": "the lab"}})
    after = (await api.request(verb, path, json={"resource": {"name": "lab"}})).json()["data"]
    assert (after["name"], after["address_description"], after["address"]) == (
        "lab",
        "the lab",
        "10.20.0.0/16",
    )
    cleared = (await api.request(verb, path, json={"resource": {"address_description": None}})).json()["data"]
    assert cleared["address_description"] is None


@pytest.mark.parametrize("name", [None, "", "   ", 5, [], {}, "n" * 256, "nul\x00"])
async def test_a_bad_name_is_told_by_its_field(api: httpx2.AsyncClient, name: Any) -> None:
    assert list(await errors(await api.post("/groups", json={"group": {"name": name}}))) == ["name"]


async def test_text_with_quotes_and_lines_is_stored_as_it_is(api: httpx2.AsyncClient) -> None:
    name = 'Robert\'); DROP TABLE groups;--\n"x" %s {0} <b>'
    group = await made(api, "/groups", {"group": {"name": name}})
    assert (await api.get("/groups", params={"name": name})).json()["data"] == [group]


# ── Pagination ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_pages_forth_and_back_show_every_row_once(api: httpx2.AsyncClient) -> None:
    for number in range(7):
        await made(api, "/groups", {"group": {"name": f"g{number}"}})
    everything = [one["name"] for one in (await api.get("/groups")).json()["data"]]
    seen, cursor, last = [], None, {}
    while True:
        last = (
            await api.get("/groups", params={"limit": "3", **({"page_cursor": cursor} if cursor else {})})
        ).json()
        seen += [one["name"] for one in last["data"]]
        cursor = last["metadata"]["next_page"]
        if cursor is None:
            break
    assert seen == everything
    assert last["metadata"]["count"] == len(everything)
    back = (
        await api.get("/groups", params={"limit": "3", "page_cursor": last["metadata"]["prev_page"]})
    ).json()
    assert [one["name"] for one in back["data"]] == everything[-5:-2]
    assert back["metadata"]["next_page"] is not None
    whole = (await api.get("/groups", params={"limit": str(len(everything))})).json()
    assert ([one["name"] for one in whole["data"]], whole["metadata"]["next_page"]) == (everything, None)


@pytest.mark.parametrize(
    ("limit", "status", "applied"),
    [
        ("0", 200, 1),
        ("-5", 200, 1),
        ("1000", 200, 100),
        ("2.5", 400, None),
        ("x", 400, None),
        ("", 400, None),
    ],
)
async def test_a_limit_is_clamped_or_refused(
    api: httpx2.AsyncClient, limit: str, status: int, applied: int | None
) -> None:
    answer = await api.get("/groups", params={"limit": limit})
    assert answer.status_code == status
    assert answer.json().get("metadata", {}).get("limit") == applied


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "bnVsbA",
        "W10",
        "é",
        "WyJhZnRlciIsIDEsICJ4Il0",
        "WyJhZnRlciIsOTk5OTk5OTk5OTk5OTk5OTk5OTksIjVmMmM1ZjJjLTVmMmMtNGYyYy04ZjJjLTVmMmM1ZjJjNWYyYyJd",
        "A" * 5000,
    ],
)
async def test_a_cursor_that_is_none_is_refused(api: httpx2.AsyncClient, cursor: str) -> None:
    answer = await api.get("/groups", params={"page_cursor": cursor})
    assert (answer.status_code, answer.json()["detail"]) == (400, "Invalid page cursor")


# ── Actors and client tokens ─────────────────────────────────────────────────────────────────────────────────


async def test_an_actor_is_made_listed_and_changed(api: httpx2.AsyncClient) -> None:
    actor = await made(
        api, "/actors", {"actor": {"name": "Eve", "type": "account_user", "email": "Eve@BÜCHER.example"}}
    )
    assert actor["email"] == "Eve@xn--bcher-kva.example"
    assert (actor["is_disabled"], actor["last_seen_at"]) == (False, None)
    listed = (await api.get("/actors", params={"email": actor["email"]})).json()["data"]
    assert listed == [actor]
    disabled = await api.patch(f"/actors/{actor['id']}", json={"actor": {"is_disabled": True}})
    assert disabled.json()["data"]["is_disabled"] is True


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"type": ["can't be blank"], "name": ["can't be blank"]}),
        ({"name": "a", "type": "api_client"}, {"type": ["API clients cannot be created via the API"]}),
        ({"name": "a", "type": "robot"}, {"type": ["is invalid"]}),
        (
            {"name": "a", "type": "account_user", "email": "nobody@localhost"},
            {"email": ["is an invalid email address"]},
        ),
        ({"name": "a", "type": "account_user"}, {"email": ["can't be blank"]}),
        (
            {"name": "a", "type": "account_user", "email": "ADA@example.org"},
            {"email": ["has already been taken"]},
        ),
        ({"name": 1, "type": "account_user", "email": []}, {"name": ["is invalid"], "email": ["is invalid"]}),
    ],
)
async def test_a_bad_actor_is_told_by_field(
    api: httpx2.AsyncClient, fields: dict[str, Any], expected: Any
) -> None:
    assert await errors(await api.post("/actors", json={"actor": fields})) == expected


async def test_types_change_only_between_user_and_admin(api: httpx2.AsyncClient, world: World) -> None:
    path = f"/actors/{world.actor.id}"
    promoted = await api.patch(path, json={"actor": {"type": "account_admin_user"}})
    assert promoted.json()["data"]["type"] == "account_admin_user"
    wrong = await api.patch(path, json={"actor": {"type": "service_account", "email": None}})
    assert await errors(wrong) == {"type": ["cannot change a user to a service account or API client"]}


async def test_an_api_client_cannot_disable_itself(world: World) -> None:
    token, actor_id = await make_api_token(world)
    async with caller(world.portal, token) as api:
        answer = await api.patch(f"/actors/{actor_id}", json={"actor": {"is_disabled": True}})
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        "You cannot disable the Actor used to make this request",
    )


async def test_client_tokens_are_for_service_accounts_and_for_users_under_our_own_path(
    api: httpx2.AsyncClient, world: World
) -> None:
    expires_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"client_token": {"expires_at": expires_at}}
    refused = await api.post(f"/actors/{world.actor.id}/client_tokens", json=body)
    assert (refused.status_code, refused.json()["detail"]) == (400, "Actor must be a service account")
    robot = await made(api, "/actors", {"actor": {"name": "robot", "type": "service_account"}})
    token = await made(api, f"/actors/{robot['id']}/client_tokens", body)
    assert token["token"].startswith(".wg_client_")
    own = await made(
        api,
        "/wardgate/client_tokens",
        {"client_token": {"actor_id": str(world.actor.id), "expires_at": expires_at}},
    )
    world.client_token = own["token"]
    async with world.client() as peer:
        await peer.join()
    listed = (await api.get(f"/actors/{robot['id']}/client_tokens")).json()["data"]
    assert [set(one) for one in listed] == [{"id", "actor_id", "expires_at", "inserted_at", "updated_at"}]
    assert (await api.delete(f"/actors/{robot['id']}/client_tokens/{own['id']}")).status_code == 404
    assert (await api.delete(f"/actors/{robot['id']}/client_tokens")).json()["data"] == {"deleted_count": 1}


@pytest.mark.parametrize(
    ("expires_at", "message"),
    [
        (None, "can't be blank"),
        ("2020-01-01T00:00:00Z", "must be in the future"),
        ("tomorrow", "is invalid"),
        ("2030-01-01T00:00:00", "is invalid"),
        ("9999-12-31T23:59:59-23:59", "is invalid"),
    ],
)
async def test_a_token_needs_a_time_to_come(api: httpx2.AsyncClient, expires_at: Any, message: str) -> None:
    robot = await made(api, "/actors", {"actor": {"name": "robot", "type": "service_account"}})
    answer = await api.post(
        f"/actors/{robot['id']}/client_tokens", json={"client_token": {"expires_at": expires_at}}
    )
    assert await errors(answer) == {"expires_at": [message]}


# ── Groups and memberships ───────────────────────────────────────────────────────────────────────────────────


async def test_everyone_is_hidden_and_names_are_unique(api: httpx2.AsyncClient, world: World) -> None:
    names = [one["name"] for one in (await api.get("/groups")).json()["data"]]
    assert names == ["Engineering"]
    taken = await api.post("/groups", json={"group": {"name": "Engineering"}})
    assert await errors(taken) == {"name": ["A group with this name already exists."]}


async def test_members_are_replaced_changed_and_kept(api: httpx2.AsyncClient, world: World) -> None:
    eve = await made(api, "/actors", {"actor": {"name": "Eve", "type": "service_account"}})
    path, ada = f"/groups/{world.group.id}/memberships", str(world.actor.id)
    both = await api.put(
        path, json={"memberships": [{"actor_id": ada}, {"actor_id": eve["id"]}, {"actor_id": ada}]}
    )
    assert both.json()["data"] == {"actor_ids": sorted([ada, eve["id"]])}
    async with world.portal.services.store.reading() as transaction:
        assert await transaction.of(world.account_id).memberships.load(world.membership.id) is not None
    changed = await api.patch(path, json={"memberships": {"add": eve["id"], "remove": [ada, eve["id"]]}})
    assert changed.json()["data"] == {"actor_ids": [eve["id"]]}
    assert (await api.get(path)).json()["data"] == [
        {"id": eve["id"], "name": "Eve", "type": "service_account"}
    ]
    assert (await api.put(path, json={"memberships": []})).json()["data"] == {"actor_ids": []}


@pytest.mark.parametrize("name", ["Staff", 5, None])
async def test_a_synced_group_is_neither_renamed_nor_given_members_but_deleted(
    api: httpx2.AsyncClient, world: World, name: Any
) -> None:
    async with world.portal.services.store.writing() as transaction:
        groups = transaction.of(world.account_id).groups
        await groups.save(replace(world.group, idp_id="g:1"))
    path = f"/groups/{world.group.id}"
    for answer, detail in (
        (await api.patch(path, json={"group": {"name": name}}), "Cannot update a synced Group"),
        (await api.put(f"{path}/memberships", json={"memberships": [5]}), "Group is not editable"),
    ):
        assert (answer.status_code, answer.json()["detail"]) == (403, detail)
    assert (await api.delete(path)).status_code == 200


async def test_bad_members_change_nothing(api: httpx2.AsyncClient, world: World, foreign: World) -> None:
    path, ada = f"/groups/{world.group.id}/memberships", str(world.actor.id)
    answer = await api.put(
        path, json={"memberships": [{"actor_id": "x"}, {}, {"actor_id": str(foreign.actor.id)}]}
    )
    assert await errors(answer) == {
        "memberships": [
            "x is not a valid Actor ID",
            "entry is missing an Actor ID",
            f"{foreign.actor.id} is not an Actor in this account",
        ]
    }
    assert [one["id"] for one in (await api.get(path)).json()["data"]] == [ada]


async def test_the_members_of_everyone_are_not_editable(api: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.reading() as transaction:
        groups = transaction.of(world.account_id).groups
        everyone = await groups.find(groups.c.type == "managed")
    assert everyone is not None
    answer = await api.put(f"/groups/{everyone.id}/memberships", json={"memberships": []})
    assert (answer.status_code, answer.json()["detail"]) == (403, "Group is not editable")
    assert (await api.get(f"/groups/{everyone.id}")).status_code == 404


# ── Sites, gateways, tokens ──────────────────────────────────────────────────────────────────────────────────


async def test_the_internet_site_is_listed_and_not_changed(api: httpx2.AsyncClient) -> None:
    (internet,) = (await api.get("/sites", params={"name": "Internet"})).json()["data"]
    for answer in (
        await api.patch(f"/sites/{internet['id']}", json={"site": {"name": "x"}}),
        await api.delete(f"/sites/{internet['id']}"),
    ):
        assert (answer.status_code, answer.json()["detail"]) == (
            403,
            "System managed Site cannot be modified",
        )


async def test_a_provisioned_gateway_connects_with_its_token_and_is_shown_online(
    api: httpx2.AsyncClient, world: World
) -> None:
    path = f"/sites/{world.site.id}/gateways"
    answer = await api.post(path)
    gateway = answer.json()["data"]
    assert answer.headers["location"] == f"{path}/{gateway['id']}"
    assert len(gateway["name"]) == 5
    assert gateway["token"].startswith(".wg_gateway_")
    world.gateway_token = gateway["token"]
    async with world.gateway() as peer:
        await peer.join()
        shown = (await api.get(f"{path}/{gateway['id']}")).json()["data"]
        assert shown["online"] is True
        assert "token" not in shown
    assert (await api.get(path, params={"ipv4": gateway["ipv4"]})).json()["data"][0]["id"] == gateway["id"]
    assert (await api.get(path, params={"ipv4": "x"})).status_code == 400


@pytest.mark.parametrize("name", ["", "  ", "n" * 256])
async def test_a_gateways_given_name_is_checked(api: httpx2.AsyncClient, world: World, name: str) -> None:
    answer = await api.post(f"/sites/{world.site.id}/gateways", json={"gateway": {"name": name}})
    assert list(await errors(answer)) == ["name"]


async def test_a_gateway_has_one_active_token_that_is_rotated(api: httpx2.AsyncClient, world: World) -> None:
    gateway = await made(api, f"/sites/{world.site.id}/gateways", {"gateway": {"name": "one"}})
    path = f"/sites/{world.site.id}/gateways/{gateway['id']}/token"
    assert (await api.post(path)).status_code == 409
    world.gateway_token = gateway["token"]
    async with world.gateway() as peer:
        await peer.join()
        await world.portal.journal.flush()
        first = await made(api, f"{path}/rotate", {})
        second = await made(api, f"{path}/rotate", {})
        assert first["id"] != second["id"]
        rotated = (await api.get(f"/sites/{world.site.id}/gateways/{gateway['id']}")).json()["data"]
        assert rotated["rotated_at"] is not None
    async with world.portal.services.store.reading() as transaction:
        tokens = transaction.of(world.account_id).gateway_tokens
        left = await tokens.load_all(tokens.c.device_id.is_not(None))
    assert len(left) == 2
    assert str(second["id"]) in {str(token.id) for token in left}


async def test_site_tokens_are_deprecated_and_deleted_alone(api: httpx2.AsyncClient, world: World) -> None:
    path = f"/sites/{world.site.id}/gateway_tokens"
    gateway = await made(api, f"/sites/{world.site.id}/gateways", {"gateway": {"name": "one"}})
    answer = await api.post(path)
    assert answer.headers["deprecation"] == "true"
    assert answer.headers["sunset"] == "Thu, 01 Oct 2026 00:00:00 GMT"
    assert (await api.delete(f"{path}/{answer.json()['data']['id']}")).status_code == 200
    assert (await api.delete(path)).json()["data"] == {"deleted_count": 1}
    assert (await api.get(f"/sites/{world.site.id}/gateways/{gateway['id']}")).status_code == 200
    assert (await api.delete(f"{path}/{NOWHERE}")).status_code == 404


# ── Clients ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_client_is_shown_verified_renamed_and_deleted(api: httpx2.AsyncClient, world: World) -> None:
    async with world.client() as peer:
        await peer.join()
        await world.portal.journal.flush()
        (client,) = (await api.get("/clients", params={"firezone_id": "client-1"})).json()["data"]
        assert client["online"] is True
        assert client["actor_id"] == str(world.actor.id)
        assert "created_at" in client
        assert "inserted_at" not in client
        path = f"/clients/{client['id']}"
        first = (await api.put(f"{path}/verify")).json()["data"]["verified_at"]
        assert (await api.put(f"{path}/verify")).json()["data"]["verified_at"] == first
        assert (await api.put(f"{path}/unverify")).json()["data"]["verified_at"] is None
        renamed = await api.patch(path, json={"client": {"name": "laptop", "hostname": "x.example.org"}})
        assert (renamed.json()["data"]["name"], renamed.json()["data"]["hostname"]) == ("laptop", None)
        assert (await api.delete(path)).status_code == 200
    assert (await api.get(path)).status_code == 404


async def test_a_client_gets_a_host_name_that_no_other_has(api: httpx2.AsyncClient, world: World) -> None:
    async with world.client() as one, world.client(external_id="client-2") as two:
        await one.join()
        await two.join()
    first, second = (
        f"/wardgate/clients/{each['id']}/hostname" for each in (await api.get("/clients")).json()["data"]
    )
    named = await api.put(first, json={"client": {"hostname": " nas.Lab.example "}})
    assert named.json()["data"]["hostname"] == "nas.Lab.example"
    taken = await api.put(second, json={"client": {"hostname": "NAS.lab.example"}})
    assert await errors(taken) == {"hostname": ["has already been taken"]}
    for wrong in ("ab", "*.lab.example", "a b.example", "x" * 256, "-a.example", "a..b"):
        assert list(await errors(await api.put(second, json={"client": {"hostname": wrong}}))) == ["hostname"]
    assert (await api.put(second, json={"client": {}})).status_code == 400
    cleared = await api.put(
        first, json={"client": {"hostname": ""}}, headers={"if-match": named.headers["etag"]}
    )
    assert cleared.json()["data"]["hostname"] is None


# ── Account, audit ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_account_shows_its_configured_limits(api: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        await transaction.accounts.save(
            replace(
                account,
                limits={
                    "users_count": 2,
                    "sites_count": 1,
                    "monthly_active_users_count": None,
                    "api_capacity": 5_000_000,
                },
            )
        )
    shown = (await api.get("/account")).json()["data"]
    assert shown["limits"] == {
        "users": {"used": 2, "available": 0, "total": 2},
        "sites": {"used": 2, "available": 0, "total": 1},
    }
    for path, body, detail in (
        ("/sites", {"site": {"name": "x"}}, "Sites limit reached"),
        ("/actors", {"actor": {"type": "account_user"}}, "Users limit reached"),
    ):
        answer = await api.post(path, json=body)
        assert (answer.status_code, answer.json()["detail"]) == (403, detail)


async def test_a_change_is_attributed_to_its_caller(api: httpx2.AsyncClient, world: World) -> None:
    await made(api, "/sites", {"site": {"name": "audited"}})
    async with world.portal.services.store.reading() as transaction:
        (change,) = await transaction.of(world.account_id).changes(limit=1, newest_first=True)
    assert change.after is not None
    assert change.subject is not None
    assert (change.after["name"], change.subject["actor_type"], change.subject["ip"]) == (
        "audited",
        "api_client",
        "192.0.2.9",
    )


async def test_only_users_who_were_there_lately_count_as_active(
    api: httpx2.AsyncClient, world: World
) -> None:
    async with world.client() as peer:
        await peer.join()
        await world.portal.journal.flush()
    async with world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        limits = {"users_count": 1, "monthly_active_users_count": 2}
        await transaction.accounts.save(replace(account, limits=limits))
    active = (await api.get("/account")).json()["data"]["limits"]["monthly_active_users"]
    assert active == {"used": 1, "available": 1, "total": 2}
    await made(api, "/actors", {"actor": {"name": "Eve", "type": "account_user", "email": "eve@example.org"}})
