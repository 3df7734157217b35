"""The page of resources: what is protected, where it is, and who has access."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import ColumnElement, select, true
from starlette.datastructures import FormData
from starlette.responses import Response

from wardgate.portal.access import rules
from wardgate.portal.access.addresses import PROTOCOLS
from wardgate.portal.access.authorization_tab import authorizations_tab
from wardgate.portal.access.pages.access_tab import ACCESS, ACCESS_ROUTES
from wardgate.portal.access.resource_types import TYPE_NAMES
from wardgate.portal.access.tables import (
    BY_ADDRESS,
    INTERNET_FIRST,
    POLICY_AUTHORIZATIONS,
    RESOURCES,
    Resource,
)
from wardgate.portal.devices import rules as device_rules
from wardgate.portal.devices.search import CLIENT_SEARCH
from wardgate.portal.devices.tables import DEVICES, Device
from wardgate.portal.logs.history import history_tab
from wardgate.portal.outcomes import Invalid
from wardgate.portal.sites.tables import SITES, Site
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Cell, Fact, Link, Status, Tag, Text
from wardgate.portal.web.choices import Lookup, Option
from wardgate.portal.web.filters import Choice, Condition, Of, Search
from wardgate.portal.web.forms import ChoiceField, Field, Form, Input, SeveralField, TextField
from wardgate.portal.web.listing import (
    Column,
    Editing,
    Empty,
    ListPage,
    Panel,
    PanelAction,
    Pinned,
    Tab,
)
from wardgate.portal.web.page import Live, PageRoute, Section
from wardgate.portal.web.panel_form import PanelForm
from wardgate.portal.web.visit import Visit

STACKS: Final = {"dual": "IPv4 and IPv6", "ipv4_only": "IPv4 only", "ipv6_only": "IPv6 only"}


# What the table shows


@dataclass(frozen=True, slots=True)
class ResourceFacts:
    """What cells need beside the rows; members are those of pools, online ones apart."""

    sites: Mapping[UUID, Site]
    policies: Counter[UUID]
    sites_online: frozenset[UUID | None]
    members: Counter[UUID]
    members_online: Counter[UUID]


async def load_facts(visit: Visit, tables: AccountTables, rows: Sequence[Resource]) -> ResourceFacts:
    ids = [row.id for row in rows]
    sites = tables.sites
    found = await sites.load_all(sites.c.id.in_({row.site_id for row in rows if row.site_id is not None}))
    p = tables.policies.c
    policies = Counter(await tables.policies.load_column(p.resource_id, p.resource_id.in_(ids)))
    pools = [row.id for row in rows if row.type == "static_device_pool"]
    members, online = await _members(visit, tables, pools)
    gateways = visit.services.environment.bus.members("gateway", visit.account.id)
    return ResourceFacts(
        {site.id: site for site in found},
        policies,
        frozenset(gateway.site_id for gateway in gateways),
        members,
        online,
    )


async def _members(
    visit: Visit, tables: AccountTables, pools: Sequence[UUID]
) -> tuple[Counter[UUID], Counter[UUID]]:
    if not pools:
        return Counter(), Counter()
    m, clients = tables.pool_members.c, visit.online("client")
    rows = await tables.pool_members.load_all(m.resource_id.in_(pools))
    return (
        Counter(row.resource_id for row in rows),
        Counter(row.resource_id for row in rows if row.device_id in clients),
    )


def status_of(row: Resource, facts: ResourceFacts) -> Status:
    if row.type == "static_device_pool":
        count = facts.members[row.id]
        if not count:
            return Status("No devices", "caution")
        online = facts.members_online[row.id]
        return Status(f"{online} of {count} online", "good" if online else "neutral")
    if row.type == "dynamic_device_pool":
        return Status("By name", "neutral")
    return Status("Online", "good") if row.site_id in facts.sites_online else Status("Offline", "neutral")


def _address(row: Resource, _facts: ResourceFacts) -> Cell:
    match row.type:
        case "internet":
            return Text("0.0.0.0/0, ::/0", is_code=True)
        case "static_device_pool":
            return Text("The members' addresses")
        case _:
            return Text(row.address or "–", is_code=True)


def _policies(row: Resource, facts: ResourceFacts) -> Cell:
    count = facts.policies[row.id]
    return Link(f"{count} {'policy' if count == 1 else 'policies'}", f"/policies?resource_id={row.id}")


def _site(row: Resource, facts: ResourceFacts) -> Cell:
    if row.type in rules.POOL_TYPES:
        return Text("No site needed")
    site = None if row.site_id is None else facts.sites.get(row.site_id)
    return Text("No site") if site is None else Link(site.name, f"/sites/{site.id}")


# The form


@dataclass(frozen=True, kw_only=True)
class TrafficField(Field):
    """Which protocols and ports get through; nothing ticked lets everything through. A protocol is written
    `tcp:80, 443`.
    """

    kind: ClassVar[str] = "traffic"
    template: str | None = "access/traffic_field.html"

    def read(self, input_: Input) -> Any:
        return [_filter(text) for text in input_]

    def input(self, value: Any) -> Input:
        ports: dict[str, list[str]] = {}
        for one in value or ():
            ports.setdefault(one["protocol"], []).extend(one["ports"])
        return tuple(f"{protocol}:{', '.join(texts)}" for protocol, texts in ports.items())

    def submitted(self, form: FormData) -> Input:
        ticked = [one for one in PROTOCOLS if one in form.getlist(self.name)]
        return tuple(f"{one}:{str(form.get(f'{self.name}.{one}', '')).strip()}" for one in ticked)


def _filter(text: str) -> dict[str, Any]:
    protocol, _, ports = text.partition(":")
    return {"protocol": protocol, "ports": [one.strip() for one in ports.split(",") if one.strip()]}


async def _sites_as_options(_visit: Visit, _tables: AccountTables, sites: Sequence[Site]) -> Sequence[Option]:
    return [Option(str(site.id), site.name) for site in sites]


async def _clients_as_options(
    visit: Visit, _tables: AccountTables, clients: Sequence[Device]
) -> Sequence[Option]:
    online = visit.online("client")
    return [
        Option(str(one.id), one.name, one.ipv4 + (", online" if one.id in online else "")) for one in clients
    ]


def _outside_of_the_pool(visit: Visit, tables: AccountTables) -> Sequence[Condition]:
    """Narrow devices to clients that are not in the pool of this panel yet."""
    m = tables.pool_members.c
    joined = select(m.device_id).where(m.account_id == tables.account_id, m.resource_id == visit.id())
    return (DEVICES.c.type == "client", DEVICES.c.id.not_in(joined))


_CLIENTS: Final = Lookup[Device](
    repository=lambda tables: tables.devices,
    search=CLIENT_SEARCH,
    describe=_clients_as_options,
    order_by=(DEVICES.c.name, DEVICES.c.id),
    only=lambda _visit, _tables: (DEVICES.c.type == "client",),
)
_SITES: Final = Lookup[Site](
    repository=lambda tables: tables.sites,
    search=Search(label="Site", columns=(SITES.c.name,)),
    describe=_sites_as_options,
    order_by=(SITES.c.name, SITES.c.id),
    only=lambda _visit, _tables: (SITES.c.managed_by == "account",),
)
_NAME: Final = TextField(name="name", label="Name", is_required=True, placeholder="Company wiki")
_DESCRIPTION: Final = TextField(
    name="address_description",
    label="Shown to people",
    help="A text or an address for people to open, which their clients show.",
    placeholder="https://wiki.example.com",
)
_TRAFFIC: Final = TrafficField(
    name="filters", label="Traffic", help="Nothing ticked: everything is let through.", initial=()
)
_SITE_TYPES: Final = ("dns", "ip", "cidr")


def _address_field(*types: str) -> TextField:
    return TextField(
        name="address",
        label="Address",
        help="A name such as gitlab.example.com, with * for any label and ** for any labels; an IP address; "
        "or a range such as 10.0.0.0/24.",
        placeholder="gitlab.example.com",
        longest=4096,
        is_code=True,
        shown_if=("type", types) if types else None,
    )


def _type_field(types: Sequence[str]) -> ChoiceField:
    notes = {
        "dns": "By name",
        "ip": "One address",
        "cidr": "A range",
        "static_device_pool": "Clients that you list",
        "dynamic_device_pool": "Clients by host name",
    }
    return ChoiceField(
        name="type",
        label="Type",
        is_cards=True,
        is_required=True,
        initial="dns",
        choices=[Option(one, TYPE_NAMES[one], notes[one]) for one in types],
    )


_STACK: Final = ChoiceField(
    name="ip_stack",
    label="IP versions",
    help="IPv4 only helps where a server's IPv6 does not work.",
    choices=[Option(value, label) for value, label in STACKS.items()],
    is_required=True,
    initial="dual",
    shown_if=("type", ("dns",)),
)
_SITE: Final = ChoiceField(
    name="site_id",
    label="Site",
    choices=_SITES,
    is_required=True,
    shown_if=("type", _SITE_TYPES),
    template="access/searched_choice.html",
)

_POOL_MEMBERS: Final = SeveralField(
    name="members", label="Clients", choices=_CLIENTS, shown_if=("type", ("static_device_pool",))
)

_NEW_FORM: Final = Form(
    (
        _type_field((*_SITE_TYPES, *rules.POOL_TYPES)),
        _NAME,
        _address_field(*_SITE_TYPES, "dynamic_device_pool"),
        _DESCRIPTION,
        _STACK,
        _SITE,
        _POOL_MEMBERS,
        _TRAFFIC,
    )
)
_NEW_POOL_FORM: Final = Form(
    (
        replace(_type_field(rules.POOL_TYPES), initial=rules.POOL_TYPES[0]),
        replace(_NAME, placeholder="Laptops of support"),
        replace(
            _address_field("dynamic_device_pool"),
            label="Host names",
            help="A pattern such as *.lab.example.com: * for any label, ** for any labels.",
            placeholder="*.lab.example.com",
        ),
        replace(_DESCRIPTION, placeholder=""),
        _POOL_MEMBERS,
        _TRAFFIC,
    )
)
_FORM: Final = Form(
    (
        _type_field(_SITE_TYPES),
        _NAME,
        _address_field(*_SITE_TYPES),
        _DESCRIPTION,
        _STACK,
        _SITE,
        _TRAFFIC,
    )
)
_STATIC_POOL_FORM: Final = Form((_NAME, _DESCRIPTION, _TRAFFIC))
_DYNAMIC_POOL_FORM: Final = Form((_NAME, replace(_address_field(), is_required=True), _DESCRIPTION, _TRAFFIC))


def pool_form_of(row: Resource | None) -> Form:
    """Return the form of the page of pools."""
    return _NEW_POOL_FORM if row is None else _form_of(row)


def _form_of(row: Resource | None) -> Form:
    match None if row is None else row.type:
        case None:
            return _NEW_FORM
        case "static_device_pool":
            return _STATIC_POOL_FORM
        case "dynamic_device_pool":
            return _DYNAMIC_POOL_FORM
        case _:
            return _FORM


# What can be done


async def make(_visit: Visit, tables: AccountTables, _: Transaction, given: Mapping[str, Any]) -> Resource:
    values = {name: value for name, value in given.items() if name != "members"}
    if given.get("type") not in rules.POOL_TYPES:
        return await rules.make_resource(tables, values)
    pool = await rules.make_device_pool(tables, values)
    if pool.type == "static_device_pool":
        await device_rules.set_members(tables, pool, {}, await _known(tables, given.get("members", [])))
    return pool


async def change(
    _visit: Visit, tables: AccountTables, _: Transaction, before: Resource, given: Mapping[str, Any]
) -> Resource:
    before = await rules.load_editable_resource(tables, before.id)
    if before.type in rules.POOL_TYPES:
        return await rules.change_device_pool(tables, before, given)
    return await rules.change_resource(tables, before, given)


async def _known(tables: AccountTables, given: Sequence[str]) -> list[UUID]:
    """Return the clients among what was ticked."""
    try:
        ids = {UUID(one) for one in given}
    except ValueError:
        raise Invalid({"members": ["is invalid"]}) from None
    c = tables.devices.c
    return await tables.devices.load_column(c.id, c.type == "client", c.id.in_(ids))


async def delete(_visit: Visit, tables: AccountTables, _: Transaction, row: Resource) -> str:
    await rules.load_editable_resource(tables, row.id)
    await tables.resources.delete(row.id)
    return f"Resource “{row.name}” was deleted."


# The panel


async def facts_of(_visit: Visit, tables: AccountTables, row: Resource) -> Sequence[Fact]:
    facts = [Fact("Type", Tag(TYPE_NAMES[row.type]))]
    if row.address is not None:
        facts.append(Fact("Address", Text(row.address, is_code=True)))
    if row.address_description is not None:
        facts.append(Fact("Shown to people", Text(row.address_description)))
    if row.ip_stack is not None:
        facts.append(Fact("IP versions", Text(STACKS[row.ip_stack])))
    if row.site_id is not None:
        site = await tables.sites.load(row.site_id)
        facts.append(Fact("Site", Text("–") if site is None else Link(site.name, f"/sites/{site.id}")))
    facts.append(Fact("Traffic", Text("; ".join(_told(one) for one in row.filters) or "Everything")))
    facts.append(Fact("ID", Text(str(row.id), is_code=True)))
    return facts


def _told(one: Mapping[str, Any]) -> str:
    ports = ", ".join(one["ports"])
    return f"{one['protocol'].upper()} {ports}".strip() if ports else f"{one['protocol'].upper()}, all"


async def panel_status(visit: Visit, tables: AccountTables, row: Resource) -> Status:
    return status_of(row, await load_facts(visit, tables, [row]))


@dataclass(frozen=True, slots=True)
class Member:
    """A client in the tab of a pool's members."""

    id: UUID
    name: str
    ipv4: str
    owner: str
    is_verified: bool
    is_online: bool


