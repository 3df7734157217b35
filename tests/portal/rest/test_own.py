"""What is ours beyond the published API."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from support.pools import caught_up
from support.portal import RELAY_AGENT, World
from wardgate.model.ids import ActorId, ResourceId
from wardgate.policy.engine import AccessRequest, authorize
from wardgate.policy.evaluation import UNDETERMINED, Facts
from wardgate.policy.explanation import TOKEN_UNDETERMINED, as_json, explain
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.logs.decision_log import append_decisions
from wardgate.portal.logs.tables import Decision
from wardgate.wire.user_agent import CLIENT_SPEAKS, announced_version


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
        assert (relay["version"], relay["user_agent"]) == (announced_version(RELAY_AGENT), RELAY_AGENT)
        assert relay["version"] is not None
        names = [one["name"] for one in (await operator.get("/wardgate/relay_tokens")).json()["data"]]
        assert names == ["r", "relay-1"]
        assert (await operator.delete(f"/wardgate/relay_tokens/{made['id']}")).json()["data"] == {
            "id": made["id"]
        }
    assert (await operator.delete(f"/wardgate/relay_tokens/{made['id']}")).status_code == 404


async def test_a_rotated_relay_token_disconnects_its_relay_and_keeps_the_name(
    operator: httpx2.AsyncClient, world: World
) -> None:
    made = (await operator.post("/wardgate/relay_tokens", json={"relay_token": {"name": "relay-1"}})).json()
    old = made["data"]
    answer = await operator.post(f"/wardgate/relay_tokens/{old['id']}/rotate")
    new = answer.json()["data"]
    assert (answer.status_code, new["name"]) == (201, "relay-1")
    assert new["token"] != old["token"]
    assert (await operator.get(f"/wardgate/relay_tokens/{old['id']}")).status_code == 404
    world.relay_token = new["token"]
    async with world.relay() as peer:
        await peer.join({"stamp_secret": "ab" * 32})


async def test_the_operator_sees_how_the_installation_is(operator: httpx2.AsyncClient, world: World) -> None:
    async with world.relay() as peer:
        await peer.join({"stamp_secret": "ab" * 32})
        health = (await operator.get("/wardgate/health")).json()["data"]
    assert (health["accounts"], health["relays_online"], health["clients_online"]) == (1, 1, 0)
    assert health["database"] == "available"


async def test_background_work_is_listed_by_state(operator: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        await JobQueue(transaction).enqueue(
            "greet", {"name": "Ada"}, run_at=transaction.now + timedelta(days=1)
        )
    (job,) = [one for one in (await operator.get("/wardgate/jobs")).json()["data"] if one["kind"] == "greet"]
    assert (job["state"], job["attempt"]) == ("available", 0)
    assert "arguments" not in job
    done = await operator.get("/wardgate/jobs", params={"state": "discarded"})
    assert done.json()["data"] == []
    assert (await operator.get("/wardgate/jobs", params={"state": "x"})).status_code == 400


@pytest.mark.parametrize("path", ["relay_tokens", "relays", "health", "jobs"])
async def test_an_accounts_token_never_reaches_the_operators_paths(
    api: httpx2.AsyncClient, operator: httpx2.AsyncClient, path: str
) -> None:
    assert (await api.get(f"/wardgate/{path}")).status_code == 401
    assert (await operator.get("/account")).status_code == 401


async def test_a_relay_token_needs_a_name(operator: httpx2.AsyncClient) -> None:
    answer = await operator.post("/wardgate/relay_tokens", json={"relay_token": {}})
    assert answer.json()["validation_errors"] == {"name": ["can't be blank"]}


async def test_explain_tells_why_an_actor_may(api: httpx2.AsyncClient, world: World) -> None:
    params = {"actor_id": str(world.actor.id), "resource_id": str(world.resource.id)}
    async with world.gateway() as peer:
        await peer.join()
        told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert (told["outcome"], told["policy_id"]) == ("granted", str(world.policy.id))
    assert told["text"].startswith("GRANTED: Ada → net (10.20.0.0/16)")


async def test_explain_tells_why_not_and_follows_changes(api: httpx2.AsyncClient, world: World) -> None:
    params = {"actor_id": str(world.actor.id), "resource_id": str(world.resource.id)}
    conditions = [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["10.0.0.0/8"]}]
    await api.patch(f"/policies/{world.policy.id}", json={"policy": {"conditions": conditions}})
    async with world.gateway() as peer:
        await peer.join()
        for more, outcome in (
            ({}, "undetermined"),
            ({"remote_ip": "192.0.2.1"}, "denied"),
            ({"remote_ip": "10.1.1.1"}, "granted"),
        ):
            told = (await api.get("/wardgate/explain", params={**params, **more})).json()["data"]
            assert told["outcome"] == outcome
    await api.delete(f"/policies/{world.policy.id}")
    await caught_up(world)
    told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert (told["outcome"], told["obstacle"]) == ("denied", "no_policy")


async def test_explain_names_the_gateway_and_why(api: httpx2.AsyncClient, world: World) -> None:
    params = {"actor_id": str(world.actor.id), "resource_id": str(world.resource.id)}
    told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert told["gateway"] == {"id": None, "why": "offline", "name": None}
    assert (told["outcome"], told["obstacle"]) == ("denied", "no_gateway")
    assert "because no gateway of its site is online" in told["text"]
    async with world.gateway() as peer:
        await peer.join()
        told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert told["gateway"]["why"] == "no other that fits is online"
    assert told["gateway"]["id"] in told["text"]


async def decided(world: World, at: datetime, outcome: str) -> Decision:
    """Log a decision on the world's actor and resource."""
    facts = Facts(UNDETERMINED, UNDETERMINED, UNDETERMINED, UNDETERMINED)
    request = AccessRequest(ActorId(world.actor.id), ResourceId(world.resource.id), facts, TOKEN_UNDETERMINED)
    services = world.portal.services
    async with services.accounts.using(world.account_id) as view:
        snapshot = view.snapshot
    told = explain(snapshot, request, authorize(snapshot, request, now=at), now=at)
    async with services.store.writing() as transaction:
        decision = Decision(
            account_id=world.account_id,
            log_id=f"d{int.from_bytes(transaction.random_bytes(12), 'big') >> 4:023x}",
            outcome=outcome,
            reason=None,
            actor_id=world.actor.id,
            actor_name="Ada",
            device_id=UUID(int=7),
            resource_id=world.resource.id,
            resource_name="net",
            policy_id=None,
            gateway_id=None,
            authorization_id=None,
            expires_at=None,
            explanation=as_json(told),
            decided_at=at,
        )
        await append_decisions(transaction, [decision])
    return decision


