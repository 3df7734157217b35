"""Relays: a token for each, and which of them are connected. Nothing else of a relay is stored."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement
from starlette.responses import Response

from wardgate.portal.bus import RelayPresence
from wardgate.portal.installation import rules
from wardgate.portal.installation.installers import InstallerView
from wardgate.portal.installation.operator.changes import history_tab
from wardgate.portal.installation.tables import RELAY_TOKENS, RelayToken
from wardgate.portal.outcomes import Missing
from wardgate.portal.store import Transaction
from wardgate.portal.web.cells import Cell, Fact, Grid, Moment, Status, Text
from wardgate.portal.web.filters import Choice, Search
from wardgate.portal.web.forms import Form, TextField
from wardgate.portal.web.listing import Column, Editing, Empty, ListPage, Panel, PanelAction, Side, Tab
from wardgate.portal.web.page import Live, PageRoute, Section
from wardgate.portal.web.visit import OperatorVisit
from wardgate.wire.user_agent import software_text

PATH: Final = "/relays"


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """Who is connected, by token."""

    online: Mapping[UUID, Sequence[RelayPresence]]


@dataclass(frozen=True, slots=True)
class NewToken:
    """What is shown once: the token, and what to start a relay with."""

    text: str
    api_url: str
    installer: InstallerView

    @classmethod
    async def of(cls, visit: OperatorVisit, text: str) -> "NewToken":
        installer = await visit.frame.installers.show("relay")
        return cls(text, visit.services.settings.socket_url, installer)


def _online(visit: OperatorVisit) -> Mapping[UUID, Sequence[RelayPresence]]:
    by_token: defaultdict[UUID, list[RelayPresence]] = defaultdict(list)
    for one in visit.services.environment.bus.members("relay", None):
        by_token[one.token_id].append(one)
    return by_token


async def load_facts(visit: OperatorVisit, _: Transaction, _tokens: Sequence[RelayToken]) -> RelayFacts:
    return RelayFacts(_online(visit))


def _status(online: Sequence[RelayPresence]) -> Status:
    if not online:
        return Status("Offline", "neutral")
    return Status("Online" if len(online) == 1 else f"{len(online)} online", "good")


def _addresses(online: Sequence[RelayPresence]) -> Cell:
    told = [str(address) for one in online for address in (one.ipv4, one.ipv6) if address is not None]
    return Text(", ".join(told), is_code=True)


def _software(online: Sequence[RelayPresence]) -> Cell:
    return Text(", ".join(sorted({software_text(one.user_agent) for one in online})))


async def facts_of(_visit: OperatorVisit, _: Transaction, token: RelayToken) -> Sequence[Fact]:
    return (
        Fact("Created", Moment(token.inserted_at)),
        Fact("Token ID", Text(str(token.id), is_code=True)),
    )


async def status_of(visit: OperatorVisit, _: Transaction, token: RelayToken) -> Status:
    return _status(_online(visit).get(token.id, ()))


async def load_connections(visit: OperatorVisit, _: Transaction, token: RelayToken) -> Grid:
    return Grid(
        ("IPv4", "IPv6", "Port", "Software", "Place", "Connected"),
        [
            (
                Text(str(one.ipv4 or "–"), is_code=True),
                Text(str(one.ipv6 or "–"), is_code=True),
                Text(str(one.port)),
                Text(software_text(one.user_agent)),
                Text("–" if one.position is None else f"{one.position.lat:.1f}, {one.position.lon:.1f}"),
                Moment(one.connected_at),
            )
            for one in _online(visit).get(token.id, ())
        ],
        empty="No relay is connected with this token.",
    )


async def _make(
    visit: OperatorVisit, _: Transaction, transaction: Transaction, given: Mapping[str, Any]
) -> RelayToken:
    issued = await rules.make_relay_token(transaction, given, keys=visit.services.keys)
    visit.secret = await NewToken.of(visit, issued.text)
    return issued.row


async def rotate(visit: OperatorVisit) -> Response:
    """Replace a token and show the new one, this once."""
    try:
        async with visit.writing() as (_, transaction):
            before = await rules.load_relay_token(transaction, visit.id())
            issued = await rules.rotate_relay_token(transaction, before, keys=visit.services.keys)
    except Missing:
        return PAGE.gone(visit)
    values = {"row": issued.row, "secret": await NewToken.of(visit, issued.text)}
    return await PAGE.show(visit, Side(issued.row.name, _ONCE, values, is_wide=True))


async def _delete(_visit: OperatorVisit, _: Transaction, transaction: Transaction, token: RelayToken) -> str:
    await transaction.relay_tokens.delete(token.id)
    return f"The token of relay “{token.name}” was deleted."


def _is_online(visit: OperatorVisit, value: str) -> ColumnElement[bool]:
    ids = list(_online(visit))
    return RELAY_TOKENS.c.id.in_(ids) if value == "online" else RELAY_TOKENS.c.id.not_in(ids)


_ONCE: Final = "installation/operator/relay_token.html"
_FORM: Final = Form(
    (
        TextField(
            name="name",
            label="Name",
            help="The relay that will use this token: a token for each, so that one can be revoked alone.",
            placeholder="relay-frankfurt-1",
            is_required=True,
        ),
    )
)

PAGE: Final[ListPage[RelayToken, RelayFacts, OperatorVisit, Transaction]] = ListPage(
    name="Relays",
    singular="relay",
    path=PATH,
    icon="waypoints",
    section=Section.INSTALLATION,
    about="Through relays clients and gateways find each other, and reach each other where no direct path does.",
    live=Live(tables=frozenset({"relay_tokens"}), presence=frozenset({"relay"})),
    repository=lambda transaction: transaction.relay_tokens,
    load_facts=load_facts,
    columns=(
        Column(name="name", label="Relay", cell=lambda row, _: Text(row.name), sort=RELAY_TOKENS.c.name),
        Column(name="status", label="Status", cell=lambda row, facts: _status(facts.online.get(row.id, ()))),
        Column(
            name="addresses",
            label="Addresses",
            cell=lambda row, facts: _addresses(facts.online.get(row.id, ())),
            is_secondary=True,
        ),
        Column(
            name="software",
            label="Software",
            cell=lambda row, facts: _software(facts.online.get(row.id, ())),
            is_secondary=True,
        ),
        Column(
            name="created",
            label="Created",
            cell=lambda row, _: Moment(row.inserted_at),
            sort=RELAY_TOKENS.c.inserted_at,
            is_secondary=True,
        ),
    ),
    filters=(
        Search(label="Name", columns=(RELAY_TOKENS.c.name,)),
        Choice(
            name="status",
            label="Status",
            options={"online": "Online", "offline": "Offline"},
            condition_of=_is_online,
        ),
    ),
    empty=Empty(
        "No relays yet",
        "Without a relay clients and gateways cannot find each other. Make one here, then start it on a host with a"
        " public address.",
    ),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        tabs=(
            Tab(
                name="connections",
                label="Connections",
                template="installation/operator/relay_connections.html",
                load=load_connections,
            ),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="delete",
                label="Delete relay",
                run=_delete,
                warning="Its token is refused from now on, and a relay that is connected with it is disconnected.",
                is_dangerous=True,
                typed=lambda token: token.name,
                leaves=True,
            ),
        ),
    ),
    editing=Editing(form=lambda _token: _FORM, make=_make, once=_ONCE),
    more=(PageRoute("/{id}/rotate", rotate, "POST"),),
)
