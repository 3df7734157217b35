"""Take the pictures of README and docs: `make screenshots`, or some by name: `make screenshots ARGS="panel map"`.

A portal in this process serves an organisation that looks like one in use, and headless Chromium looks at it. Its peers
are those of the tests: the application is real, only their sockets are not.
"""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, Page, async_playwright

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.browser import operator_link, sign_in_link  # noqa: E402
from support.portal import Peer, World, make_world  # noqa: E402
from wardgate.portal import credentials  # noqa: E402
from wardgate.portal.access import rules as access_rules  # noqa: E402
from wardgate.portal.app import Portal  # noqa: E402
from wardgate.portal.environment import Environment  # noqa: E402
from wardgate.portal.keys import Keys  # noqa: E402
from wardgate.portal.listening import listen  # noqa: E402
from wardgate.portal.people import rules as people_rules  # noqa: E402
from wardgate.portal.people.tables import Actor  # noqa: E402
from wardgate.portal.server import serve  # noqa: E402
from wardgate.portal.settings import PortalSettings  # noqa: E402
from wardgate.portal.sites.tables import Site  # noqa: E402

PICTURES: Final = ROOT / "docs" / "screenshots"
SITES: Final = ("Amsterdam data centre", "Frankfurt", "Lisbon office", "Singapore", "Tokyo lab")
PEOPLE: Final = {"Grace Hopper": "Operations", "Alan Turing": "Operations", "Katherine Johnson": "Finance"}
RESOURCES: Final = {
    "GitLab": ("dns", "gitlab.acme.example"),
    "Company wiki": ("dns", "wiki.acme.example"),
    "Build cluster": ("cidr", "10.20.0.0/16"),
    "Payroll": ("dns", "payroll.acme.example"),
    "Database of orders": ("ip", "10.30.4.7"),
    "Staging": ("dns", "**.staging.acme.example"),
}
PLACES: Final = {
    "Berlin": ("DE", "52.52,13.40"),
    "Lisbon": ("PT", "38.72,-9.14"),
    "Tokyo": ("JP", "35.68,139.69"),
}


@dataclass(frozen=True)
class Picture:
    """What to open, `{name}` standing for an object's id, and how large a screen in which theme."""

    path: str
    theme: str = "light"
    width: int = 1280
    height: int = 900


NAMED: Final = {
    "panel": Picture("/acme/sites/{Berlin}"),
    "table": Picture("/acme/resources", theme="dark"),
    "cards": Picture("/acme/resources", width=390, height=844),
    "explain": Picture("/acme/explain?who=actor:{Grace Hopper}&resource_id={Payroll}", height=760),
    "topology": Picture("/acme/topology", theme="dark", height=760),
    "map": Picture("/acme/logs/sessions/{session}"),
    "operator": Picture("/operator"),
}


async def main(names: list[str]) -> None:
    async with organisation() as (url, world), async_playwright() as playwright:
        path = shutil.which("chromium")
        assert path is not None, "apt-get install chromium"
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        ids = await _ids(world)
        for name, picture in NAMED.items():
            if not names or name in names:
                await _take(browser, url, world, ids, name, picture)
        await browser.close()


async def _take(
    browser: Browser, url: str, world: World, ids: dict[str, str], name: str, picture: Picture
) -> None:
    headers = _from_place("Lisbon", "198.51.100.40")
    context = await browser.new_context(
        viewport={"width": picture.width, "height": picture.height}, extra_http_headers=headers
    )
    await context.add_init_script(f"localStorage.setItem('theme', '{picture.theme}')")
    page = await context.new_page()
    await page.goto(url + await sign_in_link(world))
    await page.goto(url + await operator_link(world.portal))
    if "{session}" in picture.path:
        await page.goto(f"{url}/acme/logs/sessions")
        first = await page.locator("tbody a.row-link").first.get_attribute("href")
        await _shoot(page, f"{url}{first}", name)
    else:
        await _shoot(page, url + picture.path.format(**ids), name)
    await context.close()


async def _shoot(page: Page, address: str, name: str) -> None:
    await page.goto(address)
    await page.locator("#main").wait_for()
    await page.evaluate("document.fonts.ready")
    target = PICTURES / f"{name}.png"
    await page.screenshot(path=target)
    print(target.relative_to(ROOT))


