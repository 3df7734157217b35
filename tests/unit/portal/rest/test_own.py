"""What is ours beyond the published API."""

import httpx2
import pytest

from support.portal import World


async def test_a_relay_token_is_made_used_and_deleted(operator: httpx2.AsyncClient, world: World) -> None:
    answer = await operator.post("/wardgate/relay_tokens", json={"relay_token": {"name": "relay-1"}})
    assert answer.status_code == 201
    made = answer.json()["data"]
    assert set(made) == {"id", "name", "token"}
    world.relay_token = made["token"]
    async with world.relay() as peer:
        await peer.join({"stamp_secret": "ab" * 32})
        (relay,) = (await operator.get("/wardgate/relays")).json()["data"]
        assert (relay["name"], relay["ipv4"], relay["port"]) == ("relay-1", "198.51.100.7", 3478)
        names = [one["name"] for one in (await operator.get("/wardgate/relay_tokens")).json()["data"]]
        assert names == ["r", "relay-1"]
        assert (await operator.delete(f"/wardgate/relay_tokens/{made['id']}")).json()["data"] == {
            "id": made["id"]
        }
    assert (await operator.delete(f"/wardgate/relay_tokens/{made['id']}")).status_code == 404


async def test_a_relay_token_needs_a_name(operator: httpx2.AsyncClient) -> None:
    answer = await operator.post("/wardgate/relay_tokens", json={"relay_token": {}})
    assert answer.json()["validation_errors"] == {"name": ["can't be blank"]}


async def test_explain_tells_why_an_actor_may(api: httpx2.AsyncClient, world: World) -> None:
    params = {"actor_id": str(world.actor.id), "resource_id": str(world.resource.id)}
    told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert (told["outcome"], told["policy_id"]) == ("granted", str(world.policy.id))
    assert told["text"].startswith("GRANTED: Ada → net (10.20.0.0/16)")


async def test_explain_tells_why_not_and_follows_changes(api: httpx2.AsyncClient, world: World) -> None:
    params = {"actor_id": str(world.actor.id), "resource_id": str(world.resource.id)}
    conditions = [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["10.0.0.0/8"]}]
    await api.patch(f"/policies/{world.policy.id}", json={"policy": {"conditions": conditions}})
    for more, outcome in (
        ({}, "undetermined"),
        ({"remote_ip": "192.0.2.1"}, "denied"),
        ({"remote_ip": "10.1.1.1"}, "granted"),
    ):
        told = (await api.get("/wardgate/explain", params={**params, **more})).json()["data"]
        assert told["outcome"] == outcome
    await api.delete(f"/policies/{world.policy.id}")
    told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert (told["outcome"], told["obstacle"]) == ("denied", "no_policy")


async def test_explain_takes_a_connected_clients_own_address(api: httpx2.AsyncClient, world: World) -> None:
    conditions = [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["192.0.2.7"]}]
    await api.patch(f"/policies/{world.policy.id}", json={"policy": {"conditions": conditions}})
    async with world.client() as peer:
        await peer.join()
        await world.portal.journal.flush()
        (client,) = (await api.get("/clients")).json()["data"]
        params = {"client_id": client["id"], "resource_id": str(world.resource.id)}
        assert (await api.get("/wardgate/explain", params=params)).json()["data"]["outcome"] == "granted"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"actor_id": None}, 400),
        ({"resource_id": None}, 400),
        ({"resource_id": "x"}, 400),
        ({"client_id": "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c"}, 400),
        ({"actor_id": "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c"}, 404),
        ({"resource_id": "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c"}, 404),
        ({"remote_ip": "x"}, 400),
        ({"provider": "x"}, 400),
    ],
)
async def test_bad_questions_are_refused(
    api: httpx2.AsyncClient, world: World, change: dict[str, str | None], status: int
) -> None:
    params = {"actor_id": str(world.actor.id), "resource_id": str(world.resource.id), **change}
    answer = await api.get(
        "/wardgate/explain", params={key: value for key, value in params.items() if value is not None}
    )
    assert answer.status_code == status


async def test_another_accounts_people_and_resources_are_not_explained(
    api: httpx2.AsyncClient, world: World, foreign: World
) -> None:
    for actor, resource in ((foreign.actor, world.resource), (world.actor, foreign.resource)):
        params = {"actor_id": str(actor.id), "resource_id": str(resource.id)}
        assert (await api.get("/wardgate/explain", params=params)).status_code == 404
