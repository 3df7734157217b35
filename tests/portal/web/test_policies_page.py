"""The page of policies: the table, the form with its conditions, and what the panel says of them."""

import json
import re
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from support.pages import heading_of, hidden_of, post, rows_of, shown_names, toast_after, undone
from support.portal import World, make_world
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.people.tables import Group

REGION, IP, PROVIDER, VERIFIED, TIME = (
    "remote_ip_location_region",
    "remote_ip",
    "auth_provider_id",
    "client_verified",
    "current_utc_datetime",
)
WEEK = {"property": TIME, "operator": "is_in_day_of_week_time_ranges"}


async def test_policies_are_listed_by_what_they_join(admin: httpx2.AsyncClient, world: World) -> None:
    wiki = await resourced(world, "Wiki")
    orphan = await inserted(world, resource_id=wiki, group_id=None)
    await saved(world, replace(world.policy, is_disabled=True, conditions=[verified()]))
    page = (await admin.get("/acme/policies")).text
    assert shown_names(page) == ["Group deleted → Wiki", "Engineering → net"]
    first, second = rows_of(page)
    assert ("Without group" in first, "DNS" in first) == (True, True)
    assert ("Disabled" in second, "Verified client" in second) == (True, True)
    assert heading_of((await admin.get(f"/acme/policies/{orphan.id}")).text) == "Group deleted → Wiki"


async def test_policies_are_found_by_group_resource_and_site(admin: httpx2.AsyncClient, world: World) -> None:
    sales, wiki = await grouped(world, "Sales"), await resourced(world, "Wiki")
    await inserted(world, group_id=sales, resource_id=wiki, is_disabled=True)
    for query, names in (
        ("q=sal", ["Sales → Wiki"]),
        ("q=NET", ["Engineering → net"]),
        ("status=disabled", ["Sales → Wiki"]),
        ("status=active", ["Engineering → net"]),
        (f"group_id={sales}", ["Sales → Wiki"]),
        (f"resource_id={wiki}", ["Sales → Wiki"]),
        (f"site_id={world.site.id}", ["Engineering → net", "Sales → Wiki"]),
        ("sort=-name", ["Sales → Wiki", "Engineering → net"]),
        ("sort=-resource", ["Engineering → net", "Sales → Wiki"]),
    ):
        page = (await admin.get(f"/acme/policies?{query}")).text
        assert shown_names(page) == names, query
    assert "Policies of the group Sales" in (await admin.get(f"/acme/policies?group_id={sales}")).text
    found = (await admin.get("/acme/search/results?q=wiki")).text
    assert "Sales → Wiki" in found


async def test_a_policy_is_made_from_what_another_page_names(admin: httpx2.AsyncClient, world: World) -> None:
    wiki = await resourced(world, "Wiki")
    path = f"/acme/policies/new?group_id={world.group.id}&resource_id={wiki}"
    form = (await admin.get(path)).text
    assert re.findall(r'type="radio" name="\w+_id" value="([^"]+)" checked', form) == [
        str(world.group.id),
        str(wiki),
    ]
    answer = await post(
        admin, "/acme/policies/new", group_id=str(world.group.id), resource_id=str(wiki), description="Docs"
    )
    assert await toast_after(admin, answer) == "Policy “Engineering → Wiki” was created."
    made = await policy_of(world, wiki)
    assert (made.description, made.flow_log_uploads_enabled, made.conditions) == ("Docs", True, [])


async def test_a_group_has_one_policy_for_a_resource(admin: httpx2.AsyncClient, world: World) -> None:
    answer = await post(
        admin, "/acme/policies/new", group_id=str(world.group.id), resource_id=str(world.resource.id)
    )
    assert answer.status_code == 422
    assert "already exists" in answer.text


