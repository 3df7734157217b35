"""`/groups` and their memberships (rest-api §8.6, §8.7), and `/wardgate/groups`: every group, the managed
ones too.

The published `/groups` hides managed groups, of which Everyone is one. At `/wardgate/groups` they are only
read: what may be changed of a group is changed at `/groups`. A policy takes the id of any of them.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import BaseModel, ConfigDict, WithJsonSchema
from pydantic.config import JsonDict
from sqlalchemy import ColumnElement, false, select

from wardgate.portal.object_versions import tag_of_members
from wardgate.portal.people import rules
from wardgate.portal.people.tables import Group, Membership
from wardgate.portal.people.views import GroupView, MembersView, MemberView
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.fields import NARROWING, Fields, array_of, ignored_narrowing, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id, parse_id
from wardgate.portal.rest.problems import Problem, invalid, unprocessed
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response, members_response
from wardgate.portal.store import AccountTables

routes = Routes("groups", "/groups", tag="Groups")
routes_of_all = Routes("all_groups", "/wardgate/groups", tag="Wardgate")

NATIVE_OR_UUID: Final[JsonDict] = {
    "anyOf": [{"type": "string", "format": "uuid"}, {"type": "string", "maxLength": 0}]
}
ENTITY_TYPES = ("group", "org_unit")


class AnyGroupView(GroupView):
    """A group. The members of a managed one cannot be edited: every user is in Everyone."""

    type: Literal["static", "managed"]


class GroupFields(Fields):
    name: Annotated[str | None, text(shortest=1)] = None


class NewGroupFields(GroupFields):
    model_config = required("name")


class NewGroupBody(BaseModel):
    group: NewGroupFields


class GroupBody(BaseModel):
    group: GroupFields


class Member(BaseModel):
    actor_id: UUID


Ids = Annotated[
    Any,
    WithJsonSchema(
        {"type": "array", "items": {"type": "string", "format": "uuid"}, "description": "ids of actors"}
    ),
]


class MembershipChanges(Fields):
    """Whom to remove, then whom to add. A single id counts as a list of one."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["add"]}, {"required": ["remove"]}]})
    add: Ids = None
    remove: Ids = None


class MembershipsBody(BaseModel):
    """The whole list of members. Its entries are checked one by one, for messages that name them."""

    memberships: Annotated[list[Any], WithJsonSchema(array_of(Member))]


class MembershipPatchBody(BaseModel):
    memberships: MembershipChanges


DirectoryText = Annotated[
    str | None, Query(description="empty: groups that were made here", json_schema_extra=NATIVE_OR_UUID)
]
EntityTypeText = Annotated[str | None, Query(json_schema_extra={"enum": list(ENTITY_TYPES)})]


@routes.get("", response_model=ListOf[GroupView])
async def index(
    caller: ForAccount,
    paging: Paging,
    name: str | None = None,
    directory_id: DirectoryText = None,
    entity_type: EntityTypeText = None,
) -> Response:
    async with caller.listing() as tables:
        wanted = _conditions(tables, name, directory_id, entity_type)
        is_published = tables.groups.c.type != "managed"
        return list_response(
            await load_page(tables.groups, paging, is_published, *wanted), GroupView.fields_of
        )


@routes_of_all.get("", name="index", summary="Index", response_model=ListOf[AnyGroupView])
async def index_of_all(
    caller: ForAccount,
    paging: Paging,
    name: str | None = None,
    directory_id: DirectoryText = None,
    entity_type: EntityTypeText = None,
) -> Response:
    async with caller.listing() as tables:
        wanted = _conditions(tables, name, directory_id, entity_type)
        return list_response(await load_page(tables.groups, paging, *wanted), AnyGroupView.fields_of)


def _conditions(
    tables: AccountTables, name: str | None, directory_id: str | None, entity_type: str | None
) -> list[ColumnElement[bool]]:
    """Return what the filters of a list of groups ask for. Raises Problem 400."""
    if entity_type is not None and entity_type not in ENTITY_TYPES:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid filter value: {entity_type[:64]}")
    if directory_id and parse_id(directory_id) is None:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid filter value: {directory_id[:64]}")
    c = tables.groups.c
    wanted = [
        column == value
        for column, value in ((c.name, name), (c.entity_type, entity_type))
        if value is not None
    ]
    if directory_id == "":
        wanted.append(c.idp_id.is_(None))
    elif directory_id is not None:
        wanted.append(false())  # no directory exists, so none has a group
    return wanted


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[GroupView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=GroupView.of(caller.tagged(await rules.load_group(tables, id))))


@routes_of_all.get("/{id}", name="show", summary="Show", is_versioned=True)
async def show_of_all(caller: ForAccount, id: Id) -> Data[AnyGroupView]:  # noqa: A002
    async with caller.reading() as tables:
        group = await rules.load_group(tables, id, with_managed=True)
        return Data(data=AnyGroupView.of(caller.tagged(group)))


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewGroupBody, response: Response) -> Data[GroupView]:
    async with caller.writing() as (tables, _):
        group = await rules.make_group(tables, body.group.given())
    response.headers["location"] = f"/groups/{group.id}"
    return Data(data=GroupView.of(caller.tagged(group)))


