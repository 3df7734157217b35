"""Resources and policies, one rule a test."""

import httpx2
import pytest

from portal.rest.test_objects import errors, made
from support.portal import World
from wardgate.portal.access import rules

# ── Resources ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_resource_is_normalised_and_leaves_out_what_it_has_not(
    api: httpx2.AsyncClient, world: World
) -> None:
    filters = [{"protocol": "tcp", "ports": ["80", "8000-9000", 443]}, {"protocol": "icmp"}]
    fields = {
        "name": "net",
        "type": "cidr",
        "address": "10.0.0.5/8",
        "site_id": str(world.site.id),
        "filters": filters,
    }
    resource = await made(api, "/resources", {"resource": fields})
    assert resource["address"] == "10.0.0.0/8"
    assert resource["filters"] == [
        {"protocol": "tcp", "ports": ["80", "8000 - 9000", "443"]},
        {"protocol": "icmp", "ports": []},
    ]
    assert "ip_stack" not in resource
    named = await made(
        api,
        "/resources",
        {
            "resource": {
                "name": "web",
                "type": "dns",
                "address": "**.Example.com",
                "site_id": str(world.site.id),
            }
        },
    )
    assert named["ip_stack"] == "dual"


@pytest.mark.parametrize(
    ("type_", "address", "message"),
    [
        ("dns", "host:80", "cannot contain a port number"),
        ("ip", "[2001:db8::1]:80", "cannot contain a port number"),
        ("ip", "[2001:db8::1", "has mismatched brackets"),
        ("cidr", "0.0.0.0/0", "please use the Internet Resource for full-tunnel traffic"),
        ("cidr", "::/0", "please use the Internet Resource for full-tunnel traffic"),
        ("ip", "127.0.0.1", "cannot contain loopback addresses"),
        ("ip", "100.64.0.1", "cannot be in the CIDR 100.64.0.0/10"),
        ("cidr", "fd00:2021::/16", "cannot be in the CIDR fd00:2021:1111::/48"),
        ("cidr", "10.0.0.0", "is not a valid CIDR range"),
        ("ip", "10.0.0.0/8", "is not a valid IP address"),
        ("dns", "10.0.0.1", "please use an IP or CIDR Resource for IP addresses"),
        ("dns", "app.localhost", "localhost cannot be used, please add a DNS alias to /etc/hosts instead"),
        ("dns", "example.*", "TLD cannot contain wildcards"),
        ("dns", "a**.example.com", "`**` must be a whole label"),
        ("dns", "*.com", "domain for a top-level domain cannot be only wildcards"),
        ("dns", "-a.example.com", "is not a valid hostname"),
        ("dns", "a..example.com", "is not a valid hostname"),
        ("dns", "l" * 64 + ".example.com", "has a label of more than 63 characters"),
        ("dns", "a." * 127 + "com", "should be at most 253 character(s)"),
    ],
)
async def test_a_bad_address_is_told_why(
    api: httpx2.AsyncClient, world: World, type_: str, address: str, message: str
) -> None:
    fields = {"name": "a", "type": type_, "address": address, "site_id": str(world.site.id)}
    found = await errors(await api.post("/resources", json={"resource": fields}))
    assert message in found["address"]


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        (["0"], "must be between 1 and 65535"),
        (["1-70000"], "must be between 1 and 65535"),
        (["5-4"], "lower value cannot be higher than upper value"),
        (["1-5", "5"], "port ranges must not overlap"),
        (["http"], "bad format"),
    ],
)
async def test_bad_ports_are_told_within_their_filter(
    api: httpx2.AsyncClient, world: World, ports: list[str], message: str
) -> None:
    filters = [{"protocol": "udp"}, {"protocol": "tcp", "ports": ports}]
    answer = await api.patch(f"/resources/{world.resource.id}", json={"resource": {"filters": filters}})
    assert await errors(answer) == {"filters": [{}, {"ports": [message]}]}