CARDS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {
            "conditions": REGION,
            f"conditions.{REGION}.operator": "in",
            f"conditions.{REGION}.values": ["FR", "DE"],
        },
        {"property": REGION, "operator": "is_in", "values": ["DE", "FR"]},
        "The client is in Germany or France.",
    ),
    (
        {"conditions": REGION, f"conditions.{REGION}.operator": "not", f"conditions.{REGION}.values": "DE"},
        {"property": REGION, "operator": "is_not_in", "values": ["DE"]},
        "The client is known to be outside Germany.",
    ),
    (
        {
            "conditions": IP,
            f"conditions.{IP}.operator": "in",
            f"conditions.{IP}.values": "10.0.0.0/8\r\n2001:db8::1",
        },
        {"property": IP, "operator": "is_in_cidr", "values": ["10.0.0.0/8", "2001:db8::1"]},
        "The client connects from 10.0.0.0/8 or 2001:db8::1.",
    ),
    (
        {"conditions": VERIFIED},
        {"property": VERIFIED, "operator": "is", "values": ["true"]},
        "The client is verified.",
    ),
    (
        {
            "conditions": TIME,
            f"conditions.{TIME}.zone": "Europe/Berlin",
            f"conditions.{TIME}.rows": "3",
            f"conditions.{TIME}.0.days": ["M", "T"],
            f"conditions.{TIME}.0.first": "09:00",
            f"conditions.{TIME}.0.last": "17:30",
            f"conditions.{TIME}.2.days": ["U"],
            f"conditions.{TIME}.2.first": "00:00",
            f"conditions.{TIME}.2.last": "23:59",
        },
        {
            **WEEK,
            "values": ["M/09:00-17:30/Europe/Berlin", "T/09:00-17:30/Europe/Berlin", "U/true/Europe/Berlin"],
        },
        "It is Sun, all day; or Mon, Tue, 09:00 to 17:30 (Europe/Berlin).",
    ),
]


@pytest.mark.parametrize(("fields", "stored", "told"), CARDS, ids=lambda one: str(one)[:24])
async def test_a_condition_is_stored_told_and_edited_again(
    admin: httpx2.AsyncClient, world: World, fields: dict[str, Any], stored: dict[str, Any], told: str
) -> None:
    path = f"/acme/policies/{world.policy.id}"
    answer = await edited(admin, world, **fields)
    assert answer.status_code == 303, answer.text
    assert (await policy(world)).conditions == [stored]
    assert told in re.sub(r"<[^>]+>", "", (await admin.get(path)).text)
    before = await policy(world)
    form = (await admin.get(f"{path}/edit")).text
    assert re.findall(r'name="conditions" value="([^"]+)" checked', form) == [stored["property"]]
    assert (await edited(admin, world, **fields)).status_code == 303
    assert await policy(world) == before


async def test_a_provider_is_chosen_by_name(admin: httpx2.AsyncClient, world: World) -> None:
    form = (await admin.get(f"/acme/policies/{world.policy.id}/edit")).text
    provider = re.search(rf'name="conditions.{PROVIDER}.values" value="([^"]+)"><span>Email', form)
    assert provider is not None
    fields = {"conditions": PROVIDER, f"conditions.{PROVIDER}.values": provider[1]}
    assert (
        await edited(admin, world, **fields, **{f"conditions.{PROVIDER}.operator": "not"})
    ).status_code == 303
    assert (await policy(world)).conditions == [
        {"property": PROVIDER, "operator": "is_not_in", "values": [provider[1]]}
    ]
    assert (
        "The person signed in otherwise than with Email"
        in (await admin.get(f"/acme/policies/{world.policy.id}")).text
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"conditions": REGION}, "Location: choose at least one, or switch it off"),
        ({"conditions": IP, f"conditions.{IP}.values": "10.0.0.0/33"}, "is not an IP address or CIDR"),
        ({"conditions": TIME, f"conditions.{TIME}.rows": "0"}, "choose at least one"),
        (
            {"conditions": TIME, f"conditions.{TIME}.rows": "1", f"conditions.{TIME}.0.days": "M"},
            "choose days, and from when until when",
        ),
        (
            {
                "conditions": TIME,
                f"conditions.{TIME}.zone": "UTC",
                f"conditions.{TIME}.rows": "1",
                f"conditions.{TIME}.0.days": "M",
                f"conditions.{TIME}.0.first": "17:00",
                f"conditions.{TIME}.0.last": "09:00",
            },
            "the end must be after the start",
        ),
        ({"conditions": "phase_of_the_moon"}, "phase_of_the_moon: is not known"),
    ],
)
async def test_what_is_wrong_with_a_condition_is_said_and_nothing_is_stored(
    admin: httpx2.AsyncClient, world: World, fields: dict[str, Any], told: str
) -> None:
    answer = await edited(admin, world, **fields)
    assert answer.status_code == 422
    assert told in answer.text
    assert (await policy(world)).conditions == []


