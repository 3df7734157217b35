"""`/sites/{site_id}/gateways` and gateway tokens (rest-api §8.9, §8.10)."""

import json
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel

from wardgate.model.addresses import parse_ip
from wardgate.portal.channels.connecting import PSK_BASE_BYTES
from wardgate.portal.credentials import Issued, issue
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.edits import Edit
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
from wardgate.portal.rest.problems import Problem, invalid, not_found, unprocessed
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import (
    Data,
    DeletedCountView,
    DeletedView,
    GatewayView,
    ListOf,
    NewGatewayView,
    NewTokenView,
    listed,
)
from wardgate.portal.sites.rest import load_site
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.store.rows import Device, GatewayToken
from wardgate.wire.tokens import TokenKind

routes = Routes("gateways", "/sites/{site_id}", tag="Gateways")

_HAS_ONE: Final = "An active token already exists for this gateway. Rotate it or delete it first."
# Site tokens go away with the published API; the dates are its announcement (RFC 8594).
SITE_TOKEN_HEADERS: Final = {"deprecation": "true", "sunset": "Thu, 01 Oct 2026 00:00:00 GMT"}
_NAME_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"


class GatewayFields(Fields):
    narrowing = EVERYWHERE | TOKENS
    name: Annotated[str | None, text(shortest=1)] = None


class RenamedGatewayFields(GatewayFields):
    model_config = required("name")


class GatewayBody(BaseModel):
    gateway: RenamedGatewayFields


class NewGatewayBody(BaseModel):
    gateway: GatewayFields | None = None


@routes.get("/gateways", response_model=ListOf[GatewayView])
async def index(
    caller: ForAccount,
    site_id: Id,
    paging: Paging,
    name: str | None = None,
    ipv4: Annotated[str | None, Query(json_schema_extra={"format": "ipv4"})] = None,
    ipv6: Annotated[str | None, Query(json_schema_extra={"format": "ipv6"})] = None,
) -> Response:
    online = caller.online_ids("gateway")
    async with caller.reading() as tables:
        c = tables.devices.c
        wanted = [c.type == "gateway", c.site_id == site_id]
        if name is not None:
            wanted.append(c.name == name)
        wanted += [
            column == _address(text) for column, text in ((c.ipv4, ipv4), (c.ipv6, ipv6)) if text is not None
        ]
        page = await load_page(tables.devices, paging, *wanted)
        tokens = tables.gateway_tokens
        ids = [row.gateway_token_id for row in page.rows if row.gateway_token_id is not None]
        rotated = {token.id: token.rotated_at for token in await tokens.load_all(tokens.c.id.in_(ids))}
    return listed(
        page,
        lambda row: GatewayView.shown(
            row,
            online=row.id in online,
            rotated_at=None if row.gateway_token_id is None else rotated.get(row.gateway_token_id),
        ),
    )


@routes.get("/gateways/{id}", is_versioned=True)
async def show(caller: ForAccount, site_id: Id, id: Id) -> Data[GatewayView]:  # noqa: A002
    async with caller.reading() as tables:
        gateway = caller.tagged(await _load(tables, site_id, id))
        return Data(data=await _view(caller, tables, gateway))


@routes.post("/gateways", makes_object=True)
async def provision(
    caller: ForAccount, site_id: Id, response: Response, body: NewGatewayBody | None = None
) -> Data[NewGatewayView]:
    """Make a gateway with its tunnel addresses and a token of its own."""
    fields = GatewayFields() if body is None or body.gateway is None else body.gateway
    async with caller.writing() as (tables, transaction):
        site = await load_site(tables, site_id)
        edit = Edit(fields, {"name": _random_name(transaction)})
        if fields.name is not None:
            edit.text("name", required=True)
        device = await tables.devices.insert(
            Device(
                id=transaction.new_id(),
                account_id=caller.account.id,
                type="gateway",
                site_id=site.id,
                psk_base=transaction.random_bytes(PSK_BASE_BYTES),
                **edit.finish(),
            )
        )
        issued = await _issue(caller, tables, transaction, device_id=device.id)
    response.headers["location"] = f"/sites/{site.id}/gateways/{device.id}"
    view = NewGatewayView.of(caller.tagged(device), online=False, rotated_at=None, token=issued.text)
    assert isinstance(view, NewGatewayView)
    return Data(data=view)


@routes.edit("/gateways/{id}", is_versioned=True)
async def update(caller: ForAccount, site_id: Id, id: Id, body: GatewayBody) -> Data[GatewayView]:  # noqa: A002
    if "name" not in body.gateway.model_fields_set:
        raise unprocessed()
    async with caller.writing() as (tables, _):
        before = caller.expected(await _load(tables, site_id, id))
        edit = Edit(body.gateway, {"name": before.name})
        edit.text("name", required=True)
        after = await tables.devices.save(replace(before, **edit.finish()))
        return Data(data=await _view(caller, tables, caller.tagged(after)))


