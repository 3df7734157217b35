"""`/clients` (rest-api §8.5): devices that registered themselves."""

import re
from dataclasses import replace
from typing import Annotated, Final
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel

from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.edits import Edit
from wardgate.portal.rest.fields import EVERYWHERE, Fields, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import invalid, not_found, unprocessed
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import ClientView, Data, ListOf, listed
from wardgate.portal.store import AccountTables, Conflict
from wardgate.portal.store.rows import Device

routes = Routes("clients", tag="Clients")


MIN_HOSTNAME_CHARS: Final = 3
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class ClientFields(Fields):
    narrowing = EVERYWHERE | {"is_verified", "verified"}
    name: Annotated[str | None, text(shortest=1)] = None


class ClientBody(BaseModel):
    client: ClientFields


class HostnameFields(Fields):
    model_config = required("hostname")
    narrowing = ClientFields.narrowing
    hostname: Annotated[
        str | None, text(about="unique in the account, whatever its case; null clears it")
    ] = None


class HostnameBody(BaseModel):
    client: HostnameFields


@routes.get("/clients", response_model=ListOf[ClientView])
async def index(
    caller: ForAccount, paging: Paging, name: str | None = None, firezone_id: str | None = None
) -> Response:
    online = caller.online_ids("client")
    async with caller.reading() as tables:
        c = tables.devices.c
        wanted = [
            column == value
            for column, value in ((c.name, name), (c.firezone_id, firezone_id))
            if value is not None
        ]
        page = await load_page(tables.devices, paging, c.type == "client", *wanted)
        return listed(page, lambda row: ClientView.shown(row, online=row.id in online))


@routes.get("/clients/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.reading() as tables:
        return _shown(caller, await load_client(tables, id))


@routes.edit("/clients/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: ClientBody) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await load_client(tables, id))
        edit = Edit(body.client, {"name": before.name})
        edit.text("name", required=True)
        return _shown(caller, await tables.devices.save(replace(before, **edit.finish())))


@routes.put("/clients/{id}/verify", is_versioned=True)
async def verify(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    """Verify a client; the first time stays."""
    async with caller.writing() as (tables, transaction):
        before = caller.expected(await load_client(tables, id))
        verified_at = before.verified_at or transaction.now
        return _shown(caller, await tables.devices.save(replace(before, verified_at=verified_at)))


@routes.put("/clients/{id}/unverify", is_versioned=True)
async def unverify(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await load_client(tables, id))
        return _shown(caller, await tables.devices.save(replace(before, verified_at=None)))


@routes.put("/wardgate/clients/{id}/hostname", is_versioned=True, tag="Wardgate")
async def set_hostname(caller: ForAccount, id: Id, body: HostnameBody) -> Data[ClientView]:  # noqa: A002
    """Give a client the host name by which dynamic device pools know it. No device can name itself."""
    if "hostname" not in body.client.model_fields_set:
        raise unprocessed()
    try:
        async with caller.writing() as (tables, _):
            before = caller.expected(await load_client(tables, id))
            edit = Edit(body.client, {"hostname": before.hostname})
            edit.text("hostname")
            hostname = edit.value("hostname")
            if hostname is not None and "hostname" not in edit.errors and not _is_hostname(hostname):
                edit.error("hostname", "is not a host name of at least 3 characters, such as nas.lab.example")
            return _shown(caller, await tables.devices.save(replace(before, **edit.finish())))
    except Conflict:
        raise invalid({"hostname": ["has already been taken"]}) from None


@routes.delete("/clients/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        client = caller.expected(await load_client(tables, id))
        await tables.devices.delete(client.id)
        return Data(data=ClientView.of(client, online=client.id in caller.online_ids("client")))


def _is_hostname(text_: str) -> bool:
    return len(text_) >= MIN_HOSTNAME_CHARS and all(_LABEL.fullmatch(label) for label in text_.split("."))


async def load_client(tables: AccountTables, id_: UUID | None) -> Device:
    """Return a client of the account. Raises Problem 404."""
    device = None if id_ is None else await tables.devices.load(id_)
    if device is None or device.type != "client":
        raise not_found()
    return device


def _shown(caller: AccountCaller, row: Device) -> Data[ClientView]:
    return Data(data=ClientView.of(caller.tagged(row), online=row.id in caller.online_ids("client")))
