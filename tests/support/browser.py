"""HTTP callers of a portal in this process: an API client, the operator, a browser."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2

from support.portal import World
from wardgate.portal import credentials
from wardgate.portal.app import Portal
from wardgate.portal.people.tables import Actor


def caller(
    portal: Portal, token: str | None = None, *, address: str = "192.0.2.9", **headers: str
) -> httpx2.AsyncClient:
    """Open an HTTP client on the portal's application; `token` is sent as a bearer."""
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    transport = httpx2.ASGITransport(app=portal, client=(address, 40000))
    return httpx2.AsyncClient(transport=transport, base_url="http://portal.example", headers=headers)


async def make_api_token(
    world: World, *, type_: str = "api_client", lifetime: timedelta = timedelta(days=1)
) -> tuple[str, UUID]:
    """Make an API client with a token; returns the token and the actor's id."""
    services = world.portal.services
    async with services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        email: dict[str, Any] = {"email": "tokens@example.org"} if type_.startswith("account") else {}
        actor = await tables.actors.insert(
            Actor(id=transaction.new_id(), account_id=world.account_id, type=type_, name="robot", **email)
        )
        issued = await credentials.issue(
            tables.api_tokens,
            transaction=transaction,
            keys=services.keys,
            account_id=world.account_id,
            actor_id=actor.id,
            name="test",
            expires_at=transaction.now + lifetime,
        )
    return issued.text, actor.id


async def sign_in_link(world: World, *, lifetime_s: int = 600) -> str:
    """Make a one-time link of the account's admin; returns its path."""
    services = world.portal.services
    async with services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        account = await tables.account()
        admin = await tables.actors.find(tables.actors.c.type == "account_admin_user")
        assert account is not None
        assert admin is not None
        secret = await credentials.issue_sign_in_link(
            admin, lifetime_s=lifetime_s, transaction=transaction, keys=services.keys
        )
    return f"/{account.slug}/sign_in/link/{secret}"


async def operator_link(portal: Portal, *, lifetime_s: int = 600) -> str:
    """Make a one-time link of the operator; returns its path."""
    services = portal.services
    async with services.store.writing() as transaction:
        secret = await credentials.issue_operator_link(
            lifetime_s=lifetime_s, transaction=transaction, keys=services.keys
        )
    return f"/operator/sign_in/link/{secret}"