async def test_yesterdays_answer_survives_policy_resource_and_actor(
    api: httpx2.AsyncClient, world: World
) -> None:
    now = datetime.now(UTC)
    yesterday = await decided(world, now - timedelta(days=1), "granted")
    await api.delete(f"/resources/{world.resource.id}")
    await api.delete(f"/actors/{world.actor.id}")
    params = {
        "actor_id": str(world.actor.id),
        "resource_id": str(world.resource.id),
        "at": (now - timedelta(hours=1)).isoformat(),
    }
    told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert (told["outcome"], told["decision_log_id"]) == ("granted", yesterday.log_id)
    assert told["policy_id"] == str(world.policy.id)
    by_client = {**params, "client_id": str(UUID(int=7))}
    del by_client["actor_id"]
    assert (await api.get("/wardgate/explain", params=by_client)).json()["data"] == told
    before = {**params, "at": (now - timedelta(days=2)).isoformat()}
    nothing = await api.get("/wardgate/explain", params=before)
    assert (nothing.status_code, nothing.json()["detail"]) == (
        404,
        "No decision on this is recorded up to then.",
    )


async def test_decisions_are_listed_filtered_and_paged(
    api: httpx2.AsyncClient, world: World, foreign: World
) -> None:
    now = datetime.now(UTC)
    logged = [
        await decided(world, now - timedelta(hours=hours), outcome)
        for hours, outcome in ((3, "granted"), (2, "denied"), (1, "granted"))
    ]
    theirs = await decided(foreign, now, "granted")
    path = "/wardgate/decisions"
    everything = (await api.get(path)).json()
    assert [one["log_id"] for one in everything["data"]] == [one.log_id for one in reversed(logged)]
    for params, count in (
        ({"outcome": "denied"}, 1),
        ({"client_id": str(UUID(int=7))}, 3),
        ({"actor_id": str(foreign.actor.id)}, 0),
        ({"resource_id": str(world.resource.id), "begin": (now - timedelta(hours=2.5)).isoformat()}, 2),
        ({"end": (now - timedelta(hours=2.5)).isoformat()}, 1),
    ):
        assert (await api.get(path, params=params)).json()["metadata"]["count"] == count, params
    first = (await api.get(path, params={"limit": "2"})).json()
    second = (
        await api.get(path, params={"limit": "2", "page_cursor": first["metadata"]["next_page"]})
    ).json()
    assert first["data"] + second["data"] == everything["data"]
    back = (await api.get(path, params={"limit": "2", "page_cursor": second["metadata"]["prev_page"]})).json()
    assert back["data"] == first["data"]
    assert (await api.get(f"{path}/{logged[0].log_id}")).json()["data"] == everything["data"][2]
    assert (await api.get(f"{path}/{theirs.log_id}")).status_code == 404
    for params in ({"outcome": "maybe"}, {"actor_id": "x"}, {"begin": "x"}, {"page_cursor": "x"}):
        assert (await api.get(path, params=params)).status_code == 400, params


