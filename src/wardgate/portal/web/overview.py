"""What the page shows: who is online, from presence, and the last decisions, from their log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from wardgate.policy.explanation import as_text, from_json
from wardgate.portal.bus import ClientPresence, GatewayPresence
from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.portal.logs.tables import Decision
from wardgate.portal.web.first_steps import FirstSteps, load_first_steps
from wardgate.portal.web.page import Live, Section, TemplatePage
from wardgate.portal.web.visit import Visit
from wardgate.wire.user_agent import software_text

DECISIONS_SHOWN: Final = 20

Cells = tuple[str | datetime, ...]


@dataclass(frozen=True, slots=True)
class DecisionView:
    log_id: str
    is_granted: bool
    actor_name: str
    resource_name: str
    reason: str
    decided_at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows of cells, ready to be written down."""

    clients: tuple[Cells, ...]
    gateways: tuple[Cells, ...]
    relays: tuple[Cells, ...]
    decisions: tuple[DecisionView, ...]
    first_steps: FirstSteps


async def load_overview(visit: Visit) -> Overview:
    """Gather what the person signed in may see of the account now."""
    services, viewer = visit.services, visit.actor
    bus, account_id = services.environment.bus, viewer.account_id
    clients, gateways = bus.members("client", account_id), bus.members("gateway", account_id)
    async with services.store.reading() as transaction:
        tables = transaction.on_behalf_of(viewer)
        sites = {site.id: site.name for site in await tables.sites.load_all()}
        ids = [one.client_id for one in clients]
        devices = await tables.devices.load_all(tables.devices.c.id.in_(ids))
        owner_ids = {device.actor_id for device in devices}
        actors = await tables.actors.load_all(tables.actors.c.id.in_(owner_ids))
        decisions = await newest_decisions(tables, limit=DECISIONS_SHOWN)
    names = {actor.id: actor.name for actor in actors}
    people = {device.id: names.get(device.actor_id, "") for device in devices if device.actor_id is not None}
    return Overview(
        clients=tuple(peer_cells(one, people.get(one.client_id, "")) for one in clients),
        gateways=tuple(
            peer_cells(one, "" if one.site_id is None else sites.get(one.site_id, "")) for one in gateways
        ),
        relays=tuple(
            (
                _text(one.name),
                _text(one.ipv4),
                _text(one.ipv6),
                str(one.port),
                software_text(one.user_agent),
                one.connected_at,
            )
            for one in bus.members("relay", None)
        ),
        decisions=tuple(_decision(one) for one in decisions),
        first_steps=await load_first_steps(visit),
    )


PAGE: Final = TemplatePage(
    name="Overview",
    path="",
    icon="activity",
    section=Section.HOME,
    live=Live(
        tables=frozenset({"actors", "devices", "sites", "gateway_tokens", "resources", "policies"}),
        presence=frozenset({"client", "gateway", "relay"}),
        decisions=True,
    ),
    template="overview.html",
    load=load_overview,
)


def peer_cells(presence: ClientPresence | GatewayPresence, belongs_to: str) -> Cells:
    return (
        presence.name,
        belongs_to,
        software_text(presence.user_agent),
        str(presence.remote_ip),
        str(presence.ipv4),
        presence.connected_at,
    )


def _text(value: object) -> str:
    return "–" if value is None else str(value)


def _decision(row: Decision) -> DecisionView:
    return DecisionView(
        row.log_id,
        row.outcome == "granted",
        row.actor_name,
        row.resource_name or str(row.resource_id),
        row.reason or "",
        row.decided_at,
        _explained(row),
    )


def _explained(row: Decision) -> str:
    try:
        return as_text(from_json(row.explanation))
    except msgspec.ValidationError:
        return "This decision was explained by another version of the program and cannot be shown."
