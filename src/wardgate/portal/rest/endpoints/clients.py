"""`/clients` (rest-api §8.5): devices that registered themselves."""

from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.edits import Edit
from wardgate.portal.rest.fields import Fields, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.problems import not_found
from wardgate.portal.rest.routing import Id
from wardgate.portal.rest.views import ClientView, Data, ListOf, listed
from wardgate.portal.store import AccountTables
from wardgate.portal.store.rows import Device

router = APIRouter(prefix="/clients", tags=["Clients"])


class ClientFields(Fields):
    name: Annotated[str | None, text(shortest=1)] = None


class ClientBody(BaseModel):
    client: ClientFields


@router.get("")
async def index(
    caller: ForAccount, paging: Paging, name: str | None = None, firezone_id: str | None = None
) -> ListOf[ClientView]:
    online = caller.online_ids("client")
    async with caller.reading() as tables:
        c = tables.devices.c
        wanted = [
            column == value
            for column, value in ((c.name, name), (c.firezone_id, firezone_id))
            if value is not None
        ]
        page = await load_page(tables.devices, paging, c.type == "client", *wanted)
        return listed(page, lambda row: ClientView.of(row, online=row.id in online))


@router.get("/{id}")
async def show(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.reading() as tables:
        return _shown(caller, await load_client(tables, id))


@router.put("/{id}")
@router.patch("/{id}")
async def update(caller: ForAccount, id: Id, body: ClientBody) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await load_client(tables, id))
        edit = Edit(body.client, {"name": before.name})
        edit.text("name", required=True)
        return _shown(caller, await tables.devices.save(replace(before, **edit.finish())))


@router.put("/{id}/verify")
async def verify(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    """Verify a client; the first time stays."""
    async with caller.writing() as (tables, transaction):
        before = caller.expected(await load_client(tables, id))
        verified_at = before.verified_at or transaction.now
        return _shown(caller, await tables.devices.save(replace(before, verified_at=verified_at)))


@router.put("/{id}/unverify")
async def unverify(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await load_client(tables, id))
        return _shown(caller, await tables.devices.save(replace(before, verified_at=None)))


@router.delete("/{id}")
async def delete(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        client = caller.expected(await load_client(tables, id))
        await tables.devices.delete(client.id)
        return Data(data=ClientView.of(client, online=client.id in caller.online_ids("client")))


async def load_client(tables: AccountTables, id_: UUID | None) -> Device:
    """Return a client of the account. Raises Problem 404."""
    device = None if id_ is None else await tables.devices.load(id_)
    if device is None or device.type != "client":
        raise not_found()
    return device


def _shown(caller: AccountCaller, row: Device) -> Data[ClientView]:
    return Data(data=ClientView.of(caller.tagged(row), online=row.id in caller.online_ids("client")))