async def test_types_and_sites_of_resources_keep_their_rules(
    api: httpx2.AsyncClient, world: World, foreign: World
) -> None:
    (internet_site,) = (await api.get("/sites", params={"name": "Internet"})).json()["data"]
    base = {"name": "a", "type": "cidr", "address": "10.0.0.0/8"}
    for fields, expected in (
        ({**base}, {"site_id": ["can't be blank"]}),
        ({**base, "site_id": "x"}, {"site_id": ["is invalid"]}),
        ({**base, "site_id": str(foreign.site.id)}, {"site_id": ["does not exist"]}),
        ({**base, "site_id": internet_site["id"]}, {"site_id": ["cannot be the Internet Site"]}),
        (
            {"name": "p", "type": "static_device_pool"},
            {"type": ["device pools cannot be created via the API"]},
        ),
        (
            {**base, "site_id": str(world.site.id), "ip_stack": "dual"},
            {"ip_stack": ["IP stack must be blank for this type of Resource"]},
        ),
    ):
        assert await errors(await api.post("/resources", json={"resource": fields})) == expected


async def test_the_internet_resource_is_not_touched(api: httpx2.AsyncClient) -> None:
    internet = next(one for one in (await api.get("/resources")).json()["data"] if one["type"] == "internet")
    for answer in (
        await api.patch(f"/resources/{internet['id']}", json={"resource": {"name": "x"}}),
        await api.delete(f"/resources/{internet['id']}"),
    ):
        assert (answer.status_code, answer.json()["detail"]) == (403, "Internet Resource cannot be modified")


async def test_lists_of_resources_are_filtered_exactly(api: httpx2.AsyncClient, world: World) -> None:
    for params, count in (
        ({"type": "cidr"}, 1),
        ({"site_id": str(world.site.id)}, 1),
        ({"address": "10.20.0.0/16", "name": "net"}, 1),
        ({"name": ""}, 0),
    ):
        assert (await api.get("/resources", params=params)).json()["metadata"]["count"] == count
    for params in ({"type": "internet"}, {"site_id": "x"}, {"ip_stack": "five"}):
        assert (await api.get("/resources", params=params)).status_code == 400


# ── Policies ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_policy_with_conditions_is_made_and_changed(api: httpx2.AsyncClient, world: World) -> None:
    group = await made(api, "/groups", {"group": {"name": "Ops"}})
    conditions = [
        {"property": "remote_ip", "operator": "is_in_cidr", "values": [" 192.0.2.1", "10.0.0.0/8"]},
        {
            "property": "current_utc_datetime",
            "operator": "is_in_day_of_week_time_ranges",
            "values": ["M/9-17/UTC"],
        },
        {"values": ["DE"]},
    ]
    fields = {
        "group_id": group["id"],
        "resource_id": str(world.resource.id),
        "conditions": conditions,
        "is_disabled": True,
    }
    policy = await made(api, "/policies", {"policy": fields})
    assert policy["is_disabled"] is True
    assert policy["flow_log_uploads_enabled"] is True
    assert policy["conditions"][0]["values"] == ["192.0.2.1", "10.0.0.0/8"]
    assert policy["conditions"][2] == {
        "property": "remote_ip_location_region",
        "operator": "is_in",
        "values": ["DE"],
    }
    kept = (await api.patch(f"/policies/{policy['id']}", json={"policy": {"is_disabled": False}})).json()[
        "data"
    ]
    assert (kept["is_disabled"], kept["conditions"]) == (False, policy["conditions"])
    cleared = await api.patch(f"/policies/{policy['id']}", json={"policy": {"conditions": []}})
    assert cleared.json()["data"]["conditions"] == []