@pytest.mark.parametrize(
    "stored",
    [
        {**WEEK, "values": ["M/09:00-17:00/Europe/Berlin", "T/09:00-17:00/UTC"]},
        {**WEEK, "values": ["M/9-17/UTC"]},
        {"property": VERIFIED, "operator": "is", "values": ["false"]},
        {"property": REGION, "operator": "is_in", "values": ["XX"]},
    ],
    ids=lambda one: one["values"][0],
)
async def test_a_condition_that_no_card_shows_is_kept_until_it_is_switched_off(
    admin: httpx2.AsyncClient, world: World, stored: dict[str, Any]
) -> None:
    await saved(world, replace(world.policy, conditions=[stored]))
    property_ = stored["property"]
    form = (await admin.get(f"/acme/policies/{world.policy.id}/edit")).text
    kept = json.dumps({name: stored[name] for name in ("property", "operator", "values")})
    assert "It stays as it is while it is switched on" in form
    fields = {"conditions": property_, f"conditions.{property_}.kept": kept}
    assert (await edited(admin, world, description="New", **fields)).status_code == 303
    assert (await policy(world)).conditions == [stored]
    assert (await edited(admin, world)).status_code == 303
    assert (await policy(world)).conditions == []


async def test_saving_a_policy_as_it_is_ends_no_connection(admin: httpx2.AsyncClient, world: World) -> None:
    """A condition in other words than the card's own is no change."""
    stored = {**WEEK, "values": ["T/09:00-17:00/UTC", "M/09:00-17:00/UTC"]}
    await saved(world, replace(world.policy, conditions=[stored]))
    fields = {
        "conditions": TIME,
        f"conditions.{TIME}.zone": "UTC",
        f"conditions.{TIME}.rows": "1",
        f"conditions.{TIME}.0.days": ["M", "T"],
        f"conditions.{TIME}.0.first": "09:00",
        f"conditions.{TIME}.0.last": "17:00",
    }
    assert (await edited(admin, world, description="New", **fields)).status_code == 303
    after = await policy(world)
    assert (after.conditions, after.description) == ([stored], "New")


async def test_an_address_that_fills_in_nonsense_is_harmless(admin: httpx2.AsyncClient, world: World) -> None:
    for text in ("nonsense", "[]", '{"property":[1]}', '{"property":"remote_ip","values":5}', "[" * 5000):
        answer = await admin.get("/acme/policies/new", params={"conditions": text})
        assert answer.status_code == 200, text


