"""The page of device pools: both kinds are made, shown with their clients, granted and deleted."""

import re
from dataclasses import replace

import httpx2
import pytest

from support.pages import heading_of, hidden_of, post, rows_of, shown_names, toast_after
from support.portal import World, make_world

PAGE = "/acme/device_pools"


@pytest.fixture
async def client_id(world: World) -> str:
    """A client that has been online and is not now."""
    async with world.client() as client:
        await client.join()
    async with world.portal.services.store.reading() as transaction:
        devices = transaction.of(world.account_id).devices
        found = await devices.find(devices.c.type == "client")
    assert found is not None
    return str(found.id)


async def name_client(world: World, client_id: str, hostname: str) -> None:
    async with world.portal.services.store.writing() as transaction:
        devices = transaction.of(world.account_id).devices
        (client,) = [one for one in await devices.load_all() if str(one.id) == client_id]
        await devices.save(replace(client, hostname=hostname))


async def made(admin: httpx2.AsyncClient, **fields: object) -> str:
    answer = await post(admin, f"{PAGE}/new", **fields)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def test_an_empty_page_says_what_a_pool_is_for(admin: httpx2.AsyncClient, world: World) -> None:
    page = (await admin.get(PAGE)).text
    assert "No device pools yet" in page
    assert "New device pool" in page
    assert shown_names(page) == []


async def test_a_listed_pool_is_made_with_its_clients_which_come_and_go(
    admin: httpx2.AsyncClient, world: World, client_id: str
) -> None:
    path = await made(admin, type="static_device_pool", name="Laptops", members=client_id)
    page = (await admin.get(path)).text
    assert heading_of(page) == "Laptops"
    assert "0 of 1 online" in page
    (row,) = rows_of((await admin.get(f"{PAGE}?kind=static_device_pool")).text)
    assert "Listed" in row
    async with world.client() as client:
        await client.join()
        assert "1 of 1 online" in (await admin.get(path)).text
    removed = await post(admin, f"{path}/members/{client_id}/remove")
    assert removed.headers["location"] == f"{path}?tab=members"
    assert "No clients" in (await admin.get(path)).text
    added = await post(admin, f"{path}/members", clients=client_id)
    assert await toast_after(admin, added) == "The pool was changed."
    named = (await admin.get(f"{PAGE}?client_id={client_id}")).text
    assert "Pools with the client" in named
    assert shown_names(named) == ["Laptops"]


async def test_a_pool_by_host_name_shows_whom_it_leads_to_now(
    admin: httpx2.AsyncClient, world: World, client_id: str
) -> None:
    path = await made(admin, type="dynamic_device_pool", name="Lab", address="*.lab.example")
    assert "No client has such a host name" in (await admin.get(path)).text
    await name_client(world, client_id, "bench-1.lab.example")
    page = (await admin.get(path)).text
    assert "bench-1.lab.example" in page
    assert f"/acme/clients/{client_id}" in page
    assert "0 of 1 online" in page
    await name_client(world, client_id, "bench-1.office.example")
    assert "bench-1" not in (await admin.get(path)).text


async def test_what_is_wrong_with_a_pool_is_told_beside_the_field(
    admin: httpx2.AsyncClient, world: World
) -> None:
    refused = await post(admin, f"{PAGE}/new", type="dynamic_device_pool", name="", address="a b")
    assert refused.status_code == 422
    assert 'id="name-error"' in refused.text
    refused = await post(admin, f"{PAGE}/new", type="dynamic_device_pool", name="Lab", address="a b")
    assert 'id="address-error"' in refused.text
    refused = await post(admin, f"{PAGE}/new", type="dns", name="Wiki", address="wiki.example")
    assert refused.status_code == 422


async def test_a_pool_is_changed_and_deleted(admin: httpx2.AsyncClient, world: World) -> None:
    path = await made(admin, type="dynamic_device_pool", name="Lab", address="*.lab.example")
    form = hidden_of((await admin.get(f"{path}/edit")).text)
    saved = await post(admin, f"{path}/edit", **form, name="Laboratory", address="**.lab.example")
    assert await toast_after(admin, saved) == "Device pool “Laboratory” was saved."
    assert "**.lab.example" in (await admin.get(path)).text
    deleted = await post(admin, f"{path}/delete")
    assert await toast_after(admin, deleted) == "Resource “Laboratory” was deleted."
    assert await toast_after(admin, await admin.get(path)) == "This device pool does not exist."


async def test_groups_are_granted_a_pool_and_it_is_explained(
    admin: httpx2.AsyncClient, world: World, client_id: str
) -> None:
    path = await made(admin, type="static_device_pool", name="Laptops", members=client_id)
    granted = await post(admin, f"{path}/grant", group_ids=str(world.group.id))
    assert granted.headers["location"] == f"{path}?tab=access"
    assert world.group.name in (await admin.get(f"{path}?tab=access")).text
    pool_id = path.rpartition("/")[2]
    told = (await admin.get(f"/acme/explain?who=actor:{world.actor.id}&resource_id={pool_id}")).text
    assert "Laptops" in told
    history = (await admin.get(f"{path}?tab=history")).text
    assert "created" in history


async def test_only_pools_are_here_and_the_palette_finds_them(
    admin: httpx2.AsyncClient, world: World
) -> None:
    path = await made(admin, type="dynamic_device_pool", name="Lab", address="*.lab.example")
    assert shown_names((await admin.get(PAGE)).text) == ["Lab"]
    gone = await admin.get(f"{PAGE}/{world.resource.id}")
    assert await toast_after(admin, gone) == "This device pool does not exist."
    found = (await admin.get("/acme/search/results?q=lab")).text
    assert re.search(rf'href="{path}"', found)


async def test_anothers_client_joins_no_pool(admin: httpx2.AsyncClient, world: World, client_id: str) -> None:
    other = await make_world(world.portal, "other")
    async with other.client() as client:
        await client.join()
    async with world.portal.services.store.reading() as transaction:
        (foreign,) = await transaction.of(other.account_id).devices.load_all()
    path = await made(admin, type="static_device_pool", name="Laptops", members=str(foreign.id))
    assert "No clients" in (await admin.get(path)).text
