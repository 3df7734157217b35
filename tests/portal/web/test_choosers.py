"""Fields that choose from more than a form shows: what is chosen stays, words find the rest, nothing typed is lost."""

import re
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import insert

from support.pages import post, toast_after
from support.portal import World
from wardgate.portal.people.tables import GROUPS
from wardgate.portal.web.choices import SHOWN_AT_ONCE


@pytest.fixture
async def last(world: World) -> UUID:
    """Make more groups than a form shows; returns the one that is last in their order."""
    async with world.portal.services.store.writing() as transaction:
        ids = [transaction.new_id() for _ in range(SHOWN_AT_ONCE + 20)]
        await transaction.execute(
            insert(GROUPS.table),
            [
                {
                    "account_id": world.account_id,
                    "id": id_,
                    "type": "static",
                    "entity_type": "group",
                    "name": f"Team {number:03}",
                    "inserted_at": transaction.now,
                    "updated_at": transaction.now,
                }
                for number, id_ in enumerate(ids)
            ],
        )
    return ids[-1]


def options(page: str, field: str) -> dict[str, bool]:
    """Return what a field offers, and which of it is chosen."""
    return {
        value: "checked" in rest
        for value, rest in re.findall(
            rf'<input type="(?:radio|checkbox)" name="{field}" value="([^"]+)"([^>]*)>', page
        )
    }


async def test_a_form_shows_some_and_finds_the_others(
    admin: httpx2.AsyncClient, world: World, last: UUID
) -> None:
    page = (await admin.get("/acme/policies/new")).text
    assert len(options(page, "group_id")) == SHOWN_AT_ONCE
    assert str(last) not in options(page, "group_id")
    assert "There are more: find them by name." in page
    assert 'name="find.group_id"' in page
    assert 'name="find.resource_id"' not in page, "of few nothing has to be found"

    typed = {"description": "Typed <already>", "resource_id": str(world.resource.id)}
    before = await count_policies(world)
    found = await post(
        admin, "/acme/policies/new", **typed, **{"find.group_id": " team 119 ", "search": "group_id"}
    )
    assert found.status_code == 200
    assert options(found.text, "group_id") == {str(last): False}
    assert options(found.text, "resource_id")[str(world.resource.id)]
    assert "Typed &lt;already&gt;" in found.text
    assert "banner bad" not in found.text, "looking for more is no mistake"

    chosen = {**typed, "group_id": str(last), "find.group_id": "no such", "found.group_id": "team 119"}
    again = await post(admin, "/acme/policies/new", **chosen)
    assert options(again.text, "group_id") == {str(last): True}, (
        "Enter in the field of words looks for them too"
    )
    assert await count_policies(world) == before

    done = await post(admin, "/acme/policies/new", **{**chosen, "found.group_id": "no such"})
    assert await toast_after(admin, done) == "Policy “Team 119 → net” was created."


async def test_a_stored_choice_is_shown_wherever_it_stands_in_the_order(
    admin: httpx2.AsyncClient, world: World, last: UUID
) -> None:
    made = await post(
        admin, "/acme/policies/new", group_id=str(last), resource_id=str(world.resource.id), description=""
    )
    path = made.headers["location"].partition("?")[0]
    form = (await admin.get(f"{path}/edit")).text
    assert options(form, "group_id")[str(last)]
    looked = await post(
        admin, f"{path}/edit", group_id=str(last), search="group_id", **{"find.group_id": "eng"}
    )
    assert options(looked.text, "group_id") == {str(last): True, str(world.group.id): False}


async def test_ticks_of_several_searches_add_up(admin: httpx2.AsyncClient, world: World, last: UUID) -> None:
    path = f"/acme/resources/{world.resource.id}/grant"
    offered = options((await admin.get(path)).text, "group_ids")
    assert str(world.group.id) not in offered, "it has access already"
    first = next(iter(offered))
    found = await post(admin, path, group_ids=first, search="group_ids", **{"find.group_ids": "Team 119"})
    assert options(found.text, "group_ids") == {first: True, str(last): False}
    done = await post(admin, path, group_ids=[first, str(last)])
    assert "Access to" in await toast_after(admin, done)


async def test_what_may_not_be_chosen_is_not_found_by_its_id(
    admin: httpx2.AsyncClient, world: World, last: UUID
) -> None:
    path = f"/acme/resources/{world.resource.id}/grant"
    for value in (str(world.group.id), str(world.resource.id), "no id", "\x00"):
        answer = await post(
            admin, path, group_ids=value, search="group_ids", **{"find.group_ids": "Team 119"}
        )
        assert options(answer.text, "group_ids") == {str(last): False}
    long = await post(admin, path, search="group_ids", **{"find.group_ids": "%" * 5000})
    assert long.status_code == 200
    assert "Nothing is called that." in long.text


async def test_who_to_explain_is_found_by_name(admin: httpx2.AsyncClient, world: World) -> None:
    assert 'name="find"' not in (await admin.get("/acme/explain")).text, "of few nothing has to be found"
    asked = f"who=actor:{world.actor.id}&resource_id={world.resource.id}"
    page = (await admin.get(f"/acme/explain?{asked}&find=nobody+of+this+name&search=yes")).text
    assert f'value="actor:{world.actor.id}" selected' in page
    assert f'value="{world.resource.id}" selected' in page
    assert "verdict" not in page, "it was only looked for others"
    assert len(re.findall(r'<option value="(?:actor|client):', page)) == 1


async def count_policies(world: World) -> int:
    async with world.portal.services.store.reading(is_long=True) as transaction:
        return await transaction.of(world.account_id).policies.count()
