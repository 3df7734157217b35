"""The way from a new account to the first access: what is ticked off, what is next, and where each step leads."""

import re
from dataclasses import replace

import httpx2

from support.pages import post
from support.portal import GATEWAY_AGENT, Peer, World


def steps_of(page: str) -> dict[str, tuple[str, bool]]:
    """Return of each step how far it is, and whether its instructions are open."""
    found = re.findall(
        r'<details id="step-(\w+)" class="item"( open)?>.*?<span class="unseen">: (.*?)</span>',
        page,
        re.DOTALL,
    )
    return {name: (state, bool(is_open)) for name, is_open, state in found}


async def test_what_is_there_is_ticked_off_and_the_next_step_is_open(
    admin: httpx2.AsyncClient, world: World
) -> None:
    steps = steps_of((await admin.get("/acme/get_started")).text)
    assert steps == {
        "site": ("done", False),
        "gateway": ("waiting", True),
        "resource": ("done", False),
        "policy": ("done", False),
        "client": ("not done yet", False),
        "access": ("not done yet", False),
    }


async def test_a_gateway_that_was_deployed_is_waited_for_until_it_connects(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).gateway_tokens.delete(world.gateway_token_id)
    assert steps_of((await admin.get("/acme/get_started")).text)["gateway"] == ("not done yet", True)
    answer = await post(admin, f"/acme/sites/{world.site.id}/deploy")
    assert answer.status_code == 200
    page = (await admin.get("/acme/get_started")).text
    assert steps_of(page)["gateway"] == ("waiting", True)
    assert "waiting for it to connect" in page
    token = re.search(r'<code id="token" class="code" tabindex="0">(.*?)</code>', answer.text)
    assert token is not None
    async with Peer(world.portal, "gateway", token[1], GATEWAY_AGENT, external_id="new") as gateway:
        await gateway.join()
        page = (await admin.get("/acme/get_started")).text
    assert steps_of(page)["gateway"] == ("done", False)
    assert "1 online" in page


async def test_after_the_first_access_everything_is_done_and_the_overview_is_silent(
    admin: httpx2.AsyncClient, world: World
) -> None:
    assert "3 of 6 steps done" in (await admin.get("/acme")).text
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client.send(
            "request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        )
        created = await gateway.receive("create_authorization")
        gateway.send("authorization_created", {"ref": created["payload"]["ref"]})
        await client.receive("authorization_created")
        await world.portal.journal.flush()
        page = (await admin.get("/acme/get_started")).text
        overview = (await admin.get("/acme")).text
    assert {state for state, _ in steps_of(page).values()} == {"done"}
    assert "Everything works" in page
    assert "steps done" not in overview


async def test_a_name_that_somebody_chose_stays_text(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        resources = transaction.of(world.account_id).resources
        await resources.save(replace(world.resource, name="<script>alert(1)</script>"))
    page = (await admin.get("/acme/get_started")).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
