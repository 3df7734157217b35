"""The page of sites: the table, its filters, the panel, forms, gateways and their tokens."""

import html
import re
from dataclasses import replace

import httpx2
import pytest

from support.browser import sign_in_link
from support.hostile_names import HOSTILE_NAMES
from support.pages import heading_of, hidden_of, post, rows_of, shown_names, toast_after
from support.portal import World, make_world
from wardgate.model.shown_text import shown_text
from wardgate.portal.devices.tables import Device
from wardgate.portal.sites.tables import Site


async def test_the_palette_finds_gateways_and_leads_to_their_sites(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.gateway(query={"name": "Gateway für Öl"}) as gateway:
        await gateway.join()
        await gateway_of(world)
        found = (await admin.get("/acme/search/results?q=fur+ol")).text
    assert f'href="/acme/sites/{world.site.id}"' in found
    assert "Gateway für Öl" in found
    assert "Nothing is called that" in (await admin.get("/acme/search/results?q=fur+oel")).text


async def test_sites_are_listed_with_their_gateways_and_the_internet_site_first(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
        page = (await admin.get("/acme/sites")).text
    assert shown_names(page) == ["Internet", "Berlin", "Default Site"]
    berlin = rows_of(page)[1]
    assert ("1 online" in berlin, "1 resource" in berlin, "Healthy" in berlin) == (True, True, True)
    assert '<a href="/acme/sites" aria-current="page"' in page


async def test_a_site_with_fewer_gateways_than_it_needs_is_degraded(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await saved(world, replace(world.site, health_threshold=2))
    async with world.gateway() as gateway:
        await gateway.join()
        assert "Degraded" in rows_of((await admin.get("/acme/sites")).text)[1]


async def test_a_search_is_in_the_address_and_finds_nothing_in_words(
    admin: httpx2.AsyncClient, world: World
) -> None:
    assert shown_names((await admin.get("/acme/sites?q=ERL")).text) == ["Berlin"]
    for words in ("%", "_", "nowhere"):
        page = (await admin.get("/acme/sites", params={"q": words})).text
        assert "No results" in page
        assert "Clear filters" in page


async def test_what_is_wrong_in_the_address_is_left_out_and_named(
    admin: httpx2.AsyncClient, world: World
) -> None:
    answer = await admin.get("/acme/sites?sort=secret&page=-1&size=7&q=" + "x" * 300)
    assert answer.status_code == 200
    assert "an invalid name, order, page size, page" in answer.text
    assert shown_names(answer.text) == ["Internet", "Berlin", "Default Site"]


async def test_the_table_is_sorted_and_paged(admin: httpx2.AsyncClient, world: World) -> None:
    await inserted(world, *(f"Site {number:02}" for number in range(12)))
    page = (await admin.get("/acme/sites?sort=-name&size=10")).text
    assert shown_names(page)[:3] == ["Internet", "Site 11", "Site 10"]
    assert "1–10 of 15" in page
    (following,) = re.findall(r'rel="next" href="([^"]+)"', page)
    rest = (await admin.get(html.unescape(following))).text
    assert shown_names(rest) == ["Site 02", "Site 01", "Site 00", "Default Site", "Berlin"]
    assert 'rel="next"' not in rest


async def test_a_site_is_made_and_its_panel_shown(admin: httpx2.AsyncClient, world: World) -> None:
    answer = await post(admin, "/acme/sites/new", name="  Lisbon  ", health_threshold="2")
    assert answer.status_code == 303
    page = (await admin.get(answer.headers["location"])).text
    assert heading_of(page) == "Lisbon"
    assert "2 gateways online" in page
    assert "Site “Lisbon” was created." in page
    assert "was created" not in (await admin.get("/acme/sites")).text


@pytest.mark.parametrize(
    ("name", "threshold", "told"),
    [
        ("", "1", "can&#39;t be blank"),
        ("x" * 65, "1", "should be at most 64 character(s)"),
        ("Berlin", "1", "has already been taken"),
        ("Lisbon", "0", "must be between 1 and 1000"),
        ("Lisbon", "many", "must be a whole number"),
        ("Lisbon", "9" * 18, "must be between 1 and 1000"),
    ],
)
async def test_what_is_wrong_is_said_beside_the_field_and_what_was_typed_stays(
    admin: httpx2.AsyncClient, world: World, name: str, threshold: str, told: str
) -> None:
    answer = await post(admin, "/acme/sites/new", name=name, health_threshold=threshold)
    assert answer.status_code == 422
    assert told in answer.text
    assert f'value="{name}"' in answer.text
    assert f'value="{threshold}"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert 'role="alert"' in answer.text


async def test_the_second_administrator_sees_what_the_first_has_stored_and_loses_nothing(
    admin: httpx2.AsyncClient, world: World
) -> None:
    path = f"/acme/sites/{world.site.id}/edit"
    seen = hidden_of((await admin.get(path)).text)
    await saved(world, replace(world.site, name="Berlin, first", health_threshold=3))
    answer = await post(admin, path, **seen, name="Berlin, second", health_threshold="1")
    assert answer.status_code == 422
    assert "<strong>Berlin, first</strong>" in answer.text
    assert 'value="Berlin, second"' in answer.text
    assert 'id="health_threshold" name="health_threshold" required' in answer.text
    assert 'value="3"' in answer.text, "what she had not touched follows"
    again = await post(admin, path, **hidden_of(answer.text), name="Berlin, second", health_threshold="3")
    assert again.status_code == 303
    assert await stored(world) == ("Berlin, second", 3)


async def test_a_form_that_nobody_overtook_is_stored(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/sites/{world.site.id}/edit"
    seen = hidden_of((await admin.get(path)).text)
    assert (await post(admin, path, **seen, name="Potsdam", health_threshold="4")).status_code == 303
    assert await stored(world) == ("Potsdam", 4)


async def test_a_site_is_deleted_once_its_name_is_typed(admin: httpx2.AsyncClient, world: World) -> None:
    path = f"/acme/sites/{world.site.id}/delete"
    refused = await post(admin, path, typed="Hamburg")
    assert refused.status_code == 422
    assert "Nothing has changed" in refused.text
    assert await stored(world) == ("Berlin", 1)
    assert await toast_after(admin, await post(admin, path, typed="Berlin")) == "Site “Berlin” was deleted."
    assert await toast_after(admin, await admin.get(f"/acme/sites/{world.site.id}")) == (
        "This site does not exist."
    )


async def test_of_the_internet_site_only_the_threshold_changes(
    admin: httpx2.AsyncClient, world: World
) -> None:
    site = await internet(world)
    page = (await admin.get(f"/acme/sites/{site.id}")).text
    assert "Delete site" not in page
    path = f"/acme/sites/{site.id}/edit"
    form = (await admin.get(path)).text
    assert 'name="name"' not in form
    assert (await post(admin, path, **hidden_of(form), health_threshold="2", name="Mine")).status_code == 303
    after = await internet(world)
    assert (after.name, after.health_threshold) == ("Internet", 2)
    assert (await post(admin, f"/acme/sites/{site.id}/delete", typed="Internet")).status_code == 303
    assert await internet(world) == after


async def test_a_gateway_that_drains_is_shown_and_does_not_count_as_online(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
        gateway.send("draining", {})
        await gateway.news()
        panel = (await admin.get(f"/acme/sites/{world.site.id}?tab=gateways")).text
        assert ("Draining" in panel, "Online" in panel) == (True, False)
        listed = (await admin.get("/acme/sites")).text
        assert "Healthy" not in listed


async def test_a_gateway_is_drained_and_used_again(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
        site, row = f"/acme/sites/{world.site.id}", await gateway_of(world)
        drained = await post(admin, f"{site}/gateways/{row.id}/drain")
        assert await toast_after(admin, drained) == f"Gateway “{row.name}” gets nothing new."
        await gateway.news()
        panel = (await admin.get(site)).text
        assert ("Draining" in panel, "Use again" in panel, "Drain gateway" in panel) == (True, True, False)
        assert "Healthy" not in (await admin.get("/acme/sites")).text
        used = await post(admin, f"{site}/gateways/{row.id}/undrain")
        assert await toast_after(admin, used) == f"Gateway “{row.name}” is used again."
        await gateway.news()
        panel = (await admin.get(site)).text
        assert ("Draining" in panel, "Use again" in panel, "Drain gateway" in panel) == (False, False, True)
        assert "Healthy" in (await admin.get("/acme/sites")).text


async def test_a_gateway_is_deployed_and_its_token_works_and_is_shown_once(
    admin: httpx2.AsyncClient, world: World
) -> None:
    path = f"/acme/sites/{world.site.id}/deploy"
    page = (await post(admin, path)).text
    (token,) = re.findall(r'<code id="token"[^>]*>([^<]+)</code>', page)
    for shown in (f"WARDGATE_TOKEN={token}", "WARDGATE_API_URL=ws://", "WARDGATE_ID="):
        assert shown in page
    (gateway_path,) = re.findall(r'data-live-url="([^"]+)"', page)
    assert "Waiting for" in (await admin.get(gateway_path)).text
    world.gateway_token = token
    async with world.gateway() as gateway:
        await gateway.join()
        assert "is online" in (await admin.get(gateway_path)).text
    again = (await admin.get(path)).text
    assert token not in again
    assert "Deploy gateway" in again


async def test_a_gateway_with_the_sites_token_is_given_its_own(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.gateway(query={"name": "gw-1"}) as gateway:
        await gateway.join()
        panel = (await admin.get(f"/acme/sites/{world.site.id}")).text
        assert "Connected with a token of the site" in panel
        assert "Upgrade token" in panel
        path = f"/acme/sites/{world.site.id}/gateways/{(await gateway_of(world)).id}"
        assert (await post(admin, f"{path}/token")).status_code == 200
        panel = (await admin.get(f"/acme/sites/{world.site.id}")).text
        assert "a token of its own is waiting to be used" in panel
        renamed = await post(admin, f"{path}/rename", name="gw-2")
        assert await toast_after(admin, renamed) == "The gateway is called “gw-2” now."
        refused = await post(admin, f"{path}/rename", name=" ")
        assert "was not renamed" in await toast_after(admin, refused)
    assert await toast_after(admin, await post(admin, f"{path}/delete")) == "Gateway “gw-2” was deleted."
    assert "No gateways yet" in (await admin.get(f"/acme/sites/{world.site.id}")).text


async def test_the_sites_tokens_are_revoked(admin: httpx2.AsyncClient, world: World) -> None:
    panel = (await admin.get(f"/acme/sites/{world.site.id}?tab=tokens")).text
    assert str(world.gateway_token_id) in panel
    answer = await post(admin, f"/acme/sites/{world.site.id}/tokens/{world.gateway_token_id}/revoke")
    assert await toast_after(admin, answer) == "The token was revoked."
    assert "No token of the site" in (await admin.get(f"/acme/sites/{world.site.id}?tab=tokens")).text


async def test_a_sites_resources_stand_in_its_panel(admin: httpx2.AsyncClient, world: World) -> None:
    panel = (await admin.get(f"/acme/sites/{world.site.id}?tab=resources")).text
    assert f'href="/acme/resources/{world.resource.id}"' in panel
    assert ">CIDR</span>" in panel


async def test_every_form_needs_its_sessions_token(admin: httpx2.AsyncClient, world: World) -> None:
    id_ = world.site.id
    for path in (
        "new",
        f"{id_}/edit",
        f"{id_}/delete",
        f"{id_}/deploy",
        f"{id_}/gateways/{id_}/token",
        f"{id_}/gateways/{id_}/rename",
        f"{id_}/gateways/{id_}/drain",
        f"{id_}/gateways/{id_}/undrain",
        f"{id_}/gateways/{id_}/delete",
        f"{id_}/tokens/revoke",
    ):
        for wrong in ({}, {"csrf_token": "a" * 64}):
            answer = await admin.post(f"/acme/sites/{path}", data={**wrong, "name": "x", "typed": "Berlin"})
            assert answer.status_code == 403, path
    assert await stored(world) == ("Berlin", 1)


async def test_an_object_of_another_account_does_not_exist(admin: httpx2.AsyncClient, world: World) -> None:
    other = await make_world(world.portal, "other")
    assert await toast_after(admin, await admin.get(f"/acme/sites/{other.site.id}")) == (
        "This site does not exist."
    )
    await post(admin, f"/acme/sites/{other.site.id}/delete", typed="Berlin")
    assert (await post(admin, f"/acme/sites/{other.site.id}/deploy")).status_code == 404
    assert await stored(other) == ("Berlin", 1)


async def test_strangers_are_sent_to_sign_in_and_back(visitor: httpx2.AsyncClient, world: World) -> None:
    answer = await visitor.get("/acme/sites?q=a")
    assert answer.headers["location"] == "/acme/sign_in?redirect_to=%2Facme%2Fsites%3Fq%3Da"
    assert (await visitor.get(await sign_in_link(world))).status_code == 303


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if len(name) <= 64])
async def test_a_name_is_shown_as_it_is_whatever_it_looks_like(
    admin: httpx2.AsyncClient, world: World, name: str
) -> None:
    await saved(world, replace(world.site, name=name))
    page = (await admin.get(f"/acme/sites/{world.site.id}")).text
    told = "\n".join(map(shown_text, name.split("\n")))
    assert told in [html.unescape(one) for one in re.findall(r'class="row-link">(.*?)</a>', page, re.DOTALL)]
    assert [one for one in page if not one.isprintable() and one != "\n"] == []
    assert "<img src=x" not in page


async def inserted(world: World, *names: str) -> None:
    async with world.portal.services.store.writing() as transaction:
        sites = transaction.of(world.account_id).sites
        for name in names:
            await sites.insert(Site(id=transaction.new_id(), account_id=world.account_id, name=name))


async def saved(world: World, site: Site) -> None:
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).sites.save(site)


async def stored(world: World) -> tuple[str, int]:
    async with world.portal.services.store.reading() as transaction:
        site = await transaction.of(world.account_id).sites.load(world.site.id)
    assert site is not None
    return site.name, site.health_threshold


async def internet(world: World) -> Site:
    async with world.portal.services.store.reading() as transaction:
        sites = transaction.of(world.account_id).sites
        site = await sites.find(sites.c.managed_by == "system")
    assert site is not None
    return site


async def gateway_of(world: World) -> Device:
    async with world.portal.services.store.reading() as transaction:
        devices = transaction.of(world.account_id).devices
        gateway = await devices.find(devices.c.type == "gateway")
    assert gateway is not None
    return gateway
