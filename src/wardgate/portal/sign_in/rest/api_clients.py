"""`/wardgate/accounts/{account_id}/api_clients` and their tokens, for the operator.

An API client may not touch API tokens, its own included (portal-domain §4): whoever has stolen one could make others that outlive it. So
they are made where accounts are, with the operator's token.
"""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, Field

from wardgate.portal.credentials import issue
from wardgate.portal.installation.rest.accounts import load_account
from wardgate.portal.limits import check_actor, check_api_token
from wardgate.portal.rest.caller import ForOperator
from wardgate.portal.rest.edits import INVALID, Edit
from wardgate.portal.rest.fields import (
    EVERYWHERE,
    NOTHING_REQUIRED,
    TOKENS,
    Fields,
    formatted,
    required,
    text,
)
from wardgate.portal.rest.instants import parse_rfc_3339
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, Instant, ListOf, Shown, listed
from wardgate.portal.store import AccountTables, rows
from wardgate.portal.store.rows import Actor, ApiToken
from wardgate.wire.tokens import TokenKind

routes = Routes("api_clients", "/wardgate/accounts/{account_id}/api_clients", tag="Wardgate: installation")


class ApiClientView(BaseModel):
    """An actor that only calls this API."""

    id: UUID
    account_id: UUID
    name: str
    is_disabled: bool
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: rows.Actor) -> "ApiClientView":
        return cls(**cls.shown(row))

    @classmethod
    def shown(cls, row: rows.Actor) -> Shown:
        return {name: getattr(row, name) for name in cls.model_fields}


class ApiTokenView(BaseModel):
    """A token of an API client; its text is told once, by the call that made it."""

    id: UUID
    name: str
    expires_at: Instant
    last_seen_at: Instant | None
    last_seen_user_agent: str | None
    last_seen_remote_ip: str | None
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: rows.ApiToken) -> "ApiTokenView":
        return cls(**ApiTokenView.shown(row))

    @staticmethod
    def shown(row: rows.ApiToken) -> Shown:
        return {name: getattr(row, name) for name in ApiTokenView.model_fields}


class NewApiTokenView(ApiTokenView):
    token: str


class ApiClientFields(Fields):
    narrowing = EVERYWHERE | TOKENS
    name: Annotated[str | None, text(shortest=1)] = None
    is_disabled: Annotated[bool | None, Field(description="its tokens are refused")] = None


class NewApiClientFields(ApiClientFields):
    model_config = required("name")


class NewApiClientBody(BaseModel):
    api_client: NewApiClientFields


class ApiClientBody(BaseModel):
    api_client: ApiClientFields


class NewApiTokenFields(Fields):
    model_config = required("name", "expires_at")
    narrowing = EVERYWHERE | TOKENS
    name: Annotated[str | None, text(shortest=1)] = None
    expires_at: Annotated[str | None, formatted("date-time", about="RFC 3339, in the future")] = None


class ApiTokenFields(NewApiTokenFields):
    model_config = NOTHING_REQUIRED


class NewApiTokenBody(BaseModel):
    api_token: NewApiTokenFields


class ApiTokenBody(BaseModel):
    api_token: ApiTokenFields


@routes.get("", response_model=ListOf[ApiClientView])
async def index(caller: ForOperator, account_id: Id, paging: Paging, name: str | None = None) -> Response:
    async with caller.reading() as transaction:
        account = await load_account(transaction, account_id)
        actors = transaction.of(account.id).actors
        wanted = [] if name is None else [actors.c.name == name]
        page = await load_page(actors, paging, actors.c.type == _TYPE, *wanted)
        return listed(page, ApiClientView.shown)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForOperator, account_id: Id, id: Id) -> Data[ApiClientView]:  # noqa: A002
    async with caller.reading() as transaction:
        account = await load_account(transaction, account_id)
        return Data(data=ApiClientView.of(caller.tagged(await _load(transaction.of(account.id), id))))