@dataclass(frozen=True, slots=True)
class Members:
    """The tab of a pool's members."""

    members: Sequence[Member]


async def load_members(visit: Visit, tables: AccountTables, row: Resource) -> Members:
    joined = await device_rules.members_of(tables, row)
    d = tables.devices.c
    devices = await tables.devices.load_all(d.id.in_(joined), order_by=[d.name])
    owners = {
        one.id: one.name
        for one in await tables.actors.load_all(tables.actors.c.id.in_({one.actor_id for one in devices}))
    }
    online = visit.online("client")
    members = [
        Member(
            one.id,
            one.name,
            one.ipv4,
            owners.get(one.actor_id, "") if one.actor_id is not None else "",
            one.verified_at is not None,
            one.id in online,
        )
        for one in devices
    ]
    return Members(members)


async def count_members(_visit: Visit, tables: AccountTables, row: Resource) -> int:
    return await tables.pool_members.count(tables.pool_members.c.resource_id == row.id)


async def _add_members(
    _visit: Visit, tables: AccountTables, _: Transaction, row: Resource, given: Mapping[str, Any]
) -> None:
    pool = await device_rules.load_static_pool(tables, row.id)
    current = await device_rules.members_of(tables, pool)
    added = await _known(tables, given["clients"])
    await device_rules.set_members(tables, pool, current, [*current, *added])


