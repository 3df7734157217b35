"""`/actors/{actor_id}/client_tokens` (rest-api §8.4), and `/wardgate/client_tokens`, which serves users too."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel

from wardgate.portal.credentials import issue
from wardgate.portal.limits import USERS
from wardgate.portal.people.rest.actors import load_actor
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.edits import BLANK, INVALID
from wardgate.portal.rest.fields import EVERYWHERE, TOKENS, Fields, formatted, required
from wardgate.portal.rest.instants import parse_rfc_3339
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id, parse_id
from wardgate.portal.rest.problems import Problem, invalid, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import (
    ClientTokenView,
    Data,
    DeletedCountView,
    DeletedView,
    ListOf,
    NewClientTokenView,
    listed,
)
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.store.rows import Actor, ClientToken
from wardgate.wire.tokens import TokenKind

routes = Routes("client_tokens", tag="Client Tokens")

OWNERS = (*USERS, "service_account")


class TokenFields(Fields):
    model_config = required("expires_at")
    narrowing = EVERYWHERE | TOKENS
    expires_at: Annotated[str | None, formatted("date-time", about="RFC 3339, in the future")] = None


class TokenBody(BaseModel):
    client_token: TokenFields


class OwnTokenFields(TokenFields):
    model_config = required("expires_at", "actor_id")
    actor_id: Annotated[str | None, formatted("uuid")] = None


class OwnTokenBody(BaseModel):
    client_token: OwnTokenFields


@routes.get("/actors/{actor_id}/client_tokens", response_model=ListOf[ClientTokenView])
async def index(caller: ForAccount, actor_id: Id, paging: Paging) -> Response:
    async with caller.reading() as tables:
        tokens = tables.client_tokens
        page = await load_page(tokens, paging, tokens.c.actor_id == actor_id, newest_first=True)
        return listed(page, ClientTokenView.shown)


@routes.get("/actors/{actor_id}/client_tokens/{id}", is_versioned=True)
async def show(caller: ForAccount, actor_id: Id, id: Id) -> Data[ClientTokenView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=ClientTokenView.of(caller.tagged(await _load(tables, actor_id, id))))


@routes.post("/actors/{actor_id}/client_tokens")
async def create(caller: ForAccount, actor_id: Id, body: TokenBody) -> Data[NewClientTokenView]:
    async with caller.writing() as (tables, transaction):
        actor = await load_actor(tables, actor_id)
        if actor.type != "service_account":
            raise Problem(HTTPStatus.BAD_REQUEST, "Actor must be a service account")
        return Data(data=await _issue(caller, tables, transaction, actor, body.client_token))


@routes.delete("/actors/{actor_id}/client_tokens/{id}", is_versioned=True)
async def delete(caller: ForAccount, actor_id: Id, id: Id) -> Data[DeletedView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        token = caller.expected(await _load(tables, actor_id, id))
        await tables.client_tokens.delete(token.id)
        return Data(data=DeletedView(id=token.id))


@routes.delete("/actors/{actor_id}/client_tokens")
async def delete_all(caller: ForAccount, actor_id: Id) -> Data[DeletedCountView]:
    async with caller.writing() as (tables, _):
        tokens = tables.client_tokens
        count = await tokens.delete_where(tokens.c.actor_id == actor_id)
        return Data(data=DeletedCountView(deleted_count=count))


@routes.post("/wardgate/client_tokens", tag="Wardgate")
async def create_for_any(caller: ForAccount, body: OwnTokenBody) -> Data[NewClientTokenView]:
    """Make a client token for a user or a service account."""
    fields = body.client_token
    if not fields.actor_id:
        raise invalid({"actor_id": [BLANK]})
    actor_id = parse_id(fields.actor_id)
    if actor_id is None:
        raise invalid({"actor_id": [INVALID]})
    async with caller.writing() as (tables, transaction):
        actor = await tables.actors.load(actor_id)
        if actor is None or actor.type not in OWNERS:
            raise invalid({"actor_id": ["is not a user or service account of this account"]})
        return Data(data=await _issue(caller, tables, transaction, actor, fields))


async def _issue(
    caller: AccountCaller, tables: AccountTables, transaction: Transaction, actor: Actor, fields: TokenFields
) -> NewClientTokenView:
    expires_at = _checked_expiry(fields.expires_at, transaction.now)
    issued = issue(
        TokenKind.CLIENT, account_id=caller.account.id, transaction=transaction, keys=caller.services.keys
    )
    token = await tables.client_tokens.insert(
        ClientToken(
            id=issued.id,
            account_id=caller.account.id,
            actor_id=actor.id,
            secret_salt=issued.secret_salt,
            secret_hash=issued.secret_hash,
            expires_at=expires_at,
        )
    )
    return NewClientTokenView(**ClientTokenView.of(token).__dict__, token=issued.text)


def _checked_expiry(text: str | None, now: datetime) -> datetime:
    if not text:
        raise invalid({"expires_at": [BLANK]})
    try:
        expires_at = parse_rfc_3339(text)
    except ValueError:
        raise invalid({"expires_at": [INVALID]}) from None
    if expires_at <= now:
        raise invalid({"expires_at": ["must be in the future"]})
    return expires_at


async def _load(tables: AccountTables, actor_id: UUID | None, id_: UUID | None) -> ClientToken:
    token = None if id_ is None else await tables.client_tokens.load(id_)
    if token is None or token.actor_id != actor_id:
        raise not_found()
    return token
