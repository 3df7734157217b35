"""`/wardgate/sites/{site_id}/gateways`: gateways with whether they drain, and what drains them (portal-domain §6.1).

The published gateway has no such field, so that it is shown here only.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from fastapi import Response

from wardgate.portal.bus import GatewayPresence
from wardgate.portal.devices import rules
from wardgate.portal.devices.rest.gateways import Ipv4Query, Ipv6Query, gateways_of, load_rotations
from wardgate.portal.devices.tables import Device
from wardgate.portal.devices.views import DrainableGatewayView
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, ViewFields, list_response
from wardgate.portal.store import AccountTables

routes = Routes("draining", "/wardgate/sites/{site_id}/gateways", tag="Wardgate")


@routes.get("", response_model=ListOf[DrainableGatewayView])
async def index(
    caller: ForAccount,
    site_id: Id,
    paging: Paging,
    name: str | None = None,
    ipv4: Ipv4Query = None,
    ipv6: Ipv6Query = None,
) -> Response:
    online = _online(caller)
    async with caller.listing() as tables:
        page = await load_page(tables.devices, paging, *gateways_of(site_id, name, ipv4, ipv6))
        rotated = await load_rotations(tables, page.rows)
    return list_response(page, lambda row: _fields_of(row, online, rotated.get(row.gateway_token_id)))


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, site_id: Id, id: Id) -> Data[DrainableGatewayView]:  # noqa: A002
    async with caller.reading() as tables:
        return await _answer(caller, tables, await rules.load_gateway(tables, site_id, id))


@routes.put("/{id}/drain", is_versioned=True)
async def drain(caller: ForAccount, site_id: Id, id: Id) -> Data[DrainableGatewayView]:  # noqa: A002
    """Give a gateway nothing new; what it has goes on. An earlier beginning is kept."""
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_gateway(tables, site_id, id))
        return await _answer(caller, tables, await rules.drain_gateway(tables, before))


@routes.put("/{id}/undrain", is_versioned=True)
async def undrain(caller: ForAccount, site_id: Id, id: Id) -> Data[DrainableGatewayView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_gateway(tables, site_id, id))
        return await _answer(caller, tables, await rules.undrain_gateway(tables, before))


async def _answer(
    caller: AccountCaller, tables: AccountTables, gateway: Device
) -> Data[DrainableGatewayView]:
    rotated = await load_rotations(tables, [gateway])
    fields = _fields_of(caller.tagged(gateway), _online(caller), rotated.get(gateway.gateway_token_id))
    return Data(data=DrainableGatewayView(**fields))


def _online(caller: AccountCaller) -> dict[UUID, GatewayPresence]:
    members = caller.services.environment.bus.members("gateway", caller.account.id)
    return {member.gateway_id: member for member in members}


def _fields_of(
    row: Device, online: Mapping[UUID, GatewayPresence], rotated_at: datetime | None
) -> ViewFields:
    presence = online.get(row.id)
    return DrainableGatewayView.drainable_fields_of(
        row,
        online=presence is not None,
        is_stopping=presence is not None and presence.is_stopping,
        rotated_at=rotated_at,
    )
