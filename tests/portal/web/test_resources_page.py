"""The page of resources: the table, forms of each type, traffic, pools, and who has access."""

import re
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from support.pages import heading_of, post, rows_of, shown_names, toast_after
from support.portal import World
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.people.tables import Group


async def test_resources_are_listed_with_site_policies_and_state(
    admin: httpx2.AsyncClient, world: World
) -> None:
    page = (await admin.get("/acme/resources")).text
    assert shown_names(page) == ["Internet", "net"]
    row = rows_of(page)[1]
    for shown in ("CIDR", "10.20.0.0/16", "1 policy", "Berlin", "Offline"):
        assert shown in row
    async with world.gateway() as gateway:
        await gateway.join()
        assert "Online" in rows_of((await admin.get("/acme/resources")).text)[1]


async def test_they_are_found_by_address_and_type_and_site(admin: httpx2.AsyncClient, world: World) -> None:
    await made(world, name="wiki", type="dns", address="wiki.example.com", ip_stack="dual")
    for query in ("q=WIKI.EX", "type=dns", f"site_id={world.site.id}&q=wiki"):
        assert shown_names((await admin.get(f"/acme/resources?{query}")).text) == ["wiki"], query
    page = (await admin.get(f"/acme/resources?site_id={world.site.id}")).text
    assert "Resources of the site Berlin. " in page
    assert "an invalid type" in (await admin.get("/acme/resources?type=secret")).text


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        (
            {"type": "dns", "address": "*.example.com", "ip_stack": "ipv4_only"},
            ("dns", "*.example.com", "ipv4_only", []),
        ),
        ({"type": "ip", "address": "10.1.2.3", "ip_stack": "dual"}, ("ip", "10.1.2.3", None, [])),
        (
            {
                "type": "cidr",
                "address": "10.1.0.0/16",
                "filters": ["tcp", "icmp"],
                "filters.tcp": "80, 8000 - 8010",
                "filters.udp": "53",
            },
            (
                "cidr",
                "10.1.0.0/16",
                None,
                [{"protocol": "tcp", "ports": ["80", "8000 - 8010"]}, {"protocol": "icmp", "ports": []}],
            ),
        ),
        (
            {"type": "static_device_pool", "address": "left over"},
            ("static_device_pool", None, None, []),
        ),
        (
            {"type": "dynamic_device_pool", "address": "*.lab.example"},
            ("dynamic_device_pool", "*.lab.example", None, []),
        ),
    ],
)
async def test_a_resource_of_each_type_is_made(
    admin: httpx2.AsyncClient, world: World, fields: dict[str, Any], stored: tuple[object, ...]
) -> None:
    answer = await post(admin, "/acme/resources/new", name="it", site_id=str(world.site.id), **fields)
    assert answer.status_code == 303, answer.text
    page = (await admin.get(answer.headers["location"])).text
    assert heading_of(page) == "it"
    row = await named(world, "it")
    assert (row.type, row.address, row.ip_stack, row.filters) == stored


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"type": "ip", "address": "example.com"}, "address-error"),
        ({"type": "cidr", "address": "10.0.0.0/24", "site_id": ""}, "site_id-error"),
        (
            {"type": "cidr", "address": "10.0.0.0/24", "filters": "tcp", "filters.tcp": "99999"},
            "filters-error",
        ),
        ({"type": "internet", "address": ""}, "type"),
        ({}, "Look at"),
    ],
)
async def test_what_is_wrong_is_said_where_it_is(
    admin: httpx2.AsyncClient, world: World, fields: dict[str, str], told: str
) -> None:
    answer = await post(
        admin, "/acme/resources/new", **{"name": "it", "site_id": str(world.site.id), **fields}
    )
    assert answer.status_code == 422
    assert told in answer.text
    if "filters.tcp" in fields:
        assert 'value="99999"' in answer.text


