"""What the vendor's Go SDK and Terraform provider send, after their public documentation: each body is accepted, and
the answer has what they read. The tools themselves are not run: their modules are not to be had from the module proxy.
"""

from collections.abc import Mapping
from string import Template
from typing import Any, NamedTuple

import httpx2
import pytest

from portal.rest.test_objects import errors
from support.pools import caught_up
from support.portal import World
from wardgate.portal.access.rules import NO_CRITERIA, SAME_MODE
from wardgate.portal.rest.fields import NARROWING


class Sent(NamedTuple):
    """A request, and what its answer's `data` must hold; `$name` stands for what was answered before."""

    what: str
    request: str
    body: Mapping[str, Any] | None
    status: int
    answer: Mapping[str, Any]


SENT = (
    # The provider's documentation of each resource, its examples.
    Sent("site", "POST /sites", {"site": {"name": "primary-dc"}}, 201, {"id": "$site", "name": "primary-dc"}),
    Sent("site, read", "GET /sites/$site", None, 200, {"id": "$site", "name": "primary-dc"}),
    Sent("site, renamed", "PATCH /sites/$site", {"site": {"name": "dc-1"}}, 200, {"name": "dc-1"}),
    Sent(
        "resource: cidr",
        "POST /resources",
        {
            "resource": {
                "name": "postgres-prod", "type": "cidr", "address": "10.0.1.0/24", "site_id": "$site",
                "address_description": "Production Postgres subnet",
                "filters": [{"protocol": "tcp", "ports": ["5432"]}],
            }
        },
        201,
        {"id": "$database", "type": "cidr", "filters": [{"protocol": "tcp", "ports": ["5432"]}], "site_id": "$site"},
    ),
    Sent(
        "resource: dns, a range of ports",
        "POST /resources",
        {
            "resource": {
                "name": "app", "type": "dns", "address": "app.example.com", "site_id": "$site", "ip_stack": "dual",
                "filters": [{"protocol": "tcp", "ports": ["80", "8000 - 9000"]}, {"protocol": "icmp"}],
            }
        },
        201,
        {"id": "$app", "ip_stack": "dual", "address_description": None},
    ),
    Sent(
        "resource: ip",
        "POST /resources",
        {"resource": {"name": "host", "type": "ip", "address": "10.0.0.10", "site_id": "$site"}},
        201,
        {"type": "ip", "address": "10.0.0.10", "filters": []},
    ),
    Sent(
        "resource: a field cleared, filters taken away (merge-patch)",
        "PATCH /resources/$database",
        {"resource": {"name": "postgres-prod", "address_description": None, "site_id": "$site", "filters": []}},
        200,
        {"name": "postgres-prod", "address": "10.0.1.0/24", "address_description": None, "filters": []},
    ),
    Sent("group", "POST /groups", {"group": {"name": "Contractors"}}, 201, {"id": "$group", "name": "Contractors"}),
    Sent("group, looked up", "GET /groups?name=Contractors", None, 200, {}),
    Sent(
        "actor: service account",
        "POST /actors",
        {"actor": {"name": "ci-deployer", "type": "service_account"}},
        201,
        {"id": "$actor", "name": "ci-deployer", "type": "service_account", "email": None},
    ),
    Sent(
        "actor: person",
        "POST /actors",
        {
            "actor": {
                "name": "alice", "type": "account_user", "email": "alice@example.com",
                "allow_email_otp_sign_in": True,
            }
        },
        201,
        {"id": "$alice", "email": "alice@example.com", "allow_email_otp_sign_in": True},
    ),
    Sent(
        "actor: enabled = false",
        "PATCH /actors/$alice",
        {"actor": {"is_disabled": True}},
        200,
        {"id": "$alice", "is_disabled": True},
    ),
    Sent("actor, looked up", "GET /actors?name=alice&email=alice@example.com", None, 200, {}),
    Sent(
        "group membership, added",
        "PATCH /groups/$group/memberships",
        {"memberships": {"add": ["$actor"]}},
        200,
        {"actor_ids": ["$actor"]},
    ),
    Sent(
        "group membership, replaced",
        "PUT /groups/$group/memberships",
        {"memberships": [{"actor_id": "$actor"}]},
        200,
        {"actor_ids": ["$actor"]},
    ),
    Sent(
        "policy with a condition",
        "POST /policies",
        {
            "policy": {
                "group_id": "$group", "resource_id": "$app", "description": "Engineering access to internal app",
                "flow_log_uploads_enabled": True,
                "conditions": [
                    {"property": "remote_ip_location_region", "operator": "is_in", "values": ["US", "CA"]}
                ],
            }
        },
        201,
        {
            "id": "$policy", "is_disabled": False, "flow_log_uploads_enabled": True,
            "conditions": [{"property": "remote_ip_location_region", "operator": "is_in", "values": ["US", "CA"]}],
        },
    ),
    Sent(
        "policy, made disabled (SDK: IsDisabled)",
        "POST /policies",
        {"policy": {"group_id": "$group", "resource_id": "$database", "is_disabled": True}},
        201,
        {"is_disabled": True, "conditions": []},
    ),
    Sent(
        "policy: working hours",
        "PATCH /policies/$policy",
        {
            "policy": {
                "conditions": [
                    {
                        "property": "current_utc_datetime", "operator": "is_in_day_of_week_time_ranges",
                        "values": ["M/09:00-17:00/America/New_York"],
                    },
                    {"property": "client_verified", "operator": "is", "values": ["true"]},
                ]
            }
        },
        200,
        {"id": "$policy", "description": "Engineering access to internal app"},
    ),
    Sent(
        "policy: every condition removed",
        "PATCH /policies/$policy",
        {"policy": {"conditions": []}},
        200,
        {"conditions": []},
    ),
    Sent(
        "gateway, provisioned with its token",
        "POST /sites/$site/gateways",
        {"gateway": {"name": "gw-us-east-1"}},
        201,
        {"id": "$gateway", "name": "gw-us-east-1", "token": "$token"},
    ),
    Sent("gateway without a name", "POST /sites/$site/gateways", {"gateway": {}}, 201, {"token": "$other_token"}),
    Sent(
        "gateway: token_rotation_trigger",
        "POST /sites/$site/gateways/$gateway/token/rotate",
        None,
        201,
        {"token": "$rotated_token"},
    ),
    Sent("gateway, read", "GET /sites/$site/gateways/$gateway", None, 200, {"id": "$gateway", "online": False}),
    Sent(
        "gateway, renamed",
        "PATCH /sites/$site/gateways/$gateway",
        {"gateway": {"name": "gw-1"}},
        200,
        {"id": "$gateway", "name": "gw-1"},
    ),
    # An imported pool: made elsewhere, managed by the provider.
    Sent("static pool, read", "GET /resources/$pool", None, 200, {"type": "static_device_pool", "address": None}),
    Sent(
        "static pool, renamed",
        "PATCH /resources/$pool",
        {"resource": {"name": "field-laptops", "type": "static_device_pool"}},
        200,
        {"name": "field-laptops", "type": "static_device_pool"},
    ),
    Sent(
        "pool member, added",
        "PATCH /resources/$pool/pool_members",
        {"pool_members": {"add": ["$laptop"]}},
        200,
        {"device_ids": ["$laptop"]},
    ),
    Sent(
        "pool member, removed",
        "PATCH /resources/$pool/pool_members",
        {"pool_members": {"remove": ["$laptop"]}},
        200,
        {"device_ids": []},
    ),
    Sent("client, looked up", "GET /clients?firezone_id=client-1", None, 200, {}),
    Sent("client, renamed", "PATCH /clients/$laptop", {"client": {"name": "laptop"}}, 200, {"name": "laptop"}),
    Sent("client, verified", "PUT /clients/$laptop/verify", None, 200, {"id": "$laptop"}),
    Sent("client, unverified", "PUT /clients/$laptop/unverify", None, 200, {"id": "$laptop", "verified_at": None}),
    *(
        Sent(f"{kind}, looked up", f"GET /{kind}?name=x", None, 200, {})
        for kind in (
            "email_otp_auth_providers", "oidc_auth_providers", "google_auth_providers", "entra_auth_providers",
            "okta_auth_providers", "google_directories", "entra_directories", "okta_directories",
        )
    ),
    # What Terraform takes away again.
    Sent("policy, deleted", "DELETE /policies/$policy", None, 200, {"id": "$policy"}),
    Sent("resource, deleted", "DELETE /resources/$app", None, 200, {"id": "$app"}),
    Sent("gateway, deleted", "DELETE /sites/$site/gateways/$gateway", None, 200, {"id": "$gateway"}),
    Sent("group, deleted", "DELETE /groups/$group", None, 200, {"id": "$group"}),
    Sent("actor, deleted", "DELETE /actors/$actor", None, 200, {"id": "$actor"}),
)  # fmt: skip


