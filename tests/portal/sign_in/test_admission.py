"""Who may sign in where: every kind of provider, context, role and state of the account, against a table that says what
must come out.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from support.portal import World, make_world, portal_running
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.admission import AccountDisabled, Admitted, NotAdmitted, admit, is_usable
from wardgate.portal.sign_in.failures import Failure
from wardgate.portal.sign_in.flow import Context
from wardgate.portal.sign_in.tables import (
    AuthProviderDetails,
    EmailOtpAuthProvider,
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
    UserpassAuthProvider,
)

_CREDENTIALS: dict[str, Any] = {"client_id": "c", "client_secret": "s"}
_DISCOVERED: dict[str, Any] = {"issuer": "https://i.example", "discovery_document_uri": "https://i.example/d"}
KINDS: tuple[tuple[type[AuthProviderDetails], dict[str, Any]], ...] = (
    (EmailOtpAuthProvider, {}),
    (UserpassAuthProvider, {}),
    (GoogleAuthProvider, {"issuer": "https://accounts.google.com"}),
    (EntraAuthProvider, {"issuer": "https://login.example/v2.0"}),
    (OktaAuthProvider, {"issuer": "https://o.example", "okta_domain": "o.example", **_CREDENTIALS}),
    (
        OidcAuthProvider,
        {**_DISCOVERED, **_CREDENTIALS},
    ),
)
FOR = {
    "clients_and_portal": set(Context),
    "clients_only": {Context.GUI_CLIENT, Context.HEADLESS_CLIENT},
    "portal_only": {Context.PORTAL},
}
ROLES = ("account_admin_user", "account_user", "service_account", "api_client")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with portal_running() as portal:
        yield await make_world(portal)


@pytest.mark.parametrize("account_state", ["active", "disabled", "over_limit"])
async def test_the_matrix(world: World, account_state: str) -> None:
    async with world.portal.services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        account = await tables.account()
        assert account is not None
        change: dict[str, Any] = {
            "active": {},
            "disabled": {"is_disabled": True},
            "over_limit": {"limits": {"users_count": 1}},  # the world has two users
        }[account_state]
        await transaction.accounts.save(replace(account, **change))
        for (kind, fields), serves, context, role, actor_is_disabled, provider_is_disabled in product(
            KINDS, FOR, Context, ROLES, (False, True), (False, True)
        ):
            provider = kind(
                id=tables.new_id(),
                account_id=world.account_id,
                context=serves,
                is_disabled=provider_is_disabled,
                **fields,
            )
            actor = Actor(
                id=tables.new_id(),
                account_id=world.account_id,
                type=role,
                name="x",
                is_disabled=actor_is_disabled,
            )
            decision = await admit(tables, context, actor, provider)
            wanted = expected(account_state, serves, context, role, actor_is_disabled, provider_is_disabled)
            assert said(decision) == wanted, (
                kind,
                serves,
                context,
                role,
                actor_is_disabled,
                provider_is_disabled,
            )
            assert is_usable(provider, context) == (not provider_is_disabled and context in FOR[serves])


def expected(
    account_state: str,
    serves: str,
    context: Context,
    role: str,
    actor_is_disabled: bool,
    provider_is_disabled: bool,
) -> Failure | str:
    if provider_is_disabled:
        return Failure.METHOD_UNAVAILABLE
    if context not in FOR[serves]:
        return Failure.WRONG_CONTEXT
    if actor_is_disabled or role in ("service_account", "api_client"):
        return Failure.UNKNOWN_USER
    if context is Context.PORTAL:
        return "admitted" if role == "account_admin_user" else Failure.NEEDS_ADMIN
    return {"active": "admitted", "disabled": "account disabled", "over_limit": Failure.USERS_LIMIT}[
        account_state
    ]


def said(decision: Admitted | NotAdmitted | AccountDisabled) -> Failure | str:
    match decision:
        case Admitted():
            return "admitted"
        case NotAdmitted(failure):
            return failure
        case AccountDisabled():
            return "account disabled"


async def test_nobody_and_nothing_are_not_admitted(world: World) -> None:
    async with world.portal.services.store.reading() as transaction:
        tables = transaction.of(world.account_id)
        provider = EmailOtpAuthProvider(id=tables.new_id(), account_id=world.account_id)
        assert await admit(tables, Context.PORTAL, None, provider) == NotAdmitted(Failure.UNKNOWN_USER)
        assert await admit(tables, Context.PORTAL, world.actor, None) == NotAdmitted(
            Failure.METHOD_UNAVAILABLE
        )
