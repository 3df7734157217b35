"""The account as a picture: who is there, and who may reach what now."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from wardgate.model.ids import ClientId, DeviceId, GatewayId, SiteId
from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS, PolicyAuthorization
from wardgate.portal.bus import GatewayPresence, RelayPresence
from wardgate.portal.devices.tables import Device
from wardgate.portal.devices.topology import Grant, Peer, Picture, SitePeers, draw
from wardgate.portal.logs.grant_flows import PathKind, newest_paths
from wardgate.portal.logs.pages.log_page import reading_of
from wardgate.portal.logs.streams import LOGS, Stream
from wardgate.portal.sites.pages import health_of
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import AccountTables
from wardgate.portal.web.cells import Grid, Link, Moment, Status, Text
from wardgate.portal.web.page import Live, Section, TemplatePage
from wardgate.portal.web.visit import Visit
from wardgate.wire.user_agent import product_version

GRANTS_READ: Final = 400
SITES_READ: Final = 200
GATEWAYS_READ: Final = 1000
READ_AGAIN_S: Final = 30.0  # no feed tells of reports of flows

Paths = Mapping[tuple[UUID, UUID], PathKind]


@dataclass(frozen=True, slots=True)
class Topology:
    """The picture, and the same as a list: for narrow screens, and for those who do not see it."""

    picture: Picture
    peers: Grid
    grants: Grid
    has_more: bool
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """What the picture shows of the database: as many of each as it has room for.

    Attributes:
        devices: at either end of a grant, and clients that are online.
    """

    sites: Sequence[Site]
    gateways: Sequence[Device]
    devices: Sequence[Device]
    grants: Sequence[PolicyAuthorization]
    has_more_grants: bool
    resource_names: Mapping[UUID, str]
    owner_names: Mapping[UUID, str]

    def resource_name(self, grant: PolicyAuthorization) -> str:
        return self.resource_names.get(grant.resource_id, "deleted resource")


async def load_topology(visit: Visit) -> Topology:
    bus, account_id = visit.services.environment.bus, visit.account.id
    clients_online = frozenset(one.client_id for one in bus.members("client", account_id))
    gateways_online = {one.gateway_id: one for one in bus.members("gateway", account_id)}
    async with visit.reading() as tables:
        stored = await _load_stored(tables, clients_online)
    sites = _site_peers(stored, gateways_online)
    clients = [
        Peer(
            one.id,
            one.name,
            stored.owner_names.get(one.actor_id, "") if one.actor_id is not None else "",
            one.id in clients_online,
            f"/clients/{one.id}",
        )
        for one in stored.devices
        if one.type == "client"
    ]
    present = bus.members("relay", None)
    relays = [_relay_peer(one) for one in present]
    addresses = {str(one) for relay in present for one in (relay.ipv4, relay.ipv6) if one is not None}
    paths = await newest_paths(reading_of(visit, LOGS[Stream.FLOW]), account_id, addresses)
    grants = [
        Grant(
            one.initiating_device_id,
            one.receiving_device_id,
            stored.resource_name(one),
            _path_of(one, paths),
            is_relayed=paths.get(_ends(one)) is PathKind.RELAYED,
        )
        for one in stored.grants
    ]
    return Topology(
        draw(clients, sites, relays, grants),
        _peers_grid(sites, relays),
        _grants_grid(stored, paths),
        stored.has_more_grants,
        is_empty=not (clients or sites),
    )


async def _load_stored(tables: AccountTables, clients_online: frozenset[ClientId]) -> Stored:
    s, d = tables.sites.c, tables.devices.c
    sites = await tables.sites.load_all(order_by=[s.name, s.id], limit=SITES_READ)
    gateways = await tables.devices.load_all(
        d.type == "gateway", order_by=[d.name, d.id], limit=GATEWAYS_READ
    )
    grants = await tables.authorizations.load_all(
        POLICY_AUTHORIZATIONS.c.expires_at > tables.now,
        order_by=[POLICY_AUTHORIZATIONS.c.inserted_at.desc(), POLICY_AUTHORIZATIONS.c.id],
        limit=GRANTS_READ + 1,
    )
    has_more, grants = len(grants) > GRANTS_READ, grants[:GRANTS_READ]
    ids = {one.initiating_device_id for one in grants} | {one.receiving_device_id for one in grants}
    first_online = sorted(clients_online)[:GRANTS_READ]
    devices = await tables.devices.load_all(d.id.in_(ids | {*first_online}))
    r, a = tables.resources.c, tables.actors.c
    resources = await tables.resources.load_all(r.id.in_({one.resource_id for one in grants}))
    owners = await tables.actors.load_all(a.id.in_({one.actor_id for one in devices if one.actor_id}))
    return Stored(
        sites,
        gateways,
        devices,
        grants,
        has_more,
        {one.id: one.name for one in resources},
        {one.id: one.name for one in owners},
    )


def _site_peers(stored: Stored, online: Mapping[GatewayId, GatewayPresence]) -> list[SitePeers]:
    of_site: defaultdict[UUID | None, list[Peer]] = defaultdict(list)
    for gateway in stored.gateways:
        presence = online.get(GatewayId(DeviceId(gateway.id)))
        note = gateway.ipv4 if presence is None else _software(presence.user_agent, str(presence.remote_ip))
        of_site[gateway.site_id].append(
            Peer(gateway.id, gateway.name, note, presence is not None, f"/sites/{gateway.site_id}")
        )
    present = Counter(one.site_id for one in online.values() if not one.is_draining)
    sites = []
    for site in stored.sites:
        health = health_of(site, present[SiteId(site.id)])
        sites.append(SitePeers(site.id, site.name, health.text, health.tone, of_site[site.id]))
    return sites


def _relay_peer(presence: RelayPresence) -> Peer:
    addresses = ", ".join(str(one) for one in (presence.ipv4, presence.ipv6) if one is not None)
    return Peer(presence.relay_id, presence.name or "Relay", addresses, is_online=True, path=None)


def _peers_grid(sites: Sequence[SitePeers], relays: Sequence[Peer]) -> Grid:
    listed = [
        *((site.name, one) for site in sites for one in site.gateways),
        *(("Relay", one) for one in relays),
    ]
    rows = [
        (
            Text(one.name) if one.path is None else Link(one.name, one.path),
            Text(where),
            Status("Online", "good") if one.is_online else Status("Offline", "neutral"),
        )
        for where, one in listed
    ]
    return Grid(("Name", "Where", "Status"), rows, "No gateway and no relay yet.")


def _path_of(grant: PolicyAuthorization, paths: Paths) -> str:
    kind = paths.get(_ends(grant))
    return "" if kind is None else kind.value


def _ends(grant: PolicyAuthorization) -> tuple[UUID, UUID]:
    return grant.initiating_device_id, grant.receiving_device_id


def _grants_grid(stored: Stored, paths: Paths) -> Grid:
    by_id = {one.id: one for one in (*stored.gateways, *stored.devices)}
    rows = [
        (
            _link(by_id.get(one.initiating_device_id)),
            Link(stored.resource_name(one), f"/resources/{one.resource_id}"),
            _link(by_id.get(one.receiving_device_id)),
            Text(_path_of(one, paths) or "–"),
            Moment(one.expires_at),
        )
        for one in stored.grants
    ]
    return Grid(
        ("Client", "Resource", "Through", "Path", "Until"), rows, "Nobody may reach anything at the moment."
    )


def _link(device: Device | None) -> Link | Text:
    if device is None:
        return Text("deleted device")
    path = f"/clients/{device.id}" if device.type == "client" else f"/sites/{device.site_id}"
    return Link(device.name, path)


def _software(agent: str, remote_ip: str) -> str:
    release = product_version(agent)
    return remote_ip if release is None else f"{remote_ip}, {release}"


PAGE: Final = TemplatePage(
    name="Topology",
    path="/topology",
    icon="network",
    section=Section.INFRASTRUCTURE,
    live=Live(
        tables=frozenset({"sites", "devices", "actors", "resources", "policy_authorizations"}),
        presence=frozenset({"client", "gateway", "relay"}),
        every_s=READ_AGAIN_S,
    ),
    template="devices/topology.html",
    load=load_topology,
)
