"""`/wardgate/device_pools`: pools of clients, static and dynamic, which the published API only shows and edits (rest-api §8.11, §8.12).

A pool is a resource: what is made here is at `/resources/{id}` too, and the members of a static one are `/resources/{id}/pool_members`.
"""

from dataclasses import asdict, replace
from typing import Annotated, Final
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, Field

from wardgate.portal.access.rest.resources import FilterFields, ResourceFields, checked_pool
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.edits import Edit
from wardgate.portal.rest.fields import NOTHING_REQUIRED, Fields, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import not_found
from wardgate.portal.rest.resource_rules import MAX_FILTERS
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, ResourceView, listed
from wardgate.portal.store import AccountTables
from wardgate.portal.store.rows import Resource

routes = Routes("device_pools", "/wardgate/device_pools", tag="Wardgate")

TYPES: Final = ("static_device_pool", "dynamic_device_pool")


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
        Field(description="none: everything is allowed", json_schema_extra={"maxItems": MAX_FILTERS}),
    ] = None


class NewPoolFields(PoolFields):
    model_config = required("name", "type")
    type: Annotated[str | None, one_of(TYPES)] = None


class NewDevicePoolBody(BaseModel):
    device_pool: NewPoolFields


class DevicePoolBody(BaseModel):
    device_pool: PoolFields


@routes.get("", response_model=ListOf[ResourceView])
async def index(caller: ForAccount, paging: Paging, name: str | None = None) -> Response:
    async with caller.reading() as tables:
        c = tables.resources.c
        wanted = [] if name is None else [c.name == name]
        return listed(
            await load_page(tables.resources, paging, c.type.in_(TYPES), *wanted), ResourceView.shown
        )


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[ResourceView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=ResourceView.of(caller.tagged(await _load(tables, id))))


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewDevicePoolBody, response: Response) -> Data[ResourceView]:
    async with caller.writing() as (tables, transaction):
        new = Resource(id=transaction.new_id(), account_id=caller.account.id, type="", name="")
        edit = Edit(body.device_pool, {**asdict(new), "type": None, "name": None})
        edit.choice("type", TYPES, required=True)
        pool = await tables.resources.insert(Resource(**checked_pool(edit)))
    response.headers["location"] = f"/wardgate/device_pools/{pool.id}"
    return Data(data=ResourceView.of(caller.tagged(pool)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: DevicePoolBody) -> Data[ResourceView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await _load(tables, id))
        values = checked_pool(Edit(body.device_pool, asdict(before)))
        after = await tables.resources.save(replace(before, **values))
        return Data(data=ResourceView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[ResourceView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        pool = caller.expected(await _load(tables, id))
        await tables.resources.delete(pool.id)
        return Data(data=ResourceView.of(pool))


async def _load(tables: AccountTables, id_: UUID | None) -> Resource:
    pool = None if id_ is None else await tables.resources.load(id_)
    if pool is None or pool.type not in TYPES:
        raise not_found()
    return pool
