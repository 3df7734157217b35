"""The explain page: the answer of this moment and of the past, and what would change it."""

import asyncio
import html
import re
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from support.pages import post, toast_after
from support.patience import PATIENCE_S
from support.portal import World, make_world
from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.portal.people.tables import Actor


async def test_without_a_question_the_page_says_what_it_is_for(
    admin: httpx2.AsyncClient, world: World
) -> None:
    page = (await admin.get("/acme/explain")).text
    assert "Ask a question" in page
    assert f'value="actor:{world.actor.id}"' in page
    assert f'value="{world.resource.id}"' in page


async def test_a_granted_question_is_told_as_a_chain(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.gateway(query={"name": "gw-1"}) as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client_id = next(iter(re.findall(r'value="client:([^"]+)"', (await admin.get("/acme/explain")).text)))
        page = words(await asked(admin, world, who=f"client:{client_id}"))
    assert re.search(r"Granted: Ada → net", page)
    assert "when the client's token expires" in page
    for step in ("In 2 groups", "Engineering → net", "Lets through everything", "gw-1"):
        assert step in page, step
    assert "What would change it" not in page


async def test_without_a_gateway_it_is_denied_for_that(admin: httpx2.AsyncClient, world: World) -> None:
    page = words(await asked(admin, world))
    assert "Denied: Ada → net No gateway of its site is online." in page


async def test_a_disabled_policy_is_enabled_from_here(admin: httpx2.AsyncClient, world: World) -> None:
    await saved(world, replace(world.policy, is_disabled=True))
    page = await asked(admin, world)
    assert "Enable the policy for Engineering" in words(page)
    answer = await post(
        admin,
        "/acme/explain/enable",
        policy_id=str(world.policy.id),
        who=f"actor:{world.actor.id}",
        resource_id=str(world.resource.id),
        protocol="",
        port="",
    )
    assert answer.headers["location"] == (
        f"/acme/explain?who=actor%3A{world.actor.id}&resource_id={world.resource.id}"
    )
    assert await toast_after(admin, answer) == "The policy was enabled."
    assert "Enable the policy" not in words(await asked(admin, world))


async def test_somebody_is_added_to_the_group_from_here(admin: httpx2.AsyncClient, world: World) -> None:
    grace = await person(world, "Grace")
    who = f"actor:{grace.id}"
    page = await asked(admin, world, who=who)
    assert "no enabled policy grants the resource" in words(page).lower()
    assert "Add Grace to Engineering" in words(page)
    assert f"/acme/policies/new?group_id={await everyone(world)}&amp;resource_id={world.resource.id}" in page
    answer = await post(
        admin,
        "/acme/explain/join",
        group_id=str(world.group.id),
        actor_id=str(grace.id),
        who=who,
        resource_id=str(world.resource.id),
    )
    assert await toast_after(admin, answer) == "Grace was added to the group."
    assert "No gateway of its site is online" in words(await asked(admin, world, who=who))


async def test_a_synced_group_is_not_proposed_to_be_joined(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).groups.save(replace(world.group, idp_id="okta-1"))
    grace = await person(world, "Grace")
    assert "Add Grace" not in words(await asked(admin, world, who=f"actor:{grace.id}"))


async def test_a_condition_that_fails_is_named_with_what_was_compared(
    admin: httpx2.AsyncClient, world: World
) -> None:
    conditions = [
        {"property": "remote_ip", "operator": "is_in_cidr", "values": ["10.0.0.0/8"]},
        {"property": "client_verified", "operator": "is", "values": ["true"]},
    ]
    await saved(world, replace(world.policy, conditions=conditions))
    unknown = words(await asked(admin, world))
    assert "It depends: Ada → net" in unknown
    assert "The client connects from 10.0.0.0/8: not known" in unknown
    async with world.client() as client:
        await client.join()
        id_ = next(iter(re.findall(r'value="client:([^"]+)"', (await admin.get("/acme/explain")).text)))
        page = await asked(admin, world, who=f"client:{id_}")
    assert "The client connects from 10.0.0.0/8: fails 192.0.2.7" in words(page)
    assert "The client is verified: fails it is not" in words(page)
    assert f'href="/acme/policies/{world.policy.id}/edit"' in page


async def test_the_resources_filters_are_asked_too(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        filtered = replace(world.resource, filters=[{"protocol": "tcp", "ports": ["443"]}])
        await transaction.of(world.account_id).resources.save(filtered)
    page = words(await asked(admin, world, protocol="tcp", port="22"))
    assert "tcp 22 is refused" in page
    assert "Change what the resource lets through" in page
    assert "tcp 443 is admitted" in words(await asked(admin, world, protocol="tcp", port="443"))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"protocol": "sctp"}, "The protocol is tcp, udp or icmp."),
        ({"protocol": "tcp", "port": "0"}, "The port is a number from 1 to 65535."),
        ({"protocol": "udp", "port": "http"}, "The port is a number from 1 to 65535."),
        ({"who": "nobody"}, "does not exist any more"),
        ({"who": "actor:11111111-1111-4111-8111-111111111111"}, "does not exist any more"),
        ({"resource_id": "nothing"}, "does not exist any more"),
        ({"log_id": "0" * 24}, "There is no such decision in the log"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_told_so(
    admin: httpx2.AsyncClient, world: World, changed: dict[str, str], told: str
) -> None:
    assert told in words(await asked(admin, world, **changed))


async def test_a_decision_of_the_past_is_shown_as_it_was_recorded(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.client() as client:
        await client.join()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        await client.receive_until("authorization_creation_failed")
    await recorded(world)
    overview = (await admin.get("/acme")).text
    (path,) = re.findall(r'href="(/acme/explain\?log_id=[0-9a-f]{24})"', overview)
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).policies.delete(world.policy.id)
    page = (await admin.get(path)).text
    assert "Denied: Ada → net" in words(page)
    assert "No gateway of its site is online" in words(page)
    assert "Recorded" in page
    again = re.search(r'href="([^"]+)">Ask again for now', page)
    assert again is not None
    now = words((await admin.get(html.unescape(again[1]))).text)
    assert "No enabled policy grants the resource" in now


async def test_what_somebody_reaches_stands_in_their_panel(admin: httpx2.AsyncClient, world: World) -> None:
    page = (await admin.get(f"/acme/actors/{world.actor.id}?tab=reach")).text
    assert f'href="/acme/resources/{world.resource.id}"' in page
    assert "by way of Engineering" in words(page)
    await saved(world, replace(world.policy, is_disabled=True))
    assert "Nothing: no policy" in words((await admin.get(f"/acme/actors/{world.actor.id}?tab=reach")).text)


async def test_every_form_of_the_explain_page_needs_its_sessions_token(
    admin: httpx2.AsyncClient, world: World
) -> None:
    for path in ("enable", "join"):
        for wrong in ({}, {"csrf_token": "a" * 64}):
            assert (await admin.post(f"/acme/explain/{path}", data=wrong)).status_code == 403, path


async def test_objects_of_another_account_are_neither_explained_nor_changed(
    admin: httpx2.AsyncClient, world: World
) -> None:
    other = await make_world(world.portal, "other")
    await saved(other, replace(other.policy, is_disabled=True))
    page = await asked(admin, world, who=f"actor:{other.actor.id}", resource_id=str(other.resource.id))
    assert "does not exist any more" in page
    assert "does not exist any more" in await asked(admin, world, resource_id=str(other.resource.id))
    assert (await post(admin, "/acme/explain/enable", policy_id=str(other.policy.id))).status_code == 404
    joined = {"group_id": str(other.group.id), "actor_id": str(world.actor.id)}
    assert (await post(admin, "/acme/explain/join", **joined)).status_code == 404


async def recorded(world: World) -> None:
    """Wait until a decision is in the log; they are written in groups."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with world.portal.services.store.reading() as transaction:
                if await newest_decisions(transaction.of(world.account_id), limit=1):
                    return
            await asyncio.sleep(0.01)


async def asked(admin: httpx2.AsyncClient, world: World, **changed: str) -> str:
    """Return the page with the answer to whether Ada may use the resource."""
    question = {"who": f"actor:{world.actor.id}", "resource_id": str(world.resource.id), **changed}
    answer = await admin.get("/acme/explain", params=question)
    assert answer.status_code == 200
    return answer.text


def words(page: str) -> str:
    """Return the text of the page's answer."""
    text = re.sub(r"<[^>]+>", " ", page.partition('<main id="main"')[2])
    return re.sub(r" ([:.,])", r"\1", re.sub(r"\s+", " ", html.unescape(text)))


async def saved(world: World, policy: Any) -> None:
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).policies.save(policy)


async def person(world: World, name: str) -> Actor:
    async with world.portal.services.store.writing() as transaction:
        actor = Actor(
            id=transaction.new_id(),
            account_id=world.account_id,
            type="account_user",
            name=name,
            email=f"{name.lower()}@example.org",
        )
        return await transaction.of(world.account_id).actors.insert(actor)


async def everyone(world: World) -> Any:
    async with world.portal.services.store.reading() as transaction:
        groups = transaction.of(world.account_id).groups
        group = await groups.find(groups.c.type == "managed")
    assert group is not None
    return group.id