@contextlib.asynccontextmanager
async def organisation() -> AsyncIterator[tuple[str, World]]:
    """Serve a portal with an account that is in use; yields its address."""
    listener = listen("127.0.0.1", 0)
    url = f"http://localhost:{listener.getsockname()[1]}"
    settings = PortalSettings(external_url=url, trusted_proxies=(IPv4Network("127.0.0.1"),))
    portal = await Portal.open(settings, Keys.derive(b"k" * 32), Environment.of_this_process())
    ready, stop = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve(portal, listener, on_ready=ready.set, until=stop))
    await ready.wait()
    world = await make_world(portal)
    tokens = await _furnish(world)
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(world.relay())
        await relay.join({"stamp_secret": "ab" * 32})
        gateway = await stack.enter_async_context(_gateway(world, 1))
        await gateway.join()
        clients = []
        for number, (name, token) in enumerate(tokens.items()):
            place = list(PLACES)[number % len(PLACES)]
            client = await stack.enter_async_context(
                world.client(
                    external_id=f"client-{number}",
                    token=token,
                    query={"name": f"{name.split()[0].lower()}-laptop"},
                    remote_ip="127.0.0.1",
                    headers=_from_place(place, f"203.0.113.{number + 1}"),
                )
            )
            await client.join()
            clients.append(client)
            if number:
                continue
            client.send(
                "request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
            )
            offered = await gateway.receive_until("create_authorization")
            gateway.send("authorization_created", {"ref": offered["payload"]["ref"]})
            await client.receive_until("authorization_created")
        second = await stack.enter_async_context(_gateway(world, 2))
        await second.join()
        for peer in (relay, gateway, second, *clients):
            await stack.enter_async_context(peer.beating())
        yield url, world
    stop.set()
    await serving


def _gateway(world: World, number: int) -> Peer:
    return world.gateway(
        external_id=f"gateway-{number}",
        query={"name": f"gw-berlin-{number}"},
        remote_ip="127.0.0.1",
        headers=_from_place("Berlin", f"192.0.2.{number}"),
    )


def _from_place(city: str, address: str) -> dict[str, str]:
    region, coordinates = PLACES[city]
    return {
        "x-forwarded-for": address,
        "x-geo-location-region": region,
        "x-geo-location-city": city,
        "x-geo-location-coordinates": coordinates,
    }


async def _furnish(world: World) -> dict[str, str]:
    """Fill the account; returns a client token for each of some people, by name."""
    services = world.portal.services
    async with services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        account = await tables.account()
        assert account is not None
        await transaction.accounts.save(replace(account, name="Acme"))
        sites = {"Berlin": world.site}
        for name in SITES:
            site = Site(id=transaction.new_id(), account_id=account.id, name=name, health_threshold=1)
            sites[name] = await tables.sites.insert(site)
        groups: dict[str, Any] = {"Engineering": world.group}
        for name in ("Operations", "Finance"):
            groups[name] = await people_rules.make_group(tables, {"name": name})
        actors: dict[str, Actor] = {"Ada": world.actor}
        for name, group in PEOPLE.items():
            given = {"name": name, "type": "account_user", "email": f"{name.split()[0].lower()}@acme.example"}
            actors[name] = await people_rules.make_actor(tables, account, given)
            await people_rules.add_to_groups(tables, actors[name], [groups[group].id])
        await tables.resources.save(replace(world.resource, name="Office network in Berlin"))
        for number, (name, (type_, address)) in enumerate(RESOURCES.items()):
            site = list(sites.values())[number % 3]
            stack = {"ip_stack": "dual"} if type_ == "dns" else {}
            given = {"name": name, "type": type_, "address": address, "site_id": str(site.id), **stack}
            resource = await access_rules.make_resource(tables, given)
            group = list(groups.values())[number % 3]
            policy = {"group_id": str(group.id), "resource_id": str(resource.id)}
            await access_rules.make_policy(tables, account, policy)
        issued = {
            name: await credentials.issue(
                tables.client_tokens,
                transaction=transaction,
                keys=services.keys,
                account_id=account.id,
                actor_id=actor.id,
                expires_at=transaction.now + timedelta(days=7),
            )
            for name, actor in actors.items()
        }
    return {name: one.text for name, one in issued.items()}


async def _ids(world: World) -> dict[str, str]:
    async with world.portal.services.store.reading() as transaction:
        tables = transaction.of(world.account_id)
        rows: list[Any] = [
            *await tables.sites.load_all(),
            *await tables.resources.load_all(),
            *await tables.actors.load_all(),
        ]
    return {row.name: str(row.id) for row in rows}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