async def test_a_resource_is_changed_and_deleted(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/resources/{world.resource.id}"
    form = (await admin.get(f"{path}/edit")).text
    (version,) = re.findall(r'name="version" value="([^"]+)"', form)
    answer = await post(
        admin,
        f"{path}/edit",
        version=version.replace("&#34;", '"'),
        type="ip",
        name="one",
        address="10.20.0.9",
        site_id=str(world.site.id),
    )
    assert await toast_after(admin, answer) == "Resource “one” was saved."
    assert (await named(world, "one")).type == "ip"
    assert await toast_after(admin, await post(admin, f"{path}/delete")) == "Resource “one” was deleted."


async def test_the_internet_resource_can_be_neither_changed_nor_deleted(
    admin: httpx2.AsyncClient, world: World
) -> None:
    row = await named(world, "Internet")
    panel = (await admin.get(f"/acme/resources/{row.id}")).text
    assert "Delete resource" not in panel
    assert f"/acme/resources/{row.id}/edit" not in panel
    for action in ("edit", "delete"):
        await post(admin, f"/acme/resources/{row.id}/{action}", name="Mine", type="dns")
    assert await named(world, "Internet") == row


async def test_access_is_granted_disabled_enabled_and_removed(
    admin: httpx2.AsyncClient, world: World
) -> None:
    path = f"/acme/resources/{world.resource.id}"
    group = await other_group(world)
    form = (await admin.get(f"{path}/grant")).text
    assert "Operators" in form
    assert str(world.group.id) not in form, "it has access already"
    granted = await post(admin, f"{path}/grant", group_ids=[str(group.id)])
    assert await toast_after(admin, granted) == "Access to “net” was granted."
    policy = await policy_of(world, group)
    assert policy is not None
    for verb in ("disable", "enable"):
        answer = await post(admin, f"{path}/policies/{policy.id}/{verb}")
        assert await toast_after(admin, answer) == f"Access was {verb}d."
        after = await policy_of(world, group)
        assert after is not None
        assert after.is_disabled is (verb == "disable")
    removed = await post(admin, f"{path}/policies/{policy.id}/remove")
    assert await toast_after(admin, removed) == "Access was removed."
    assert await policy_of(world, group) is None


async def test_access_is_granted_to_all_groups_or_to_none(admin: httpx2.AsyncClient, world: World) -> None:
    group = await other_group(world)
    path = f"/acme/resources/{world.resource.id}/grant"
    answer = await post(admin, path, group_ids=[str(group.id), str(world.group.id)])
    assert answer.status_code == 422
    assert "already exists" in answer.text
    assert await policy_of(world, group) is None
    for nobody in ({}, {"group_ids": ["x"]}, {"group_ids": [str(world.resource.id)]}):
        assert (await post(admin, path, **nobody)).status_code in (303, 422)
    assert await policy_of(world, group) is None


async def test_access_is_granted_under_conditions(admin: httpx2.AsyncClient, world: World) -> None:
    group = await other_group(world)
    path = f"/acme/resources/{world.resource.id}/grant"
    granted = await post(admin, path, group_ids=[str(group.id)], conditions=["client_verified"])
    assert granted.status_code == 303, granted.text
    policy = await policy_of(world, group)
    assert policy is not None
    assert [one["property"] for one in policy.conditions] == ["client_verified"]
    assert not policy.flow_log_uploads_enabled
    wrong = await post(
        admin, path, group_ids=[str(group.id)], conditions=["remote_ip"], **{"conditions.remote_ip": "x"}
    )
    assert wrong.status_code == 422


async def test_who_uses_it_at_this_moment_stands_in_its_panel(
    admin: httpx2.AsyncClient, world: World
) -> None:
    path = f"/acme/resources/{world.resource.id}?tab=authorizations"
    assert "192.0.2.7" not in (await admin.get(path)).text
    async with world.gateway() as gateway, world.client(query={"name": "laptop"}) as client:
        await gateway.join()
        await client.join()
        asked = {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        client.send("request_authorization", asked)
        created = await gateway.receive("create_authorization")
        gateway.send("authorization_created", {"ref": created["payload"]["ref"]})
        await client.receive("authorization_created")
        assert "laptop" in (await admin.get(path)).text


async def test_clients_join_and_leave_a_pool(admin: httpx2.AsyncClient, world: World) -> None:
    pool = await made(world, name="pool", type="static_device_pool", site_id=None)
    path = f"/acme/resources/{pool.id}"
    async with world.client(query={"name": "laptop"}) as client:
        await client.join()
        async with world.portal.services.store.reading() as transaction:
            devices = transaction.of(world.account_id).devices
            device = await devices.find(devices.c.type == "client")
        assert device is not None
        assert "No devices" in rows_of((await admin.get("/acme/resources?q=pool")).text)[0]
        await post(admin, f"{path}/members", clients=[str(device.id), str(world.group.id)])
        assert "1 of 1 online" in rows_of((await admin.get("/acme/resources?q=pool")).text)[0]
        assert "laptop" in (await admin.get(path)).text
        await post(admin, f"{path}/members/{device.id}/remove")
        assert "No clients in this pool" in (await admin.get(path)).text


async def test_every_form_needs_its_sessions_token(admin: httpx2.AsyncClient, world: World) -> None:
    id_, policy_id = world.resource.id, world.policy.id
    for path in (
        "new",
        f"{id_}/edit",
        f"{id_}/delete",
        f"{id_}/grant",
        f"{id_}/policies/{policy_id}/disable",
        f"{id_}/policies/{policy_id}/enable",
        f"{id_}/policies/{policy_id}/remove",
        f"{id_}/members",
    ):
        assert (await admin.post(f"/acme/resources/{path}", data={"name": "x"})).status_code == 403, path
    assert (await named(world, "net")).id == id_


async def test_a_policy_of_another_resource_is_left_alone(admin: httpx2.AsyncClient, world: World) -> None:
    other = await made(world, name="other", type="ip", address="10.9.9.9")
    answer = await post(admin, f"/acme/resources/{other.id}/policies/{world.policy.id}/remove")
    assert await toast_after(admin, answer) == "The policy does not exist any more."
    assert await policy_of(world, world.group) is not None


async def made(world: World, **fields: Any) -> Resource:
    async with world.portal.services.store.writing() as transaction:
        row = Resource(
            id=transaction.new_id(),
            account_id=world.account_id,
            **{"site_id": world.site.id, "name": "it", "type": "ip", **fields},
        )
        return await transaction.of(world.account_id).resources.insert(row)


async def named(world: World, name: str) -> Resource:
    async with world.portal.services.store.reading() as transaction:
        resources = transaction.of(world.account_id).resources
        row = await resources.find(resources.c.name == name)
    assert row is not None
    return row


async def other_group(world: World) -> Group:
    async with world.portal.services.store.writing() as transaction:
        group = replace(world.group, id=transaction.new_id(), name="Operators")
        return await transaction.of(world.account_id).groups.insert(group)


async def policy_of(world: World, group: Group) -> Policy | None:
    async with world.portal.services.store.reading() as transaction:
        policies = transaction.of(world.account_id).policies
        return await policies.find(policies.c.group_id == group.id)
