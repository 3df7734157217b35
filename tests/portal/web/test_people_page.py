"""The page of people: the table, forms, what somebody holds, and that nobody locks themselves or everybody out."""

import re
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from support.browser import caller, make_api_token, sign_in_link
from support.letterbox import Letterbox
from support.pages import heading_of, hidden_of, post, rows_of, shown_names, toast_after
from support.portal import World, make_world, portal_running
from wardgate.portal.people.tables import Actor, ExternalIdentity, Group
from wardgate.portal.sign_in.tables import PortalSession


async def test_people_are_listed_with_role_status_and_whether_a_client_is_online(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.client() as client:
        await client.join()
        page = (await admin.get("/acme/actors")).text
    assert shown_names(page) == ["Ada", "admin"]
    ada, other = rows_of(page)
    assert ("ada@example.org" in ada, "Online" in ada, "User" in ada, "Active" in ada) == (True,) * 4
    assert ("Offline" in other, "Admin" in other) == (True, True)
    assert "Offline" in rows_of((await admin.get("/acme/actors")).text)[0]


async def test_service_accounts_and_api_clients_are_no_people(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await make_api_token(world)
    robot = await inserted(world, type="service_account", name="Build server")
    assert shown_names((await admin.get("/acme/actors")).text) == ["Ada", "admin"]
    assert "does not exist" in await toast_after(admin, await admin.get(f"/acme/actors/{robot.id}"))


async def test_people_are_found_by_name_address_role_and_status(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await inserted(world, name="Grace", email="hopper@example.net", is_disabled=True)
    for query, names in (
        ("q=EXAMPLE.net", ["Grace"]),
        ("q=ada", ["Ada"]),
        ("role=account_admin_user", ["admin"]),
        ("status=disabled", ["Grace"]),
        ("status=active&role=account_user", ["Ada"]),
        ("sort=-email", ["Grace", "admin", "Ada"]),
    ):
        assert shown_names((await admin.get(f"/acme/actors?{query}")).text) == names, query


async def test_a_person_is_made_with_groups(admin: httpx2.AsyncClient, world: World) -> None:
    form = (await admin.get("/acme/actors/new")).text
    assert "Everyone" not in re.findall(r'<label class="option">.*?</label>', form)
    answer = await post(
        admin,
        "/acme/actors/new",
        name="Grace",
        email="grace@example.org",
        type="account_admin_user",
        allow_email_otp_sign_in="on",
        group_ids=[str(world.group.id)],
    )
    assert answer.status_code == 303
    page = (await admin.get(answer.headers["location"])).text
    assert heading_of(page) == "Grace"
    assert f'href="/acme/groups/{world.group.id}"' in page
    assert "Everyone" in page
    grace = await named(world, "Grace")
    assert (grace.type, grace.email, grace.allow_email_otp_sign_in) == (
        "account_admin_user",
        "grace@example.org",
        True,
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"email": "ada@example.org"}, "has already been taken"),
        ({"email": "nobody"}, "is an invalid email address"),
        ({"email": ""}, "can&#39;t be blank"),
        ({"name": ""}, "can&#39;t be blank"),
        ({"type": "api_client"}, "API clients cannot be created via the API"),
        ({"group_ids": "11111111-1111-4111-8111-111111111111"}, "does not exist any more"),
    ],
)
async def test_what_is_wrong_with_a_new_person_is_said_and_nothing_is_made(
    admin: httpx2.AsyncClient, world: World, fields: dict[str, Any], told: str
) -> None:
    given = {"name": "Grace", "email": "grace@example.org", "type": "account_user", **fields}
    answer = await post(admin, "/acme/actors/new", **given)
    assert answer.status_code == 422
    assert told in answer.text
    assert shown_names((await admin.get("/acme/actors")).text) == ["Ada", "admin"]


