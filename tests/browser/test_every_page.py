"""Each page in each theme and width: nothing against the policy, no error, no barrier, nothing cut off, and a picture.

Pictures go to `$WARDGATE_SCREENSHOTS`; without it those of pages that have a flaw go to the run's temporary directory.
"""

import re
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

from browser.conftest import THEMES, WIDTHS, Served, flaws_of, open_tab
from wardgate.portal.web.listing import ListPage
from wardgate.portal.web.page import Page
from wardgate.portal.web.pages import OPERATOR_PAGES, PAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARTS = 5
"""In which the pages are looked at, so that processes can share the work."""


async def paths_of(served: Served, part: int, *, all_tabs: bool) -> list[str]:
    """Every page of the navigation, the operator's too, what stands beside the tables, and the first tab or each of
    its first object's panel. Parts are of what is declared: rows come and go while others are looked at.
    """
    slug = "/acme"
    world = served.world
    beside = (
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
    )
    return [
        *await paths_of_pages(served, slug, PAGES[part::PARTS], all_tabs=all_tabs),
        *await paths_of_pages(served, "/operator", OPERATOR_PAGES[part::PARTS], all_tabs=all_tabs),
        *beside[part::PARTS],
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


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("theme", THEMES)
async def test_a_page_is_whole_and_open_to_everybody(
    context: BrowserContext, served: Served, theme: str, part: int, pictures: Path
) -> None:
    await context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    tab = await open_tab(context, served)
    wrong: list[str] = []
    # A theme is colours, and tabs are made of the same parts: once is enough for those.
    for path in await paths_of(served, part, all_tabs=theme == "light"):
        await tab.page.set_viewport_size({"width": min(WIDTHS), "height": WIDTHS[min(WIDTHS)]})
        await tab.go(path)
        name = path.removeprefix("/acme").strip("/").replace("/", "-").replace("?", "-") or "overview"
        name = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "one", name)
        wrong += await flaws_of(tab, name, theme, pictures)
    assert not wrong, "\n".join(dict.fromkeys(wrong))
