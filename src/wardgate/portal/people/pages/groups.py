"""The page of groups: who is a member, and what their policies grant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from starlette.responses import Response

from wardgate.portal.access.condition_field import fields_of_policies_for_each
from wardgate.portal.access.condition_words import short_names
from wardgate.portal.access.pages.granted_policies import make_policies, policy_routes
from wardgate.portal.access.resource_types import TYPE_NAMES
from wardgate.portal.access.tables import INTERNET_FIRST, RESOURCES, Policy, Resource
from wardgate.portal.database.text_search import contains
from wardgate.portal.limits import USERS
from wardgate.portal.logs.history import history_tab
from wardgate.portal.outcomes import Missing
from wardgate.portal.people import rules
from wardgate.portal.people.pages.picking import chosen_ids, is_search, pick
from wardgate.portal.people.tables import ACTORS, GROUPS, MEMBERSHIPS, Actor, Group
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Fact, Link, Moment, Several, Tag, Text
from wardgate.portal.web.choices import Lookup, Option
from wardgate.portal.web.filters import MAX_WORDS_CHARS, Choice, Condition, Search
from wardgate.portal.web.forms import Form, SeveralField, TextField
from wardgate.portal.web.listing import (
    Column,
    Editing,
    Empty,
    ListPage,
    Panel,
    PanelAction,
    Pinned,
    Side,
    Tab,
)
from wardgate.portal.web.page import Live, PageRoute, Section
from wardgate.portal.web.panel_form import PanelForm
from wardgate.portal.web.visit import Visit

MEMBERS_A_PAGE: Final = 10
GRANTS_SHOWN: Final = 200
RESOURCES_TAB: Final = "resources"


# What the table shows


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What cells need beside the rows: how many of each, by group."""

    members: Mapping[UUID, int]
    policies: Mapping[UUID | None, int]
    users: int


async def load_facts(_visit: Visit, tables: AccountTables, groups: Sequence[Group]) -> GroupFacts:
    ids = [group.id for group in groups]
    m, p = tables.memberships.c, tables.policies.c
    has_everyone = any(group.type == "managed" for group in groups)
    return GroupFacts(
        await tables.memberships.count_by(m.group_id, m.group_id.in_(ids)),
        await tables.policies.count_by(p.group_id, p.group_id.in_(ids)),
        await tables.actors.count(tables.actors.c.type.in_(USERS)) if has_everyone else 0,
    )


_MEMBERS: Final[ColumnElement[Any]] = (
    select(func.count())
    .select_from(MEMBERSHIPS.table)
    .where(MEMBERSHIPS.c.account_id == GROUPS.c.account_id, MEMBERSHIPS.c.group_id == GROUPS.c.id)
    .correlate(GROUPS.table)
    .scalar_subquery()
)


def _name(group: Group, _facts: GroupFacts) -> Text | Several:
    name = Text(group.name, icon="users")
    if group.type == "managed":
        return Several((name, Tag("system")))
    if group.idp_id is not None:
        return Several((name, Tag("OU" if group.entity_type == "org_unit" else "synced")))
    return name


def _members(group: Group, facts: GroupFacts) -> Text:
    return Text(f"{facts.users if group.type == 'managed' else facts.members.get(group.id, 0):,}")


def _policies(group: Group, facts: GroupFacts) -> Link:
    count = facts.policies.get(group.id, 0)
    return Link(f"{count:,} {'resource' if count == 1 else 'resources'}", f"/policies?group_id={group.id}")


# What the panel shows


def _is_editable(_visit: Visit, group: Group) -> bool:
    return group.type == "static" and group.idp_id is None


@dataclass(frozen=True, slots=True)
class MembersView:
    """One page of the members; `why_fixed` tells why nobody edits them here, "" if one may."""

    members: Sequence[Actor]
    words: str
    page: int
    has_next: bool
    why_fixed: str

    @property
    def is_editable(self) -> bool:
        return not self.why_fixed