async def test_a_policy_is_disabled_enabled_and_deleted(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/policies/{world.policy.id}"
    assert "was disabled" in await toast_after(admin, await post(admin, f"{path}/disable"))
    assert (await policy(world)).is_disabled
    assert await toast_after(admin, await post(admin, f"{path}/enable")) == "The policy was enabled."
    assert not (await policy(world)).is_disabled
    deleted = await post(admin, f"{path}/delete")
    assert await undone(admin, deleted) is None
    assert await toast_after(admin, await admin.get(path)) == "This policy does not exist."


async def test_what_can_be_taken_back_has_a_button_for_it(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/policies/{world.policy.id}"
    enabled = await undone(admin, await post(admin, f"{path}/disable"))
    assert enabled is not None
    assert not (await policy(world)).is_disabled
    disabled = await undone(admin, enabled)
    assert disabled is not None
    assert (await policy(world)).is_disabled
    # The button is told once, and only by the portal: a cookie of somebody's invention has none.
    await admin.get(path)
    assert "Undo" not in (await admin.get(path)).text
    admin.cookies.set("toast", "WzE5OTk5OTk5OTksWyJIYSIsImdvb2QiLCIvYWNtZS9wb2xpY2llcyJdXQ.forged")
    assert "Undo" not in (await admin.get(path)).text


async def test_the_internet_resource_reports_no_flows_unless_told_to(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.portal.services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        account = await tables.account()
        assert account is not None
        await tables.save_account(replace(account, features={**account.features, "internet_resource": True}))
        internet = await tables.resources.find(tables.resources.c.type == "internet")
    assert internet is not None
    given = {"group_id": str(world.group.id), "resource_id": str(internet.id)}
    assert (await post(admin, "/acme/policies/new", **given)).status_code == 303
    assert not (await policy_of(world, internet.id)).flow_log_uploads_enabled


async def test_every_form_of_policies_needs_its_sessions_token(
    admin: httpx2.AsyncClient, world: World
) -> None:
    id_ = world.policy.id
    for path in ("new", f"{id_}/edit", f"{id_}/disable", f"{id_}/enable", f"{id_}/delete"):
        for wrong in ({}, {"csrf_token": "a" * 64}):
            assert (await admin.post(f"/acme/policies/{path}", data=wrong)).status_code == 403, path
    assert await policy(world) == world.policy


async def test_a_policy_of_another_account_does_not_exist(admin: httpx2.AsyncClient, world: World) -> None:
    other = await make_world(world.portal, "other")
    path = f"/acme/policies/{other.policy.id}"
    assert await toast_after(admin, await admin.get(path)) == "This policy does not exist."
    await post(admin, f"{path}/delete")
    given = {"group_id": str(other.group.id), "resource_id": str(other.resource.id)}
    assert (await post(admin, "/acme/policies/new", **given)).status_code == 422
    assert await policy(other) == other.policy


def verified() -> dict[str, Any]:
    return {"property": VERIFIED, "operator": "is", "values": ["true"]}


async def edited(admin: httpx2.AsyncClient, world: World, **fields: Any) -> httpx2.Response:
    """Send the form of the world's policy with these conditions."""
    path = f"/acme/policies/{world.policy.id}/edit"
    hidden = hidden_of((await admin.get(path)).text)
    given = {
        "group_id": str(world.group.id),
        "resource_id": str(world.resource.id),
        "flow_log_uploads_enabled": "on",
        **fields,
    }
    return await post(admin, path, **hidden, **given)


async def policy(world: World) -> Policy:
    return await policy_of(world, world.resource.id)


async def policy_of(world: World, resource_id: UUID) -> Policy:
    async with world.portal.services.store.reading() as transaction:
        policies = transaction.of(world.account_id).policies
        found = await policies.find(policies.c.resource_id == resource_id)
    assert found is not None
    return found


async def inserted(world: World, **fields: Any) -> Policy:
    async with world.portal.services.store.writing() as transaction:
        row = Policy(id=transaction.new_id(), account_id=world.account_id, **fields)
        return await transaction.of(world.account_id).policies.insert(row)


async def saved(world: World, row: Policy) -> None:
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).policies.save(row)


async def grouped(world: World, name: str) -> UUID:
    async with world.portal.services.store.writing() as transaction:
        group = Group(id=transaction.new_id(), account_id=world.account_id, name=name)
        await transaction.of(world.account_id).groups.insert(group)
    return group.id


async def resourced(world: World, name: str) -> UUID:
    async with world.portal.services.store.writing() as transaction:
        row = Resource(
            id=transaction.new_id(),
            account_id=world.account_id,
            type="dns",
            name=name,
            address="wiki.example.com",
            ip_stack="dual",
            site_id=world.site.id,
        )
        await transaction.of(world.account_id).resources.insert(row)
    return row.id