async def test_a_bad_policy_is_told_by_field(api: httpx2.AsyncClient, world: World, foreign: World) -> None:
    good = {"group_id": str(world.group.id), "resource_id": str(world.resource.id)}
    one = {"property": "remote_ip", "operator": "is_in_cidr", "values": ["10.0.0.0/8"]}
    for fields, expected in (
        ({}, {"resource_id": ["can't be blank"], "group_id": ["can't be blank"]}),
        ({**good, "group_id": "x"}, {"group_id": ["is invalid"]}),
        ({**good, "group_id": str(foreign.group.id)}, {"group_id": ["does not exist"]}),
        (good, {"base": ["Policy for the selected Group and Resource already exists"]}),
        (
            {**good, "conditions": [one, one]},
            {"base": ["must not contain more than one condition per property"]},
        ),
        (
            {
                **good,
                "conditions": [one, {"property": "client_verified", "operator": "is", "values": ["maybe"]}],
            },
            {"conditions": [{}, {"values": ['entry 0: must be "true" or "false"']}]},
        ),
        (
            {**good, "conditions": [{**one, "values": ["10.0.0.0/99"]}]},
            {"conditions": [{"values": ["entry 0: is not an IP address or CIDR"]}]},
        ),
        (
            {**good, "conditions": [{**one, "values": ["x", "10.0.0.1", "10.0.0.0/99"]}]},
            {
                "conditions": [
                    {
                        "values": [
                            "entry 0: is not an IP address or CIDR",
                            "entry 2: is not an IP address or CIDR",
                        ]
                    }
                ]
            },
        ),
        (
            {**good, "conditions": [one, {"values": ["DE", 5]}]},
            {"conditions": [{}, {"values": ["entry 1: is invalid"]}]},
        ),
        (
            {**good, "conditions": [{"values": ["DE", " DE"]}]},
            {"conditions": [{"values": ["must not contain duplicate values"]}]},
        ),
        (
            {**good, "conditions": [{"values": []}]},
            {"conditions": [{"values": ["should have at least 1 item(s)"]}]},
        ),
    ):
        assert await errors(await api.post("/policies", json={"policy": fields})) == expected, fields
    unknown = await api.post("/policies", json={"policy": {**good, "resource_id": str(foreign.resource.id)}})
    assert unknown.status_code == 404


async def test_deleting_a_group_orphans_its_policies_and_a_resource_takes_them_along(
    api: httpx2.AsyncClient, world: World
) -> None:
    await api.delete(f"/groups/{world.group.id}")
    (orphan,) = (await api.get("/policies")).json()["data"]
    assert orphan["group_id"] is None
    await api.delete(f"/resources/{world.resource.id}")
    assert (await api.get("/policies")).json()["data"] == []


async def test_flow_log_uploads_default_to_off_for_the_internet_resource(
    api: httpx2.AsyncClient, world: World
) -> None:
    internet = next(one for one in (await api.get("/resources")).json()["data"] if one["type"] == "internet")
    fields = {"group_id": str(world.group.id), "resource_id": internet["id"]}
    policy = await made(api, "/policies", {"policy": fields})
    assert policy["flow_log_uploads_enabled"] is False


async def test_what_only_a_constraint_of_the_table_sees_is_a_problem_too(
    api: httpx2.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "_check_ip_stack", lambda *_: None)
    fields = {"name": "x", "type": "dns", "address": "x.example.com", "site_id": str(world.site.id)}
    answer = await api.post("/resources", json={"resource": fields})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["validation_errors"] == {"base": ["these values do not go together"]}


async def test_policies_are_listed_by_their_resource_and_by_their_group(
    api: httpx2.AsyncClient, world: World, foreign: World
) -> None:
    group = await made(api, "/groups", {"group": {"name": "Guests"}})
    fields = {"name": "web", "type": "dns", "address": "web.example.com", "site_id": str(world.site.id)}
    web = await made(api, "/resources", {"resource": fields})
    ids = {}
    for group_id, resource_id in (
        (group["id"], web["id"]),
        (str(world.group.id), web["id"]),
        (group["id"], str(world.resource.id)),
    ):
        policy = {"group_id": group_id, "resource_id": resource_id}
        ids[group_id, resource_id] = (await made(api, "/policies", {"policy": policy}))["id"]

    async def listed(**query: str) -> set[str]:
        answer = (await api.get("/policies", params=query)).json()
        assert answer["metadata"]["count"] == len(answer["data"])
        return {one["id"] for one in answer["data"]}

    own = {str(world.policy.id)}
    assert await listed() == own | set(ids.values())
    assert await listed(resource_id=web["id"]) == {
        id_ for (_, there), id_ in ids.items() if there == web["id"]
    }
    assert await listed(resource_id=str(world.resource.id)) == own | {
        ids[group["id"], str(world.resource.id)]
    }
    both = {"group_id": group["id"], "resource_id": web["id"]}
    assert await listed(**both) == {ids[group["id"], web["id"]]}
    assert await listed(resource_id=str(foreign.resource.id)) == set()
    assert (await api.get("/policies", params={"resource_id": "x"})).status_code == 400
