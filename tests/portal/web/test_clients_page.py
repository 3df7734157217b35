"""The page of clients: the table, its filters, the panel, authorizations, verification, names, deletion."""

import html
import re
from datetime import timedelta

import httpx2

from support.pages import heading_of, hidden_of, post, rows_of, shown_names, toast_after
from support.portal import World, make_world
from wardgate.portal.access.tables import PolicyAuthorization, Resource
from wardgate.portal.devices.tables import Device, StaticDevicePoolMember


async def test_clients_are_listed_with_their_owners_and_what_is_offline_is_shown_as_offline(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await inserted(world, "phone", last_seen_user_agent="Android/14 connlib/1.5.0 (arm64)")
    async with world.client(query={"name": "laptop"}) as client:
        await client.join()
        page = (await admin.get("/acme/clients")).text
    assert shown_names(page) == ["laptop", "phone"]
    laptop, phone = rows_of(page)
    assert ("Online" in laptop, "Wardgate" in laptop, "Debian 12.0.0" in laptop) == (True, True, True)
    assert ("Offline" in phone, "Android 14" in phone, "#smartphone" in phone) == (True, True, True)
    assert f'href="/acme/actors/{world.actor.id}"' in laptop
    gateways = await admin.get("/acme/clients?q=gateway-1")
    assert "No results" in gateways.text


async def test_clients_are_found_by_name_by_owner_and_by_state(
    admin: httpx2.AsyncClient, world: World
) -> None:
    verified = await inserted(world, "verified", verified_at=world.actor.inserted_at)
    await inserted(world, "other")
    async with world.client(query={"name": "here"}) as client:
        await client.join()
        for query, names in {
            "q=HERE": ["here"],
            "q=ada%40EXAMPLE": ["here", "other", "verified"],
            "q=nobody": [],
            "verification=verified": ["verified"],
            "verification=unverified": ["here", "other"],
            "status=online": ["here"],
            "status=offline": ["other", "verified"],
            f"actor_id={world.actor.id}": ["here", "other", "verified"],
            f"actor_id={verified.id}": [],
        }.items():
            assert shown_names((await admin.get(f"/acme/clients?{query}")).text) == names, query
    assert "Clients of Ada" in (await admin.get(f"/acme/clients?actor_id={world.actor.id}")).text


async def test_an_old_release_is_told_of_the_newer_one(admin: httpx2.AsyncClient, world: World) -> None:
    await inserted(world, "old", last_seen_user_agent="Debian/12 headless-client/1.5.12 (x; Wardgate/0.0.1)")
    await inserted(world, "published", last_seen_version="1.5.8")
    old, published = rows_of((await admin.get("/acme/clients")).text)
    assert ("Wardgate 0.0.1" in old, "is available" in old) == (True, True)
    assert ("1.5.8" in published, "is available" in published) == (True, False)


async def test_a_client_is_verified_and_the_verification_revoked(
    admin: httpx2.AsyncClient, world: World
) -> None:
    client = await inserted(world, "laptop")
    path = f"/acme/clients/{client.id}"
    assert "Revoke verification" not in (await admin.get(path)).text
    assert await toast_after(admin, await post(admin, f"{path}/verify")) == "Client “laptop” is verified."
    assert (await stored(world, client)).verified_at is not None
    assert "Verify client" not in (await admin.get(path)).text
    told = await toast_after(admin, await post(admin, f"{path}/unverify"))
    assert told == "Client “laptop” is not verified any more."
    assert (await stored(world, client)).verified_at is None


async def test_a_client_is_renamed_and_given_a_host_name(admin: httpx2.AsyncClient, world: World) -> None:
    client = await inserted(world, "laptop")
    await inserted(world, "other", hostname="nas.lab.example")
    path = f"/acme/clients/{client.id}/edit"
    seen = hidden_of((await admin.get(path)).text)
    for hostname, told in (("NAS.lab.example", "has already been taken"), ("a_b", "is not a host name")):
        refused = await post(admin, path, **seen, name="desk", hostname=hostname)
        assert (refused.status_code, told in refused.text) == (422, True)
        assert (await stored(world, client)).name == "laptop"
    assert (await post(admin, path, **seen, name="desk", hostname="desk.lab.example")).status_code == 303
    after = await stored(world, client)
    assert (after.name, after.hostname) == ("desk", "desk.lab.example")


async def test_a_client_is_deleted_once_its_name_is_typed(admin: httpx2.AsyncClient, world: World) -> None:
    client = await inserted(world, "laptop")
    path = f"/acme/clients/{client.id}"
    assert (await post(admin, f"{path}/delete", typed="phone")).status_code == 422
    assert (await stored(world, client)).name == "laptop"
    told = await toast_after(admin, await post(admin, f"{path}/delete", typed="laptop"))
    assert told == "Client “laptop” was deleted."
    assert await toast_after(admin, await admin.get(path)) == "This client does not exist."


async def test_a_panel_shows_the_pools_and_the_authorizations_page_by_page(
    admin: httpx2.AsyncClient, world: World
) -> None:
    client = await inserted(world, "laptop", device_serial="C02X")
    gateway = await inserted(world, "gw", type_="gateway")
    async with world.portal.services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        pool = await tables.resources.insert(
            Resource(
                id=transaction.new_id(), account_id=world.account_id, type="static_device_pool", name="desks"
            )
        )
        await tables.pool_members.insert(
            StaticDevicePoolMember(
                id=transaction.new_id(),
                account_id=world.account_id,
                resource_id=pool.id,
                device_id=client.id,
            )
        )
        for number in range(23):
            await tables.authorizations.insert(
                PolicyAuthorization(
                    id=transaction.new_id(),
                    account_id=world.account_id,
                    policy_id=world.policy.id,
                    resource_id=world.resource.id,
                    initiating_device_id=client.id,
                    receiving_device_id=gateway.id,
                    token_id=world.client_token_id,
                    membership_id=world.membership.id,
                    initiator_remote_ip="192.0.2.7",
                    initiator_user_agent="x",
                    receiver_remote_ip=None,
                    expires_at=transaction.now + timedelta(hours=-1 if number == 0 else 1),
                )
            )
    path = f"/acme/clients/{client.id}"
    panel = (await admin.get(path)).text
    assert heading_of(panel) == "laptop"
    assert "C02X" in panel
    assert grants_of(panel) == 20
    (older,) = re.findall(r'rel="next" href="([^"]+)"', panel)
    assert grants_of((await admin.get(html.unescape(older))).text) == 2
    for page in ("0", "-1", "x", "9" * 30, "٣"):
        assert (await admin.get(f"{path}?tab=authorizations&authorizations={page}")).status_code == 200
    assert ">desks</span>" in (await admin.get(f"{path}?tab=pools")).text


async def test_every_form_needs_its_sessions_token(admin: httpx2.AsyncClient, world: World) -> None:
    client = await inserted(world, "laptop")
    for action in ("edit", "verify", "unverify", "delete"):
        answer = await admin.post(
            f"/acme/clients/{client.id}/{action}", data={"name": "x", "typed": "laptop"}
        )
        assert answer.status_code == 403, action
    assert await stored(world, client) == client


async def test_a_client_of_another_account_and_a_gateway_do_not_exist(
    admin: httpx2.AsyncClient, world: World
) -> None:
    other = await make_world(world.portal, "other")
    foreign, gateway = await inserted(other, "foreign"), await inserted(world, "gw", type_="gateway")
    for id_ in (foreign.id, gateway.id, "nonsense"):
        assert await toast_after(admin, await admin.get(f"/acme/clients/{id_}")) == (
            "This client does not exist."
        )
        await post(admin, f"/acme/clients/{id_}/delete", typed="foreign")
    assert await stored(other, foreign) == foreign
    assert await stored(world, gateway) == gateway


def grants_of(page: str) -> int:
    return len(re.findall(r'<div class="item plain" data-key', page))


async def inserted(world: World, name: str, *, type_: str = "client", **values: object) -> Device:
    owner = {"actor_id": world.actor.id} if type_ == "client" else {"site_id": world.site.id}
    async with world.portal.services.store.writing() as transaction:
        row = Device(
            id=transaction.new_id(),
            account_id=world.account_id,
            type=type_,
            name=name,
            psk_base=b"p" * 32,
            firezone_id=name,
            **owner,  # type: ignore[arg-type]
            **values,  # type: ignore[arg-type]
        )
        return await transaction.of(world.account_id).devices.insert(row)


async def stored(world: World, device: Device) -> Device:
    async with world.portal.services.store.reading() as transaction:
        row = await transaction.of(device.account_id).devices.load(device.id)
    assert row is not None
    return row


async def test_the_history_of_a_client_tells_what_changed_and_who_did_it(
    admin: httpx2.AsyncClient, world: World
) -> None:
    client, other = await inserted(world, "laptop"), await inserted(world, "other")
    for one in (client, other):
        await post(admin, f"/acme/clients/{one.id}/verify")
    history = (await admin.get(f"/acme/clients/{client.id}?tab=history")).text
    entries = re.findall(r'<details class="item" name="history".*?</details>', history, re.DOTALL)
    assert len(entries) == 2
    verified, created = entries
    assert ("changed" in verified, "verified_at" in verified, "admin@acme.example" in verified) == (True,) * 3
    assert ("created" in created, "System" in created, "laptop" in created) == (True, True, True)
    (path,) = re.findall(r'href="(/acme/logs/changes/[^"]+)"', verified)
    assert "Device changed" in (await admin.get(path)).text
