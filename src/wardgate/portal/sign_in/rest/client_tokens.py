"""`/actors/{actor_id}/client_tokens` (rest-api §8.4), and `/wardgate/client_tokens`, which serves users too."""

from typing import Annotated

from fastapi import Response
from pydantic import BaseModel

from wardgate.portal.credentials import Issued
from wardgate.portal.people.rules import load_actor
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.fields import EVERYWHERE, TOKENS, Fields, formatted, required
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, DeletedCountView, DeletedView, ListOf, list_response
from wardgate.portal.sign_in import rules
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.sign_in.views import ClientTokenView, NewClientTokenView

routes = Routes("client_tokens", tag="Client Tokens")


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
    async with caller.listing() as tables:
        tokens = tables.client_tokens
        page = await load_page(tokens, paging, tokens.c.actor_id == actor_id, newest_first=True)
        return list_response(page, ClientTokenView.fields_of)


@routes.get("/actors/{actor_id}/client_tokens/{id}", is_versioned=True)
async def show(caller: ForAccount, actor_id: Id, id: Id) -> Data[ClientTokenView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(
            data=ClientTokenView.of(caller.tagged(await rules.load_client_token(tables, actor_id, id)))
        )


@routes.post("/actors/{actor_id}/client_tokens")
async def create(caller: ForAccount, actor_id: Id, body: TokenBody) -> Data[NewClientTokenView]:
    async with caller.writing() as (tables, transaction):
        actor = await load_actor(tables, actor_id)
        given = body.client_token.given()
        return _view(
            await rules.make_service_account_token(tables, transaction, actor, given, keys=caller.keys)
        )


@routes.delete("/actors/{actor_id}/client_tokens/{id}", is_versioned=True)
async def delete(caller: ForAccount, actor_id: Id, id: Id) -> Data[DeletedView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        token = caller.expected(await rules.load_client_token(tables, actor_id, id))
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
    given = body.client_token.given()
    rules.check_owner_given(given)
    async with caller.writing() as (tables, transaction):
        return _view(await rules.make_client_token(tables, transaction, given, keys=caller.keys))


def _view(issued: Issued[ClientToken]) -> Data[NewClientTokenView]:
    return Data(data=NewClientTokenView(**ClientTokenView.fields_of(issued.row), token=issued.text))
