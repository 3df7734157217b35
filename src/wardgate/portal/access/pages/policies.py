"""The page of policies: which group may use which resource, and under which conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, select

from wardgate.portal.access import rules
from wardgate.portal.access.authorization_tab import authorizations_tab
from wardgate.portal.access.condition_field import ConditionsField
from wardgate.portal.access.condition_words import sentence, short_names
from wardgate.portal.access.resource_types import TYPE_NAMES
from wardgate.portal.access.tables import (
    INTERNET_FIRST,
    POLICIES,
    POLICY_AUTHORIZATIONS,
    RESOURCES,
    Policy,
    Resource,
)
from wardgate.portal.limits import USERS
from wardgate.portal.logs.history import history_tab
from wardgate.portal.people.tables import GROUPS, Group
from wardgate.portal.sign_in.provider_names import provider_names
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Cell, Fact, Link, Moment, Several, Status, Tag, Text
from wardgate.portal.web.choices import Lookup, Option
from wardgate.portal.web.filters import Choice, Of, Related, Search
from wardgate.portal.web.forms import ChoiceField, Field, Form, Input, TextField, ToggleField
from wardgate.portal.web.listing import Column, Editing, Empty, ListPage, Panel, PanelAction, Tab
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.visit import Visit

NO_GROUP: Final = "Group deleted"


# What the table shows


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What policies lead from and to."""

    groups: Mapping[UUID, Group]
    resources: Mapping[UUID, Resource]

    def group_name(self, policy: Policy) -> str:
        group = None if policy.group_id is None else self.groups.get(policy.group_id)
        return NO_GROUP if group is None else group.name

    def resource_name(self, policy: Policy) -> str:
        resource = self.resources.get(policy.resource_id)
        return "Resource deleted" if resource is None else resource.name

    def label(self, policy: Policy) -> str:
        return f"{self.group_name(policy)} → {self.resource_name(policy)}"


async def load_facts(_visit: Visit, tables: AccountTables, policies: Sequence[Policy]) -> PolicyFacts:
    return await _facts(tables, policies)


async def _facts(tables: AccountTables, policies: Sequence[Policy]) -> PolicyFacts:
    group_ids = {policy.group_id for policy in policies if policy.group_id is not None}
    groups = await tables.groups.load_all(GROUPS.c.id.in_(group_ids))
    resources = await tables.resources.load_all(
        RESOURCES.c.id.in_({policy.resource_id for policy in policies})
    )
    return PolicyFacts({one.id: one for one in groups}, {one.id: one for one in resources})