@routes.delete("/gateways/{id}", is_versioned=True)
async def delete(caller: ForAccount, site_id: Id, id: Id) -> Data[GatewayView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        gateway = caller.expected(await _load(tables, site_id, id))
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
        gateway = await _load(tables, site_id, gateway_id)
        if any(token.rotated_at is None for token in await _tokens_of(tables, gateway)):
            raise Problem(HTTPStatus.CONFLICT, _HAS_ONE)
        issued = await _issue(caller, tables, transaction, device_id=gateway.id)
        return Data(data=NewTokenView(id=issued.id, token=issued.text))


@routes.post(
    "/gateways/{gateway_id}/token/rotate",
    tag="Gateway Tokens",
    dependencies=_NO_BODY,
)
async def rotate_token(caller: ForAccount, site_id: Id, gateway_id: Id) -> Data[NewTokenView]:
    """Replace a gateway's token; the one in use works until the new one is used, or for four hours."""
    async with caller.writing() as (tables, transaction):
        gateway = await _load(tables, site_id, gateway_id)
        tokens = await _tokens_of(tables, gateway)
        is_pending = any(token.rotated_at is not None for token in tokens)
        for token in tokens:
            if token.rotated_at is not None:
                continue
            if is_pending or gateway.gateway_token_id != token.id:
                await tables.gateway_tokens.delete(token.id)
            else:
                await tables.gateway_tokens.save(replace(token, rotated_at=transaction.now))
        issued = await _issue(caller, tables, transaction, device_id=gateway.id)
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
        site = await load_site(tables, site_id)
        issued = await _issue(caller, tables, transaction, site_id=site.id)
    response.headers.update(SITE_TOKEN_HEADERS)
    return Data(data=NewTokenView(id=issued.id, token=issued.text))


@routes.delete("/gateway_tokens/{id}", tag="Gateway Tokens")
async def delete_token(caller: ForAccount, site_id: Id, id: Id) -> Data[DeletedView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        token = None if id is None else await tables.gateway_tokens.load(id)
        if token is None or await _site_of(tables, token) != site_id:
            raise not_found()
        await tables.gateway_tokens.delete(token.id)
        return Data(data=DeletedView(id=token.id))


@routes.delete("/gateway_tokens", tag="Gateway Tokens")
async def delete_site_tokens(caller: ForAccount, site_id: Id) -> Data[DeletedCountView]:
    async with caller.writing() as (tables, _):
        tokens = tables.gateway_tokens
        count = await tokens.delete_where(tokens.c.site_id == site_id)
        return Data(data=DeletedCountView(deleted_count=count))


async def _issue(
    caller: AccountCaller,
    tables: AccountTables,
    transaction: Transaction,
    *,
    site_id: UUID | None = None,
    device_id: UUID | None = None,
) -> Issued:
    account_id = caller.account.id
    issued = issue(
        TokenKind.GATEWAY, account_id=account_id, transaction=transaction, keys=caller.services.keys
    )
    await tables.gateway_tokens.insert(
        GatewayToken(
            id=issued.id,
            account_id=account_id,
            secret_salt=issued.secret_salt,
            secret_hash=issued.secret_hash,
            site_id=site_id,
            device_id=device_id,
        )
    )
    return issued


async def _load(tables: AccountTables, site_id: UUID | None, id_: UUID | None) -> Device:
    device = None if id_ is None else await tables.devices.load(id_)
    if device is None or device.type != "gateway" or device.site_id != site_id:
        raise not_found()
    return device


async def _view(caller: AccountCaller, tables: AccountTables, row: Device) -> GatewayView:
    token = None if row.gateway_token_id is None else await tables.gateway_tokens.load(row.gateway_token_id)
    return GatewayView.of(
        row,
        online=row.id in caller.online_ids("gateway"),
        rotated_at=None if token is None else token.rotated_at,
    )


async def _tokens_of(tables: AccountTables, gateway: Device) -> list[GatewayToken]:
    return await tables.gateway_tokens.load_all(tables.gateway_tokens.c.device_id == gateway.id)


async def _site_of(tables: AccountTables, token: GatewayToken) -> UUID | None:
    if token.device_id is None:
        return token.site_id
    device = await tables.devices.load(token.device_id)
    return None if device is None else device.site_id


def _address(text: str) -> str:
    try:
        return str(parse_ip(text))
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid value {text[:64]!r} for filter of type IP") from None


def _random_name(transaction: Transaction) -> str:
    """Draw five characters that nobody confuses."""
    number = int.from_bytes(transaction.random_bytes(8), "big")
    return "".join(_NAME_ALPHABET[number // 31**place % 31] for place in range(5))