async def load_members(visit: Visit, tables: AccountTables, group: Group) -> MembersView:
    given = visit.request.query_params
    words = given.get("member", "").strip()[:MAX_WORDS_CHARS].replace("\x00", "")
    text = given.get("members", "1")
    page = int(text) if text.isascii() and text.isdecimal() and 0 < len(text) < 6 else 1
    members = await tables.actors.load_all(
        *_is_member(tables, group),
        *([_called(words)] if words else []),
        order_by=[func.lower(ACTORS.c.name), ACTORS.c.id],
        limit=MEMBERS_A_PAGE + 1,
        offset=(max(page, 1) - 1) * MEMBERS_A_PAGE,
    )
    why = ""
    if group.type == "managed":
        why = "Every user of the account is a member, now and in future; service accounts are not."
    elif group.idp_id is not None:
        why = "The identity provider decides who is a member."
    has_next = len(members) > MEMBERS_A_PAGE
    return MembersView(members[:MEMBERS_A_PAGE], words, max(page, 1), has_next, why)


def _is_member(tables: AccountTables, group: Group) -> list[ColumnElement[bool]]:
    if group.type == "managed":
        return [ACTORS.c.type.in_(USERS)]
    return [ACTORS.c.id.in_(_member_ids(tables, group))]


def _member_ids(tables: AccountTables, group: Group) -> Any:
    c = MEMBERSHIPS.c
    return select(c.actor_id).where(c.account_id == tables.account_id, c.group_id == group.id)


def _called(words: str) -> ColumnElement[bool]:
    columns = (ACTORS.c.name, ACTORS.c.email)
    return or_(*(contains(column, words) for column in columns))


async def count_members(_visit: Visit, tables: AccountTables, group: Group) -> int:
    if group.type == "managed":
        return await tables.actors.count(*_is_member(tables, group))
    return await tables.memberships.count(tables.memberships.c.group_id == group.id)


@dataclass(frozen=True, slots=True)
class GrantView:
    """A policy of the group with its resource."""

    policy: Policy
    resource: Resource

    @property
    def type(self) -> str:
        return TYPE_NAMES[self.resource.type]

    @property
    def conditions(self) -> str:
        return ", ".join(short_names(self.policy.conditions))


async def load_grants(_visit: Visit, tables: AccountTables, group: Group) -> Sequence[GrantView]:
    p, r = tables.policies.c, tables.resources.c
    policies = await tables.policies.load_all(p.group_id == group.id, limit=GRANTS_SHOWN)
    rows = await tables.resources.load_all(r.id.in_([one.resource_id for one in policies]))
    resources = {one.id: one for one in rows}
    grants = [GrantView(one, resources[one.resource_id]) for one in policies if one.resource_id in resources]
    return sorted(grants, key=lambda one: (one.resource.name.casefold(), str(one.policy.id)))


async def count_grants(_visit: Visit, tables: AccountTables, group: Group) -> int:
    return await tables.policies.count(tables.policies.c.group_id == group.id)


async def facts_of(_visit: Visit, _tables: AccountTables, group: Group) -> Sequence[Fact]:
    origin = "made here"
    if group.type == "managed":
        origin = "part of every account"
    elif group.idp_id is not None:
        origin = "an organisational unit of the" if group.entity_type == "org_unit" else "the"
        origin += " identity provider"
    facts = [Fact("Origin", Text(origin))]
    if group.idp_id is not None:
        facts.append(Fact("ID at the provider", Text(group.idp_id, is_code=True)))
    facts += [
        Fact("Created", Moment(group.inserted_at)),
        Fact("Changed", Moment(group.updated_at)),
        Fact("ID", Text(str(group.id), is_code=True)),
    ]
    return facts


# What can be done


async def _make(_visit: Visit, tables: AccountTables, _: Transaction, given: Mapping[str, Any]) -> Group:
    return await rules.make_group(tables, given)


async def _change(
    _visit: Visit, tables: AccountTables, _: Transaction, before: Group, given: Mapping[str, Any]
) -> Group:
    await rules.load_group_with_editable_members(tables, before.id)
    return await rules.change_group(tables, before, given)


async def _delete(_visit: Visit, tables: AccountTables, _: Transaction, group: Group) -> str:
    await rules.load_group(tables, group.id)
    await tables.groups.delete(group.id)
    return f"Group “{group.name}” was deleted."


