"""The tab of a resource's panel that says which groups have access, and the form that gives it to more of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from starlette.responses import Response

from wardgate.portal.access.condition_field import fields_of_policies_for_each
from wardgate.portal.access.pages.granted_policies import make_policies, policy_routes
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.people.tables import GROUPS, Group
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.choices import Lookup, Option
from wardgate.portal.web.filters import Condition, Search
from wardgate.portal.web.forms import Form, SeveralField
from wardgate.portal.web.listing import Tab
from wardgate.portal.web.panel_form import PanelForm
from wardgate.portal.web.visit import Visit

GROUPS_SHOWN: Final = 1000
"""How many groups a tab lists."""


@dataclass(frozen=True, slots=True)
class AccessView:
    """Who has access, by which policy."""

    granted: Sequence[tuple[Policy, Group | None]]


async def load_access(_visit: Visit, tables: AccountTables, row: Resource) -> AccessView:
    policies = await tables.policies.load_all(tables.policies.c.resource_id == row.id, limit=GROUPS_SHOWN)
    ids = {policy.group_id for policy in policies if policy.group_id is not None}
    groups = {one.id: one for one in await tables.groups.load_all(tables.groups.c.id.in_(ids))}
    return AccessView([(policy, _group(groups, policy)) for policy in policies])


def _group(groups: Mapping[UUID, Group], policy: Policy) -> Group | None:
    return None if policy.group_id is None else groups.get(policy.group_id)


async def count_access(_visit: Visit, tables: AccountTables, row: Resource) -> int:
    return await tables.policies.count(tables.policies.c.resource_id == row.id)


ACCESS: Final[Tab[Resource]] = Tab(
    name="access",
    label="Groups",
    template="access/granted.html",
    load=load_access,
    count=count_access,
)


def _without_policy(visit: Visit, tables: AccountTables) -> Sequence[Condition]:
    """Narrow groups to those that have no policy on the resource yet."""
    p = tables.policies.c
    having = select(p.group_id).where(
        p.account_id == tables.account_id, p.resource_id == visit.id(), p.group_id.is_not(None)
    )
    return (GROUPS.c.id.not_in(having),)


async def _as_options(_visit: Visit, _tables: AccountTables, groups: Sequence[Group]) -> Sequence[Option]:
    return [Option(str(one.id), one.name) for one in groups]


_GROUPS_TO_GRANT: Final = Lookup[Group](
    repository=lambda tables: tables.groups,
    search=Search(label="Group", columns=(GROUPS.c.name,)),
    describe=_as_options,
    order_by=(GROUPS.c.name, GROUPS.c.id),
    only=_without_policy,
)
_FORM: Final = Form(
    (
        SeveralField(name="group_ids", label="Groups", choices=_GROUPS_TO_GRANT, is_required=True),
        *fields_of_policies_for_each("groups"),
    )
)


async def _grant(
    visit: Visit, tables: AccountTables, _: Transaction, row: Resource, given: Mapping[str, Any]
) -> None:
    values = dict(given)
    ends = [{"group_id": id_, "resource_id": str(row.id)} for id_ in values.pop("group_ids")]
    await make_policies(visit, tables, values, ends)


async def _granted(visit: Visit, row: Resource, _: None) -> Response:
    told = f"Access to “{row.name}” was granted."
    return visit.go(f"{visit.page.path}/{row.id}", toast=told, tab=ACCESS.name)


GRANT: Final = PanelForm[Resource, None](
    name="grant",
    tab=ACCESS.name,
    title=lambda row: f"Grant access to {row.name}",
    about="Each group gets a policy of its own.",
    button="Grant access",
    form=lambda _visit: _FORM,
    run=_grant,
    answer=_granted,
)

ACCESS_ROUTES: Final = (*GRANT.routes, *policy_routes("resource_id", ACCESS.name))