SETTINGS = "/wardgate/account_settings"


async def test_settings_are_shown_merged_and_kept(api: httpx2.AsyncClient, world: World) -> None:
    shown = await api.get(SETTINGS)
    assert shown.json()["data"]["clients_upstream_dns"] == {
        "type": "system",
        "doh_provider": "google",
        "addresses": [],
    }
    dns = {"type": "custom", "addresses": [{"address": "9.9.9.9"}, {"address": "2620:FE::fe"}]}
    fields = {"name": "Acme Ltd", "search_domain": "Corp.Example.com", "clients_upstream_dns": dns}
    changed = await api.put(
        SETTINGS, json={"account_settings": fields}, headers={"if-match": shown.headers["etag"]}
    )
    assert changed.status_code == 200, changed.text
    system = {"clients_upstream_dns": {"type": "system"}, "search_domain": None}
    after = (await api.patch(SETTINGS, json={"account_settings": system})).json()["data"]
    assert (after["name"], after["search_domain"]) == ("Acme Ltd", None)
    assert after["clients_upstream_dns"] == {
        "type": "system",
        "doh_provider": "google",
        "addresses": [{"address": "9.9.9.9"}, {"address": "2620:fe::fe"}],
    }
    silent = {"account_settings": {"outdated_gateway_notifications": False}}
    assert after["outdated_gateway_notifications"] is True
    quiet = (await api.patch(SETTINGS, json=silent)).json()["data"]
    assert quiet == {**after, "outdated_gateway_notifications": False, "updated_at": quiet["updated_at"]}
    stale = await api.put(
        SETTINGS, json={"account_settings": {}}, headers={"if-match": shown.headers["etag"]}
    )
    assert stale.status_code == 412


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "ab"}, {"name": ["should be at least 3 character(s)"]}),
        ({"name": None, "legal_name": ""}, {"name": ["can't be blank"], "legal_name": ["can't be blank"]}),
        ({"search_domain": ""}, {"search_domain": ["must be a domain such as corp.example.com"]}),
        (
            {"clients_upstream_dns": {"type": "carrier-pigeon"}},
            {"clients_upstream_dns": [{"type": ["is invalid"]}]},
        ),
        (
            {"clients_upstream_dns": {"type": "custom"}},
            {"clients_upstream_dns": [{"addresses": ["can't be blank"]}]},
        ),
        (
            {"clients_upstream_dns": {"addresses": [{"address": "1.1.1.1"}, {"address": "1.1.1.1:53"}]}},
            {
                "clients_upstream_dns": [
                    {"addresses": [{}, {"address": ["must be an IP address without a port"]}]}
                ]
            },
        ),
        (
            {"clients_upstream_dns": {"addresses": [{"address": "100.64.0.1"}]}},
            {"clients_upstream_dns": [{"addresses": [{"address": ["cannot be in the CIDR 100.64.0.0/10"]}]}]},
        ),
        (
            {"clients_upstream_dns": {"addresses": [{"address": "1.1.1.1"}] * 2}},
            {"clients_upstream_dns": [{"addresses": ["must not contain duplicates"]}]},
        ),
    ],
)
async def test_bad_settings_are_told_by_field_and_change_nothing(
    api: httpx2.AsyncClient, fields: Any, expected: Any
) -> None:
    before = (await api.get(SETTINGS)).json()
    answer = await api.put(SETTINGS, json={"account_settings": fields})
    assert (answer.status_code, answer.json().get("validation_errors")) == (422, expected)
    assert (await api.get(SETTINGS)).json() == before


