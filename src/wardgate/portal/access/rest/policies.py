"""`/policies` (rest-api §8.13)."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field

from wardgate.model.conditions import Operator, Property
from wardgate.portal.access import rules
from wardgate.portal.access.rules import MAX_CONDITIONS, MAX_VALUES
from wardgate.portal.access.views import PolicyView
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

routes = Routes("policies", "/policies", tag="Policies")


class ConditionFields(ExactFields):
    """What must hold; by default the property is `remote_ip_location_region`, the operator `is_in`."""

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
    async with caller.listing() as tables:
        c = tables.policies.c
        wanted = [
            column == parse_id(given)
            for column, given in ((c.group_id, group_id), (c.resource_id, resource_id))
            if given is not None
        ]
        return list_response(await load_page(tables.policies, paging, *wanted), PolicyView.fields_of)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[PolicyView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=PolicyView.of(caller.tagged(await rules.load_policy(tables, id))))


@routes.post("", makes_object=True, may_find_nothing=True)
async def create(caller: ForAccount, body: NewPolicyBody, response: Response) -> Data[PolicyView]:
    async with caller.writing() as (tables, _):
        policy = await rules.make_policy(tables, caller.account, body.policy.given())
    response.headers["location"] = f"/policies/{policy.id}"
    return Data(data=PolicyView.of(caller.tagged(policy)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: PolicyBody) -> Data[PolicyView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_policy(tables, id))
        after = await rules.change_policy(tables, caller.account, before, body.policy.given())
        return Data(data=PolicyView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[PolicyView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        policy = caller.expected(await rules.load_policy(tables, id))
        await tables.policies.delete(policy.id)
        return Data(data=PolicyView.of(policy))
