"""`/clients` (rest-api §8.5): devices that registered themselves."""

from typing import Annotated

from fastapi import Response
from pydantic import BaseModel

from wardgate.portal.devices import rules
from wardgate.portal.devices.tables import Device
from wardgate.portal.devices.views import ClientView
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.fields import EVERYWHERE, Fields, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import unprocessed
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response

routes = Routes("clients", tag="Clients")


class ClientFields(Fields):
    narrowing = EVERYWHERE | {"is_verified", "verified"}
    name: Annotated[str | None, text(shortest=1)] = None


class ClientBody(BaseModel):
    client: ClientFields


class HostnameFields(Fields):
    model_config = required("hostname")
    narrowing = ClientFields.narrowing
    hostname: Annotated[
        str | None, text(about="unique in the account, regardless of case; null clears it")
    ] = None


class HostnameBody(BaseModel):
    client: HostnameFields


@routes.get("/clients", response_model=ListOf[ClientView])
async def index(
    caller: ForAccount, paging: Paging, name: str | None = None, firezone_id: str | None = None
) -> Response:
    online = caller.online_ids("client")
    async with caller.listing() as tables:
        c = tables.devices.c
        wanted = [
            column == value
            for column, value in ((c.name, name), (c.firezone_id, firezone_id))
            if value is not None
        ]
        page = await load_page(tables.devices, paging, c.type == "client", *wanted)
        return list_response(page, lambda row: ClientView.fields_of(row, online=row.id in online))


@routes.get("/clients/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.reading() as tables:
        return _view(caller, await rules.load_client(tables, id))


@routes.edit("/clients/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: ClientBody) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_client(tables, id))
        return _view(caller, await rules.rename(tables, before, body.client.given()))


@routes.put("/clients/{id}/verify", is_versioned=True)
async def verify(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    """Mark a client as verified; an earlier time of verification is kept."""
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_client(tables, id))
        return _view(caller, await rules.verify_client(tables, before))


@routes.put("/clients/{id}/unverify", is_versioned=True)
async def unverify(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_client(tables, id))
        return _view(caller, await rules.unverify_client(tables, before))


@routes.put("/wardgate/clients/{id}/hostname", is_versioned=True, tag="Wardgate")
async def set_hostname(caller: ForAccount, id: Id, body: HostnameBody) -> Data[ClientView]:  # noqa: A002
    """Give a client the host name by which dynamic device pools match it. No device can name itself."""
    if "hostname" not in body.client.model_fields_set:
        raise unprocessed()
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_client(tables, id))
        return _view(caller, await rules.set_hostname(tables, before, body.client.given()))


@routes.delete("/clients/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[ClientView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        client = caller.expected(await rules.load_client(tables, id))
        await tables.devices.delete(client.id)
        return Data(data=ClientView.of(client, online=client.id in caller.online_ids("client")))


def _view(caller: AccountCaller, row: Device) -> Data[ClientView]:
    return Data(data=ClientView.of(caller.tagged(row), online=row.id in caller.online_ids("client")))
