"""Signing in as a browser does: forms are sent as pages have them, and cookies are kept."""

import html
import random
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2

from support.browser import caller
from support.letterbox import Letterbox
from support.portal import World, make_world, portal_running
from support.virtual_portal import VirtualClock
from wardgate.portal.bus import EncodingBus
from wardgate.portal.environment import Environment, InlineExecutor, NoOutbound
from wardgate.portal.outbound import Outbound
from wardgate.portal.people.tables import Actor
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.tables import AuthProviderDetails
from wardgate.simulation.virtual_time import run_virtual

STATE, NONCE = "5a" * 32, "0c" * 32
GUI = {"as": "gui-client", "state": STATE, "nonce": NONCE}
HEADLESS = {"as": "headless-client"}
PORTAL: dict[str, str] = {}


async def send_form(
    browser: httpx2.AsyncClient, page: httpx2.Response, fields: Mapping[str, str], *, action: str = ""
) -> httpx2.Response:
    """Send the form of a page that has these fields, with its hidden ones; its action contains `action`."""
    for found in re.finditer(r'<form method="post" action="([^"]*)"[^>]*>(.*?)</form>', page.text, re.DOTALL):
        is_wanted = all(f'name="{name}"' in found[2] for name in fields)
        if is_wanted and action in html.unescape(found[1]):
            hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', found[2])
            values = {name: html.unescape(value) for name, value in hidden} | dict(fields)
            return await browser.post(html.unescape(found[1]), data=values)
    raise AssertionError(f"no form to {action!r} in the page:\n{page.text}")


async def store_provider(world: World, row: AuthProviderDetails) -> None:
    """Insert a provider, or save it if it is there."""
    async with world.portal.services.store.writing() as transaction:
        providers = getattr(transaction.of(world.account_id), row.table)
        await (providers.insert(row) if await providers.load(row.id) is None else providers.save(row))


async def load_admin(world: World) -> Actor:
    return await _load_actor(world, type="account_admin_user")


async def _load_actor(world: World, **wanted: Any) -> Actor:
    async with world.portal.services.store.reading() as transaction:
        actors = transaction.of(world.account_id).actors
        found = await actors.find(*(getattr(actors.c, name) == value for name, value in wanted.items()))
    assert found is not None
    return found


async def save_actor(world: World, actor: Actor) -> Actor:
    async with world.portal.services.store.writing() as transaction:
        return await transaction.of(world.account_id).actors.save(actor)


async def rows_of(world: World, table: str, account_id: UUID | None = None) -> list[Any]:
    """Return all rows of a table of the account."""
    async with world.portal.services.store.reading() as transaction:
        found: list[Any] = await getattr(transaction.of(account_id or world.account_id), table).load_all()
    return found


@dataclass(frozen=True, slots=True)
class Scene:
    """A portal on virtual time whose jobs run, a browser, and the mail server."""

    world: World
    browser: httpx2.AsyncClient
    letterbox: Letterbox

    def another_browser(self) -> httpx2.AsyncClient:
        return caller(self.world.portal)

    async def find_code(self) -> str:
        """Return the code in the next letter."""
        text = (await self.letterbox.receive()).message.text
        found = re.search(r"^  ([a-z0-9]{6})$", text, re.MULTILINE)
        assert found is not None, text
        return found[1]


def on_virtual_time(
    scene: Callable[[Scene], Coroutine[Any, Any, None]],
    *,
    with_mail: bool = True,
    outbound: Outbound | None = None,
    settings: PortalSettings | None = None,
) -> Callable[[], None]:
    """Make a test of a scene: answers that take three seconds on purpose take none."""

    def test() -> None:
        run_virtual(
            _play(scene, Letterbox(), with_mail, outbound or NoOutbound(), settings or PortalSettings())
        )

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


async def _play(
    scene: Callable[[Scene], Coroutine[Any, Any, None]],
    letterbox: Letterbox,
    with_mail: bool,
    outbound: Outbound,
    settings: PortalSettings,
) -> None:
    mailer = letterbox if with_mail else None
    rng = random.Random(7)
    environment = Environment(VirtualClock(), rng, InlineExecutor(), outbound, EncodingBus(), mailer)
    async with portal_running(settings, environment) as portal, caller(portal) as browser:
        await scene(Scene(await make_world(portal), browser, letterbox))


async def ask_for_code(
    browser: httpx2.AsyncClient, email: str, flow: Mapping[str, str] = PORTAL
) -> httpx2.Response:
    """Type an address on the account's sign-in page; returns the page that asks for the code."""
    page = await browser.get("/acme/sign_in", params=flow)
    answer = await send_form(browser, page, {"email[email]": email}, action="/email_otp/")
    return await follow(browser, answer)


async def follow(browser: httpx2.AsyncClient, answer: httpx2.Response) -> httpx2.Response:
    assert answer.status_code == 303, answer.text
    return await browser.get(answer.headers["location"])
