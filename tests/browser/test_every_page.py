"""Each page in each theme and width: nothing against the policy, no error, no barrier, nothing cut off, and a picture.

Pictures go to `$WARDGATE_SCREENSHOTS`, or to the run's temporary directory.
"""

import os
import re
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

from browser.conftest import Served, open_tab
from wardgate.portal.web.listing import ListPage
from wardgate.portal.web.page import Page
from wardgate.portal.web.pages import OPERATOR_PAGES, PAGES

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

THEMES = ("light", "dark")
WIDTHS = {390: 844, 1280: 900, 1920: 1080}
AUDITED = {("light", 390), ("dark", 1280)}
"""Where axe looks: contrast is a matter of the theme, all else of the width, and it takes a second a page."""


async def paths_of(served: Served, *, all_tabs: bool) -> list[str]:
    """Every page of the navigation, the operator's too, what stands beside the tables, and the first tab or each of
    its first object's panel.
    """
    slug = "/acme"
    world = served.world
    return [
        *await paths_of_pages(served, slug, PAGES, all_tabs=all_tabs),
        *await paths_of_pages(served, "/operator", OPERATOR_PAGES, all_tabs=all_tabs),
        f"{slug}/sites/{world.site.id}/edit",
        f"{slug}/sites?q=nothing+is+called+that",
        f"{slug}/groups/{world.group.id}/members",
        f"{slug}/groups/{world.group.id}/grant",
        f"{slug}/policies/{world.policy.id}/edit",
        f"{slug}/actors/{world.actor.id}/edit",
        f"{slug}/service_accounts/new",
        f"{slug}/explain?who=actor:{world.actor.id}&resource_id={world.resource.id}",
        f"{slug}/search?q=ber",
        "/operator/search?q=ac",
    ]


async def paths_of_pages(
    served: Served, prefix: str, pages: tuple[Page, ...], *, all_tabs: bool
) -> list[str]:
    """What the declarations of pages say there is; a page that is added is visited by itself."""
    paths = []
    async with served.world.portal.services.store.reading(is_long=True) as transaction:
        own = transaction if prefix == "/operator" else transaction.of(served.world.account_id)
        for page in pages:
            paths.append(f"{prefix}{page.path}")
            if not isinstance(page, ListPage):
                continue
            if page.can_make:
                paths.append(f"{prefix}{page.path}/new")
            rows = page.repository(own)
            row = await rows.find(*([] if page.only is None else [page.only]))
            if row is not None and page.panel is not None:
                here = f"{prefix}{page.path}/{row.id}"
                tabs = [f"{here}?tab={tab.name}" for tab in page.panel.tabs] if all_tabs else []
                paths += tabs or [here]
    return paths


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.timeout(600)
async def test_a_page_is_whole_and_open_to_everybody(
    context: BrowserContext, served: Served, theme: str, pictures: Path
) -> None:
    await context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    tab = await open_tab(context, served)
    wrong: list[str] = []
    # A theme is colours, and tabs are made of the same parts: once is enough for those.
    for path in await paths_of(served, all_tabs=theme == "light"):
        for width, height in WIDTHS.items():
            await tab.page.set_viewport_size({"width": width, "height": height})
            if width == min(WIDTHS):
                await tab.go(path)
            wrong += [f"{path} at {width}: {one}" for one in await tab.complaints()]
            overflow = await tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if overflow > 0:
                wrong.append(f"{path} at {width}: {overflow} px wider than the screen")
            if (theme, width) in AUDITED:
                wrong += [f"{path} at {width}: {one}" for one in await tab.barriers()]
            name = path.removeprefix("/acme").strip("/").replace("/", "-").replace("?", "-") or "overview"
            name = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "one", name)
            await tab.page.screenshot(path=pictures / f"{name}-{width}-{theme}.png")
            tab.errors.clear()
    assert not wrong, "\n".join(dict.fromkeys(wrong))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    place = Path(os.environ.get("WARDGATE_SCREENSHOTS", tmp_path))
    place.mkdir(parents=True, exist_ok=True)
    return place
