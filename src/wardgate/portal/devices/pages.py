"""The page of clients: the devices on which people are signed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import not_, or_

import wardgate
from wardgate.model.versions import Version
from wardgate.portal.access.authorization_tab import authorizations_tab
from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS, Resource
from wardgate.portal.bus import ClientPresence
from wardgate.portal.devices import rules
from wardgate.portal.devices.search import CLIENT_SEARCH
from wardgate.portal.devices.tables import DEVICES, STATIC_DEVICE_POOL_MEMBERS, Device
from wardgate.portal.logs.history import history_tab
from wardgate.portal.people.tables import Actor
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Cell, Fact, Link, Moment, Several, Status, Tag, Text, coordinates
from wardgate.portal.web.filters import Choice, Condition, Of
from wardgate.portal.web.forms import Form, TextField
from wardgate.portal.web.listing import Column, Editing, Empty, ListPage, Panel, PanelAction, Tab
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.visit import Visit
from wardgate.wire.user_agent import announced_version, device_os, parse_version, product_version

POOLS_SHOWN: Final = 200
NEWEST: Final = Version.parse(wardgate.__version__)
_PHONES: Final = ("Android", "iOS", "iPadOS")


# What the table shows


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """What cells need beside the rows."""

    owners: Mapping[UUID | None, Actor]
    online: Mapping[UUID, ClientPresence]

    def agent_of(self, client: Device) -> str:
        """Return the user agent; the row has it only when the connection has been noted."""
        presence = self.online.get(client.id)
        return presence.user_agent if presence is not None else client.last_seen_user_agent or ""


async def load_facts(visit: Visit, tables: AccountTables, clients: Sequence[Device]) -> ClientFacts:
    ids = {client.actor_id for client in clients}
    owners = await tables.actors.load_all(tables.actors.c.id.in_(ids))
    members = visit.services.environment.bus.members("client", visit.account.id)
    return ClientFacts({owner.id: owner for owner in owners}, {one.client_id: one for one in members})


def _name(client: Device, facts: ClientFacts) -> Text:
    agent = facts.agent_of(client)
    return Text(
        client.name, note=_system(agent), icon="smartphone" if agent.startswith(_PHONES) else "laptop"
    )


def _owner(client: Device, facts: ClientFacts) -> Cell:
    return owner_cell(facts.owners.get(client.actor_id))


def owner_cell(owner: Actor | None) -> Cell:
    """Say whose a client is, and lead there."""
    if owner is None:
        return Text("Deleted actor")
    kinds = {"account_admin_user": "administrator", "service_account": "service account"}
    path = "/service_accounts" if owner.type == "service_account" else "/actors"
    return Link(owner.name, f"{path}/{owner.id}", note=kinds.get(owner.type, ""))


def _version(client: Device, facts: ClientFacts) -> Cell:
    """Name what a client runs: of ours the release, of others the level of the protocol that they announce."""
    agent = facts.agent_of(client)
    release = product_version(agent)
    if release is None:
        return Text(announced_version(agent) or client.last_seen_version or "unknown")
    parsed = parse_version(release)
    if parsed is not None and parsed < NEWEST:
        return Several((Text(f"Wardgate {release}"), Tag(f"{wardgate.__version__} is available", "caution")))
    return Text(f"Wardgate {release}", "up to date")


def _started(client: Device, facts: ClientFacts) -> Moment:
    presence = facts.online.get(client.id)
    return Moment(client.last_seen_at if presence is None else presence.connected_at)


def _verification(client: Device, _facts: ClientFacts) -> Tag:
    return Tag("Verified", "good") if client.verified_at is not None else Tag("Unverified")


def _status(client: Device, facts: ClientFacts) -> Status:
    return _online_status(client.id in facts.online)


def _online_status(is_online: bool) -> Status:
    return Status("Online", "good") if is_online else Status("Offline", "neutral")


def _system(agent: str) -> str:
    system = device_os(agent)
    return " ".join(part for part in (system.name, system.version) if part)


def _is_present(visit: Visit, value: str) -> Condition:
    is_online = DEVICES.c.id.in_(visit.online("client"))
    return is_online if value == "online" else not_(is_online)


async def _owner_name(tables: AccountTables, id_: UUID) -> str | None:
    owner = await tables.actors.load(id_)
    return None if owner is None else owner.name


# What the panel shows


async def facts_of(visit: Visit, tables: AccountTables, client: Device) -> Sequence[Fact]:
    facts = await load_facts(visit, tables, [client])
    presence = facts.online.get(client.id)
    remote_ip = client.last_seen_remote_ip if presence is None else str(presence.remote_ip)
    place = (client.last_seen_remote_ip_location_city, client.last_seen_remote_ip_location_region)
    point = coordinates(client.last_seen_remote_ip_location_lat, client.last_seen_remote_ip_location_lon)
    lines: list[tuple[str, Cell]] = [
        ("Owner", _owner(client, facts)),
        ("Verification", _verified(client)),
        ("Host name", Text(client.hostname or "none", is_code=client.hostname is not None)),
        ("Last started", _started(client, facts)),
        ("Version", _version(client, facts)),
        ("System", Text(_system(facts.agent_of(client)) or "unknown")),
        ("Remote address", Text(remote_ip or "unknown", ", ".join(filter(None, place)), is_code=True)),
        *([] if point is None else [("Coordinates", point)]),
        ("Tunnel addresses", Several((Text(client.ipv4, is_code=True), Text(client.ipv6, is_code=True)))),
        *(
            (label, Text(value, is_code=True))
            for label, value in (
                ("Serial number", client.device_serial),
                ("Hardware UUID", client.device_uuid),
                ("Apple vendor ID", client.identifier_for_vendor),
                ("Firebase installation", client.firebase_installation_id),
                ("External ID", client.firezone_id),
            )
            if value
        ),
        ("Created", Moment(client.inserted_at)),
        ("ID", Text(str(client.id), is_code=True)),
    ]
    return [Fact(label, cell) for label, cell in lines]


def _verified(client: Device) -> Cell:
    if client.verified_at is None:
        return Tag("Unverified")
    return Several((Tag("Verified", "good"), Moment(client.verified_at)))


async def status_of(visit: Visit, _tables: AccountTables, client: Device) -> Status:
    return _online_status(client.id in visit.online("client"))


async def load_pools(_visit: Visit, tables: AccountTables, client: Device) -> Sequence[Resource]:
    """Return the static pools that the client is in."""
    members = STATIC_DEVICE_POOL_MEMBERS.c
    ids = await tables.pool_members.load_column(members.resource_id, members.device_id == client.id)
    c = tables.resources.c
    return await tables.resources.load_all(c.id.in_(ids), order_by=[c.name, c.id], limit=POOLS_SHOWN)


async def count_pools(_visit: Visit, tables: AccountTables, client: Device) -> int:
    return await tables.pool_members.count(STATIC_DEVICE_POOL_MEMBERS.c.device_id == client.id)


# What can be done


async def _change(
    _visit: Visit, tables: AccountTables, _: Transaction, before: Device, given: Mapping[str, Any]
) -> Device:
    renamed = await rules.rename(tables, before, {"name": given["name"]})
    return await rules.set_hostname(tables, renamed, {"hostname": given["hostname"]})


async def _verify(_visit: Visit, tables: AccountTables, _: Transaction, client: Device) -> str:
    await rules.verify_client(tables, client)
    return f"Client “{client.name}” is verified."


async def _unverify(_visit: Visit, tables: AccountTables, _: Transaction, client: Device) -> str:
    await rules.unverify_client(tables, client)
    return f"Client “{client.name}” is not verified any more."


async def _delete(_visit: Visit, tables: AccountTables, _: Transaction, client: Device) -> str:
    await tables.devices.delete(client.id)
    return f"Client “{client.name}” was deleted."


_FORM: Final = Form(
    (
        TextField(name="name", label="Name", is_required=True),
        TextField(
            name="hostname",
            label="Host name",
            help="By which dynamic device pools know the client. No device can name itself.",
            placeholder="nas.lab.example",
            is_code=True,
        ),
    )
)

PAGE: Final[ListPage[Device, ClientFacts]] = ListPage(
    name="Clients",
    singular="client",
    path="/clients",
    icon="laptop",
    section=Section.INFRASTRUCTURE,
    about="Devices on which people and service accounts are signed in.",
    live=Live(
        tables=frozenset({"devices", "actors", "static_device_pool_members", "policy_authorizations"}),
        presence=frozenset({"client"}),
    ),
    repository=lambda tables: tables.devices,
    only=DEVICES.c.type == "client",
    load_facts=load_facts,
    columns=(
        Column(name="name", label="Client", cell=_name, sort=DEVICES.c.name),
        Column(name="owner", label="Owner", cell=_owner),
        Column(
            name="version",
            label="Version",
            cell=_version,
            sort=DEVICES.c.last_seen_version,
            is_secondary=True,
        ),
        Column(
            name="verified",
            label="Verification",
            cell=_verification,
            sort=DEVICES.c.verified_at,
            is_secondary=True,
        ),
        Column(name="status", label="Status", cell=_status),
        Column(
            name="started",
            label="Last started",
            cell=_started,
            sort=DEVICES.c.last_seen_at,
            is_secondary=True,
        ),
        Column(
            name="created",
            label="Created",
            cell=lambda client, _: Moment(client.inserted_at),
            sort=DEVICES.c.inserted_at,
            is_secondary=True,
        ),
    ),
    filters=(
        CLIENT_SEARCH,
        Choice(
            name="verification",
            label="Verification",
            options={"verified": "Verified", "unverified": "Unverified"},
            condition_of=lambda _visit, value: (
                DEVICES.c.verified_at.is_not(None) if value == "verified" else DEVICES.c.verified_at.is_(None)
            ),
        ),
        Choice(
            name="status",
            label="Status",
            options={"online": "Online", "offline": "Offline"},
            condition_of=_is_present,
        ),
        Of(name="actor_id", label="Clients of", column=DEVICES.c.actor_id, name_of=_owner_name),
    ),
    empty=Empty(
        "No clients yet",
        "A client appears here as soon as somebody signs in with one, or a service account's token is used.",
        ("/get_started", "Connect a client"),
    ),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        tabs=(
            authorizations_tab(
                lambda client: or_(
                    POLICY_AUTHORIZATIONS.c.initiating_device_id == client.id,
                    POLICY_AUTHORIZATIONS.c.receiving_device_id == client.id,
                )
            ),
            Tab(
                name="pools",
                label="Device pools",
                template="devices/pools.html",
                load=load_pools,
                count=count_pools,
            ),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="verify",
                label="Verify client",
                run=_verify,
                undone_by="unverify",
                warning="Policies that ask for a verified client let it through from now on.",
                is_offered=lambda _visit, client: client.verified_at is None,
            ),
            PanelAction(
                name="unverify",
                label="Revoke verification",
                run=_unverify,
                undone_by="verify",
                warning="The client loses its current authorizations, and those that ask for a verified client "
                "for good.",
                is_offered=lambda _visit, client: client.verified_at is not None,
            ),
            PanelAction(
                name="delete",
                label="Delete client",
                run=_delete,
                warning="The client is disconnected. Its owner can sign in with it again: to keep somebody out, "
                "disable the person instead.",
                is_dangerous=True,
                typed=lambda client: client.name,
                leaves=True,
            ),
        ),
    ),
    editing=Editing(form=lambda _client: _FORM, change=_change),
)
