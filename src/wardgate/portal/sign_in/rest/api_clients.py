"""`/wardgate/accounts/{account_id}/api_clients` and their tokens, for the operator.

An API client may not touch API tokens, its own included (portal-domain §4): whoever has stolen one could make
others that outlive it. So they are made where accounts are, with the operator's token.
"""

from typing import Annotated
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, Field

from wardgate.portal.installation.rules import load_account
from wardgate.portal.rest.caller import ForOperator
from wardgate.portal.rest.fields import (
    EVERYWHERE,
    NOTHING_REQUIRED,
    TOKENS,
    Fields,
    formatted,
    required,
    text,
)
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, Instant, ListOf, RowView, list_response
from wardgate.portal.sign_in import rules

routes = Routes("api_clients", "/wardgate/accounts/{account_id}/api_clients", tag="Wardgate: installation")


class ApiClientView(RowView):
    """An actor that only calls this API."""

    id: UUID
    account_id: UUID
    name: str
    is_disabled: bool
    inserted_at: Instant
    updated_at: Instant


class ApiTokenView(RowView):
    """A token of an API client. Its text is returned once, by the call that creates it."""

    id: UUID
    name: str
    expires_at: Instant
    last_seen_at: Instant | None
    last_seen_user_agent: str | None
    last_seen_remote_ip: str | None
    inserted_at: Instant
    updated_at: Instant


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
    async with caller.listing() as transaction:
        account = await load_account(transaction, account_id)
        actors = transaction.of(account.id).actors
        wanted = [] if name is None else [actors.c.name == name]
        page = await load_page(actors, paging, actors.c.type == rules.API_CLIENT, *wanted)
        return list_response(page, ApiClientView.fields_of)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForOperator, account_id: Id, id: Id) -> Data[ApiClientView]:  # noqa: A002
    async with caller.reading() as transaction:
        account = await load_account(transaction, account_id)
        return Data(
            data=ApiClientView.of(caller.tagged(await rules.load_api_client(transaction.of(account.id), id)))
        )


@routes.post("", makes_object=True)
async def create(
    caller: ForOperator, account_id: Id, body: NewApiClientBody, response: Response
) -> Data[ApiClientView]:
    """Make an API client; it is given tokens one by one."""
    async with caller.writing() as transaction:
        account = await load_account(transaction, account_id)
        tables = transaction.of(account.id)
        client = await rules.make_api_client(tables, account, body.api_client.given())
    response.headers["location"] = f"/wardgate/accounts/{account.id}/api_clients/{client.id}"
    return Data(data=ApiClientView.of(caller.tagged(client)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForOperator, account_id: Id, id: Id, body: ApiClientBody) -> Data[ApiClientView]:  # noqa: A002
    async with caller.writing() as transaction:
        account = await load_account(transaction, account_id)
        tables = transaction.of(account.id)
        before = caller.expected(await rules.load_api_client(tables, id))
        after = await rules.change_api_client(tables, account, before, body.api_client.given())
        return Data(data=ApiClientView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForOperator, account_id: Id, id: Id) -> Data[ApiClientView]:  # noqa: A002
    """Delete an API client with its tokens."""
    async with caller.writing() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        client = caller.expected(await rules.load_api_client(tables, id))
        await tables.actors.delete(client.id)
        return Data(data=ApiClientView.of(client))


@routes.get("/{api_client_id}/tokens", response_model=ListOf[ApiTokenView])
async def tokens(caller: ForOperator, account_id: Id, api_client_id: Id, paging: Paging) -> Response:
    async with caller.listing() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        client = await rules.load_api_client(tables, api_client_id)
        c = tables.api_tokens.c
        page = await load_page(tables.api_tokens, paging, c.actor_id == client.id, newest_first=True)
        return list_response(page, ApiTokenView.fields_of)


@routes.get("/{api_client_id}/tokens/{id}", is_versioned=True)
async def show_token(caller: ForOperator, account_id: Id, api_client_id: Id, id: Id) -> Data[ApiTokenView]:  # noqa: A002
    async with caller.reading() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        return Data(
            data=ApiTokenView.of(caller.tagged(await rules.load_api_token(tables, api_client_id, id)))
        )


@routes.post("/{api_client_id}/tokens", makes_object=True)
async def create_token(
    caller: ForOperator, account_id: Id, api_client_id: Id, body: NewApiTokenBody, response: Response
) -> Data[NewApiTokenView]:
    """Create a token of an API client. Its text is returned only here."""
    async with caller.writing() as transaction:
        account = await load_account(transaction, account_id)
        tables = transaction.of(account.id)
        client = await rules.load_api_client(tables, api_client_id)
        issued = await rules.make_api_token(
            tables, transaction, account, client, body.api_token.given(), keys=caller.keys
        )
    response.headers["location"] = (
        f"/wardgate/accounts/{account.id}/api_clients/{client.id}/tokens/{issued.id}"
    )
    return Data(data=NewApiTokenView(**ApiTokenView.fields_of(caller.tagged(issued.row)), token=issued.text))


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
        before = caller.expected(await rules.load_api_token(tables, api_client_id, id))
        after = await rules.change_api_token(tables, before, body.api_token.given())
        return Data(data=ApiTokenView.of(caller.tagged(after)))


@routes.delete("/{api_client_id}/tokens/{id}", is_versioned=True)
async def delete_token(caller: ForOperator, account_id: Id, api_client_id: Id, id: Id) -> Data[ApiTokenView]:  # noqa: A002
    """Delete a token; it is refused from the next call on."""
    async with caller.writing() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        token = caller.expected(await rules.load_api_token(tables, api_client_id, id))
        await tables.api_tokens.delete(token.id)
        return Data(data=ApiTokenView.of(token))
