"""The page of device pools: clients that other clients reach directly, listed one by one or found by host name.

A pool is a resource, and on the page of resources too; here it stands with its members.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, exists

from wardgate.model.name_pattern import NamePattern
from wardgate.portal.access import rules
from wardgate.portal.access.authorization_tab import authorizations_tab
from wardgate.portal.access.pages import resources
from wardgate.portal.access.pages.access_tab import ACCESS
from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS, RESOURCES, Resource
from wardgate.portal.devices.tables import STATIC_DEVICE_POOL_MEMBERS, Device
from wardgate.portal.logs.history import history_tab
from wardgate.portal.store import AccountTables
from wardgate.portal.web.cells import Cell, Link, Status, Tag, Text
from wardgate.portal.web.filters import Choice, Of, Search
from wardgate.portal.web.listing import Column, Editing, Empty, ListPage, Panel, PanelAction, Tab
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.visit import Visit

NAMED_SHOWN: Final = 1000
"""Clients with host names that are looked at for one page; an account has few."""

KINDS: Final = {"static_device_pool": "Listed", "dynamic_device_pool": "By host name"}


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """Members of the pools of one page, those online apart, and policies."""

    members: Counter[UUID]
    online: Counter[UUID]
    policies: Counter[UUID]


async def load_facts(visit: Visit, tables: AccountTables, pools: Sequence[Resource]) -> PoolFacts:
    ids = [pool.id for pool in pools]
    listed = await resources.load_facts(visit, tables, pools)
    members, online, present = listed.members, listed.members_online, visit.online("client")
    for pool, clients in (await _named(tables, pools)).items():
        members[pool] = len(clients)
        online[pool] = sum(client.id in present for client in clients)
    return PoolFacts(members, online, Counter({id_: listed.policies[id_] for id_ in ids}))


async def _named(tables: AccountTables, pools: Sequence[Resource]) -> Mapping[UUID, Sequence[Device]]:
    """Return the clients that dynamic pools lead to now."""
    dynamic = {pool.id: NamePattern.parse(pool.address) for pool in pools if pool.address is not None}
    if not dynamic:
        return {}
    d = tables.devices.c
    clients = await tables.devices.load_all(
        d.type == "client", d.hostname.is_not(None), order_by=[d.hostname], limit=NAMED_SHOWN
    )
    return {
        id_: [one for one in clients if one.hostname is not None and pattern.covers(one.hostname)]
        for id_, pattern in dynamic.items()
    }


def _status(pool: Resource, facts: PoolFacts) -> Status:
    count, online = facts.members[pool.id], facts.online[pool.id]
    if not count:
        return Status("No clients", "caution")
    return Status(f"{online} of {count} online", "good" if online else "neutral")


def _clients(pool: Resource, _facts: PoolFacts) -> Cell:
    return Text("Those listed") if pool.address is None else Text(pool.address, is_code=True)


def _policies(pool: Resource, facts: PoolFacts) -> Cell:
    count = facts.policies[pool.id]
    return Link(f"{count} {'policy' if count == 1 else 'policies'}", f"/policies?resource_id={pool.id}")


async def status_of(visit: Visit, tables: AccountTables, pool: Resource) -> Status:
    return _status(pool, await load_facts(visit, tables, [pool]))


@dataclass(frozen=True, slots=True)
class NamedClient:
    """A client in the tab of a pool by host name."""

    id: UUID
    name: str
    hostname: str
    ipv4: str
    is_online: bool


async def load_named(visit: Visit, tables: AccountTables, pool: Resource) -> Sequence[NamedClient]:
    present = visit.online("client")
    clients = (await _named(tables, [pool])).get(pool.id, ())
    return [NamedClient(one.id, one.name, one.hostname or "", one.ipv4, one.id in present) for one in clients]


async def count_members(visit: Visit, tables: AccountTables, pool: Resource) -> int:
    return (await load_facts(visit, tables, [pool])).members[pool.id]


async def _client_name(tables: AccountTables, id_: UUID) -> str | None:
    client = await tables.devices.load(id_)
    return None if client is None else client.name


def _is_of_kind(_visit: Visit, value: str) -> ColumnElement[bool]:
    return RESOURCES.c.type == value


class _WithClient(Of):
    """Static pools that a client is in; its panel links here."""

    def condition(self, _visit: Visit, values: tuple[str, ...], /) -> ColumnElement[bool]:
        m = STATIC_DEVICE_POOL_MEMBERS.c
        return exists().where(
            m.account_id == RESOURCES.c.account_id,
            m.resource_id == RESOURCES.c.id,
            m.device_id == UUID(values[0]),
        )


PAGE: Final[ListPage[Resource, PoolFacts]] = ListPage(
    name="Device pools",
    singular="device pool",
    path="/device_pools",
    icon="monitor-smartphone",
    section=Section.ACCESS,
    about="Clients that other clients reach directly, without a gateway. A policy says which group may.",
    live=Live(
        tables=frozenset(
            {
                "resources",
                "policies",
                "groups",
                "static_device_pool_members",
                "devices",
                "policy_authorizations",
            }
        ),
        presence=frozenset({"client"}),
    ),
    repository=lambda tables: tables.resources,
    only=RESOURCES.c.type.in_(rules.POOL_TYPES),
    load_facts=load_facts,
    columns=(
        Column(
            name="name",
            label="Name",
            cell=lambda pool, _: Text(pool.name, note=pool.address_description or ""),
            sort=RESOURCES.c.name,
        ),
        Column(name="kind", label="Kind", cell=lambda pool, _: Tag(KINDS[pool.type]), is_secondary=True),
        Column(name="clients", label="Clients", cell=_clients, sort=RESOURCES.c.address),
        Column(name="policies", label="Policies", cell=_policies, is_secondary=True),
        Column(name="status", label="Status", cell=_status),
    ),
    filters=(
        Search(label="Name or host name", columns=(RESOURCES.c.name, RESOURCES.c.address)),
        Choice(name="kind", label="Kind", options=KINDS, condition_of=_is_of_kind),
        _WithClient(
            name="client_id", label="Pools with the client", column=RESOURCES.c.id, name_of=_client_name
        ),
    ),
    empty=Empty(
        "No device pools yet",
        "A pool holds clients that people with access reach directly, such as laptops that support looks after. List"
        " them, or name them by a pattern of host names.",
    ),
    panel=Panel(
        facts=resources.facts_of,
        status=status_of,
        tabs=(
            Tab(
                name="members",
                label="Clients",
                template="access/members.html",
                load=resources.load_members,
                count=count_members,
                is_offered=lambda _visit, pool: pool.type == "static_device_pool",
            ),
            Tab(
                name="named",
                label="Clients",
                template="access/named_clients.html",
                load=load_named,
                count=count_members,
                is_offered=lambda _visit, pool: pool.type == "dynamic_device_pool",
            ),
            ACCESS,
            authorizations_tab(lambda pool: POLICY_AUTHORIZATIONS.c.resource_id == pool.id),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="delete",
                label="Delete device pool",
                run=resources.delete,
                warning="Its policies are deleted too, and nobody reaches these clients through it any more.",
                is_dangerous=True,
                leaves=True,
            ),
        ),
    ),
    editing=Editing(form=resources.pool_form_of, make=resources.make, change=resources.change),
    more=resources.PANEL_ROUTES,
)