async def _added(visit: Visit, _row: Resource, _: None) -> Response:
    return _back(visit, "The pool was changed.", "members")


ADD_MEMBERS: Final = PanelForm[Resource, None](
    name="members",
    tab="members",
    title=lambda row: f"Add clients to {row.name}",
    about="Whoever has access to the pool reaches these clients directly.",
    button="Add clients",
    form=lambda _visit: Form(
        (
            SeveralField(
                name="clients",
                label="Clients",
                choices=replace(_CLIENTS, only=_outside_of_the_pool),
                is_required=True,
            ),
        )
    ),
    run=_add_members,
    answer=_added,
)


async def remove_member(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        pool = await device_rules.load_static_pool(tables, visit.id())
        current = await device_rules.members_of(tables, pool)
        await device_rules.set_members(tables, pool, current, current.keys() - {visit.id("client_id")})
    return _back(visit, "The client was removed from the pool.", "members")


def _back(visit: Visit, toast: str, tab: str) -> Response:
    return visit.go(f"{visit.page.path}/{visit.id()}", toast=toast, tab=tab)


async def _site_name(tables: AccountTables, id_: UUID) -> str | None:
    site = await tables.sites.load(id_)
    return None if site is None else site.name


def _is_of_type(_visit: Visit, value: str) -> ColumnElement[bool]:
    return RESOURCES.c.type == value


PANEL_ROUTES: Final = (
    *ACCESS_ROUTES,
    *ADD_MEMBERS.routes,
    PageRoute("/{id}/members/{client_id}/remove", remove_member, "POST"),
)
"""What the tabs of a resource's panel post, on this page and on that of pools."""

PAGE: Final[ListPage[Resource, ResourceFacts]] = ListPage(
    name="Resources",
    singular="resource",
    path="/resources",
    icon="boxes",
    section=Section.ACCESS,
    about="What people reach through gateways. A policy says which group may use it.",
    live=Live(
        tables=frozenset(
            {
                "resources",
                "policies",
                "sites",
                "groups",
                "static_device_pool_members",
                "devices",
                "policy_authorizations",
            }
        ),
        presence=frozenset({"gateway", "client"}),
    ),
    repository=lambda tables: tables.resources,
    load_facts=load_facts,
    pinned=Pinned(RESOURCES.c.type == "internet", true() == INTERNET_FIRST),
    columns=(
        Column(
            name="name",
            label="Name",
            cell=lambda row, _: Text(row.name, note=row.address_description or ""),
            sort=RESOURCES.c.name,
        ),
        Column(name="type", label="Type", cell=lambda row, _: Tag(TYPE_NAMES[row.type]), is_secondary=True),
        Column(name="address", label="Address", cell=_address, sort=BY_ADDRESS),
        Column(name="policies", label="Policies", cell=_policies, is_secondary=True),
        Column(name="site", label="Site", cell=_site, is_secondary=True),
        Column(name="status", label="Status", cell=status_of),
    ),
    filters=(
        Search(label="Name or address", columns=(RESOURCES.c.name, RESOURCES.c.address)),
        Choice(name="type", label="Type", options=TYPE_NAMES, condition_of=_is_of_type),
        Of(name="site_id", label="Resources of the site", column=RESOURCES.c.site_id, name_of=_site_name),
    ),
    empty=Empty(
        "No resources yet",
        "A resource is a server, a network or a name that people reach through a site's gateways.",
    ),
    panel=Panel(
        facts=facts_of,
        status=panel_status,
        tabs=(
            Tab(
                name="members",
                label="Members",
                template="access/members.html",
                load=load_members,
                count=count_members,
                is_offered=lambda _visit, row: row.type == "static_device_pool",
            ),
            ACCESS,
            authorizations_tab(lambda row: POLICY_AUTHORIZATIONS.c.resource_id == row.id),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="delete",
                label="Delete resource",
                run=delete,
                warning="Its policies are deleted too, and everybody loses access at once.",
                is_dangerous=True,
                leaves=True,
                is_offered=lambda _visit, row: row.type != "internet",
            ),
        ),
    ),
    editing=Editing(
        form=_form_of,
        make=make,
        change=change,
        is_editable=lambda _visit, row: row.type != "internet",
    ),
    more=PANEL_ROUTES,
)
