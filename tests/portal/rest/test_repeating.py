"""Repeated and conditional calls: `Idempotency-Key`, `ETag`, `If-Match`."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from support.browser import caller, make_api_token
from support.portal import World
from wardgate.portal.logs.tables import IDEMPOTENCY_KEYS

KEY = {"idempotency-key": "b2f8-first try"}


async def names(api: httpx2.AsyncClient) -> list[str]:
    return [site["name"] for site in (await api.get("/sites")).json()["data"]]


async def test_a_repeated_post_gets_the_first_answer_and_makes_nothing(
    api: httpx2.AsyncClient, world: World
) -> None:
    path, body = f"/sites/{world.site.id}/gateways", {"gateway": {"name": "one"}}
    first = await api.post(path, json=body, headers=KEY)
    again = await api.post(path, json=body, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert (await api.get(path)).json()["metadata"]["count"] == 1


async def test_two_at_once_make_one(api: httpx2.AsyncClient) -> None:
    body = {"site": {"name": "twin"}}
    answers = await asyncio.gather(*(api.post("/sites", json=body, headers=KEY) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["data"]["id"] for answer in answers}) == 1


async def test_a_kept_answer_does_not_show_its_token_in_the_database(
    api: httpx2.AsyncClient, world: World
) -> None:
    answer = await api.post(f"/sites/{world.site.id}/gateway_tokens", headers=KEY)
    async with world.portal.services.store.reading() as transaction:
        (kept,) = (await transaction.execute(select(IDEMPOTENCY_KEYS.c.answer))).scalars()
    assert answer.json()["data"]["token"].encode() not in kept


async def test_a_refusal_is_not_kept(api: httpx2.AsyncClient) -> None:
    taken = await api.post("/sites", json={"site": {"name": "Berlin"}}, headers=KEY)
    assert taken.status_code == 422
    free = await api.post("/sites", json={"site": {"name": "Bern"}}, headers=KEY)
    assert free.status_code == 201


async def test_a_key_belongs_to_one_request_of_one_token(api: httpx2.AsyncClient, world: World) -> None:
    await api.post("/sites", json={"site": {"name": "a"}}, headers=KEY)
    other = await api.post("/sites", json={"site": {"name": "b"}}, headers=KEY)
    assert (other.status_code, other.json()["detail"]) == (
        422,
        "This Idempotency-Key was used for another request.",
    )
    token, _ = await make_api_token(world)
    async with caller(world.portal, token) as colleague:
        assert (await colleague.post("/sites", json={"site": {"name": "c"}}, headers=KEY)).status_code == 201
    assert set(await names(api)) == {"Internet", "Default Site", "Berlin", "a", "c"}


async def test_a_key_is_forgotten_after_a_day(api: httpx2.AsyncClient, world: World) -> None:
    await api.post("/sites", json={"site": {"name": "a"}}, headers=KEY)
    async with world.portal.services.store.writing() as transaction:
        await transaction.execute(
            update(IDEMPOTENCY_KEYS.table).values(inserted_at=transaction.now - timedelta(hours=25))
        )
    assert (await api.post("/sites", json={"site": {"name": "b"}}, headers=KEY)).status_code == 201


@pytest.mark.parametrize("key", [b"", b"k" * 256, "schlüssel".encode(), b"a\tb"])
async def test_a_bad_key_is_refused(api: httpx2.AsyncClient, key: bytes) -> None:
    answer = await api.post("/sites", json={"site": {"name": "a"}}, headers=[(b"idempotency-key", key)])
    assert answer.status_code == 400
    assert "a" not in await names(api)


async def test_the_operators_calls_are_repeatable_too(operator: httpx2.AsyncClient) -> None:
    body = {"relay_token": {"name": "relay-1"}}
    answers = [await operator.post("/wardgate/relay_tokens", json=body, headers=KEY) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len((await operator.get("/wardgate/relay_tokens")).json()["data"]) == 2


def objects(world: World) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [
        (f"/sites/{world.site.id}", {"site": {"name": "x"}}, {"site": {"name": "y"}}),
        (f"/groups/{world.group.id}", {"group": {"name": "x"}}, {"group": {"name": "y"}}),
        (f"/actors/{world.actor.id}", {"actor": {"name": "x"}}, {"actor": {"name": "y"}}),
        (f"/resources/{world.resource.id}", {"resource": {"name": "x"}}, {"resource": {"name": "y"}}),
        (
            f"/policies/{world.policy.id}",
            {"policy": {"description": "x"}},
            {"policy": {"description": "y"}},
        ),
    ]


async def test_an_edit_of_a_stale_version_is_refused(api: httpx2.AsyncClient, world: World) -> None:
    gateway = (await api.post(f"/sites/{world.site.id}/gateways")).json()["data"]
    edits = objects(world)
    edits.append(
        (
            f"/sites/{world.site.id}/gateways/{gateway['id']}",
            {"gateway": {"name": "x"}},
            {"gateway": {"name": "y"}},
        )
    )
    for path, first, second in edits:
        tag = (await api.get(path)).headers["etag"]
        done = await api.patch(path, json=first, headers={"if-match": tag})
        assert done.status_code == 200, done.text
        assert done.headers["etag"] == (await api.get(path)).headers["etag"] != tag
        stale = await api.put(path, json=second, headers={"if-match": tag})
        assert (stale.status_code, stale.json()["detail"]) == (
            412,
            "The object has changed since the version that If-Match names.",
        )
        assert (await api.delete(path, headers={"if-match": tag})).status_code == 412
        current = {"if-match": f'"other", {done.headers["etag"]}'}
        assert (await api.patch(path, json=second, headers=current)).status_code == 200
        assert (await api.patch(path, json=first, headers={"if-match": "*"})).status_code == 200


async def test_a_new_object_comes_with_its_version(api: httpx2.AsyncClient) -> None:
    made = await api.post("/groups", json={"group": {"name": "new"}})
    shown = await api.get(made.headers["location"])
    assert made.headers["etag"] == shown.headers["etag"]


async def test_a_connect_leaves_the_version_of_a_device(api: httpx2.AsyncClient, world: World) -> None:
    async with world.client() as peer:
        await peer.join()
        await world.portal.journal.flush()
        (client,) = (await api.get("/clients")).json()["data"]
    tag = (await api.get(f"/clients/{client['id']}")).headers["etag"]
    async with world.client() as peer:
        await peer.join()
        await world.portal.journal.flush()
        answer = await api.put(f"/clients/{client['id']}/verify", headers={"if-match": tag})
    assert answer.status_code == 200


async def test_a_list_of_members_has_a_version_whatever_page_is_shown(
    api: httpx2.AsyncClient, world: World
) -> None:
    path = f"/groups/{world.group.id}/memberships"
    robot = {"actor": {"name": "robot", "type": "service_account"}}
    new = (await api.post("/actors", json=robot)).json()["data"]["id"]
    before = (await api.get(path)).headers["etag"]
    added = await api.patch(path, json={"memberships": {"add": [new]}}, headers={"if-match": before})
    assert added.status_code == 200
    for params in ({}, {"limit": "1"}):
        assert (await api.get(path, params=params)).headers["etag"] == added.headers["etag"] != before
    for method, body in (("PUT", []), ("PATCH", {"remove": [new]}), ("PATCH", {"add": ["x"]})):
        stale = await api.request(method, path, json={"memberships": body}, headers={"if-match": before})
        assert stale.status_code == 412
    assert (await api.get(path)).json()["metadata"]["count"] == 2
    back = await api.patch(path, json={"memberships": {"remove": [new]}}, headers={"if-match": "*"})
    assert back.headers["etag"] == before


async def test_what_can_be_read_by_its_id_is_not_deleted_in_another_version(
    api: httpx2.AsyncClient, world: World
) -> None:
    path = f"/actors/{world.actor.id}/client_tokens/{world.client_token_id}"
    tag = (await api.get(path)).headers["etag"]
    assert (await api.delete(path, headers={"if-match": '"other"'})).status_code == 412
    assert (await api.delete(path, headers={"if-match": tag})).status_code == 200
