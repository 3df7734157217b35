"""The members of static device pools."""

from uuid import uuid4

import httpx2

from support.portal import World
from wardgate.portal.access.tables import Resource
from wardgate.portal.devices.tables import Device

NOWHERE = "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c"


async def client_of(world: World, name: str) -> str:
    async with world.portal.services.store.writing() as transaction:
        device = await transaction.of(world.account_id).devices.insert(
            Device(
                id=uuid4(),
                account_id=world.account_id,
                type="client",
                name=name,
                actor_id=world.actor.id,
                psk_base=b"p" * 32,
            )
        )
    return str(device.id)


async def pool_of(world: World) -> str:
    async with world.portal.services.store.writing() as transaction:
        pool = await transaction.of(world.account_id).resources.insert(
            Resource(id=uuid4(), account_id=world.account_id, type="static_device_pool", name="laptops")
        )
    return f"/resources/{pool.id}/pool_members"


async def test_members_are_replaced_changed_and_listed(api: httpx2.AsyncClient, world: World) -> None:
    path, one, two = await pool_of(world), await client_of(world, "one"), await client_of(world, "two")
    put = await api.put(path, json={"pool_members": [{"device_id": one}, {"device_id": one}]})
    assert put.json()["data"] == {"device_ids": [one]}
    patched = await api.patch(path, json={"pool_members": {"add": [two, one], "remove": [one]}})
    assert patched.json()["data"] == {"device_ids": sorted([one, two])}
    listed = (await api.get(path)).json()
    assert [set(row) for row in listed["data"]] == [{"id", "name", "last_seen_at"}] * 2
    assert {row["id"] for row in listed["data"]} == {one, two}
    removed = await api.patch(path, json={"pool_members": {"remove": [one, NOWHERE]}})
    assert removed.json()["data"] == {"device_ids": [two]}
    assert (await api.put(path, json={"pool_members": []})).json()["data"] == {"device_ids": []}


async def test_bad_members_change_nothing(api: httpx2.AsyncClient, world: World, foreign: World) -> None:
    path, one, theirs = await pool_of(world), await client_of(world, "one"), await client_of(foreign, "x")
    await api.put(path, json={"pool_members": [{"device_id": one}]})
    for verb, members, expected in (
        (
            "PUT",
            [{"device_id": 5}, {"device_id": theirs}, "x"],
            {
                "pool_members": [
                    "entry 0 is missing a string device_id",
                    "entry 2 is missing a string device_id",
                    f"{theirs} is not a Client in this account",
                ]
            },
        ),
        ("PATCH", {"add": one}, {"add": ["must be a list of Client ID strings"]}),
        (
            "PATCH",
            {"add": [1], "remove": "x"},
            {name: ["must be a list of Client ID strings"] for name in ("add", "remove")},
        ),
        ("PATCH", {"remove": ["x"]}, {"pool_members": ["x is not a Client in this account"]}),
        ("PATCH", {"add": ["x"]}, {"pool_members": ["x is not a Client in this account"]}),
    ):
        answer = await api.request(verb, path, json={"pool_members": members})
        assert (answer.status_code, answer.json()["validation_errors"]) == (422, expected)
    assert (await api.patch(path, json={"pool_members": {}})).status_code == 400
    assert [row["id"] for row in (await api.get(path)).json()["data"]] == [one]


async def test_only_static_pools_have_members(api: httpx2.AsyncClient, world: World) -> None:
    path = f"/resources/{world.resource.id}/pool_members"
    for method, body in (("GET", None), ("PUT", {"pool_members": []})):
        answer = await api.request(method, path, json=body)
        assert (answer.status_code, answer.json()["detail"]) == (
            400,
            "Resource type cidr has no pool members; only static_device_pool does",
        )
    assert (await api.get(f"/resources/{NOWHERE}/pool_members")).status_code == 404


async def test_a_list_of_clients_is_not_changed_in_another_version(
    api: httpx2.AsyncClient, world: World
) -> None:
    path, one = await pool_of(world), await client_of(world, "one")
    empty = (await api.get(path)).headers["etag"]
    put = await api.put(path, json={"pool_members": [{"device_id": one}]}, headers={"if-match": empty})
    assert (put.status_code, put.headers["etag"]) == (200, (await api.get(path)).headers["etag"])
    for method, body in (("PUT", []), ("PATCH", {"remove": [one]})):
        stale = await api.request(method, path, json={"pool_members": body}, headers={"if-match": empty})
        assert stale.status_code == 412
    assert (await api.get(path)).json()["metadata"]["count"] == 1