async def test_documented_requests_are_accepted_and_answered(api: httpx2.AsyncClient, world: World) -> None:
    async with world.client():
        laptop = (await api.get("/clients")).json()["data"][0]["id"]
    pool = await api.post(
        "/wardgate/device_pools", json={"device_pool": {"name": "p", "type": "static_device_pool"}}
    )
    names: dict[str, str] = {"laptop": laptop, "pool": pool.json()["data"]["id"]}
    for sent in SENT:
        method, target = Template(sent.request).substitute(names).split()
        answer = await api.request(method, target, json=_filled(sent.body, names))
        assert answer.status_code == sent.status, (sent.what, answer.text)
        data = answer.json()["data"]
        assert isinstance(data, dict | list), sent.what
        for key, expected in sent.answer.items():
            _compare(expected, data[key], names, sent.what)


CRITERIA = "device_membership_criteria"
LISTED = {"name": "Field laptops", "type": "device_pool", CRITERIA: {"mode": "listed"}}
DYNAMIC = {
    "name": "Build",
    "type": "device_pool",
    CRITERIA: {"mode": "dynamic", "hostname": "*.build.example"},
}


@pytest.mark.parametrize("path", ["/resources", "/wardgate/device_pools"])
async def test_membership_criteria_are_kept_answered_and_changed(
    api: httpx2.AsyncClient, world: World, path: str
) -> None:
    key = "resource" if path == "/resources" else "device_pool"
    async with world.client():
        laptop = (await api.get("/clients")).json()["data"][0]["id"]
    listed = (await api.post(path, json={key: LISTED})).json()["data"]
    assert (listed["type"], listed["address"]) == ("device_pool", None)
    assert listed[CRITERIA] == {"mode": "listed", "hostname": None}
    members = f"/resources/{listed['id']}/pool_members"
    assert (await api.patch(members, json={"pool_members": {"add": [laptop]}})).json()["data"] == {
        "device_ids": [laptop]
    }
    dynamic = (await api.post(path, json={key: DYNAMIC})).json()["data"]
    assert (dynamic["type"], dynamic[CRITERIA]) == ("device_pool", DYNAMIC[CRITERIA])
    place = f"{path}/{dynamic['id']}"
    renamed = (await api.patch(place, json={key: {"name": "Builders"}})).json()["data"]
    assert (renamed["name"], renamed["type"], renamed[CRITERIA]) == (
        "Builders",
        "device_pool",
        DYNAMIC[CRITERIA],
    )
    moved = {CRITERIA: {"mode": "dynamic", "hostname": "**.ci.example"}}
    for body in (moved, {"type": "device_pool", **moved}):
        changed = (await api.patch(place, json={key: body})).json()["data"]
        assert (changed[CRITERIA]["hostname"], changed["address"]) == ("**.ci.example", "**.ci.example")
    found = [one["id"] for one in (await api.get("/resources?type=device_pool")).json()["data"]]
    assert found == [listed["id"], dynamic["id"]]
    assert (await api.get("/resources?type=static_device_pool")).json()["data"] == []
    assert (await api.delete(place)).json()["data"]["type"] == "device_pool"