_FORM: Final = Form(
    (
        TextField(
            name="name",
            label="Group name",
            help="Who these people are, such as a team or a role. Members are added next.",
            placeholder="Engineering",
            is_required=True,
        ),
    )
)


# Members


async def choose_members(visit: Visit) -> Response:
    """Answer with the form in which members are chosen."""
    return await _show_choosing(visit)


async def add_members(visit: Visit) -> Response:
    ids = chosen_ids(visit)
    if is_search(visit):
        return await _show_choosing(visit)
    if not ids:
        return await _show_choosing(visit, error="Tick whom to add.")
    async with visit.writing() as (tables, _):
        group = await rules.load_group_with_editable_members(tables, visit.id())
        await rules.check_can_be_members(tables, ids)
        current = await rules.members_of(tables, group)
        await rules.set_members(tables, group, current, {*current, *ids})
    added = len(set(ids) - current.keys())
    told = f"{added} {'member was' if added == 1 else 'members were'} added to “{group.name}”."
    return _back(visit, told, tab="members")


async def remove_member(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        group = await rules.load_group_with_editable_members(tables, visit.id())
        actor = await rules.load_actor(tables, visit.id("actor_id"))
        current = await rules.members_of(tables, group)
        await rules.set_members(tables, group, current, current.keys() - {actor.id})
    return _back(visit, f"{actor.name} is no member of “{group.name}” any more.", tab="members")


async def _show_choosing(visit: Visit, *, error: str = "") -> Response:
    async with visit.reading() as tables:
        try:
            group = await rules.load_group_with_editable_members(tables, visit.id())
        except Missing:
            return PAGE.gone(visit)
        picking = await pick(
            visit, find=partial(_find_others, tables, group), name=partial(_named, tables), error=error
        )
    values = {
        "row": group,
        "picking": picking,
        "action": f"{PAGE.path}/{group.id}/members",
        "back_to": "members",
        "noun": "people and service accounts",
        "about": "Tick whom to add; what you have ticked stays while you search for more.",
        "placeholder": "Name or e-mail",
        "button": "Add members",
    }
    side = Side(f"Add members to {group.name}", "people/pick.html", values)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK
    return await PAGE.show(visit, side, status=status)


async def _find_others(
    tables: AccountTables, group: Group, words: str, without: Sequence[UUID], limit: int
) -> Sequence[Option]:
    found = await tables.actors.load_all(
        ACTORS.c.type.in_(rules.MEMBER_TYPES),
        ACTORS.c.id.not_in(_member_ids(tables, group)),
        ACTORS.c.id.not_in(without),
        *([_called(words)] if words else []),
        order_by=[func.lower(ACTORS.c.name), ACTORS.c.id],
        limit=limit,
    )
    return [_option(one) for one in found]


async def _named(tables: AccountTables, ids: Sequence[UUID]) -> Sequence[Option]:
    is_one = ACTORS.c.id.in_(ids), ACTORS.c.type.in_(rules.MEMBER_TYPES)
    return [_option(one) for one in await tables.actors.load_all(*is_one, order_by=[ACTORS.c.name])]


def _option(actor: Actor) -> Option:
    return Option(str(actor.id), actor.name, actor.email or "service account")


# Access


def _without_policy(visit: Visit, tables: AccountTables) -> Sequence[Condition]:
    """Narrow resources to those on which the group has no policy yet."""
    granted = select(tables.policies.c.resource_id).where(
        tables.policies.c.account_id == tables.account_id, tables.policies.c.group_id == visit.id()
    )
    return (tables.resources.c.id.not_in(granted),)


async def _resources_as_options(
    _visit: Visit, _tables: AccountTables, rows: Sequence[Resource]
) -> Sequence[Option]:
    return [
        Option(str(one.id), one.name, f"{TYPE_NAMES[one.type]} {one.address or ''}".strip()) for one in rows
    ]


_RESOURCES_TO_GRANT: Final = Lookup[Resource](
    repository=lambda tables: tables.resources,
    search=Search(label="Resource", columns=(RESOURCES.c.name, RESOURCES.c.address)),
    describe=_resources_as_options,
    order_by=(INTERNET_FIRST, RESOURCES.c.name, RESOURCES.c.id),
    only=_without_policy,
)
_GRANT: Final = Form(
    (
        SeveralField(name="resource_ids", label="Resources", choices=_RESOURCES_TO_GRANT, is_required=True),
        *fields_of_policies_for_each("resources"),
    )
)


async def _grant(
    visit: Visit, tables: AccountTables, _: Transaction, group: Group, given: Mapping[str, Any]
) -> int:
    values = dict(given)
    ends = [{"group_id": str(group.id), "resource_id": id_} for id_ in values.pop("resource_ids")]
    await make_policies(visit, tables, values, ends)
    return len(ends)


async def _granted(visit: Visit, group: Group, count: int) -> Response:
    told = f"{count} {'resource was' if count == 1 else 'resources were'} granted to “{group.name}”."
    return visit.go(f"{PAGE.path}/{group.id}", toast=told, tab=RESOURCES_TAB)


_GRANTING: Final = PanelForm[Group, int](
    name="grant",
    tab=RESOURCES_TAB,
    title=lambda group: f"Grant access to {group.name}",
    about="Each resource gets a policy of its own.",
    button="Grant access",
    form=lambda _visit: _GRANT,
    run=_grant,
    answer=_granted,
)


def _back(visit: Visit, toast: str, *, tab: str) -> Response:
    return visit.go(f"{PAGE.path}/{visit.id()}", toast=toast, tab=tab)


PAGE: Final[ListPage[Group, GroupFacts]] = ListPage(
    name="Groups",
    singular="group",
    path="/groups",
    icon="users",
    section=Section.ACCESS,
    about="Sets of people and service accounts. Policies grant resources to groups, never to one person.",
    live=Live(tables=frozenset({"groups", "memberships", "policies", "resources", "actors"})),
    repository=lambda tables: tables.groups,
    load_facts=load_facts,
    pinned=Pinned(GROUPS.c.type == "managed", GROUPS.c.type == "static"),
    columns=(
        Column(name="name", label="Group", cell=_name, sort=GROUPS.c.name),
        Column(name="members", label="Members", cell=_members, sort=_MEMBERS),
        Column(name="resources", label="Access", cell=_policies),
        Column(
            name="created",
            label="Created",
            cell=lambda group, _: Moment(group.inserted_at),
            sort=GROUPS.c.inserted_at,
            is_secondary=True,
        ),
    ),
    filters=(
        Search(label="Name", columns=(GROUPS.c.name,)),
        Choice(
            name="origin",
            label="Origin",
            options={"here": "Made here", "synced": "Identity provider"},
            condition_of=lambda _visit, value: (
                GROUPS.c.idp_id.is_(None) if value == "here" else GROUPS.c.idp_id.is_not(None)
            ),
        ),
    ),
    empty=Empty("No groups yet", "Create a group, add its members, then grant it resources."),
    panel=Panel(
        facts=facts_of,
        tabs=(
            Tab(
                name="members",
                label="Members",
                template="people/members.html",
                load=load_members,
                count=count_members,
            ),
            Tab(
                name=RESOURCES_TAB,
                label="Resources",
                template="people/granted.html",
                load=load_grants,
                count=count_grants,
            ),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="delete",
                label="Delete group",
                run=_delete,
                warning="Its policies stay without a group and grant nothing: members lose at once what only this"
                " group granted them.",
                is_dangerous=True,
                typed=lambda group: group.name,
                leaves=True,
                is_offered=lambda _visit, group: group.type != "managed",
            ),
        ),
    ),
    editing=Editing(form=lambda _group: _FORM, make=_make, change=_change, is_editable=_is_editable),
    more=(
        PageRoute("/{id}/members", choose_members),
        PageRoute("/{id}/members", add_members, "POST"),
        PageRoute("/{id}/members/{actor_id}/remove", remove_member, "POST"),
        *_GRANTING.routes,
        *policy_routes("group_id", RESOURCES_TAB),
    ),
)
