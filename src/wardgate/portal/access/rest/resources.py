"""`/resources` (rest-api §8.11)."""

from dataclasses import asdict, replace
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field

from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.edits import BLANK, Edit
from wardgate.portal.rest.fields import EVERYWHERE, ExactFields, Fields, formatted, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import UUID_TEXT, Id, parse_id
from wardgate.portal.rest.problems import Problem, forbidden, not_found
from wardgate.portal.rest.resource_rules import (
    MAX_FILTERS,
    MAX_RANGES_A_FILTER,
    PROTOCOLS,
    check_address,
    check_filters,
)
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, ResourceView, listed
from wardgate.portal.store import AccountTables
from wardgate.portal.store.rows import Resource

routes = Routes("resources", "/resources", tag="Resources")

TYPES = ("dns", "ip", "cidr", "internet", "static_device_pool", "dynamic_device_pool")
FILTERED_TYPES = ("cidr", "ip", "dns", "static_device_pool")
IP_STACKS = ("dual", "ipv4_only", "ipv6_only")
NO_POOLS = "device pools cannot be created via the API"


class FilterFields(ExactFields):
    model_config = required("protocol")
    protocol: Annotated[str | None, one_of(PROTOCOLS)] = None
    ports: Annotated[
        list[str | int] | None,
        Field(
            description="`80` or `8000 - 9000`; none: all",
            json_schema_extra={"maxItems": MAX_RANGES_A_FILTER},
        ),
    ] = None


class ResourceFields(Fields):
    narrowing = EVERYWHERE | {
        "condition", "conditions", "filter", "port", "port_ranges", "ports", "postures", "protocol", "protocols",
        "traffic_filters", "traffic_restrictions",
    }  # fmt: skip
    name: Annotated[str | None, text(shortest=1)] = None
    type: Annotated[str | None, one_of(TYPES)] = None
    address: Annotated[str | None, text(253, about="a name pattern, an IP address or a CIDR range")] = None
    address_description: Annotated[str | None, text()] = None
    ip_stack: Annotated[str | None, one_of(IP_STACKS, nullable=True)] = None
    site_id: Annotated[str | None, formatted("uuid")] = None
    filters: Annotated[
        list[FilterFields] | None,
        Field(description="none: everything is allowed", json_schema_extra={"maxItems": MAX_FILTERS}),
    ] = None


class NewResourceFields(ResourceFields):
    model_config = required("name", "type", "site_id")


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
    async with caller.reading() as tables:
        c = tables.resources.c
        given = (
            (c.name, name),
            (c.type, type),
            (c.address, address),
            (c.ip_stack, ip_stack),
            (c.site_id, None if site_id is None else parse_id(site_id)),
        )
        wanted = [column == value for column, value in given if value is not None]
        return listed(await load_page(tables.resources, paging, *wanted), ResourceView.shown)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[ResourceView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=ResourceView.of(caller.tagged(await load_resource(tables, id))))


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewResourceBody, response: Response) -> Data[ResourceView]:
    async with caller.writing() as (tables, transaction):
        new = Resource(id=transaction.new_id(), account_id=caller.account.id, type="", name="")
        edit = Edit(body.resource, {**asdict(new), "type": None, "name": None})
        resource = await tables.resources.insert(Resource(**await _checked(edit, tables, before=None)))
    response.headers["location"] = f"/resources/{resource.id}"
    return Data(data=ResourceView.of(caller.tagged(resource)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: ResourceBody) -> Data[ResourceView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await _load_editable(tables, id))
        values = await _checked(Edit(body.resource, asdict(before)), tables, before=before)
        after = await tables.resources.save(replace(before, **values))
        return Data(data=ResourceView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[ResourceView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        resource = caller.expected(await _load_editable(tables, id))
        await tables.resources.delete(resource.id)
        return Data(data=ResourceView.of(resource))


async def load_resource(tables: AccountTables, id_: UUID | None) -> Resource:
    """Return a resource of the account. Raises Problem 404."""
    resource = None if id_ is None else await tables.resources.load(id_)
    if resource is None:
        raise not_found()
    return resource


async def _load_editable(tables: AccountTables, id_: UUID | None) -> Resource:
    resource = await load_resource(tables, id_)
    if resource.type == "internet":
        raise forbidden("Internet Resource cannot be modified")
    return resource


async def _checked(edit: Edit, tables: AccountTables, *, before: Resource | None) -> dict[str, Any]:
    edit.text("name", required=True)
    edit.text("address_description")
    edit.choice("type", TYPES, required=True)
    type_ = edit.value("type")
    was_same = before is not None and before.type == type_
    if type_ is not None and type_.endswith("_device_pool") and not was_same:
        edit.error("type", NO_POOLS)
    _check_address(edit, type_)
    _check_ip_stack(edit, type_)
    _check_filters(edit)
    await _check_site(edit, tables, type_)
    return edit.finish()


def checked_pool(edit: Edit) -> dict[str, Any]:
    """Return the values of a device pool whose type was checked. Raises Problem 422."""
    edit.text("name", required=True)
    edit.text("address_description")
    if edit.value("type") == "static_device_pool" and edit.gave("address") and edit.raw("address"):
        edit.error("address", "must be blank for a static pool: its members are listed")
    _check_address(edit, None if "type" in edit.errors else edit.value("type"))
    _check_filters(edit)
    edit.put("ip_stack", None)
    edit.put("site_id", None)
    return edit.finish()


def _check_address(edit: Edit, type_: str | None) -> None:
    edit.text("address", longest=4096)
    if type_ in (None, "internet", "static_device_pool"):
        if type_ is not None:
            edit.put("address", None)
        return
    address = edit.value("address")
    if address is None:
        edit.error("address", BLANK)
        return
    normal, errors = check_address(type_, address)
    edit.put("address", normal)
    for error in errors:
        edit.error("address", error)


def _check_ip_stack(edit: Edit, type_: str | None) -> None:
    edit.choice("ip_stack", IP_STACKS)
    if type_ != "dns":
        if edit.gave("ip_stack") and edit.raw("ip_stack") is not None:
            edit.error("ip_stack", "IP stack must be blank for this type of Resource")
        edit.put("ip_stack", None)
    elif edit.value("ip_stack") is None:
        edit.put("ip_stack", "dual")


def _check_filters(edit: Edit) -> None:
    if not edit.gave("filters"):
        return
    given = edit.raw("filters") or []
    if len(given) > MAX_FILTERS:
        edit.error("filters", f"should have at most {MAX_FILTERS} item(s)")
        return
    stored, errors = check_filters(given)
    edit.put("filters", stored)
    if errors is not None:
        edit.nested_error("filters", errors)


async def _check_site(edit: Edit, tables: AccountTables, type_: str | None) -> None:
    if type_ is not None and type_.endswith("_device_pool"):
        edit.put("site_id", None)
        return
    edit.id("site_id", required=True)
    site_id = edit.value("site_id")
    if not isinstance(site_id, UUID):
        return
    site = await tables.sites.load(site_id)
    if site is None:
        edit.error("site_id", "does not exist")
    elif type_ == "internet" and site.managed_by != "system":
        edit.error("site_id", "must be the Internet Site for an Internet Resource")
    elif type_ == "internet":
        edit.error("type", "an Internet Resource already exists")
    elif site.managed_by == "system":
        edit.error("site_id", "cannot be the Internet Site")
