"""What may be done with client tokens, API clients and their tokens (portal-domain §3.9, §15, rest-api
§8.4)."""

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from wardgate.portal.credentials import Issued, issue
from wardgate.portal.edits import BLANK, INVALID, Edit, Given
from wardgate.portal.installation.tables import Account
from wardgate.portal.instants import parse_rfc_3339
from wardgate.portal.keys import Keys
from wardgate.portal.limits import USERS, check_actor, check_api_token
from wardgate.portal.outcomes import Invalid, Missing, Unsuitable
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.tables import ApiToken, ClientToken
from wardgate.portal.store import AccountTables, Transaction

API_CLIENT: Final = "api_client"
OWNERS_OF_CLIENT_TOKENS: Final = (*USERS, "service_account")
IN_FUTURE: Final = "must be in the future"


async def load_client_token(tables: AccountTables, actor_id: UUID | None, id_: UUID | None) -> ClientToken:
    """Return a client token of an actor. Raises Missing."""
    token = None if id_ is None else await tables.client_tokens.load(id_)
    if token is None or token.actor_id != actor_id:
        raise Missing
    return token


async def make_service_account_token(
    tables: AccountTables, transaction: Transaction, actor: Actor, given: Given, *, keys: Keys
) -> Issued[ClientToken]:
    """Make a client token. Raises Unsuitable if the actor is no service account, and Invalid."""
    if actor.type != "service_account":
        raise Unsuitable("Actor must be a service account")
    return await _make_client_token(tables, transaction, actor, given, keys)


async def make_client_token(
    tables: AccountTables, transaction: Transaction, given: Given, *, keys: Keys
) -> Issued[ClientToken]:
    """Make a client token for the user or the service account that is given. Raises Invalid."""
    actor = await _given_owner(tables, given)
    return await _make_client_token(tables, transaction, actor, given, keys)


def check_owner_given(given: Given) -> UUID:
    """Return the id of the actor that shall own a client token. Raises Invalid."""
    text = given.get("actor_id")
    if not text:
        raise Invalid({"actor_id": [BLANK]})
    try:
        return UUID(text)
    except ValueError:
        raise Invalid({"actor_id": [INVALID]}) from None


async def load_api_client(tables: AccountTables, id_: UUID | None) -> Actor:
    """Raises Missing."""
    actor = None if id_ is None else await tables.actors.load(id_)
    if actor is None or actor.type != API_CLIENT:
        raise Missing
    return actor


async def make_api_client(tables: AccountTables, account: Account, given: Given) -> Actor:
    """Make an API client, which has no token yet. Raises Invalid, and LimitReached unless it is disabled."""
    values = _checked_api_client(given, {"name": None, "is_disabled": False})
    if not values["is_disabled"]:
        await check_actor(tables, account, API_CLIENT, now=tables.now)
    return await tables.actors.insert(
        Actor(id=tables.new_id(), account_id=tables.account_id, type=API_CLIENT, **values)
    )


async def change_api_client(tables: AccountTables, account: Account, before: Actor, given: Given) -> Actor:
    """Raises Invalid, and LimitReached if it is enabled."""
    values = _checked_api_client(given, asdict(before))
    if before.is_disabled and not values["is_disabled"]:
        await check_actor(tables, account, API_CLIENT, now=tables.now)
    return await tables.actors.save(replace(before, **values))


async def load_api_token(tables: AccountTables, client_id: UUID | None, id_: UUID | None) -> ApiToken:
    """Return a token of an API client. Raises Missing."""
    client = await load_api_client(tables, client_id)
    token = None if id_ is None else await tables.api_tokens.load(id_)
    if token is None or token.actor_id != client.id:
        raise Missing
    return token


async def make_api_token(
    tables: AccountTables,
    transaction: Transaction,
    account: Account,
    client: Actor,
    given: Given,
    *,
    keys: Keys,
) -> Issued[ApiToken]:
    """Make a token of an API client. Raises Invalid and LimitReached."""
    values = _checked_api_token(Edit(given, {"name": None, "expires_at": None}), tables.now)
    await check_api_token(tables, account, client.id)
    return await _issue_api_token(transaction, client, keys, **values)


async def make_first_api_token(
    transaction: Transaction, client: Actor, *, name: str, lifetime: timedelta, keys: Keys
) -> str:
    """Make the token that comes with an account, and return its text."""
    issued = await _issue_api_token(
        transaction, client, keys, name=name, expires_at=transaction.now + lifetime
    )
    return issued.text


async def change_api_token(tables: AccountTables, before: ApiToken, given: Given) -> ApiToken:
    """Raises Invalid."""
    values = _checked_api_token(Edit(given, asdict(before)), tables.now)
    return await tables.api_tokens.save(replace(before, **values))


async def _given_owner(tables: AccountTables, given: Given) -> Actor:
    actor = await tables.actors.load(check_owner_given(given))
    if actor is None or actor.type not in OWNERS_OF_CLIENT_TOKENS:
        raise Invalid({"actor_id": ["is not a user or service account of this account"]})
    return actor


async def _make_client_token(
    tables: AccountTables, transaction: Transaction, actor: Actor, given: Given, keys: Keys
) -> Issued[ClientToken]:
    return await issue(
        tables.client_tokens,
        transaction=transaction,
        keys=keys,
        account_id=tables.account_id,
        actor_id=actor.id,
        expires_at=_checked_expiry(given.get("expires_at"), tables.now),
    )


async def _issue_api_token(
    transaction: Transaction, client: Actor, keys: Keys, **fields: Any
) -> Issued[ApiToken]:
    return await issue(
        transaction.of(client.account_id).api_tokens,
        transaction=transaction,
        keys=keys,
        account_id=client.account_id,
        actor_id=client.id,
        **fields,
    )


def _checked_expiry(text: str | None, now: datetime) -> datetime:
    if not text:
        raise Invalid({"expires_at": [BLANK]})
    try:
        expires_at = parse_rfc_3339(text)
    except ValueError:
        raise Invalid({"expires_at": [INVALID]}) from None
    if expires_at <= now:
        raise Invalid({"expires_at": [IN_FUTURE]})
    return expires_at


def _checked_api_client(given: Given, before: Given) -> dict[str, Any]:
    edit = Edit(given, before)
    edit.text("name", required=True)
    edit.flag("is_disabled")
    return edit.finish()


def _checked_api_token(edit: Edit, now: datetime) -> dict[str, Any]:
    edit.text("name", required=True)
    if edit.gave("expires_at") or edit.value("expires_at") is None:
        edit.text("expires_at", required=True)
        given = edit.value("expires_at")
        if isinstance(given, str) and "expires_at" not in edit.errors:
            try:
                expires_at = parse_rfc_3339(given)
            except ValueError:
                edit.error("expires_at", INVALID)
            else:
                edit.put("expires_at", expires_at)
                if expires_at <= now:
                    edit.error("expires_at", IN_FUTURE)
    return edit.finish()
