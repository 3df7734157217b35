"""`/sites/{site_id}/gateways` and gateway tokens (rest-api §8.9, §8.10)."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import ColumnElement

from wardgate.model.addresses import parse_ip
from wardgate.portal.devices import rules
from wardgate.portal.devices.tables import DEVICES, Device
from wardgate.portal.devices.views import GatewayView, NewGatewayView
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.fields import (
    EVERYWHERE,
    NARROWING,
    TOKENS,
    Fields,
    ignored_narrowing,
    required,
    text,
)
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import Problem, invalid, unprocessed
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import (
    Data,
    DeletedCountView,
    DeletedView,
    ListOf,
    NewTokenView,
    list_response,
)
from wardgate.portal.store import AccountTables

routes = Routes("gateways", "/sites/{site_id}", tag="Gateways")

# Site tokens go away with the published API; the dates are its announcement (RFC 8594).
SITE_TOKEN_HEADERS: Final = {"deprecation": "true", "sunset": "Thu, 01 Oct 2026 00:00:00 GMT"}


class GatewayFields(Fields):
    narrowing = EVERYWHERE | TOKENS
    name: Annotated[str | None, text(shortest=1)] = None


class RenamedGatewayFields(GatewayFields):
    model_config = required("name")


class GatewayBody(BaseModel):
    gateway: RenamedGatewayFields


class NewGatewayBody(BaseModel):
    gateway: GatewayFields | None = None


Ipv4Query = Annotated[str | None, Query(json_schema_extra={"format": "ipv4"})]
Ipv6Query = Annotated[str | None, Query(json_schema_extra={"format": "ipv6"})]


@routes.get("/gateways", response_model=ListOf[GatewayView])
async def index(
    caller: ForAccount,
    site_id: Id,
    paging: Paging,
    name: str | None = None,
    ipv4: Ipv4Query = None,
    ipv6: Ipv6Query = None,
) -> Response:
    online = caller.online_ids("gateway")
    async with caller.listing() as tables:
        page = await load_page(tables.devices, paging, *gateways_of(site_id, name, ipv4, ipv6))
        rotated = await load_rotations(tables, page.rows)
    return list_response(
        page,
        lambda row: GatewayView.fields_of(
            row, online=row.id in online, rotated_at=rotated.get(row.gateway_token_id)
        ),
    )


@routes.get("/gateways/{id}", is_versioned=True)
async def show(caller: ForAccount, site_id: Id, id: Id) -> Data[GatewayView]:  # noqa: A002
    async with caller.reading() as tables:
        gateway = caller.tagged(await rules.load_gateway(tables, site_id, id))
        return Data(data=await _view(caller, tables, gateway))


@routes.post("/gateways", makes_object=True)
async def provision(
    caller: ForAccount, site_id: Id, response: Response, body: NewGatewayBody | None = None
) -> Data[NewGatewayView]:
    """Make a gateway with its tunnel addresses and a token of its own."""
    given = {} if body is None or body.gateway is None else body.gateway.given()
    async with caller.writing() as (tables, transaction):
        device, token = await rules.make_gateway(tables, transaction, site_id, given, keys=caller.keys)
    response.headers["location"] = f"/sites/{site_id}/gateways/{device.id}"
    view = NewGatewayView.of(caller.tagged(device), online=False, rotated_at=None, token=token.text)
    assert isinstance(view, NewGatewayView)
    return Data(data=view)


@routes.edit("/gateways/{id}", is_versioned=True)
async def update(caller: ForAccount, site_id: Id, id: Id, body: GatewayBody) -> Data[GatewayView]:  # noqa: A002
    if "name" not in body.gateway.model_fields_set:
        raise unprocessed()
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_gateway(tables, site_id, id))
        after = await rules.rename(tables, before, body.gateway.given())
        return Data(data=await _view(caller, tables, caller.tagged(after)))


@routes.delete("/gateways/{id}", is_versioned=True)
async def delete(caller: ForAccount, site_id: Id, id: Id) -> Data[GatewayView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        gateway = caller.expected(await rules.load_gateway(tables, site_id, id))
        view = await _view(caller, tables, gateway)
        await tables.devices.delete(gateway.id)
        return Data(data=view)


async def _refuse_what_narrows(request: Request) -> None:
    """Refuse a body that would have narrowed the token: these calls take none, and any other is not looked at."""
    try:
        body = json.loads(await request.body() or b"null")
    except (ValueError, RecursionError):
        return
    given = [body, *body.values()] if isinstance(body, dict) else []
    errors = {name: [NARROWING] for one in given for name in ignored_narrowing(one, EVERYWHERE | TOKENS)}
    if errors:
        raise invalid(errors)


_NO_BODY: Final = (Depends(_refuse_what_narrows),)


@routes.post(
    "/gateways/{gateway_id}/token",
    tag="Gateway Tokens",
    dependencies=_NO_BODY,
)
async def create_token(caller: ForAccount, site_id: Id, gateway_id: Id) -> Data[NewTokenView]:
    async with caller.writing() as (tables, transaction):
        gateway = await rules.load_gateway(tables, site_id, gateway_id)
        issued = await rules.make_gateway_token(tables, transaction, gateway, keys=caller.keys)
        return Data(data=NewTokenView(id=issued.id, token=issued.text))


@routes.post(
    "/gateways/{gateway_id}/token/rotate",
    tag="Gateway Tokens",
    dependencies=_NO_BODY,
)
async def rotate_token(caller: ForAccount, site_id: Id, gateway_id: Id) -> Data[NewTokenView]:
    """Replace a gateway's token; the one in use works until the new one is used, or for four hours."""
    async with caller.writing() as (tables, transaction):
        gateway = await rules.load_gateway(tables, site_id, gateway_id)
        issued = await rules.rotate_gateway_token(tables, transaction, gateway, keys=caller.keys)
        return Data(data=NewTokenView(id=issued.id, token=issued.text))


