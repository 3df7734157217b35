"""What the script adds: live update between two browsers, the palette, themes, forms of two administrators."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from playwright.async_api import Browser, expect

from browser.conftest import Served, Tab, open_context
from wardgate.portal.sites.tables import Site
from wardgate.portal.web.choices import SHOWN_AT_ONCE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_colleagues_change_appears_and_rows_are_not_moved(tab: Tab, colleague: Tab) -> None:
    await tab.go("/acme/sites")
    await colleague.go("/acme/sites/new")
    await colleague.page.fill("#name", "Zurich")
    await colleague.page.get_by_role("button", name="Create site").click()
    await expect(colleague.page.locator(".toast")).to_contain_text("Site “Zurich” was created.")
    reload = tab.page.locator("#stale a")
    await expect(reload).to_be_visible()
    assert await tab.page.locator("tbody").get_by_text("Zurich").count() == 0
    await reload.click()
    await expect(tab.page.locator("tbody")).to_contain_text("Zurich")
    await expect(reload).to_be_hidden()
    await colleague.page.get_by_role("link", name="Edit").click()
    await colleague.page.fill("#name", "Zürich")
    await colleague.page.get_by_role("button", name="Save changes").click()
    await expect(tab.page.locator("tbody")).to_contain_text("Zürich")
    await expect(reload).to_be_hidden()
    assert await tab.complaints() == []


async def test_a_gateway_that_connects_ends_the_waiting(tab: Tab, served: Served) -> None:
    await tab.go(f"/acme/sites/{served.world.site.id}")
    await tab.page.get_by_role("button", name="Deploy gateway").click()
    state = tab.page.locator("#gateway-state")
    await expect(state).to_contain_text("Waiting for")
    token = await tab.page.locator("#token").inner_text()
    former, served.world.gateway_token = served.world.gateway_token, token
    try:
        async with served.world.gateway(external_id="new", query={"name": "gw-new"}) as gateway:
            await gateway.join()
            await expect(state).to_contain_text("is online")
    finally:
        served.world.gateway_token = former
    assert token in await tab.page.locator("#token").inner_text(), "the token stays where it is"


async def test_the_second_administrator_sees_the_first_ones_change(
    tab: Tab, colleague: Tab, served: Served
) -> None:
    site = await made(served, "Oslo")
    for one in (tab, colleague):
        await one.go(f"/acme/sites/{site.id}/edit")
    await colleague.page.fill("#name", "Bergen")
    await colleague.page.get_by_role("button", name="Save changes").click()
    await expect(colleague.page.locator("#side-heading")).to_have_text("Bergen")
    await tab.page.fill("#health_threshold", "3")
    await tab.page.get_by_role("button", name="Save changes").click()
    await expect(tab.page.get_by_role("alert")).to_contain_text("Somebody else has changed this meanwhile")
    assert await tab.page.input_value("#name") == "Bergen"
    assert await tab.page.input_value("#health_threshold") == "3"
    await tab.page.get_by_role("button", name="Save changes").click()
    await expect(tab.page.locator("#side-heading")).to_have_text("Bergen")


async def test_the_palette_leads_to_an_object_by_keyboard_alone(tab: Tab, served: Served) -> None:
    site = await made(served, "Helsinki")
    await tab.go("/acme")
    await tab.page.keyboard.press("Control+k")
    await expect(tab.page.locator("#palette input")).to_be_focused()
    await tab.page.keyboard.type("helsi")
    await expect(tab.page.locator("#palette-results a.chosen")).to_contain_text("Helsinki")
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.locator("#side-heading")).to_have_text("Helsinki")
    assert tab.page.url.endswith(f"/acme/sites/{site.id}")
    await tab.page.keyboard.press("Escape")
    await expect(tab.page.locator("#side-heading")).to_have_count(0)
    assert await tab.complaints() == []


async def test_a_theme_is_kept_and_there_before_the_first_paint(tab: Tab) -> None:
    await tab.go("/acme")
    await tab.page.locator("summary[title=Theme]").click()
    await tab.page.get_by_role("button", name="Dark").click()
    await tab.page.reload(wait_until="commit")
    await tab.page.locator("body").wait_for(state="attached")
    assert await tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    await tab.page.locator(".sidebar").wait_for()
    background = await tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(12, 14, 18)"


async def test_nothing_shifts_while_a_page_loads(tab: Tab, served: Served) -> None:
    tools = await tab.page.context.new_cdp_session(tab.page)
    await tools.send(
        "Emulation.setCPUThrottlingRate", {"rate": 4}
    )  # so that it is painted as it comes, if it is
    for path in ("/acme/resources", f"/acme/sites/{served.world.site.id}", "/acme/logs/changes"):
        await tab.go(path)
        shifts = await tab.page.evaluate(
            """() => new Promise((done) => {
              const seen = [];
              new PerformanceObserver((list) => seen.push(...list.getEntries().map((one) =>
                one.sources.map(({node}) => node?.outerHTML.slice(0, 80))
              ))).observe({type: "layout-shift", buffered: true});
              requestAnimationFrame(() => requestAnimationFrame(() => done(seen)));
            })"""
        )
        assert shifts == [], path
    await tools.send("Emulation.setCPUThrottlingRate", {"rate": 1})


async def test_filters_apply_themselves_and_are_in_the_address(tab: Tab) -> None:
    await tab.go("/acme/sites")
    await tab.page.get_by_role("searchbox", name="Name", exact=True).press_sequentially("frank")
    await tab.page.wait_for_url("**/acme/sites?q=frank")
    await expect(tab.page.locator("tbody tr")).to_have_count(1)
    assert await tab.page.evaluate("document.activeElement.name") == "q"


async def test_more_to_choose_from_is_found_while_somebody_types(tab: Tab, served: Served) -> None:
    world = served.world
    async with world.portal.services.store.writing() as transaction:
        for number in range(SHOWN_AT_ONCE):
            new = replace(world.group, id=transaction.new_id(), name=f"Zone {number:03}")
            await transaction.of(world.account_id).groups.insert(new)
    await tab.go("/acme/policies/new")
    groups = tab.page.locator("#options-group_id")
    await tab.page.get_by_label("Description").fill("Typed before")
    await groups.locator("label", has_text="Zone 000").click()
    await tab.page.get_by_label("Find group by name").press_sequentially("zone 099")
    await expect(groups.locator("label")).to_have_text(["Zone 000", "Zone 099"])
    await expect(tab.page.get_by_label("Description")).to_have_value("Typed before")
    await expect(tab.page.get_by_label("Find group by name")).to_be_focused()
    await groups.locator("label", has_text="Zone 099").click()
    assert await tab.barriers() == []
    await tab.page.locator("#options-resource_id label").first.click()
    await tab.page.get_by_role("button", name="Create policy").click()
    await expect(tab.page.locator(".toast")).to_contain_text("Policy “Zone 099 →")
    assert await tab.complaints() == []


async def test_a_hidden_tab_holds_no_stream(tab: Tab, served: Served) -> None:
    async with tab.page.expect_request(lambda request: "/live?" in request.url):
        await tab.go("/acme/sites")
    closed = tab.page.wait_for_event("requestfailed", lambda request: "/live?" in request.url)
    await tab.page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await closed
    site = await made(served, "Bratislava")
    await tab.page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => false, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await expect(tab.page.locator("#stale a")).to_be_visible()
    assert site.name not in await tab.page.locator("tbody").inner_text()


async def test_a_lost_connection_is_told(tab: Tab) -> None:
    await tab.go("/acme/sites")
    await tab.page.context.set_offline(True)
    await tab.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await tab.page.context.set_offline(False)
    async with tab.page.expect_request(lambda request: "/live?" in request.url):
        await tab.page.reload()
    await tab.page.route("**/live?**", lambda route: route.abort())
    await tab.page.reload()
    await expect(tab.page.locator("#lost")).to_be_visible()


async def test_everything_can_be_done_without_a_script(
    chromium: Browser, signed_in: object, served: Served
) -> None:
    context = await open_context(chromium, storage_state=signed_in, java_script_enabled=False)
    page = await context.new_page()
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.goto(f"{served.url}/acme/sites")
    await page.get_by_role("link", name="Menu").first.click()
    await page.get_by_role("link", name="Resources", exact=True).click()
    await page.get_by_role("searchbox").fill("10.20")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.goto(f"{served.url}/acme/sites/new")
    await page.fill("#name", "Reykjavik")
    await page.get_by_role("button", name="Create site").click()
    await expect(page.locator("#side-heading")).to_have_text("Reykjavik")
    await page.locator("summary", has_text="Delete site").click()
    await page.get_by_label("To confirm, type").fill("Reykjavik")
    await page.get_by_role("button", name="Delete site").click()
    await expect(page.locator(".toast")).to_contain_text("was deleted")
    await page.goto(f"{served.url}/acme/search?q=berlin")
    await page.locator("#found").get_by_role("link", name="Berlin", exact=True).click()
    await expect(page.locator("#side-heading")).to_have_text("Berlin")
    await context.close()


async def made(served: Served, name: str) -> Site:
    async with served.world.portal.services.store.writing() as transaction:
        site = Site(id=transaction.new_id(), account_id=served.world.account_id, name=name)
        return await transaction.of(served.world.account_id).sites.insert(site)


async def test_times_are_those_of_the_reader_and_stay_so(
    chromium: Browser, signed_in: object, served: Served, tab: Tab
) -> None:
    context = await open_context(chromium, storage_state=signed_in, timezone_id="Asia/Tokyo")
    try:
        page = await context.new_page()
        await page.goto(f"{served.url}/acme/logs/changes")
        await expect(page.locator("tbody time").first).to_contain_text("GMT+9")
        # Both at one moment: another entry may come to stand first.
        title, shown = await page.locator("tbody time").first.evaluate("one => [one.title, one.textContent]")
        assert title.endswith("UTC")
        there, here = datetime.fromisoformat(shown[:19]), datetime.fromisoformat(title[:19])
        assert there - here == timedelta(hours=9)
        await made(served, "Osaka")
        await expect(page.locator("tbody")).to_contain_text("Osaka")
        assert "UTC" not in await page.locator("tbody").inner_text()
    finally:
        await context.close()


async def test_a_connect_appears_in_the_log_of_sessions_and_its_entry_has_a_map(
    tab: Tab, served: Served
) -> None:
    world = served.world
    await tab.go("/acme/logs/sessions?size=100")
    rows = tab.page.locator("tbody tr")
    await expect(rows).not_to_have_count(0)
    before = await rows.count()
    # The middle of the Netherlands, as far as the registries know.
    async with world.client(external_id="new", query={"name": "barge"}, remote_ip="193.0.6.139") as client:
        await client.join()
        await expect(rows).to_have_count(before + 1)
    await expect(rows.first).to_contain_text("193.0.6.139")
    await rows.first.locator("a.row-link").click()
    await expect(tab.page.locator("#side .world")).to_be_visible()
    await expect(tab.page.locator("#side")).to_contain_text("barge")
    for theme in ("light", "dark"):
        await tab.page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        assert await tab.barriers() == [], theme
    assert await tab.complaints() == []


async def test_a_period_is_in_the_readers_zone_unless_another_is_chosen(
    chromium: Browser, signed_in: object, served: Served
) -> None:
    context = await open_context(chromium, storage_state=signed_in, timezone_id="Asia/Tokyo")
    try:
        page = await context.new_page()
        await page.goto(f"{served.url}/acme/logs/changes")
        zone = page.get_by_label("Time zone of the period")
        await expect(zone).to_have_value("Asia/Tokyo")
        await page.get_by_label("Period from").fill("2000-01-01T09:00")
        await page.wait_for_url("**/acme/logs/changes?period=2000-01-01T09%3A00%2C%2CAsia%2FTokyo")
        await expect(page.locator("tbody tr").first).to_be_visible()
        await zone.select_option("UTC")
        await page.wait_for_url("**/acme/logs/changes?period=2000-01-01T09%3A00%2C")
        await expect(zone).to_have_value("UTC")
    finally:
        await context.close()


async def test_the_menu_is_collapsed_and_stays_so(tab: Tab) -> None:
    await tab.go("/acme")
    menu = tab.page.locator(".sidebar")
    await expect(menu).to_have_css("width", "224px")
    await tab.page.locator("[data-collapses]").click()
    await expect(menu).to_have_css("width", "60px")
    await menu.get_by_role("link", name="Resources").click()  # its name is still read out
    await expect(tab.page.locator("#page-heading")).to_contain_text("Resources")
    await tab.page.reload()
    await expect(menu).to_have_css("width", "60px")
    assert await tab.barriers() == []
    await tab.page.locator("[data-collapses]").click()
    await expect(menu).to_have_css("width", "224px")


async def test_what_was_done_is_taken_back(tab: Tab, served: Served) -> None:
    await tab.go(f"/acme/policies/{served.world.policy.id}")
    status = tab.page.locator("#side-status")
    await tab.page.locator("summary", has_text="Disable").click()
    await tab.page.get_by_role("button", name="Disable").last.click()
    await expect(status).to_contain_text("Disabled")
    assert await tab.barriers() == []
    await tab.page.locator(".toast").get_by_role("button", name="Undo").click()
    await expect(status).to_contain_text("Active")
    assert await tab.complaints() == []


async def test_a_colleagues_policy_and_a_clients_coming_appear_on_other_pages(
    tab: Tab, colleague: Tab, served: Served
) -> None:
    await tab.go(f"/acme/resources/{served.world.resource.id}?tab=access")
    await expect(tab.page.locator("#tab-access")).not_to_contain_text("Night shift")
    await colleague.go("/acme/groups/new")
    await colleague.page.fill("#name", "Night shift")
    await colleague.page.get_by_role("button", name="Create group").click()
    await expect(colleague.page.locator("#side-heading")).to_have_text("Night shift")
    await colleague.go(f"/acme/resources/{served.world.resource.id}/grant")
    await colleague.page.locator("label.option", has_text="Night shift").click()
    await colleague.page.get_by_role("button", name="Grant access").click()
    await expect(tab.page.locator("#tab-access")).to_contain_text("Night shift")
    await tab.go("/operator/relays")
    await expect(tab.page.locator("tbody")).to_contain_text("Offline")
    async with served.world.relay() as relay:
        await relay.join({"stamp_secret": "ab" * 32})
        await expect(tab.page.locator("tbody")).to_contain_text("Online")
    await expect(tab.page.locator("tbody")).to_contain_text("Offline")
    assert await tab.complaints() == []


async def test_two_administrators_in_the_form_of_a_person(tab: Tab, colleague: Tab, served: Served) -> None:
    path = f"/acme/actors/{served.world.actor.id}/edit"
    for one in (tab, colleague):
        await one.go(path)
    before = await tab.page.input_value("#name")
    await colleague.page.fill("#name", "Ada the second")
    await colleague.page.get_by_role("button", name="Save changes").click()
    await expect(colleague.page.locator("#side-heading")).to_have_text("Ada the second")
    await tab.page.fill("#name", "Ada the third")
    await tab.page.get_by_role("button", name="Save changes").click()
    await expect(tab.page.get_by_role("alert")).to_contain_text("Somebody else has changed this meanwhile")
    await expect(tab.page.locator(".theirs")).to_contain_text("Ada the second")
    assert await tab.page.input_value("#name") == "Ada the third"
    await tab.page.fill("#name", before)
    await tab.page.get_by_role("button", name="Save changes").click()
    await expect(tab.page.locator("#side-heading")).to_have_text(before)


async def test_a_search_is_there_before_its_count(tab: Tab, served: Served) -> None:
    world = served.world
    async with world.portal.services.store.writing() as transaction:
        for number in range(12):
            new = replace(world.group, id=transaction.new_id(), name=f"Rota {number:03}")
            await transaction.of(world.account_id).groups.insert(new)
    await tab.go("/acme/groups?q=rota&size=10")
    await expect(tab.page.locator("#total")).to_contain_text("12")
    await expect(tab.page.locator(".pager")).to_contain_text("1–10 of 12")
    assert await tab.complaints() == []
