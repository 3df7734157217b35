"""`/resources/{resource_id}/pool_members` (rest-api §8.12): the clients of a static device pool."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, ConfigDict, WithJsonSchema
from sqlalchemy import select

from wardgate.portal.access.tables import Resource
from wardgate.portal.database.turns import in_turns
from wardgate.portal.devices import rules
from wardgate.portal.devices.tables import STATIC_DEVICE_POOL_MEMBERS, StaticDevicePoolMember
from wardgate.portal.devices.views import PoolMembersView, PoolMemberView
from wardgate.portal.object_versions import tag_of_members
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.fields import NARROWING, Fields, array_of, ignored_narrowing
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id, parse_id
from wardgate.portal.rest.problems import Errors, invalid, unprocessed
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response, members_response
from wardgate.portal.store import AccountTables

routes = Routes("pool_members", "/resources/{resource_id}/pool_members", tag="Pool Members")


class PoolMember(BaseModel):
    device_id: UUID


Ids = Annotated[
    Any,
    WithJsonSchema(
        {"type": "array", "items": {"type": "string", "format": "uuid"}, "description": "ids of clients"}
    ),
]


class PoolChanges(Fields):
    """Which clients are removed, then which are added."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["add"]}, {"required": ["remove"]}]})
    add: Ids = None
    remove: Ids = None


class PoolMembersBody(BaseModel):
    """The whole list of members. Its entries are checked one by one, for messages that name them."""

    pool_members: Annotated[list[Any], WithJsonSchema(array_of(PoolMember))]


class PoolMembersPatchBody(BaseModel):
    pool_members: PoolChanges


@routes.get("", is_versioned=True, response_model=ListOf[PoolMemberView])
async def index(caller: ForAccount, resource_id: Id, paging: Paging) -> Response:
    async with caller.listing() as tables:
        pool = await rules.load_static_pool(tables, resource_id)
        members = STATIC_DEVICE_POOL_MEMBERS.c
        ids = select(members.device_id).where(
            members.account_id == caller.account.id, members.resource_id == pool.id
        )
        page = await load_page(tables.devices, paging, tables.devices.c.id.in_(ids))
        answer = list_response(page, PoolMemberView.fields_of)
        everybody = await rules.members_of(tables, pool)
        answer.headers["etag"] = await tables.pass_through(
            len(everybody), lambda: tag_of_members(pool.id, everybody)
        )
        return answer


@routes.put("", is_versioned=True, response_model=Data[PoolMembersView])
async def replace_members(caller: ForAccount, resource_id: Id, body: PoolMembersBody) -> Response:
    """Make these the only members; memberships that stay are kept, so that nobody is disconnected needlessly."""
    async with caller.writing() as (tables, _):
        pool = await rules.load_static_pool(tables, resource_id)
        current = await rules.members_of(tables, pool)
        await tables.pass_through(len(current), lambda: caller.expected_members(pool.id, current))
        errors: list[str] = []
        given: list[str] = []
        index_ = -1
        async for entry in caller.by_turns(body.pool_members):
            index_ += 1
            device_id = entry.get("device_id") if isinstance(entry, dict) else None
            if narrowing := ignored_narrowing(entry):
                errors += [f"entry {index_}: {name} {NARROWING}" for name in narrowing]
            elif isinstance(device_id, str):
                given.append(device_id)
            else:
                errors.append(f"entry {index_} is missing a string device_id")
        wanted = await _checked(tables, given, errors)
        if errors:
            raise invalid({"pool_members": errors})
        return await _answer(tables, pool, current, wanted)


@routes.patch("", is_versioned=True, response_model=Data[PoolMembersView])
async def change_members(caller: ForAccount, resource_id: Id, body: PoolMembersPatchBody) -> Response:
    """Remove members, then add members; one in both lists stays."""
    changes = body.pool_members
    if not changes.model_fields_set & {"add", "remove"}:
        raise unprocessed()
    async with caller.writing() as (tables, _):
        pool = await rules.load_static_pool(tables, resource_id)
        current = await rules.members_of(tables, pool)
        await tables.pass_through(len(current), lambda: caller.expected_members(pool.id, current))
        errors: Errors = {
            name: ["must be a list of Client ID strings"]
            for name, value in (("add", changes.add), ("remove", changes.remove))
            if not _is_list_of_strings(value)
        }
        if errors:
            raise invalid(errors)
        unknown: list[str] = []
        added = await _checked(tables, changes.add or [], unknown)
        removed = {parse_id(text) for text in changes.remove or []}
        unknown += [
            f"{text[:64]} is not a Client in this account"
            for text in changes.remove or []
            if parse_id(text) is None
        ]
        if unknown:
            raise invalid({"pool_members": unknown})
        wanted = await tables.pass_through(len(current), lambda: (set(current) - removed) | added)
        return await _answer(tables, pool, current, wanted)


async def _checked(tables: AccountTables, texts: list[str], errors: list[str]) -> set[UUID]:
    """Return the ids of the clients, noting what is none of this account."""
    devices, found = tables.devices, set[UUID]()
    for some in in_turns(list(dict.fromkeys(texts))):
        ids = {text: id_ for text in some if (id_ := parse_id(text)) is not None}
        is_client = devices.c.id.in_(list(ids.values())), devices.c.type == "client"
        known = set(await devices.load_column(devices.c.id, *is_client))
        errors += [
            f"{text[:64]} is not a Client in this account" for text in some if ids.get(text) not in known
        ]
        found |= known
    return found


async def _answer(
    tables: AccountTables,
    pool: Resource,
    current: Mapping[UUID, StaticDevicePoolMember],
    wanted: set[UUID],
) -> Response:
    await rules.set_members(tables, pool, current, wanted)
    return await tables.pass_through(len(wanted), lambda: members_response("device_ids", pool.id, wanted))


def _is_list_of_strings(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))