async def test_clients_are_told_of_a_pool_by_criteria_as_of_any_other(
    api: httpx2.AsyncClient, world: World
) -> None:
    async with world.client(external_id="nas"):
        nas = (await api.get("/clients")).json()["data"][0]["id"]
    await api.put(f"/wardgate/clients/{nas}/hostname", json={"client": {"hostname": "nas.build.example"}})
    pools = [
        (await api.post("/resources", json={"resource": one})).json()["data"]["id"]
        for one in (LISTED, DYNAMIC)
    ]
    await api.patch(f"/resources/{pools[0]}/pool_members", json={"pool_members": {"add": [nas]}})
    for pool in pools:
        policy = {"group_id": str(world.group.id), "resource_id": pool}
        assert (await api.post("/policies", json={"policy": policy})).status_code == 201
    await caught_up(world)
    async with world.client(external_id="laptop") as laptop:
        init = await laptop.join()
        told = {one["id"]: one for one in init["resources"]}
        assert told[pools[0]]["type"] == "static_device_pool"
        assert [one["client_id"] for one in told[pools[0]]["devices"]] == [nas]
        assert (told[pools[1]]["type"], told[pools[1]]["address"]) == (
            "dynamic_device_pool",
            "*.build.example",
        )
        laptop.send("resolve_device_pool_domain", {"resource_id": pools[1], "domain": "nas.build.example"})
        await laptop.receive_until("device_pool_domain_resolved")
        moved = {CRITERIA: {"hostname": "*.ci.example"}}
        assert (await api.patch(f"/resources/{pools[1]}", json={"resource": moved})).status_code == 200
        changed = (await laptop.receive_until("resource_created_or_updated"))["payload"]
        assert (changed["id"], changed["address"]) == (pools[1], "*.ci.example")
        laptop.send("resolve_device_pool_domain", {"resource_id": pools[1], "domain": "nas.build.example"})
        await laptop.receive_until("device_pool_domain_resolution_failed")


