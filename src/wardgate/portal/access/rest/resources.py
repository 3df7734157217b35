"""`/resources` (rest-api §8.11)."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field

from wardgate.portal.access import rules
from wardgate.portal.access.addresses import MAX_FILTERS, MAX_RANGES_A_FILTER, PROTOCOLS
from wardgate.portal.access.rules import DEVICE_POOL, IP_STACKS, MODES, RESOURCE_TYPES
from wardgate.portal.access.views import ResourceView
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.fields import (
    EVERYWHERE,
    NOTHING_REQUIRED,
    ExactFields,
    Fields,
    formatted,
    one_of,
    required,
    text,
)
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import UUID_TEXT, Id, parse_id
from wardgate.portal.rest.problems import Problem
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response

routes = Routes("resources", "/resources", tag="Resources")

FILTERED_TYPES = ("cidr", "ip", "dns", "static_device_pool", DEVICE_POOL)


class FilterFields(ExactFields):
    model_config = required("protocol")
    protocol: Annotated[str | None, one_of(PROTOCOLS)] = None
    ports: Annotated[
        list[str | int] | None,
        Field(
            description="`80` or `8000 - 9000`; all ports if empty",
            json_schema_extra={"maxItems": MAX_RANGES_A_FILTER},
        ),
    ] = None


class MembershipCriteriaFields(ExactFields):
    """Which clients are in a `device_pool`: those listed as its members, or those whose host name fits."""

    model_config = NOTHING_REQUIRED
    mode: Annotated[str | None, one_of(tuple(MODES))] = None
    hostname: Annotated[
        str | None, text(253, about="of a dynamic pool: a pattern of host names, such as *.lab.example")
    ] = None


class NewMembershipCriteriaFields(MembershipCriteriaFields):
    model_config = required("mode")


class ResourceFields(Fields):
    narrowing = EVERYWHERE | {
        "condition", "conditions", "filter", "port", "port_ranges", "ports", "postures", "protocol", "protocols",
        "traffic_filters", "traffic_restrictions",
    }  # fmt: skip
    name: Annotated[str | None, text(shortest=1)] = None
    type: Annotated[str | None, one_of((*RESOURCE_TYPES, DEVICE_POOL))] = None
    address: Annotated[str | None, text(253, about="a name pattern, an IP address or a CIDR range")] = None
    address_description: Annotated[str | None, text()] = None
    ip_stack: Annotated[str | None, one_of(IP_STACKS, nullable=True)] = None
    site_id: Annotated[str | None, formatted("uuid")] = None
    filters: Annotated[
        list[FilterFields] | None,
        Field(description="what may pass; everything if empty", json_schema_extra={"maxItems": MAX_FILTERS}),
    ] = None

    device_membership_criteria: MembershipCriteriaFields | None = None


class NewResourceFields(ResourceFields):
    model_config = required("name", "type", "site_id")
    device_membership_criteria: NewMembershipCriteriaFields | None = None


class NewResourceBody(BaseModel):
    resource: NewResourceFields


class ResourceBody(BaseModel):
    resource: ResourceFields


@routes.get("", response_model=ListOf[ResourceView])
async def index(
    caller: ForAccount,
    paging: Paging,
    name: str | None = None,
    type: Annotated[str | None, Query(json_schema_extra={"enum": list(FILTERED_TYPES)})] = None,  # noqa: A002 - the parameter's name on the wire
    site_id: Annotated[str | None, Query(json_schema_extra=UUID_TEXT)] = None,
    address: str | None = None,
    ip_stack: Annotated[str | None, Query(json_schema_extra={"enum": list(IP_STACKS)})] = None,
) -> Response:
    for value, allowed in ((type, FILTERED_TYPES), (ip_stack, IP_STACKS)):
        if value is not None and value not in allowed:
            raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid filter value: {value[:64]}")
    if site_id is not None and parse_id(site_id) is None:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid value {site_id[:64]!r} for filter of type UUID")
    async with caller.listing() as tables:
        c = tables.resources.c
        given = (
            (c.name, name),
            (c.type, None if type == DEVICE_POOL else type),
            (c.address, address),
            (c.ip_stack, ip_stack),
            (c.site_id, None if site_id is None else parse_id(site_id)),
        )
        wanted = [column == value for column, value in given if value is not None]
        if type is not None:
            wanted.append(
                c.membership_mode.is_not(None) if type == DEVICE_POOL else c.membership_mode.is_(None)
            )
        return list_response(await load_page(tables.resources, paging, *wanted), ResourceView.fields_of)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[ResourceView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=ResourceView.of(caller.tagged(await rules.load_resource(tables, id))))


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewResourceBody, response: Response) -> Data[ResourceView]:
    async with caller.writing() as (tables, _):
        resource = await rules.make_resource(tables, body.resource.given())
    response.headers["location"] = f"/resources/{resource.id}"
    return Data(data=ResourceView.of(caller.tagged(resource)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: ResourceBody) -> Data[ResourceView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_editable_resource(tables, id))
        after = await rules.change_resource(tables, before, body.resource.given())
        return Data(data=ResourceView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[ResourceView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        resource = caller.expected(await rules.load_editable_resource(tables, id))
        await tables.resources.delete(resource.id)
        return Data(data=ResourceView.of(resource))
