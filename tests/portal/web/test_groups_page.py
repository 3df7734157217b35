"""The page of groups: the table, members, what is granted, and what nobody may change here."""

import re
from dataclasses import replace
from uuid import UUID

import httpx2

from support.pages import post, rows_of, shown_names, toast_after, undone
from support.portal import World, make_world
from wardgate.portal.people.tables import Actor, Group


async def test_groups_are_listed_with_members_and_access_and_everyone_first(
    admin: httpx2.AsyncClient, world: World
) -> None:
    page = (await admin.get("/acme/groups")).text
    assert shown_names(page) == ["Everyone", "Engineering"]
    everyone, engineering = (re.sub(r"<[^>]+>|\s+", " ", row) for row in rows_of(page))
    assert re.search(r"Everyone +system +2 +0 resources", everyone)
    assert re.search(r"Engineering +1 +1 resource ", engineering)


async def test_groups_are_sorted_by_their_members(admin: httpx2.AsyncClient, world: World) -> None:
    await grouped(world, "Aliens")
    assert shown_names((await admin.get("/acme/groups?sort=-members")).text) == [
        "Everyone",
        "Engineering",
        "Aliens",
    ]


async def test_groups_are_found_by_name_and_origin(admin: httpx2.AsyncClient, world: World) -> None:
    await grouped(world, "Sales", idp_id="okta-1")
    assert shown_names((await admin.get("/acme/groups?q=eng")).text) == ["Engineering"]
    assert shown_names((await admin.get("/acme/groups?origin=synced")).text) == ["Sales"]
    assert shown_names((await admin.get("/acme/groups?origin=here")).text) == ["Everyone", "Engineering"]


async def test_a_group_is_made_renamed_and_deleted(admin: httpx2.AsyncClient, world: World) -> None:
    made = await post(admin, "/acme/groups/new", name="Support")
    assert await toast_after(admin, made) == "Group “Support” was created."
    path = made.headers["location"]
    taken = await post(admin, f"{path}/edit", name="Engineering")
    assert taken.status_code == 422
    version = re.search(r'name="version" value="&#34;([^"]+)&#34;"', (await admin.get(f"{path}/edit")).text)
    assert version is not None
    saved = await post(admin, f"{path}/edit", name="Help", version=f'"{version[1]}"', base="{}")
    assert await toast_after(admin, saved) == "Group “Help” was saved."
    assert (await post(admin, f"{path}/delete", typed="Support")).status_code == 422
    deleted = await post(admin, f"{path}/delete", typed="Help")
    assert await toast_after(admin, deleted) == "Group “Help” was deleted."


async def test_members_are_chosen_over_several_searches_and_added(
    admin: httpx2.AsyncClient, world: World
) -> None:
    ids = [await person(world, f"Member {number:02}") for number in range(30)]
    path = f"/acme/groups/{world.group.id}/members"
    first = (await admin.get(path)).text
    assert "There are more" in first
    assert "ada@example.org" not in first, "who is a member is not offered"
    searched = (await post(admin, path, search="yes", find="member 29", chosen=str(ids[3]))).text
    assert re.findall(r'value="([^"]+)" checked', searched) == [str(ids[3])]
    assert str(ids[29]) in searched
    assert str(ids[4]) not in searched
    added = await post(admin, path, chosen=[str(ids[3]), str(ids[29])])
    assert await toast_after(admin, added) == "2 members were added to “Engineering”."
    assert await members(world) == {world.actor.id, ids[3], ids[29]}


async def test_nobody_is_added_where_nobody_was_ticked(admin: httpx2.AsyncClient, world: World) -> None:
    answer = await post(admin, f"/acme/groups/{world.group.id}/members")
    assert answer.status_code == 422
    assert "Tick whom to add." in answer.text


async def test_an_actor_of_another_account_is_not_added(admin: httpx2.AsyncClient, world: World) -> None:
    other = await make_world(world.portal, "other")
    await post(admin, f"/acme/groups/{world.group.id}/members", chosen=str(other.actor.id))
    assert await members(world) == {world.actor.id}


