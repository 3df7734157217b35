"""`/wardgate/device_pools`: pools of clients, static and dynamic, which the published API only shows and
edits (rest-api §8.11, §8.12).

A pool is a resource: what is made here is at `/resources/{id}` too, and the members of a static one are
`/resources/{id}/pool_members`.
"""

from typing import Annotated

from fastapi import Response
from pydantic import BaseModel, Field

from wardgate.portal.access import rules
from wardgate.portal.access.addresses import MAX_FILTERS
from wardgate.portal.access.rest.resources import (
    FilterFields,
    MembershipCriteriaFields,
    NewMembershipCriteriaFields,
    ResourceFields,
)
from wardgate.portal.access.rules import DEVICE_POOL, POOL_TYPES
from wardgate.portal.access.views import ResourceView
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.fields import NOTHING_REQUIRED, Fields, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response

routes = Routes("device_pools", "/wardgate/device_pools", tag="Wardgate")


class PoolFields(Fields):
    model_config = NOTHING_REQUIRED
    narrowing = ResourceFields.narrowing | {"criteria", "membership", "members"}
    name: Annotated[str | None, text(shortest=1)] = None
    address: Annotated[
        str | None, text(253, about="of a dynamic pool: a pattern of host names, such as *.lab.example")
    ] = None
    address_description: Annotated[str | None, text()] = None
    filters: Annotated[
        list[FilterFields] | None,
        Field(description="what may pass; everything if empty", json_schema_extra={"maxItems": MAX_FILTERS}),
    ] = None
    device_membership_criteria: MembershipCriteriaFields | None = None


class NewPoolFields(PoolFields):
    model_config = required("name", "type")
    type: Annotated[str | None, one_of((*POOL_TYPES, DEVICE_POOL))] = None
    device_membership_criteria: NewMembershipCriteriaFields | None = None


class NewDevicePoolBody(BaseModel):
    device_pool: NewPoolFields


class DevicePoolBody(BaseModel):
    device_pool: PoolFields


@routes.get("", response_model=ListOf[ResourceView])
async def index(caller: ForAccount, paging: Paging, name: str | None = None) -> Response:
    async with caller.listing() as tables:
        c = tables.resources.c
        wanted = [] if name is None else [c.name == name]
        return list_response(
            await load_page(tables.resources, paging, c.type.in_(POOL_TYPES), *wanted), ResourceView.fields_of
        )


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[ResourceView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(
            data=ResourceView.of(caller.tagged(await rules.load_resource(tables, id, types=POOL_TYPES)))
        )


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewDevicePoolBody, response: Response) -> Data[ResourceView]:
    async with caller.writing() as (tables, _):
        pool = await rules.make_device_pool(tables, body.device_pool.given())
    response.headers["location"] = f"/wardgate/device_pools/{pool.id}"
    return Data(data=ResourceView.of(caller.tagged(pool)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: DevicePoolBody) -> Data[ResourceView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_resource(tables, id, types=POOL_TYPES))
        after = await rules.change_device_pool(tables, before, body.device_pool.given())
        return Data(data=ResourceView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[ResourceView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        pool = caller.expected(await rules.load_resource(tables, id, types=POOL_TYPES))
        await tables.resources.delete(pool.id)
        return Data(data=ResourceView.of(pool))