@routes.post(
    "/gateway_tokens",
    tag="Gateway Tokens",
    deprecated=True,
    dependencies=_NO_BODY,
)
async def create_site_token(caller: ForAccount, site_id: Id, response: Response) -> Data[NewTokenView]:
    """Make a token that any number of gateways of the site may use."""
    async with caller.writing() as (tables, transaction):
        issued = await rules.make_site_token(tables, transaction, site_id, keys=caller.keys)
    response.headers.update(SITE_TOKEN_HEADERS)
    return Data(data=NewTokenView(id=issued.id, token=issued.text))


@routes.delete("/gateway_tokens/{id}", tag="Gateway Tokens")
async def delete_token(caller: ForAccount, site_id: Id, id: Id) -> Data[DeletedView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        token = await rules.load_gateway_token(tables, site_id, id)
        await tables.gateway_tokens.delete(token.id)
        return Data(data=DeletedView(id=token.id))


@routes.delete("/gateway_tokens", tag="Gateway Tokens")
async def delete_site_tokens(caller: ForAccount, site_id: Id) -> Data[DeletedCountView]:
    async with caller.writing() as (tables, _):
        tokens = tables.gateway_tokens
        count = await tokens.delete_where(tokens.c.site_id == site_id)
        return Data(data=DeletedCountView(deleted_count=count))


def gateways_of(
    site_id: UUID | None, name: str | None, ipv4: str | None, ipv6: str | None
) -> list[ColumnElement[bool]]:
    """Say which gateways a list is asked for. Raises Problem for what is no address."""
    c = DEVICES.c
    addresses = ((c.ipv4, ipv4), (c.ipv6, ipv6))
    return [
        c.type == "gateway",
        c.site_id == site_id,
        *([] if name is None else [c.name == name]),
        *(column == _address(text) for column, text in addresses if text is not None),
    ]


async def load_rotations(
    tables: AccountTables, gateways: Sequence[Device]
) -> Mapping[UUID | None, datetime | None]:
    """Return when the tokens by which gateways last connected were replaced, by token."""
    tokens = tables.gateway_tokens
    ids = [row.gateway_token_id for row in gateways if row.gateway_token_id is not None]
    return {token.id: token.rotated_at for token in await tokens.load_all(tokens.c.id.in_(ids))}


async def _view(caller: AccountCaller, tables: AccountTables, row: Device) -> GatewayView:
    rotated = await load_rotations(tables, [row])
    return GatewayView.of(
        row, online=row.id in caller.online_ids("gateway"), rotated_at=rotated.get(row.gateway_token_id)
    )


def _address(text: str) -> str:
    try:
        return str(parse_ip(text))
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid value {text[:64]!r} for filter of type IP") from None
