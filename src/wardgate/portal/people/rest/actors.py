"""`/actors` (rest-api §8.2)."""

from dataclasses import asdict, replace
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field

from wardgate.portal.limits import USERS, check_actor, check_promotion
from wardgate.portal.provisioning import check_email
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.edits import Edit
from wardgate.portal.rest.fields import EVERYWHERE, NOTHING_REQUIRED, Fields, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import Problem, forbidden, invalid, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import ActorView, Data, ListOf, listed
from wardgate.portal.store import AccountTables, Conflict
from wardgate.portal.store.rows import Actor

routes = Routes("actors", "/actors", tag="Actors")

TYPES = (*USERS, "service_account", "api_client")


class NewActorFields(Fields):
    model_config = required("name", "type")
    narrowing = EVERYWHERE | {"allowed_ips", "conditions", "mfa_required", "require_mfa"}
    name: Annotated[str | None, text(shortest=1)] = None
    type: Annotated[str | None, one_of(TYPES[:-1])] = None
    email: Annotated[str | None, text(160, about="users have one, service accounts none")] = None
    allow_email_otp_sign_in: bool | None = None


class ActorFields(NewActorFields):
    model_config = NOTHING_REQUIRED
    type: Annotated[str | None, one_of(TYPES)] = None
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
    type: Annotated[str | None, Query(json_schema_extra={"enum": list(TYPES)})] = None,  # noqa: A002 - the parameter's name on the wire
) -> Response:
    if type is not None and type not in TYPES:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid filter value: {type[:64]}")
    async with caller.reading() as tables:
        c = tables.actors.c
        wanted = [
            column == value
            for column, value in ((c.name, name), (c.email, email), (c.type, type))
            if value is not None
        ]
        return listed(await load_page(tables.actors, paging, *wanted), ActorView.shown)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[ActorView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=ActorView.of(caller.tagged(await load_actor(tables, id))))


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewActorBody, response: Response) -> Data[ActorView]:
    try:
        async with caller.writing() as (tables, transaction):
            if body.actor.type in TYPES[:-1]:
                await check_actor(tables, caller.account, body.actor.type, now=transaction.now)
            new = Actor(id=transaction.new_id(), account_id=caller.account.id, type="", name="")
            edit = Edit(body.actor, {**asdict(new), "type": None, "name": None})
            edit.choice("type", TYPES, required=True)
            if edit.value("type") == "api_client":
                edit.error("type", "API clients cannot be created via the API")
            actor = await tables.actors.insert(Actor(**_checked(edit)))
    except Conflict:
        raise invalid({"email": ["has already been taken"]}) from None
    response.headers["location"] = f"/actors/{actor.id}"
    return Data(data=ActorView.of(caller.tagged(actor)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: ActorBody) -> Data[ActorView]:  # noqa: A002
    try:
        async with caller.writing() as (tables, transaction):
            before = caller.expected(await load_actor(tables, id))
            edit = Edit(body.actor, asdict(before))
            edit.choice("type", TYPES, required=True)
            edit.flag("is_disabled")
            if edit.value("is_disabled") and not before.is_disabled and before.id == caller.actor.id:
                raise forbidden("You cannot disable the Actor used to make this request")
            _check_transition(edit, before.type)
            values = _checked(edit)
            if before.is_disabled and not values["is_disabled"]:
                await check_actor(tables, caller.account, values["type"], now=transaction.now)
            elif values["type"] == "account_admin_user" and before.type == "account_user":
                await check_promotion(tables, caller.account, now=transaction.now)
            after = await tables.actors.save(replace(before, **values))
            return Data(data=ActorView.of(caller.tagged(after)))
    except Conflict:
        raise invalid({"email": ["has already been taken"]}) from None


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[ActorView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        actor = caller.expected(await load_actor(tables, id))
        await tables.actors.delete(actor.id)
        return Data(data=ActorView.of(actor))


async def load_actor(tables: AccountTables, id_: UUID | None) -> Actor:
    """Return an actor of the account. Raises Problem 404."""
    actor = None if id_ is None else await tables.actors.load(id_)
    if actor is None:
        raise not_found()
    return actor


def _checked(edit: Edit) -> dict[str, Any]:
    edit.text("name", required=True)
    edit.flag("allow_email_otp_sign_in")
    edit.text("email", longest=160)
    email, is_user = edit.value("email"), edit.value("type") in USERS
    if email is None and is_user:
        edit.error("email", "can't be blank")
    elif email is not None and not is_user:
        edit.error("email", "must be blank for this type of actor")
    elif email is not None:
        try:
            edit.put("email", check_email(email))
        except ValueError:
            edit.error("email", "is an invalid email address")
    return edit.finish()


def _check_transition(edit: Edit, before: str) -> None:
    after = edit.value("type")
    if after == before:
        return
    if before == "api_client":
        edit.error("type", "cannot change the type of an API client")
    elif before == "service_account":
        edit.error("type", "cannot change the type of a service account")
    elif after not in USERS:
        edit.error("type", "cannot change a user to a service account or API client")