async def test_members_are_paged_searched_and_removed(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/groups/{world.group.id}"
    ids = [await person(world, f"Member {number:02}") for number in range(12)]
    await post(admin, f"{path}/members", chosen=list(map(str, ids)))
    first = (await admin.get(path)).text
    assert names_in_tab(first) == ["Ada", *(f"Member {number:02}" for number in range(9))]
    second = (await admin.get(f"{path}?tab=members&members=2")).text
    assert names_in_tab(second) == ["Member 09", "Member 10", "Member 11"]
    assert names_in_tab((await admin.get(f"{path}?tab=members&member=11")).text) == ["Member 11"]
    removed = await post(admin, f"{path}/members/{ids[11]}/remove")
    assert await toast_after(admin, removed) == "Member 11 is no member of “Engineering” any more."
    assert await members(world) == {world.actor.id, *ids[:11]}


async def test_of_everyone_and_of_synced_groups_nobody_edits_the_members(
    admin: httpx2.AsyncClient, world: World
) -> None:
    synced = await grouped(world, "Sales", idp_id="okta-1")
    everyone = await everyone_of(world)
    for group in (synced, everyone):
        page = (await admin.get(f"/acme/groups/{group.id}")).text
        assert "Add members" not in page
        assert f"/groups/{group.id}/edit" not in page
        for verb in ("members", f"members/{world.actor.id}/remove"):
            told = await toast_after(
                admin, await post(admin, f"/acme/groups/{group.id}/{verb}", chosen=str(world.actor.id))
            )
            assert told == "Group is not editable"
        assert "version" not in (await admin.get(f"/acme/groups/{group.id}/edit")).text
        await post(admin, f"/acme/groups/{group.id}/edit", name="Mine")
    assert (await group_of(world, synced.id)).name == "Sales"
    page = (await admin.get(f"/acme/groups/{everyone.id}")).text
    assert names_in_tab(page) == ["Ada", "admin"]
    assert "Delete group" not in page
    assert "Delete group" in (await admin.get(f"/acme/groups/{synced.id}")).text


async def test_several_resources_are_granted_at_once_or_none(admin: httpx2.AsyncClient, world: World) -> None:
    wiki, mail = await resourced(world, "wiki"), await resourced(world, "mail")
    path = f"/acme/groups/{world.group.id}/grant"
    offered = (await admin.get(path)).text
    assert str(wiki) in offered
    assert str(world.resource.id) not in offered, "what is granted is not offered"
    refused = await post(admin, path, resource_ids=[str(wiki), str(world.resource.id)])
    assert refused.status_code == 422
    assert "already exists" in refused.text
    assert await granted(world) == {world.resource.id: False}
    given = {"resource_ids": [str(wiki), str(mail)], "conditions": "client_verified"}
    done = await post(admin, path, **given, flow_log_uploads_enabled="on")
    assert await toast_after(admin, done) == "2 resources were granted to “Engineering”."
    assert await granted(world) == {world.resource.id: False, wiki: False, mail: False}
    tab = (await admin.get(f"/acme/groups/{world.group.id}?tab=resources")).text
    assert tab.count("Under Verified client.") == 2
    assert "can&#39;t be blank" in (await post(admin, path)).text


async def test_access_is_disabled_enabled_and_removed(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/groups/{world.group.id}/policies/{world.policy.id}"
    tab = f"/acme/groups/{world.group.id}?tab=resources"
    assert await toast_after(admin, await post(admin, f"{path}/disable")) == "Access was disabled."
    assert await granted(world) == {world.resource.id: True}
    assert "Enable access" in (await admin.get(tab)).text
    assert await toast_after(admin, await post(admin, f"{path}/enable")) == "Access was enabled."
    assert await granted(world) == {world.resource.id: False}
    assert await undone(admin, await post(admin, f"{path}/disable")) is not None
    assert await granted(world) == {world.resource.id: False}
    assert await toast_after(admin, await post(admin, f"{path}/remove")) == "Access was removed."
    assert await granted(world) == {}
    assert "No access yet" in (await admin.get(tab)).text
    again = await post(admin, f"{path}/disable")
    assert await toast_after(admin, again) == "The policy does not exist any more."


async def test_a_policy_of_another_group_is_not_changed_through_this_one(
    admin: httpx2.AsyncClient, world: World
) -> None:
    other = await grouped(world, "Sales")
    await post(admin, f"/acme/groups/{other.id}/policies/{world.policy.id}/remove")
    assert await granted(world) == {world.resource.id: False}


async def test_every_form_of_groups_needs_its_sessions_token(admin: httpx2.AsyncClient, world: World) -> None:
    id_, policy = world.group.id, world.policy.id
    for path in (
        "new",
        f"{id_}/edit",
        f"{id_}/delete",
        f"{id_}/members",
        f"{id_}/members/{world.actor.id}/remove",
        f"{id_}/grant",
        f"{id_}/policies/{policy}/disable",
        f"{id_}/policies/{policy}/enable",
        f"{id_}/policies/{policy}/remove",
    ):
        for wrong in ({}, {"csrf_token": "a" * 64}):
            answer = await admin.post(f"/acme/groups/{path}", data={**wrong, "typed": "Engineering"})
            assert answer.status_code == 403, path
    assert await members(world) == {world.actor.id}


async def test_a_group_of_another_account_does_not_exist(admin: httpx2.AsyncClient, world: World) -> None:
    other = await make_world(world.portal, "other")
    for path in ("", "/members", "/grant"):
        answer = await admin.get(f"/acme/groups/{other.group.id}{path}")
        assert await toast_after(admin, answer) == "This group does not exist."
    await post(admin, f"/acme/groups/{other.group.id}/members", chosen=str(world.actor.id))
    await post(admin, f"/acme/groups/{other.group.id}/policies/{other.policy.id}/remove")
    assert await members(other) == {other.actor.id}
    assert await granted(other) == {other.resource.id: False}


async def test_a_provider_is_found_by_the_palette(admin: httpx2.AsyncClient, world: World) -> None:
    page = (await admin.get("/acme/search/results?q=otp")).text
    found = re.search(r'href="(/acme/settings/authentication/[0-9a-f-]{36})"', page)
    assert found is not None
    history = (await admin.get(f"{found[1]}?tab=history")).text
    assert ("Entry in the log" in history, "client_session_lifetime_secs" in history) == (True, True)


async def test_a_group_is_found_by_the_palette(admin: httpx2.AsyncClient, world: World) -> None:
    page = (await admin.get("/acme/search/results?q=engin")).text
    assert f'href="/acme/groups/{world.group.id}"' in page


def names_in_tab(page: str) -> list[str]:
    return re.findall(r'<div class="item-main"><a href="/acme/actors/[^"]+">([^<]+)</a>', page)


async def person(world: World, name: str) -> UUID:
    async with world.portal.services.store.writing() as transaction:
        email = f"{name.replace(' ', '-').lower()}@example.org"
        actor = Actor(
            id=transaction.new_id(), account_id=world.account_id, type="account_user", name=name, email=email
        )
        await transaction.of(world.account_id).actors.insert(actor)
    return actor.id


async def grouped(world: World, name: str, *, idp_id: str | None = None) -> Group:
    async with world.portal.services.store.writing() as transaction:
        group = Group(id=transaction.new_id(), account_id=world.account_id, name=name, idp_id=idp_id)
        return await transaction.of(world.account_id).groups.insert(group)


async def resourced(world: World, name: str) -> UUID:
    async with world.portal.services.store.writing() as transaction:
        resource = replace(world.resource, id=transaction.new_id(), name=name)
        await transaction.of(world.account_id).resources.insert(resource)
    return resource.id


async def members(world: World) -> set[UUID]:
    async with world.portal.services.store.reading() as transaction:
        memberships = transaction.of(world.account_id).memberships
        return set(
            await memberships.load_column(memberships.c.actor_id, memberships.c.group_id == world.group.id)
        )


async def granted(world: World) -> dict[UUID, bool]:
    """Return whether the policies of the group are disabled, by resource."""
    async with world.portal.services.store.reading() as transaction:
        policies = transaction.of(world.account_id).policies
        rows = await policies.load_all(policies.c.group_id == world.group.id)
    return {row.resource_id: row.is_disabled for row in rows}


async def everyone_of(world: World) -> Group:
    async with world.portal.services.store.reading() as transaction:
        groups = transaction.of(world.account_id).groups
        group = await groups.find(groups.c.type == "managed")
    assert group is not None
    return group


async def group_of(world: World, id_: UUID) -> Group:
    async with world.portal.services.store.reading() as transaction:
        group = await transaction.of(world.account_id).groups.load(id_)
    assert group is not None
    return group