async def test_a_page_makes_no_service_account_of_a_person(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/actors/{world.actor.id}/edit"
    hidden = hidden_of((await admin.get(path)).text)
    answer = await post(admin, path, **hidden, name="Ada", email="ada@example.org", type="service_account")
    assert answer.status_code == 422
    assert (await named(world, "Ada")).type == "account_user"


async def test_another_address_has_to_be_confirmed_since_identities_end_with_it(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await identified(world, world.actor)
    path = f"/acme/actors/{world.actor.id}/edit"
    given = {"name": "Ada", "email": "lovelace@example.org", "type": "account_user"}
    refused = await post(admin, path, **hidden_of((await admin.get(path)).text), **given)
    assert refused.status_code == 422
    assert "Switch this on to change the address." in refused.text
    assert (await named(world, "Ada")).email == "ada@example.org"
    same = {**given, "email": "ADA@example.org", "name": "Ada L."}
    hidden = hidden_of((await admin.get(path)).text)
    assert (await post(admin, path, **hidden, **same)).status_code == 303, "the same address in other letters"
    hidden = hidden_of((await admin.get(path)).text)
    assert (await post(admin, path, **hidden, **given, is_address_confirmed="on")).status_code == 303
    assert (await named(world, "Ada")).email == "lovelace@example.org"
    assert "No identities yet" in (await admin.get(f"/acme/actors/{world.actor.id}?tab=identities")).text


async def test_identities_are_shown_and_deleted(admin: httpx2.AsyncClient, world: World) -> None:
    identity = await identified(world, world.actor)
    tab = f"/acme/actors/{world.actor.id}?tab=identities"
    assert "https://issuer.example" in (await admin.get(tab)).text
    answer = await post(admin, f"/acme/actors/{world.actor.id}/identities/{identity.id}/delete")
    assert "was deleted" in await toast_after(admin, answer)
    assert "No identities yet" in (await admin.get(tab)).text


async def test_client_sessions_are_shown_with_their_device_and_revoked(
    admin: httpx2.AsyncClient, world: World
) -> None:
    path = f"/acme/actors/{world.actor.id}"
    async with world.client(query={"name": "ada-laptop"}) as client:
        await client.join()
        await world.portal.journal.flush()
        tab = (await admin.get(f"{path}?tab=tokens")).text
        assert ("ada-laptop" in tab, "Online" in tab, "192.0.2.7" in tab) == (True, True, True)
        answer = await post(admin, f"{path}/tokens/{world.client_token_id}/revoke")
        assert "revoked" in await toast_after(admin, answer)
        await client.receive_close()
    assert "Not signed in anywhere" in (await admin.get(f"{path}?tab=tokens")).text


async def test_portal_sessions_are_shown_and_revoked(admin: httpx2.AsyncClient, world: World) -> None:
    me = await named(world, "admin")
    tab = f"/acme/actors/{me.id}?tab=sessions"
    page = (await admin.get(tab)).text
    assert ("this session" in page, "192.0.2.9" in page) == (True, True)
    other = await session_of(world, me)
    assert str(other.id) in (await admin.get(tab)).text
    answer = await post(admin, f"/acme/actors/{me.id}/sessions/{other.id}/revoke")
    assert await toast_after(admin, answer) == "The session has ended."
    assert str(other.id) not in (await admin.get(tab)).text
    assert (await post(admin, f"/acme/actors/{world.actor.id}/sessions/{other.id}/revoke")).status_code == 404


async def test_a_person_joins_and_leaves_groups(admin: httpx2.AsyncClient, world: World) -> None:
    sales = await grouped(world, "Sales")
    path = f"/acme/actors/{world.actor.id}"
    offered = (await admin.get(f"{path}/groups")).text
    assert re.findall(r'name="chosen" value="([^"]+)"', offered) == [str(sales.id)]
    joined = await post(admin, f"{path}/groups", chosen=str(sales.id))
    assert await toast_after(admin, joined) == "Ada was added to 1 group."
    left = await post(admin, f"{path}/groups/{world.group.id}/leave")
    assert await toast_after(admin, left) == "Ada is not in “Engineering” any more."
    tab = (await admin.get(f"{path}?tab=groups")).text
    assert re.findall(r'<div class="item-main"><a href="[^"]+">([^<]+)</a>', tab) == ["Everyone", "Sales"]


async def test_a_person_is_disabled_enabled_and_deleted(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/actors/{world.actor.id}"
    async with world.client() as client:
        await client.join()
        assert "was disabled" in await toast_after(admin, await post(admin, f"{path}/disable"))
        await client.receive_close()
    assert "Disabled" in rows_of((await admin.get("/acme/actors")).text)[0]
    assert await toast_after(admin, await post(admin, f"{path}/enable")) == "Ada was enabled."
    assert (await post(admin, f"{path}/delete", typed="Grace")).status_code == 422
    assert await toast_after(admin, await post(admin, f"{path}/delete", typed="Ada")) == "Ada was deleted."


async def test_nobody_disables_or_deletes_themselves(admin: httpx2.AsyncClient, world: World) -> None:
    await inserted(world, name="Grace", email="grace@example.org", type="account_admin_user")
    me = await named(world, "admin")
    page = (await admin.get(f"/acme/actors/{me.id}")).text
    assert ("Delete person" in page, ">Disable<" in page) == (False, False)
    for action in ("disable", "delete"):
        await post(admin, f"/acme/actors/{me.id}/{action}", typed="admin")
    assert not (await named(world, "admin")).is_disabled


async def test_the_last_admin_stays_one_for_pages_and_for_the_api(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await inserted(world, name="Grace", email="g@example.org", type="account_admin_user", is_disabled=True)
    me = await named(world, "admin")
    path = f"/acme/actors/{me.id}/edit"
    hidden = hidden_of((await admin.get(path)).text)
    given = {"name": "admin", "email": str(me.email), "allow_email_otp_sign_in": "on"}
    refused = await post(admin, path, **hidden, **given, type="account_user")
    assert refused.status_code == 422
    assert "The last enabled admin of an account cannot be demoted" in refused.text
    token, _ = await make_api_token(world)
    async with caller(world.portal, token) as api:
        url = f"/actors/{me.id}"
        assert (await api.patch(url, json={"actor": {"type": "account_user"}})).status_code == 422
        assert (await api.patch(url, json={"actor": {"is_disabled": True}})).status_code == 403
        assert (await api.delete(url)).status_code == 403
        await enabled(world, "Grace")
        assert (await api.patch(url, json={"actor": {"is_disabled": True}})).status_code == 200


async def test_the_only_way_to_sign_in_is_not_closed(admin: httpx2.AsyncClient, world: World) -> None:
    grace = await inserted(world, name="Grace", email="g@example.org", allow_email_otp_sign_in=True)
    path = f"/acme/actors/{grace.id}/edit"
    given = {"name": "Grace", "email": "g@example.org", "type": "account_user"}
    refused = await post(admin, path, **hidden_of((await admin.get(path)).text), **given)
    assert refused.status_code == 422
    assert "is the only way in which this person can sign in" in refused.text
    await identified(world, grace)
    assert (await post(admin, path, **hidden_of((await admin.get(path)).text), **given)).status_code == 303
    assert not (await named(world, "Grace")).allow_email_otp_sign_in


async def test_nobody_deletes_the_only_identity_that_they_sign_in_with(
    admin: httpx2.AsyncClient, world: World
) -> None:
    me = await named(world, "admin")
    identity = await identified(world, me)
    await saved(world, replace(me, allow_email_otp_sign_in=False))
    path = f"/acme/actors/{me.id}/identities/{identity.id}/delete"
    assert "the only way in which you can sign in" in await toast_after(admin, await post(admin, path))
    await saved(world, replace(me, allow_email_otp_sign_in=True))
    assert "was deleted" in await toast_after(admin, await post(admin, path))


async def test_a_welcome_is_sent_a_few_times() -> None:
    letterbox = Letterbox()
    async with portal_running(mailer=letterbox) as portal:
        world = await make_world(portal)
        async with caller(portal) as browser:
            await browser.get(await sign_in_link(world))
            path = f"/acme/actors/{world.actor.id}/welcome"
            told = [await toast_after(browser, await post(browser, path)) for _ in range(4)]
            assert told[:3] == ["A welcome is on its way to ada@example.org."] * 3
            assert "wait a while" in told[3]
            mail = await letterbox.receive()
    assert (list(mail.recipients), mail.message.subject) == (["ada@example.org"], "Welcome to acme")


async def test_without_a_mail_server_no_welcome_is_promised(admin: httpx2.AsyncClient, world: World) -> None:
    answer = await post(admin, f"/acme/actors/{world.actor.id}/welcome")
    assert await toast_after(admin, answer) == "The portal has no mail server: nothing was sent."


async def test_every_form_of_people_needs_its_sessions_token(admin: httpx2.AsyncClient, world: World) -> None:
    id_ = world.actor.id
    for path in (
        "new",
        *(f"{id_}/{verb}" for verb in ("edit", "disable", "enable", "delete", "welcome", "groups")),
        f"{id_}/groups/{world.group.id}/leave",
        f"{id_}/tokens/{world.client_token_id}/revoke",
        f"{id_}/sessions/{id_}/revoke",
        f"{id_}/identities/{id_}/delete",
    ):
        for wrong in ({}, {"csrf_token": "a" * 64}):
            answer = await admin.post(f"/acme/actors/{path}", data={**wrong, "typed": "Ada"})
            assert answer.status_code == 403, path
    assert await named(world, "Ada") == world.actor


async def test_a_person_of_another_account_does_not_exist(admin: httpx2.AsyncClient, world: World) -> None:
    other = await make_world(world.portal, "other")
    id_ = other.actor.id
    for path in ("", "/edit", "/groups"):
        answer = await admin.get(f"/acme/actors/{id_}{path}")
        assert await toast_after(admin, answer) == "This person does not exist."
    await post(admin, f"/acme/actors/{id_}/disable")
    for verb in (f"groups/{other.group.id}/leave", f"tokens/{other.client_token_id}/revoke"):
        assert (await post(admin, f"/acme/actors/{id_}/{verb}")).status_code == 404
    assert (
        await post(admin, f"/acme/actors/{world.actor.id}/tokens/{other.client_token_id}/revoke")
    ).status_code == 404
    assert not (await named(other, "Ada")).is_disabled


async def inserted(world: World, *, name: str, type: str = "account_user", **fields: Any) -> Actor:  # noqa: A002
    async with world.portal.services.store.writing() as transaction:
        actor = Actor(id=transaction.new_id(), account_id=world.account_id, type=type, name=name, **fields)
        return await transaction.of(world.account_id).actors.insert(actor)


async def identified(world: World, actor: Actor) -> ExternalIdentity:
    async with world.portal.services.store.writing() as transaction:
        identity = ExternalIdentity(
            id=transaction.new_id(),
            account_id=world.account_id,
            actor_id=actor.id,
            issuer="https://issuer.example",
            idp_id=str(actor.id),
        )
        return await transaction.of(world.account_id).external_identities.insert(identity)


async def session_of(world: World, actor: Actor) -> PortalSession:
    async with world.portal.services.store.writing() as transaction:
        sessions = transaction.of(world.account_id).portal_sessions
        known = await sessions.find(sessions.c.actor_id == actor.id)
        assert known is not None
        return await sessions.insert(replace(known, id=transaction.new_id(), remote_ip="198.51.100.3"))


async def grouped(world: World, name: str) -> Group:
    async with world.portal.services.store.writing() as transaction:
        group = Group(id=transaction.new_id(), account_id=world.account_id, name=name)
        return await transaction.of(world.account_id).groups.insert(group)


async def saved(world: World, actor: Actor) -> None:
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).actors.save(actor)


async def enabled(world: World, name: str) -> None:
    await saved(world, replace(await named(world, name), is_disabled=False))


async def named(world: World, name: str) -> Actor:
    async with world.portal.services.store.reading() as transaction:
        actors = transaction.of(world.account_id).actors
        actor = await actors.find(actors.c.name == name)
    assert actor is not None
    return actor
