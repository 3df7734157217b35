"""`/actors` (rest-api §8.2)."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field

from wardgate.portal.people import rules
from wardgate.portal.people.rules import ACTOR_TYPES, MADE_TYPES
from wardgate.portal.people.views import ActorView
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.fields import EVERYWHERE, NOTHING_REQUIRED, Fields, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import Problem
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response

routes = Routes("actors", "/actors", tag="Actors")


class NewActorFields(Fields):
    model_config = required("name", "type")
    narrowing = EVERYWHERE | {"allowed_ips", "conditions", "mfa_required", "require_mfa"}
    name: Annotated[str | None, text(shortest=1)] = None
    type: Annotated[str | None, one_of(MADE_TYPES)] = None
    email: Annotated[str | None, text(160, about="users have one, service accounts none")] = None
    allow_email_otp_sign_in: bool | None = None


class ActorFields(NewActorFields):
    model_config = NOTHING_REQUIRED
    type: Annotated[str | None, one_of(ACTOR_TYPES)] = None
    is_disabled: Annotated[
        bool | None,
        Field(
            description="true ends all sessions and deletes the client tokens; false does not bring them back"
        ),
    ] = None


class NewActorBody(BaseModel):
    actor: NewActorFields


class ActorBody(BaseModel):
    actor: ActorFields


@routes.get("", response_model=ListOf[ActorView])
async def index(
    caller: ForAccount,
    paging: Paging,
    name: str | None = None,
    email: str | None = None,
    type: Annotated[str | None, Query(json_schema_extra={"enum": list(ACTOR_TYPES)})] = None,  # noqa: A002 - the parameter's name on the wire
) -> Response:
    if type is not None and type not in ACTOR_TYPES:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid filter value: {type[:64]}")
    async with caller.listing() as tables:
        c = tables.actors.c
        wanted = [
            column == value
            for column, value in ((c.name, name), (c.email, email), (c.type, type))
            if value is not None
        ]
        return list_response(await load_page(tables.actors, paging, *wanted), ActorView.fields_of)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[ActorView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=ActorView.of(caller.tagged(await rules.load_actor(tables, id))))


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewActorBody, response: Response) -> Data[ActorView]:
    async with caller.writing() as (tables, _):
        actor = await rules.make_actor(tables, caller.account, body.actor.given())
    response.headers["location"] = f"/actors/{actor.id}"
    return Data(data=ActorView.of(caller.tagged(actor)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: ActorBody) -> Data[ActorView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_actor(tables, id))
        given = body.actor.given()
        after = await rules.change_actor(tables, caller.account, before, given, by=caller.actor)
        return Data(data=ActorView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[ActorView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        actor = caller.expected(await rules.load_actor(tables, id))
        await rules.delete_actor(tables, actor, by=caller.actor)
        return Data(data=ActorView.of(actor))
