"""The account as a picture: who is there, and who may reach what now."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS
from wardgate.portal.devices.tables import Device
from wardgate.portal.devices.topology import Grant, Peer, Picture, SitePeers, draw
from wardgate.portal.sites.pages import health_of
from wardgate.portal.web.cells import Grid, Link, Moment, Status, Text
from wardgate.portal.web.page import Live, Section, TemplatePage
from wardgate.portal.web.visit import Visit
from wardgate.wire.user_agent import product_version

GRANTS_READ: Final = 400
SITES_READ: Final = 200
GATEWAYS_READ: Final = 1000


@dataclass(frozen=True, slots=True)
class Topology:
    """The picture, and the same as a list: for narrow screens, and for those who do not see it."""

    picture: Picture
    peers: Grid
    grants: Grid
    has_more: bool
    is_empty: bool


async def load_topology(visit: Visit) -> Topology:
    bus, account_id = visit.services.environment.bus, visit.account.id
    clients_online = {one.client_id: one for one in bus.members("client", account_id)}
    gateways_online = {one.gateway_id: one for one in bus.members("gateway", account_id)}
    async with visit.reading() as tables:
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
    people = {one.id: one.name for one in owners}
    names = {one.id: one.name for one in resources}
    by_id = {one.id: one for one in [*gateways, *devices]}
    of_site: defaultdict[UUID | None, list[Peer]] = defaultdict(list)
    for gateway in gateways:
        online = gateways_online.get(gateway.id)  # type: ignore[call-overload]
        note = gateway.ipv4 if online is None else _software(online.user_agent, str(online.remote_ip))
        of_site[gateway.site_id].append(
            Peer(gateway.id, gateway.name, note, online is not None, f"/sites/{gateway.site_id}")
        )
    present = Counter(one.site_id for one in gateways_online.values() if not one.is_draining)
    shown_sites = []
    for site in sites:
        health = health_of(site, present[site.id])  # type: ignore[index]
        shown_sites.append(SitePeers(site.id, site.name, health.text, health.tone, of_site[site.id]))
    clients = [
        Peer(
            one.id,
            one.name,
            people.get(one.actor_id, "") if one.actor_id is not None else "",
            one.id in clients_online,
            f"/clients/{one.id}",
        )
        for one in devices
        if one.type == "client"
    ]
    relays = [
        Peer(
            one.relay_id,
            one.name or "Relay",
            ", ".join(str(address) for address in (one.ipv4, one.ipv6) if address is not None),
            is_online=True,
            path=None,
        )
        for one in bus.members("relay", None)
    ]
    drawn = [
        Grant(
            one.initiating_device_id, one.receiving_device_id, names.get(one.resource_id, "deleted resource")
        )
        for one in grants
    ]
    rows = [
        (
            _link(by_id.get(one.initiating_device_id)),
            Link(names.get(one.resource_id, "deleted resource"), f"/resources/{one.resource_id}"),
            _link(by_id.get(one.receiving_device_id)),
            Moment(one.expires_at),
        )
        for one in grants
    ]
    listed = [
        *((site.name, one) for site in shown_sites for one in site.gateways),
        *(("Relay", one) for one in relays),
    ]
    peers = [
        (
            Text(one.name) if one.path is None else Link(one.name, one.path),
            Text(where),
            Status("Online", "good") if one.is_online else Status("Offline", "neutral"),
        )
        for where, one in listed
    ]
    return Topology(
        draw(clients, shown_sites, relays, drawn),
        Grid(("Name", "Where", "Status"), peers, "No gateway and no relay yet."),
        Grid(("Client", "Resource", "Through", "Until"), rows, "Nobody may reach anything at the moment."),
        has_more,
        is_empty=not (clients or shown_sites),
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
    ),
    template="devices/topology.html",
    load=load_topology,
)