async def test_a_static_pool_takes_the_later_name_and_gives_it_up(api: httpx2.AsyncClient) -> None:
    pool = await api.post(
        "/wardgate/device_pools", json={"device_pool": {"name": "p", "type": "static_device_pool"}}
    )
    place = f"/resources/{pool.json()['data']['id']}"
    body = {"type": "device_pool", CRITERIA: {"mode": "listed"}}
    named = (await api.patch(place, json={"resource": body})).json()["data"]
    assert (named["type"], named[CRITERIA]["mode"]) == ("device_pool", "listed")
    plain = (await api.patch(place, json={"resource": {"type": "static_device_pool"}})).json()["data"]
    assert (plain["type"], CRITERIA in plain) == ("static_device_pool", False)


@pytest.mark.parametrize(
    ("criteria", "wrong"),
    [
        (None, ["can't be blank"]),
        ({}, {"mode": ["can't be blank"]}),
        ({"mode": "all"}, {"mode": ["is invalid"]}),
        ({"mode": "dynamic"}, {"hostname": ["can't be blank"]}),
        (
            {"mode": "dynamic", "hostname": "10.0.0.1"},
            {"hostname": ["please use an IP or CIDR Resource for IP addresses"]},
        ),
        (
            {"mode": "listed", "hostname": "*.lab.example"},
            {"hostname": ["must be blank where the members are listed"]},
        ),
    ],
)
async def test_wrong_membership_criteria_are_told_by_field(
    api: httpx2.AsyncClient, criteria: object, wrong: object
) -> None:
    body = {"name": "Build", "type": "device_pool", CRITERIA: criteria}
    refused = await errors(await api.post("/resources", json={"resource": body}))
    assert refused == {CRITERIA: wrong}


async def test_membership_criteria_never_go_unnoticed(api: httpx2.AsyncClient, world: World) -> None:
    """A pool without what they say would have other clients."""
    pool = (await api.post("/resources", json={"resource": LISTED})).json()["data"]
    static = await api.post(
        "/wardgate/device_pools", json={"device_pool": {"name": "p", "type": "static_device_pool"}}
    )
    unknown = {"mode": "listed", "posture": "healthy"}
    for path, key in (("/resources", "resource"), ("/wardgate/device_pools", "device_pool")):
        place = f"{path}/{pool['id']}"
        answer = await api.patch(place, json={key: {CRITERIA: unknown}})
        assert (await errors(answer)) == {CRITERIA: [f"posture {NARROWING}"]}
        answer = await api.patch(
            place, json={key: {CRITERIA: {"mode": "dynamic", "hostname": "a.example.com"}}}
        )
        assert (await errors(answer)) == {CRITERIA: {"mode": [SAME_MODE]}}
        answer = await api.patch(
            f"{path}/{static.json()['data']['id']}", json={key: {CRITERIA: {"mode": "listed"}}}
        )
        assert (await errors(answer)) == {CRITERIA: [NO_CRITERIA]}
    dns = {"type": "dns", "name": "x", "address": "a.example.com", "site_id": str(world.site.id)}
    answer = await api.post("/resources", json={"resource": {**dns, CRITERIA: {"mode": "listed"}}})
    assert (await errors(answer)) == {CRITERIA: [NO_CRITERIA]}


def _filled(body: Any, names: Mapping[str, str]) -> Any:
    match body:
        case dict():
            return {key: _filled(value, names) for key, value in body.items()}
        case list():
            return [_filled(one, names) for one in body]
        case str():
            return Template(body).substitute(names)
        case _:
            return body


def _compare(expected: Any, actual: Any, names: dict[str, str], what: str) -> None:
    match expected:
        case list() if not expected or isinstance(expected[0], str):
            assert [names.get(one[1:], one) for one in expected] == actual, what
        case str() if expected.startswith("$"):
            assert names.setdefault(expected[1:], actual) == actual, what
        case _:
            assert expected == actual, what