@routes.post("", makes_object=True)
async def create(
    caller: ForOperator, account_id: Id, body: NewApiClientBody, response: Response
) -> Data[ApiClientView]:
    """Make an API client; it is given tokens one by one."""
    async with caller.writing() as transaction:
        account = await load_account(transaction, account_id)
        tables = transaction.of(account.id)
        edit = Edit(body.api_client, {"name": None, "is_disabled": False})
        edit.text("name", required=True)
        edit.flag("is_disabled")
        values = edit.finish()
        if not values["is_disabled"]:
            await check_actor(tables, account, _TYPE, now=transaction.now)
        client = await tables.actors.insert(
            Actor(id=transaction.new_id(), account_id=account.id, type=_TYPE, **values)
        )
    response.headers["location"] = f"/wardgate/accounts/{account.id}/api_clients/{client.id}"
    return Data(data=ApiClientView.of(caller.tagged(client)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForOperator, account_id: Id, id: Id, body: ApiClientBody) -> Data[ApiClientView]:  # noqa: A002
    async with caller.writing() as transaction:
        account = await load_account(transaction, account_id)
        tables = transaction.of(account.id)
        before = caller.expected(await _load(tables, id))
        edit = Edit(body.api_client, asdict(before))
        edit.text("name", required=True)
        edit.flag("is_disabled")
        values = edit.finish()
        if before.is_disabled and not values["is_disabled"]:
            await check_actor(tables, account, _TYPE, now=transaction.now)
        after = await tables.actors.save(replace(before, **values))
        return Data(data=ApiClientView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForOperator, account_id: Id, id: Id) -> Data[ApiClientView]:  # noqa: A002
    """Delete an API client with its tokens."""
    async with caller.writing() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        client = caller.expected(await _load(tables, id))
        await tables.actors.delete(client.id)
        return Data(data=ApiClientView.of(client))


@routes.get("/{api_client_id}/tokens", response_model=ListOf[ApiTokenView])
async def tokens(caller: ForOperator, account_id: Id, api_client_id: Id, paging: Paging) -> Response:
    async with caller.reading() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        client = await _load(tables, api_client_id)
        c = tables.api_tokens.c
        page = await load_page(tables.api_tokens, paging, c.actor_id == client.id, newest_first=True)
        return listed(page, ApiTokenView.shown)


@routes.get("/{api_client_id}/tokens/{id}", is_versioned=True)
async def show_token(caller: ForOperator, account_id: Id, api_client_id: Id, id: Id) -> Data[ApiTokenView]:  # noqa: A002
    async with caller.reading() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        return Data(data=ApiTokenView.of(caller.tagged(await _load_token(tables, api_client_id, id))))


@routes.post("/{api_client_id}/tokens", makes_object=True)
async def create_token(
    caller: ForOperator, account_id: Id, api_client_id: Id, body: NewApiTokenBody, response: Response
) -> Data[NewApiTokenView]:
    """Make a token of an API client. Its text is told this once."""
    async with caller.writing() as transaction:
        account = await load_account(transaction, account_id)
        tables = transaction.of(account.id)
        client = await _load(tables, api_client_id)
        values = _checked(Edit(body.api_token, {"name": None, "expires_at": None}), transaction.now)
        await check_api_token(tables, account, client.id)
        issued = issue(
            TokenKind.API, account_id=account.id, transaction=transaction, keys=caller.services.keys
        )
        token = await tables.api_tokens.insert(
            ApiToken(
                id=issued.id,
                account_id=account.id,
                actor_id=client.id,
                secret_salt=issued.secret_salt,
                secret_hash=issued.secret_hash,
                **values,
            )
        )
    response.headers["location"] = (
        f"/wardgate/accounts/{account.id}/api_clients/{client.id}/tokens/{token.id}"
    )
    return Data(data=NewApiTokenView(**ApiTokenView.shown(caller.tagged(token)), token=issued.text))


@routes.edit("/{api_client_id}/tokens/{id}", is_versioned=True)
async def update_token(
    caller: ForOperator,
    account_id: Id,
    api_client_id: Id,
    id: Id,  # noqa: A002
    body: ApiTokenBody,
) -> Data[ApiTokenView]:
    async with caller.writing() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        before = caller.expected(await _load_token(tables, api_client_id, id))
        values = _checked(Edit(body.api_token, asdict(before)), transaction.now)
        after = await tables.api_tokens.save(replace(before, **values))
        return Data(data=ApiTokenView.of(caller.tagged(after)))


@routes.delete("/{api_client_id}/tokens/{id}", is_versioned=True)
async def delete_token(caller: ForOperator, account_id: Id, api_client_id: Id, id: Id) -> Data[ApiTokenView]:  # noqa: A002
    """Delete a token; it is refused from the next call on."""
    async with caller.writing() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        token = caller.expected(await _load_token(tables, api_client_id, id))
        await tables.api_tokens.delete(token.id)
        return Data(data=ApiTokenView.of(token))


_TYPE: Final = "api_client"


async def _load(tables: AccountTables, id_: UUID | None) -> Actor:
    actor = None if id_ is None else await tables.actors.load(id_)
    if actor is None or actor.type != _TYPE:
        raise not_found()
    return actor


async def _load_token(tables: AccountTables, client_id: UUID | None, id_: UUID | None) -> ApiToken:
    client = await _load(tables, client_id)
    token = None if id_ is None else await tables.api_tokens.load(id_)
    if token is None or token.actor_id != client.id:
        raise not_found()
    return token


def _checked(edit: Edit, now: datetime) -> dict[str, Any]:
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
                    edit.error("expires_at", "must be in the future")
    return edit.finish()
