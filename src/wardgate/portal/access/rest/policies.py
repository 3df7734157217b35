"""`/policies` (rest-api §8.13)."""

from dataclasses import asdict, replace
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field

from wardgate.model.conditions import InvalidCondition, Operator, Property, parse_condition, render_condition
from wardgate.portal.access.rest.resources import load_resource
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.edits import Edit
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
from wardgate.portal.rest.problems import Problem, forbidden, invalid, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, PolicyView, listed
from wardgate.portal.store import AccountTables, Conflict
from wardgate.portal.store.rows import Policy, Resource

routes = Routes("policies", "/policies", tag="Policies")

DUPLICATE = {"base": ["Policy for the selected Group and Resource already exists"]}
ONE_PER_PROPERTY = "must not contain more than one condition per property"
MAX_CONDITIONS = 5
MAX_VALUES = 1000  # ours
MAX_VALUE_CHARS = 1000  # ours; a day's ranges are some dozens


class ConditionFields(ExactFields):
    """What must hold; `remote_ip_location_region` and `is_in` where nothing is said."""

    property: Annotated[str | None, one_of([one.value for one in Property], nullable=True)] = None
    operator: Annotated[str | None, one_of([one.value for one in Operator], nullable=True)] = None
    values: Annotated[list[str] | None, Field(json_schema_extra={"maxItems": MAX_VALUES})] = None


class NewPolicyFields(Fields):
    model_config = required("group_id", "resource_id")
    narrowing = EVERYWHERE | {
        "action", "allowed_ips", "condition", "device_attested", "effect", "filters", "ports", "posture", "postures",
        "schedule",
    }  # fmt: skip
    group_id: Annotated[str | None, formatted("uuid")] = None
    resource_id: Annotated[str | None, formatted("uuid")] = None
    description: Annotated[str | None, text(1024)] = None
    flow_log_uploads_enabled: bool | None = None
    conditions: Annotated[
        list[ConditionFields] | None,
        Field(description="all must hold, one per property", json_schema_extra={"maxItems": MAX_CONDITIONS}),
    ] = None
    is_disabled: Annotated[bool | None, Field(description="grants nothing")] = None


class PolicyFields(NewPolicyFields):
    model_config = NOTHING_REQUIRED


class NewPolicyBody(BaseModel):
    policy: NewPolicyFields


class PolicyBody(BaseModel):
    policy: PolicyFields


@routes.get("", response_model=ListOf[PolicyView])
async def index(
    caller: ForAccount,
    paging: Paging,
    group_id: Annotated[str | None, Query(json_schema_extra=UUID_TEXT)] = None,
    resource_id: Annotated[str | None, Query(json_schema_extra=UUID_TEXT)] = None,
) -> Response:
    for given in (group_id, resource_id):
        if given is not None and parse_id(given) is None:
            raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid value {given[:64]!r} for filter of type UUID")
    async with caller.reading() as tables:
        c = tables.policies.c
        wanted = [
            column == parse_id(given)
            for column, given in ((c.group_id, group_id), (c.resource_id, resource_id))
            if given is not None
        ]
        return listed(await load_page(tables.policies, paging, *wanted), PolicyView.shown)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[PolicyView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=PolicyView.of(caller.tagged(await _load(tables, id))))


