"""Signing in as a browser does: forms are sent as pages have them, and cookies are kept."""

import html
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx2

from support.portal import World
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.tables import AuthProviderDetails

STATE, NONCE = "5a" * 32, "0c" * 32
GUI = {"as": "gui-client", "state": STATE, "nonce": NONCE}
HEADLESS = {"as": "headless-client"}
PORTAL: dict[str, str] = {}


async def send_form(
    browser: httpx2.AsyncClient, page: httpx2.Response, fields: Mapping[str, str], *, action: str = ""
) -> httpx2.Response:
    """Send the form of a page whose action contains `action`, with its hidden fields and these."""
    for found in re.finditer(r'<form method="post" action="([^"]*)"[^>]*>(.*?)</form>', page.text, re.DOTALL):
        if action in html.unescape(found[1]):
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
