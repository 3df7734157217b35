"""The log of flows: what clients and gateways report of traffic."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import RowMapping, or_

from wardgate.model.filters import LAST_PORT
from wardgate.portal.database.log_reading import LogReader
from wardgate.portal.logs.grant_flows import CLOCKS_APART
from wardgate.portal.logs.pages.log_page import Details, Group, LogColumn, LogPage, reading_of
from wardgate.portal.logs.pages.subjects import actor_name, id_facts
from wardgate.portal.logs.pages.words import duration_text, size_text
from wardgate.portal.logs.streams import LOGS, Stream, containing, within
from wardgate.portal.logs.tables import FLOW_LOGS, FlowLog
from wardgate.portal.logs.views import log_entry
from wardgate.portal.store import AccountTables
from wardgate.portal.web.cells import Cell, Fact, Instant, Link, Several, Tag, Text
from wardgate.portal.web.filters import Choice, Condition, Filter, Of, Period, Search
from wardgate.portal.web.listing import Empty
from wardgate.portal.web.page import Section
from wardgate.portal.web.visit import Visit

ROLES: Final = {"initiator": "Initiator", "responder": "Responder"}
MATCHES_SHOWN: Final = 3
"""How far the two sides' clocks may differ for a report to be matched with the other's."""

PROTOCOLS: Final = ("tcp", "udp")


class _Words(Search):
    """Text in an entry, or its id."""

    def words_condition(self, words: str) -> Condition:
        return or_(containing(Stream.FLOW, words), FLOW_LOGS.c.log_id == words.lower())


@dataclass(frozen=True, kw_only=True)
class ProtocolAndPort(Search):
    """`443`, `tcp`, or `udp/53`."""

    name: str = "traffic"
    columns: Sequence[Any] = ()

    def read(self, given: Sequence[str]) -> tuple[str, ...]:
        values = super().read(given)
        if values:
            parse_traffic(values[0])
        return values

    def words_condition(self, words: str) -> Condition:
        protocol, port = parse_traffic(words)
        of_protocol = FLOW_LOGS.c.protocol == protocol
        at_port = FLOW_LOGS.c.inner_dst_port == port
        if protocol is None:
            return at_port
        return of_protocol if port is None else of_protocol & at_port


def parse_traffic(text: str) -> tuple[str | None, int | None]:
    """Parse a protocol, a port, or both. Raises ValueError."""
    first, slash, second = text.strip().lower().partition("/")
    if not slash and first not in PROTOCOLS:
        return None, _port(first)
    if first not in PROTOCOLS:
        raise ValueError(text)
    return first, _port(second) if slash else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= LAST_PORT):
        raise ValueError(text)
    return int(text)


def _entry(row: RowMapping) -> FlowLog:
    return FlowLog(**row)


async def _no_facts(_visit: Visit, _tables: AccountTables, _entries: Sequence[FlowLog]) -> None:
    return None


def _opened(flow: FlowLog, _facts: None) -> Cell:
    return Instant(flow.flow_start, f"reported by the {flow.role}")


def _who(flow: FlowLog, _facts: None) -> Cell:
    return Link(
        flow.initiator_actor_name, f"/actors/{flow.initiator_actor_id}", flow.initiator_actor_email or ""
    )


def _resource(flow: FlowLog, _facts: None) -> Cell:
    host = flow.inner_domain or flow.inner_dst_ip
    return Link(
        flow.resource_name,
        f"/resources/{flow.resource_id}",
        f"{flow.protocol} {_endpoint(host, flow.inner_dst_port)}",
    )


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def duration_cell(flow: FlowLog) -> Cell:
    """Say how long a flow took. What the clocks of two hosts say cannot always be."""
    if flow.flow_end is None:
        return Tag("Incomplete")
    if flow.flow_end < flow.flow_start:
        return Tag("Clock skew", "caution")
    return Text(duration_text(flow.flow_end - flow.flow_start))


def _sizes(flow: FlowLog, _facts: None) -> Cell:
    if flow.tx_bytes is None and flow.rx_bytes is None:
        return Text("–")
    return Text(f"{size_text(flow.tx_bytes)} ↑ {size_text(flow.rx_bytes)} ↓")


@dataclass(frozen=True, slots=True)
class OtherReport:
    """The other side's report of the same flow."""

    path: str
    at: datetime
    duration: Cell


@dataclass(frozen=True, slots=True)
class FlowView:
    """What an entry's panel shows beside its facts."""

    role: str
    others: Sequence[OtherReport]
    paths: Sequence[tuple[str, str, str]]
    json: str


