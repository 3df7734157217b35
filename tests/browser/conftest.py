"""A served portal and headless Chromium. One portal and one browser for all tests of a module, each test in a tab of
its own; the machine's Chromium, so that nothing is downloaded.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from support.browser import operator_link, sign_in_link
from support.node_provider import make_authority
from support.patience import PATIENCE_S
from support.portal import World, make_world
from support.served_portal import served_portal
from support.smtp_sink import Sink, mailer, serving
from wardgate.portal.access import rules as access_rules
from wardgate.portal.devices import rules as device_rules
from wardgate.portal.environment import Environment
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.installation.tables import Banner
from wardgate.portal.outbound.client import GuardedClient
from wardgate.portal.people import rules as people_rules
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in import rules as sign_in_rules
from wardgate.portal.sites.tables import Site

OUTBOUND = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
"""Where the portal may call: an identity provider of the tests."""

PATIENCE_MS = 4 * PATIENCE_S * 1000
"""For each thing that a browser does or is to show, beside other work of the machine."""

expect.set_options(timeout=PATIENCE_MS)

AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(900))  # of half a minute: for what hangs


@dataclass(slots=True)
class Served:
    """The portal, at its address, with one account's world.

    Attributes:
        sink: the mail server that it writes to.
        idp_folder: where the certificate of an identity provider is, which the portal trusts.
    """

    url: str
    world: World
    sink: Sink
    idp_folder: Path

    async def link(self) -> str:
        return self.url + await sign_in_link(self.world)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    idp_folder = tmp_path_factory.mktemp("idp")
    authority = make_authority(idp_folder)

    def settings(port: int) -> PortalSettings:
        return PortalSettings(
            # By name: browsers know passkeys on HTTPS and on localhost only.
            external_url=f"http://localhost:{port}",
            connect_capacity=100.0,
            sign_up=True,
            outbound_networks=OUTBOUND,
            outbound_ca=authority,
        )

    outbound = GuardedClient(settings(0).reachable_addresses, ca_file=authority)
    async with serving(Sink()) as sink:
        environment = Environment.of_this_process(mailer=mailer(sink), outbound=outbound)
        async with served_portal(settings, environment=environment) as (portal, port):
            world = await make_world(portal)
            await _furnish(world)
            async with world.gateway(query={"name": "gw-berlin-1"}) as gateway, world.client() as client:
                await gateway.join()
                await client.join()
                async with gateway.beating(), client.beating():
                    yield Served(f"http://localhost:{port}", world, sink, idp_folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        path = shutil.which("chromium")
        assert path is not None, "make test installs chromium"
        # Tests run as root in containers, where Chromium has no sandbox.
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


@dataclass(slots=True)
class Tab:
    """A tab of a signed-in browser, with all that went wrong in it."""

    page: Page
    served: Served
    errors: list[str] = field(default_factory=list)

    async def go(self, path: str) -> None:
        await self.page.goto(self.served.url + path)

    async def wait_for(self, text: str) -> None:
        await self.page.get_by_text(text).first.wait_for()

    async def complaints(self) -> list[str]:
        """Return what the page did against its own policy, and the errors of its scripts."""
        return [*self.errors, *await self.page.evaluate("window.violations")]

    async def barriers(self) -> list[str]:
        """Return what axe finds, one line for each element."""
        await self.page.evaluate(Axe().axe_script)
        found = await self.page.evaluate(
            "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})",
            AXE_TAGS,
        )
        return [
            f"{one['id']}: {' '.join(node['target'])}: {re.sub(chr(10), ' ', node['failureSummary'])}"
            for one in found["violations"]
            for node in one["nodes"]
        ]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def signed_in(served: Served, chromium: Browser) -> Any:
    """The cookies of a signed-in browser."""
    context = await open_context(chromium)
    page = await context.new_page()
    await page.goto(await served.link())
    # Also as the operator: the two sessions do not know of each other.
    await page.goto(served.url + await operator_link(served.world.portal))
    state = await context.storage_state()
    await context.close()
    return state


@pytest_asyncio.fixture(loop_scope="session")
async def context(chromium: Browser, signed_in: Any) -> AsyncIterator[BrowserContext]:
    context = await open_context(chromium, storage_state=signed_in, viewport={"width": 1280, "height": 900})
    await context.add_init_script(_VIOLATIONS)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def tab(context: BrowserContext, served: Served) -> Tab:
    return await open_tab(context, served)


@pytest_asyncio.fixture(loop_scope="session")
async def colleague(chromium: Browser, signed_in: Any, served: Served) -> AsyncIterator[Tab]:
    """The tab of another browser."""
    context = await open_context(chromium, storage_state=signed_in, viewport={"width": 1280, "height": 900})
    yield await open_tab(context, served)
    await context.close()


async def open_context(chromium: Browser, **options: Any) -> BrowserContext:
    context = await chromium.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    return context


async def open_tab(context: BrowserContext, served: Served) -> Tab:
    tab = Tab(await context.new_page(), served)
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.on(
        "console",
        lambda message: (
            tab.errors.append(message.text)
            # Chromium logs each answer that is no success; a form that was refused is none.
            if message.type == "error" and "status of 422" not in message.text
            else None
        ),
    )
    return tab


THEMES = ("light", "dark")
WIDTHS = {390: 844, 1280: 900, 1920: 1080}
AUDITED = {("light", 390), ("dark", 1280)}
"""Where axe looks: contrast is a matter of the theme, all else of the width, and it takes a second a page."""


async def flaws_of(
    tab: Tab, name: str, theme: str, pictures: Path, widths: Mapping[int, int] = WIDTHS
) -> list[str]:
    """Look at the page that is open in each width: what is against the policy, what is cut off, what is a barrier; and
    take its picture, if somebody wants pictures or from the first flaw on.
    """
    flaws: list[str] = []
    for width, height in widths.items():
        await tab.page.set_viewport_size({"width": width, "height": height})
        flaws += [f"{name} at {width}: {one}" for one in await tab.complaints()]
        overflow = await tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if overflow > 0:
            flaws.append(f"{name} at {width}: {overflow} px wider than the screen")
        if (theme, width) in AUDITED:
            flaws += [f"{name} at {width}: {one}" for one in await tab.barriers()]
        if "WARDGATE_SCREENSHOTS" in os.environ or flaws:
            await tab.page.screenshot(path=pictures / f"{name}-{width}-{theme}.png")
        tab.errors.clear()
    return flaws


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    place = Path(os.environ.get("WARDGATE_SCREENSHOTS", tmp_path))
    place.mkdir(parents=True, exist_ok=True)
    return place


async def _furnish(world: World) -> None:
    """Fill the account with enough that pages look like those of an organisation."""
    services = world.portal.services
    async with services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        for name in (
            "Amsterdam data centre",
            "Frankfurt",
            "Lisbon office",
            "Singapore",
            "Tokyo " + "lab" * 18,
        ):
            site = Site(id=transaction.new_id(), account_id=world.account_id, name=name, health_threshold=2)
            await tables.sites.insert(site)
        await device_rules.make_gateway(
            tables, transaction, world.site.id, {"name": "gw-spare"}, keys=services.keys
        )
        account = await tables.account()
        assert account is not None
        await sign_in_rules.make_api_client(tables, account, {"name": "Terraform"})
        await people_rules.make_actor(tables, account, {"name": "Backup server", "type": "service_account"})
        await access_rules.make_device_pool(
            tables, {"name": "Laptops of support", "type": "static_device_pool"}
        )
        await JobQueue(transaction).enqueue("a_job_that_waits", run_at=transaction.now + timedelta(days=365))
        await transaction.banners.insert(
            Banner(id=transaction.new_id(), message="The portal is upgraded tonight.", color="info")
        )