async def _refuse_synced(caller: ForAccount, id: Id) -> None:  # noqa: A002
    """Refuse a synced group before anything is said of the body (rest-api §8.6)."""
    async with caller.reading() as tables:
        group = None if id is None else await tables.groups.load(id)
    if group is not None:
        rules.check_not_synced(group)


@routes.edit("/{id}", is_versioned=True, dependencies=[Depends(_refuse_synced)])
async def update(caller: ForAccount, id: Id, body: GroupBody) -> Data[GroupView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_group(tables, id))
        return Data(
            data=GroupView.of(caller.tagged(await rules.change_group(tables, before, body.group.given())))
        )


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[GroupView]:  # noqa: A002
    """Delete a group; its policies stay as orphans, which grant nothing."""
    async with caller.writing() as (tables, _):
        group = caller.expected(await rules.load_group(tables, id))
        await tables.groups.delete(group.id)
        return Data(data=GroupView.of(group))


@routes.get(
    "/{group_id}/memberships", is_versioned=True, tag="Memberships", response_model=ListOf[MemberView]
)
async def members(caller: ForAccount, group_id: Id, paging: Paging) -> Response:
    async with caller.listing() as tables:
        memberships = tables.memberships
        in_group = select(memberships.c.actor_id).where(
            memberships.c.account_id == caller.account.id, memberships.c.group_id == group_id
        )
        page = await load_page(tables.actors, paging, tables.actors.c.id.in_(in_group))
        answer = list_response(page, MemberView.fields_of)
        if group_id is not None:
            everybody = await memberships.load_column(
                memberships.c.actor_id, memberships.c.group_id == group_id
            )
            answer.headers["etag"] = await tables.pass_through(
                len(everybody), lambda: tag_of_members(group_id, everybody)
            )
        return answer


@routes.put("/{group_id}/memberships", is_versioned=True, tag="Memberships", response_model=Data[MembersView])
async def replace_members(caller: ForAccount, group_id: Id, body: MembershipsBody) -> Response:
    """Make these the only members; memberships that stay are kept, so that nobody is disconnected needlessly."""
    async with caller.writing() as (tables, _):
        group = await rules.load_group_with_editable_members(tables, group_id)
        current = await _current(caller, tables, group)
        errors: list[str] = []
        wanted: set[UUID] = set()
        async for entry in caller.by_turns(body.memberships):
            if not isinstance(entry, dict) or "actor_id" not in entry:
                errors.append("entry is missing an Actor ID")
            elif narrowing := ignored_narrowing(entry):
                errors += [f"{name} {NARROWING}" for name in narrowing]
            else:
                wanted |= await _parsed(caller, [entry["actor_id"]], errors)
        await _check_actors(tables, wanted, errors)
        return await _answer(tables, group, current, wanted)


@routes.patch(
    "/{group_id}/memberships", is_versioned=True, tag="Memberships", response_model=Data[MembersView]
)
async def change_members(caller: ForAccount, group_id: Id, body: MembershipPatchBody) -> Response:
    """Remove members, then add members; one in both lists stays."""
    changes = body.memberships
    if not changes.model_fields_set & {"add", "remove"}:
        raise unprocessed()
    async with caller.writing() as (tables, _):
        group = await rules.load_group_with_editable_members(tables, group_id)
        current = await _current(caller, tables, group)
        errors: list[str] = []
        added = await _parsed(caller, _as_list(changes.add), errors)
        removed = await _parsed(caller, _as_list(changes.remove), errors)
        await _check_actors(tables, added, errors)
        wanted = await tables.pass_through(len(current), lambda: (set(current) - removed) | added)
        return await _answer(tables, group, current, wanted)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


async def _parsed(caller: AccountCaller, values: list[Any], errors: list[str]) -> set[UUID]:
    parsed: set[UUID] = set()
    async for value in caller.by_turns(values):
        id_ = parse_id(value) if isinstance(value, str) else None
        if id_ is None:
            errors.append(f"{str(value)[:64]} is not a valid Actor ID")
        else:
            parsed.add(id_)
    return parsed


async def _check_actors(tables: AccountTables, wanted: set[UUID], errors: list[str]) -> None:
    unknown = await rules.unknown_actors(tables, wanted)
    errors += [f"{actor_id} is not an Actor in this account" for actor_id in unknown]
    if errors:
        raise invalid({"memberships": errors})


async def _current(caller: AccountCaller, tables: AccountTables, group: Group) -> dict[UUID, Membership]:
    """Return actor → row of the members, if they are those that `If-Match` names. Raises Problem 412."""
    current = await rules.members_of(tables, group)
    await tables.pass_through(len(current), lambda: caller.expected_members(group.id, current))
    return current


async def _answer(
    tables: AccountTables, group: Group, current: Mapping[UUID, Membership], wanted: set[UUID]
) -> Response:
    await rules.set_members(tables, group, current, wanted)
    return await tables.pass_through(len(wanted), lambda: members_response("actor_ids", group.id, wanted))