async def _details(visit: Visit, flow: FlowLog) -> Details:
    traffic = Several(
        (
            Text(_endpoint(flow.inner_src_ip, flow.inner_src_port), is_code=True),
            Text("→"),
            Text(_endpoint(flow.inner_dst_ip, flow.inner_dst_port), is_code=True),
        )
    )
    counters = (
        ("From the client", flow.tx_bytes, flow.tx_packets),
        ("To the client", flow.rx_bytes, flow.rx_packets),
    )
    return Details(
        f"{flow.initiator_actor_name} → {flow.resource_name}",
        (
            Group(
                "Flow",
                (
                    Fact("Reported by", Tag(ROLES[flow.role])),
                    Fact("Protocol", Text(flow.protocol.upper())),
                    Fact("Within the tunnel", traffic),
                    *(
                        []
                        if flow.inner_domain is None
                        else [Fact("Domain", Text(flow.inner_domain, is_code=True))]
                    ),
                    Fact("Opened", Instant(flow.flow_start, is_exact=True)),
                    Fact(
                        "Closed",
                        Text("open") if flow.flow_end is None else Instant(flow.flow_end, is_exact=True),
                    ),
                    Fact("Duration", duration_cell(flow)),
                    *(
                        Fact(label, Text(f"{size_text(size)}, {packets:,} packets"))
                        for label, size, packets in counters
                        if packets is not None
                    ),
                ),
            ),
            Group(
                "Access",
                (
                    Fact("Who", _who(flow, None)),
                    Fact("Resource", _resource(flow, None)),
                    Fact("Authorized", Instant(flow.authorized_at, is_exact=True)),
                    Fact("Until", Instant(flow.authorization_expires_at, is_exact=True)),
                    Fact("Why", Link("Explain", f"/explain?authorization_id={flow.policy_authorization_id}")),
                ),
            ),
            Group("Client", _device_facts(flow)),
            Group(
                "Identifiers",
                id_facts(
                    **{
                        "Client ID": flow.initiator_device_id,
                        "Responder ID": flow.responder_device_id,
                        "Actor ID": flow.initiator_actor_id,
                        "Policy ID": flow.policy_id,
                        "Authorization": flow.policy_authorization_id,
                        "Log ID": flow.log_id,
                    }
                ),
            ),
        ),
        "logs/flow.html",
        FlowView(
            flow.role, await _others(visit, flow), _paths(flow), log_entry(flow).model_dump_json(indent=2)
        ),
    )


def _device_facts(flow: FlowLog) -> Sequence[Fact]:
    system = " ".join(
        part for part in (flow.initiator_device_os_name, flow.initiator_device_os_version) if part
    )
    lines = (
        ("Version", flow.initiator_client_version),
        ("System", system),
        ("Serial number", flow.initiator_device_serial),
        ("Hardware UUID", flow.initiator_device_uuid),
    )
    return [Fact(label, Text(value)) for label, value in lines if value]


def _paths(flow: FlowLog) -> Sequence[tuple[str, str, str]]:
    """Return the outer paths in order: since when, from, to."""
    return [
        (
            str(one.get("path_activated_at") or "initially"),
            _endpoint(one["src_ip"], one["src_port"]) if one.get("src_ip") else "Not observed",
            _endpoint(str(one["dst_ip"]), one["dst_port"]),
        )
        for one in flow.outers or ()
    ]


async def _others(visit: Visit, flow: FlowLog) -> Sequence[OtherReport]:
    """Look for the other side's report: the same endpoints within the tunnel at about the same time."""
    c = FLOW_LOGS.c
    window = within(Stream.FLOW, flow.flow_start - CLOCKS_APART, flow.flow_start + CLOCKS_APART)
    reader = LogReader(
        reading_of(visit, LOGS[Stream.FLOW]),
        LOGS[Stream.FLOW],
        visit.account.id,
        c.initiator_device_id == flow.initiator_device_id,
        c.role != flow.role,
        c.protocol == flow.protocol,
        c.inner_src_ip == flow.inner_src_ip,
        c.inner_src_port == flow.inner_src_port,
        c.inner_dst_port == flow.inner_dst_port,
        c.resource_id == flow.resource_id,
        c.flow_start >= flow.flow_start - CLOCKS_APART,
        window=window,
    )
    part = await reader.search(limit=MATCHES_SHOWN, slices=1)
    return [
        OtherReport(f"{PAGE.path}/{PAGE.place_text(row)}", row["flow_start"], duration_cell(_entry(row)))
        for row in part.rows
    ]


async def _id_text(_tables: AccountTables, id_: UUID) -> str:
    return str(id_)


async def _resource_name(tables: AccountTables, id_: UUID) -> str | None:
    resource = await tables.resources.load(id_)
    return None if resource is None else resource.name


_FILTERS: Final[tuple[Filter, ...]] = (
    _Words(label="Person, resource, address or log ID", columns=()),
    ProtocolAndPort(label="Protocol or port, as in udp/53"),
    Choice(
        name="role",
        label="Reported by",
        options=ROLES,
        condition_of=lambda _visit, value: FLOW_LOGS.c.role == value,
    ),
    Choice(
        name="state",
        label="State",
        options={"complete": "Complete", "incomplete": "Incomplete"},
        condition_of=lambda _visit, value: (
            FLOW_LOGS.c.flow_end.is_(None) if value == "incomplete" else FLOW_LOGS.c.flow_end.is_not(None)
        ),
    ),
    Period(name="period", label="Period", column=FLOW_LOGS.c.flow_start),
    Of(name="actor_id", label="Flows of", column=FLOW_LOGS.c.initiator_actor_id, name_of=actor_name),
    Of(name="resource_id", label="Flows to", column=FLOW_LOGS.c.resource_id, name_of=_resource_name),
    Of(
        name="authorization_id",
        label="Flows under the authorization",
        column=FLOW_LOGS.c.policy_authorization_id,
        name_of=_id_text,
    ),
)

PAGE: Final[LogPage[FlowLog, None]] = LogPage(
    name="Flows",
    path="/logs/flows",
    icon="route",
    section=Section.AUDIT,
    about="What clients and gateways report of traffic: who reached what, for how long, how much.",
    log=LOGS[Stream.FLOW],
    entry_of=_entry,
    window_of=lambda begin, end: within(Stream.FLOW, begin, end),
    load_facts=_no_facts,
    columns=(
        LogColumn(label="Opened", cell=_opened),
        LogColumn(label="Who", cell=_who),
        LogColumn(label="Resource", cell=_resource),
        LogColumn(label="Duration", cell=lambda one, _: duration_cell(one)),
        LogColumn(label="Size", cell=_sizes, is_secondary=True),
    ),
    filters=_FILTERS,
    details=_details,
    empty=Empty(
        "No flows yet",
        "Clients and gateways report traffic if the operator has set an interval, and the policy allows it.",
    ),
)