def _of_group(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return (
        select(column).where(GROUPS.c.id == POLICIES.c.group_id).correlate(POLICIES.table).scalar_subquery()
    )


def _of_resource(column: ColumnElement[Any]) -> ColumnElement[Any]:
    is_its = RESOURCES.c.id == POLICIES.c.resource_id
    return select(column).where(is_its).correlate(POLICIES.table).scalar_subquery()


_GROUP_NAME: Final = _of_group(GROUPS.c.name)
_RESOURCE_NAME: Final = _of_resource(RESOURCES.c.name)


def _name(policy: Policy, facts: PolicyFacts) -> Text:
    return Text(facts.label(policy), note=policy.description or "")


def _group(policy: Policy, facts: PolicyFacts) -> Cell:
    if policy.group_id is None:
        return Text(NO_GROUP)
    return Link(facts.group_name(policy), f"/groups/{policy.group_id}")


def _resource(policy: Policy, facts: PolicyFacts) -> Cell:
    resource = facts.resources.get(policy.resource_id)
    link = Link(facts.resource_name(policy), f"/resources/{policy.resource_id}")
    return link if resource is None else Several((Tag(TYPE_NAMES[resource.type]), link))


def _conditions(policy: Policy, _facts: PolicyFacts) -> Cell:
    names = short_names(policy.conditions)
    return Several([Tag(name) for name in names]) if names else Text("–")


def _status(policy: Policy) -> Status:
    if policy.is_disabled:
        return Status("Disabled", "caution")
    return Status("Without group", "bad") if policy.group_id is None else Status("Active", "good")


# What the panel shows


@dataclass(frozen=True, slots=True)
class Overview:
    """Whom a policy lets to what, and when."""

    group: Group | None
    resource: Resource | None
    members: str
    sentences: Sequence[str]


async def load_overview(_visit: Visit, tables: AccountTables, policy: Policy) -> Overview:
    facts = await _facts(tables, [policy])
    group = None if policy.group_id is None else facts.groups.get(policy.group_id)
    providers = await provider_names(tables) if policy.conditions else {}
    return Overview(
        group,
        facts.resources.get(policy.resource_id),
        "" if group is None else await _members(tables, group),
        [sentence(one, providers) for one in policy.conditions],
    )


async def _members(tables: AccountTables, group: Group) -> str:
    if group.type == "managed":
        count = await tables.actors.count(tables.actors.c.type.in_(USERS))
    else:
        count = await tables.memberships.count(tables.memberships.c.group_id == group.id)
    return f"{count:,} {'member' if count == 1 else 'members'}"


async def facts_of(_visit: Visit, _tables: AccountTables, policy: Policy) -> Sequence[Fact]:
    facts = [] if policy.description is None else [Fact("Description", Text(policy.description))]
    return (
        *facts,
        Fact("Flow log reporting", Text("on" if policy.flow_log_uploads_enabled else "off")),
        Fact("Created", Moment(policy.inserted_at)),
        Fact("Changed", Moment(policy.updated_at)),
        Fact("ID", Text(str(policy.id), is_code=True)),
    )


async def status_of(_visit: Visit, _tables: AccountTables, policy: Policy) -> Status:
    return _status(policy)


# The form


async def _groups_as_options(
    _visit: Visit, _tables: AccountTables, groups: Sequence[Group]
) -> Sequence[Option]:
    return [Option(str(one.id), one.name, group=_origin(one)) for one in groups]


def _origin(group: Group) -> str:
    if group.type == "managed":
        return "All users"
    return "Made here" if group.idp_id is None else "Identity provider"


async def _resources_as_options(
    _visit: Visit, tables: AccountTables, resources: Sequence[Resource]
) -> Sequence[Option]:
    c = tables.sites.c
    sites = await tables.sites.load_all(
        c.id.in_({one.site_id for one in resources if one.site_id is not None})
    )
    names = {site.id: site.name for site in sites}
    return [Option(str(one.id), one.name, _where(one, names), TYPE_NAMES[one.type]) for one in resources]


def _where(resource: Resource, sites: Mapping[UUID, str]) -> str:
    site = "" if resource.site_id is None else sites.get(resource.site_id, "")
    return " · ".join(part for part in (resource.address or "", site) if part)


@dataclass(frozen=True, kw_only=True)
class _ReportingField(ChoiceField):
    """Whether flows are reported; "" for what suits the resource."""

    def read(self, input_: Input) -> Any:
        return {"on": True, "off": False}.get(input_[0] if input_ else "")


_GROUPS: Final = Lookup[Group](
    repository=lambda tables: tables.groups,
    search=Search(label="Group", columns=(GROUPS.c.name,)),
    describe=_groups_as_options,
    order_by=(GROUPS.c.type, GROUPS.c.name, GROUPS.c.id),
)
_RESOURCES: Final = Lookup[Resource](
    repository=lambda tables: tables.resources,
    search=Search(label="Resource", columns=(RESOURCES.c.name, RESOURCES.c.address)),
    describe=_resources_as_options,
    order_by=(INTERNET_FIRST, RESOURCES.c.name, RESOURCES.c.id),
)
_SEARCHED: Final = "access/searched_choice.html"
_COMMON: Final[tuple[Field, ...]] = (
    ChoiceField(name="group_id", label="Group", choices=_GROUPS, is_required=True, template=_SEARCHED),
    ChoiceField(
        name="resource_id", label="Resource", choices=_RESOURCES, is_required=True, template=_SEARCHED
    ),
    TextField(
        name="description",
        label="Description",
        longest=1024,
        is_long=True,
        placeholder="Why this group needs the resource",
    ),
    ConditionsField(
        name="conditions",
        label="Conditions",
        help="All that are switched on must hold. Without any, access is always granted to members of the group.",
        initial=(),
    ),
)
_NEW_FORM: Final = Form(
    (
        *_COMMON,
        _ReportingField(
            name="flow_log_uploads_enabled",
            label="Flow log reporting",
            help="Clients and gateways report the connections that they carry. Of the Internet resource these are"
            " very many.",
            empty="On, but for the Internet resource",
            choices=(Option("on", "On"), Option("off", "Off")),
        ),
    )
)
_FORM: Final = Form(
    (
        *_COMMON,
        ToggleField(
            name="flow_log_uploads_enabled",
            label="Flow log reporting",
            help="A change ends the connections of this policy, which are made again within seconds.",
        ),
    )
)
_CONDITIONS: Final = ConditionsField(name="conditions", label="Conditions")


async def _make(visit: Visit, tables: AccountTables, _: Transaction, given: Mapping[str, Any]) -> Policy:
    is_left = given["flow_log_uploads_enabled"] is None
    values = {
        name: value for name, value in given.items() if not (is_left and name == "flow_log_uploads_enabled")
    }
    return await rules.make_policy(tables, visit.account, values)


async def _change(
    visit: Visit, tables: AccountTables, _: Transaction, before: Policy, given: Mapping[str, Any]
) -> Policy:
    values = dict(given)
    # The card may write a condition in other words; that alone is no change, which would end connections.
    if _CONDITIONS.submitted(visit.form) == _CONDITIONS.input(before.conditions):
        del values["conditions"]
    return await rules.change_policy(tables, visit.account, before, values)


async def _disable(visit: Visit, tables: AccountTables, _: Transaction, policy: Policy) -> str:
    await rules.change_policy(tables, visit.account, policy, {"is_disabled": True})
    return "The policy was disabled; all access that it granted has ended."


async def _enable(visit: Visit, tables: AccountTables, _: Transaction, policy: Policy) -> str:
    await rules.change_policy(tables, visit.account, policy, {"is_disabled": False})
    return "The policy was enabled."


async def _delete(_visit: Visit, tables: AccountTables, _: Transaction, policy: Policy) -> str:
    await tables.policies.delete(policy.id)
    return "The policy was deleted; all access that it granted has ended."


async def _group_name(tables: AccountTables, id_: UUID) -> str | None:
    group = await tables.groups.load(id_)
    return None if group is None else group.name


async def _resource_name(tables: AccountTables, id_: UUID) -> str | None:
    resource = await tables.resources.load(id_)
    return None if resource is None else resource.name


async def _site_name(tables: AccountTables, id_: UUID) -> str | None:
    site = await tables.sites.load(id_)
    return None if site is None else site.name


class PolicyPage(ListPage[Policy, PolicyFacts]):
    """The page of policies, which are called after what they join."""

    async def labels(self, tables: AccountTables, rows: Sequence[Policy]) -> list[str]:
        facts = await _facts(tables, rows)
        return [facts.label(row) for row in rows]


PAGE: Final = PolicyPage(
    name="Policies",
    singular="policy",
    path="/policies",
    icon="shield-check",
    section=Section.ACCESS,
    about="Which group may use which resource, and under which conditions. What no policy grants is denied.",
    live=Live(tables=frozenset({"policies", "groups", "resources", "memberships", "policy_authorizations"})),
    repository=lambda tables: tables.policies,
    load_facts=load_facts,
    columns=(
        Column(name="name", label="Policy", cell=_name, sort=_GROUP_NAME),
        Column(name="resource", label="Resource", cell=_resource, sort=_RESOURCE_NAME, is_secondary=True),
        Column(name="group", label="Group", cell=_group, is_secondary=True),
        Column(name="conditions", label="Conditions", cell=_conditions),
        Column(name="status", label="Status", cell=lambda policy, _: _status(policy)),
    ),
    filters=(
        Search(
            label="Group or resource",
            columns=(POLICIES.c.description,),
            related=(
                Related(POLICIES.c.group_id, GROUPS, (GROUPS.c.name,)),
                Related(POLICIES.c.resource_id, RESOURCES, (RESOURCES.c.name,)),
            ),
        ),
        Choice(
            name="status",
            label="Status",
            options={"active": "Active", "disabled": "Disabled"},
            condition_of=lambda _visit, value: POLICIES.c.is_disabled.is_(value == "disabled"),
        ),
        Of(name="group_id", label="Policies of the group", column=POLICIES.c.group_id, name_of=_group_name),
        Of(
            name="resource_id",
            label="Policies of the resource",
            column=POLICIES.c.resource_id,
            name_of=_resource_name,
        ),
        Of(
            name="site_id",
            label="Policies of the site",
            column=_of_resource(RESOURCES.c.site_id),
            name_of=_site_name,
        ),
    ),
    empty=Empty(
        "No policies yet",
        "A policy lets a group use a resource. Until there is one, nobody reaches anything.",
    ),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        tabs=(
            Tab(name="overview", label="Overview", template="access/policy.html", load=load_overview),
            authorizations_tab(lambda policy: POLICY_AUTHORIZATIONS.c.policy_id == policy.id),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="disable",
                label="Disable",
                run=_disable,
                undone_by="enable",
                warning="All access that it grants ends at once, until it is enabled again.",
                is_offered=lambda _visit, policy: not policy.is_disabled,
            ),
            PanelAction(
                name="enable",
                label="Enable",
                run=_enable,
                undone_by="disable",
                warning="The members of its group have access again.",
                is_offered=lambda _visit, policy: policy.is_disabled,
            ),
            PanelAction(
                name="delete",
                label="Delete policy",
                run=_delete,
                warning="All access that it granted ends at once, for good.",
                is_dangerous=True,
                leaves=True,
            ),
        ),
    ),
    editing=Editing(form=lambda policy: _NEW_FORM if policy is None else _FORM, make=_make, change=_change),
)