@routes.post("", makes_object=True, may_find_nothing=True)
async def create(caller: ForAccount, body: NewPolicyBody, response: Response) -> Data[PolicyView]:
    try:
        async with caller.writing() as (tables, transaction):
            new = Policy(
                id=transaction.new_id(), account_id=caller.account.id, group_id=None, resource_id=_NIL
            )
            edit = Edit(body.policy, {**asdict(new), "resource_id": None})
            values = await _checked(caller, edit, tables, before=None)
            policy = await tables.policies.insert(Policy(**values))
    except Conflict:
        raise invalid(DUPLICATE) from None
    response.headers["location"] = f"/policies/{policy.id}"
    return Data(data=PolicyView.of(caller.tagged(policy)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: PolicyBody) -> Data[PolicyView]:  # noqa: A002
    try:
        async with caller.writing() as (tables, _):
            before = caller.expected(await _load(tables, id))
            edit = Edit(body.policy, asdict(before))
            values = await _checked(caller, edit, tables, before=before)
            after = await tables.policies.save(replace(before, **values))
            return Data(data=PolicyView.of(caller.tagged(after)))
    except Conflict:
        raise invalid(DUPLICATE) from None


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[PolicyView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        policy = caller.expected(await _load(tables, id))
        await tables.policies.delete(policy.id)
        return Data(data=PolicyView.of(policy))


_NIL = UUID(int=0)


async def _load(tables: AccountTables, id_: UUID | None) -> Policy:
    policy = None if id_ is None else await tables.policies.load(id_)
    if policy is None:
        raise not_found()
    return policy


async def _checked(
    caller: AccountCaller, edit: Edit, tables: AccountTables, *, before: Policy | None
) -> dict[str, Any]:
    edit.id("resource_id", required=True)
    edit.id("group_id", required=before is None or edit.gave("group_id"))
    resource = await _checked_resource(caller, edit, tables)
    edit.text("description", longest=1024)
    edit.flag("flow_log_uploads_enabled")
    edit.flag("is_disabled")
    is_moved = before is None or (resource is not None and before.resource_id != resource.id)
    if resource is not None and resource.type == "internet" and is_moved:
        edit.put(
            "flow_log_uploads_enabled",
            edit.gave("flow_log_uploads_enabled") and edit.raw("flow_log_uploads_enabled") is True,
        )
    await _check_group(edit, tables)
    _check_conditions(edit)
    return edit.finish()


async def _checked_resource(caller: AccountCaller, edit: Edit, tables: AccountTables) -> Resource | None:
    resource_id = edit.value("resource_id")
    if "resource_id" in edit.errors or resource_id is None:
        return None
    resource = await load_resource(tables, resource_id)
    if resource.type == "internet" and not caller.account.features.get("internet_resource", False):
        raise forbidden("Internet resource is not enabled for this account")
    return resource


async def _check_group(edit: Edit, tables: AccountTables) -> None:
    group_id = edit.value("group_id")
    if "group_id" in edit.errors or group_id is None:
        return
    group = await tables.groups.load(group_id)
    if group is None:
        edit.error("group_id", "does not exist")
    else:
        edit.put("group_idp_id", group.idp_id)


def _check_conditions(edit: Edit) -> None:
    if not edit.gave("conditions"):
        return
    given = edit.raw("conditions") or []
    if len(given) > MAX_CONDITIONS:
        edit.error("base", ONE_PER_PROPERTY)
        return
    stored: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for one in given:
        condition, wrong = _checked_condition(one)
        stored.append(condition)
        errors.append(wrong)
    edit.put("conditions", stored)
    if any(errors):
        edit.nested_error("conditions", errors)
    elif len({condition["property"] for condition in stored}) < len(stored):
        edit.error("base", ONE_PER_PROPERTY)


def _checked_condition(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    property_ = given.get("property") or "remote_ip_location_region"
    operator = given.get("operator") or "is_in"
    values = given.get("values") or []
    if len(values) > MAX_VALUES:
        return {}, {"values": [f"should have at most {MAX_VALUES} item(s)"]}
    too_long = [index for index, value in enumerate(values) if len(value) > MAX_VALUE_CHARS]
    if too_long:
        message = f"should be at most {MAX_VALUE_CHARS} character(s)"
        return {}, {"values": [f"entry {index}: {message}" for index in too_long]}
    try:
        rendered = render_condition(parse_condition(property_, operator, values))
    except InvalidCondition as error:
        each = [] if error.index is None else _wrong_elements(property_, operator, values)
        return {}, {error.field: each or [error.message]}
    return {
        "property": rendered[0].value,
        "operator": rendered[1].value,
        "values": _as_given(values, rendered[2]),
    }, {}


def _wrong_elements(property_: str, operator: str, values: list[str]) -> list[str]:
    """Tell of each element that is wrong by itself, which one it is (portal-domain §3.11)."""
    wrong: list[str] = []
    for index, value in enumerate(values):
        try:
            parse_condition(property_, operator, [value])
        except InvalidCondition as error:
            wrong.append(f"entry {index}: {error.message}")
    return wrong


def _as_given(values: list[str], rendered: list[str]) -> list[str]:
    """Keep the order and spelling of what was given; rendering proved that it parses."""
    return [value.strip() for value in values] if len(values) == len(rendered) else rendered