async def test_a_locked_account_keeps_its_settings(api: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        await transaction.accounts.save(replace(account, lock_enabled_at=transaction.now))
    answer = await api.put(SETTINGS, json={"account_settings": {"name": "Other"}})
    assert answer.status_code == 403


async def test_explain_takes_a_connected_clients_own_address(api: httpx2.AsyncClient, world: World) -> None:
    conditions = [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["192.0.2.7"]}]
    await api.patch(f"/policies/{world.policy.id}", json={"policy": {"conditions": conditions}})
    async with world.gateway() as gateway, world.client() as peer:
        await gateway.join()
        await peer.join()
        await world.portal.journal.flush()
        (client,) = (await api.get("/clients")).json()["data"]
        params = {"client_id": client["id"], "resource_id": str(world.resource.id)}
        assert (await api.get("/wardgate/explain", params=params)).json()["data"]["outcome"] == "granted"


async def test_a_connected_client_is_judged_by_what_its_connection_has(
    api: httpx2.AsyncClient, world: World
) -> None:
    async with world.gateway() as gateway, world.client() as peer:
        await gateway.join()
        await peer.join()
        await world.portal.journal.flush()
        (client,) = (await api.get("/clients")).json()["data"]
        params = {"client_id": client["id"], "resource_id": str(world.resource.id)}
        told = (await api.get("/wardgate/explain", params=params)).json()["data"]
        moved = (await api.get("/wardgate/explain", params={**params, "remote_ip": "8.8.8.8"})).json()["data"]
    assert (told["outcome"], told["expires_with"]) == ("granted", "token")
    assert told["gateway"]["name"] == "gateway"
    inputs = {one["name"]: (one["value"], one["source"]) for one in told["inputs"]}
    assert inputs.pop("token_expires_at")[1] == "connection"
    assert inputs == {
        "remote_ip": ("192.0.2.7", "connection"),
        "region": (None, "connection"),
        "provider": (None, "connection"),
        "verified": ("no", "device"),
        "software": (f"headless-client {CLIENT_SPEAKS}", "connection"),
    }
    assert "judged by: remote ip 192.0.2.7 (connection)" in told["text"]
    assert [(one["value"], one["source"]) for one in moved["inputs"][:2]] == [
        ("8.8.8.8", "given"),
        ("US", "looked_up"),
    ]


async def test_without_a_connection_only_the_devices_own_is_known(
    api: httpx2.AsyncClient, world: World
) -> None:
    async with world.client() as peer:
        await peer.join()
        await world.portal.journal.flush()
    (client,) = (await api.get("/clients")).json()["data"]
    params = {"client_id": client["id"], "resource_id": str(world.resource.id)}
    told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert {one["name"]: one["source"] for one in told["inputs"]} == {
        "remote_ip": "undetermined",
        "region": "undetermined",
        "provider": "undetermined",
        "verified": "device",
        "software": "device",
        "token_expires_at": "undetermined",
    }


async def test_a_client_that_is_too_old_for_a_resource_is_told_so(
    api: httpx2.AsyncClient, world: World
) -> None:
    async with world.portal.services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        pool = Resource(
            id=transaction.new_id(), account_id=world.account_id, type="static_device_pool", name="laptops"
        )
        pool = await tables.resources.insert(pool)
        granting = Policy(
            id=transaction.new_id(),
            account_id=world.account_id,
            group_id=world.group.id,
            resource_id=pool.id,
        )
        await tables.policies.insert(granting)
    async with world.client(headers={"user-agent": "Ubuntu/22.4.0 headless-client/1.4.0"}) as peer:
        await peer.join()
        await world.portal.journal.flush()
        (client,) = (await api.get("/clients")).json()["data"]
        params = {"client_id": client["id"], "resource_id": str(pool.id)}
        told = (await api.get("/wardgate/explain", params=params)).json()["data"]
    assert (told["outcome"], told["obstacle"]) == ("denied", "client_too_old")
    assert ("headless-client 1.4.0", "connection") in [
        (one["value"], one["source"]) for one in told["inputs"]
    ]


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
        ({"region": "Atlantis"}, 400),
        ({"at": "yesterday"}, 400),
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


# ── Filters, what is not offered, and Everyone ───────────────────────────────────────────────────────────────


async def test_the_resources_filters_are_part_of_the_explanation(
    api: httpx2.AsyncClient, world: World
) -> None:
    filters = [{"protocol": "tcp", "ports": ["80"]}]
    await api.patch(f"/resources/{world.resource.id}", json={"resource": {"filters": filters}})
    params = {"actor_id": str(world.actor.id), "resource_id": str(world.resource.id)}
    async with world.gateway() as peer:
        await peer.join()
        for asked, outcome, obstacle in (
            ({}, "granted", None),
            ({"protocol": "tcp", "port": "80"}, "granted", None),
            ({"protocol": "tcp", "port": "81"}, "denied", "filtered"),
            ({"protocol": "udp", "port": "80"}, "denied", "filtered"),
            ({"protocol": "icmp"}, "denied", "filtered"),
        ):
            told = (await api.get("/wardgate/explain", params={**params, **asked})).json()["data"]
            assert (told["outcome"], told["obstacle"]) == (outcome, obstacle), asked
    for wrong in (
        {"port": "80"},
        {"protocol": "tcp"},
        {"protocol": "icmp", "port": "8"},
        {"protocol": "sctp", "port": "1"},
        {"protocol": "tcp", "port": "65536"},
        {"protocol": "tcp", "port": "0"},
        {"protocol": "tcp", "port": "9" * 5000},
        {"protocol": "tcp", "port": "80", "at": "2026-01-01T00:00:00Z"},
    ):
        assert (await api.get("/wardgate/explain", params={**params, **wrong})).status_code == 400, wrong


async def test_what_a_client_is_not_offered_is_listed_with_the_reason(
    api: httpx2.AsyncClient, world: World
) -> None:
    fields = {"name": "secret", "type": "ip", "address": "10.9.9.9", "site_id": str(world.site.id)}
    secret = (await api.post("/resources", json={"resource": fields})).json()["data"]
    async with world.client() as peer:
        await peer.join()
        (client,) = (await api.get("/clients")).json()["data"]
        path = f"/wardgate/clients/{client['id']}/resources"
        listed = {one["id"]: one for one in (await api.get(path)).json()["data"]}
        offered = listed[str(world.resource.id)]
        assert (offered["is_offered"], offered["outcome"]) == (True, "granted")
        hidden = listed[secret["id"]]
        assert (hidden["is_offered"], hidden["outcome"]) == (False, "denied")
        assert hidden["reason"] == "no enabled policy grants the resource to a group of the actor"
        asked = {"client_id": client["id"], "resource_id": secret["id"]}
        told = (await api.get("/wardgate/explain", params=asked)).json()["data"]
        assert told["offered"] is False
        assert "not offered to the client" in told["text"]
    assert (await api.get(f"/wardgate/clients/{world.actor.id}/resources")).status_code == 404


async def test_everyone_has_a_place_of_its_own_and_policies_take_it(
    api: httpx2.AsyncClient, world: World
) -> None:
    (everyone,) = (await api.get("/wardgate/groups", params={"name": "Everyone"})).json()["data"]
    assert everyone["type"] == "managed"
    shown = await api.get(f"/wardgate/groups/{everyone['id']}")
    assert shown.json()["data"] == everyone
    assert shown.headers["etag"]
    assert (await api.get(f"/groups/{everyone['id']}")).status_code == 404
    assert everyone["id"] not in [one["id"] for one in (await api.get("/groups")).json()["data"]]
    fields = {"group_id": everyone["id"], "resource_id": str(world.resource.id)}
    assert (await api.post("/policies", json={"policy": fields})).status_code == 201
    every = {one["id"]: one["type"] for one in (await api.get("/wardgate/groups")).json()["data"]}
    assert every == {everyone["id"]: "managed", str(world.group.id): "static"}
