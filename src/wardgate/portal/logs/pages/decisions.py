"""The log of decisions: every answer to a request for access, with its reasons."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import RowMapping, or_

from wardgate.policy.explanation import as_text, from_json
from wardgate.portal.database.log_reading import Window
from wardgate.portal.logs.pages.log_page import Details, Group, LogColumn, LogPage
from wardgate.portal.logs.pages.subjects import actor_name, id_facts
from wardgate.portal.logs.streams import DECISION_LOG
from wardgate.portal.logs.tables import DECISIONS, Decision
from wardgate.portal.store import AccountTables
from wardgate.portal.web.cells import Cell, Fact, Instant, Link, Moment, Tag, Text
from wardgate.portal.web.filters import Choice, Condition, Of, Period, Search
from wardgate.portal.web.listing import Empty
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.visit import Visit

OUTCOMES: Final = {"granted": "Granted", "denied": "Denied"}

Names = Mapping[UUID, str]
"""Of clients, by id."""


class _Words(Search):
    """Names in an entry, or its id."""

    def words_condition(self, words: str) -> Condition:
        return or_(super().words_condition(words), DECISIONS.c.log_id == words.lower())


def _entry(row: RowMapping) -> Decision:
    return Decision(**row)


async def _load_names(_visit: Visit, tables: AccountTables, entries: Sequence[Decision]) -> Names:
    ids = {one.device_id for one in entries} | {one.gateway_id for one in entries if one.gateway_id}
    devices = await tables.devices.load_all(tables.devices.c.id.in_(ids))
    return {one.id: one.name for one in devices}


def outcome_tag(decision: Decision) -> Tag:
    return Tag(OUTCOMES[decision.outcome], "good" if decision.outcome == "granted" else "bad")


def _who(decision: Decision, _names: Names) -> Cell:
    return Link(decision.actor_name, f"/actors/{decision.actor_id}")


def _client(decision: Decision, names: Names) -> Cell:
    name = names.get(decision.device_id)
    return Text("Deleted client") if name is None else Link(name, f"/clients/{decision.device_id}")


def _resource(decision: Decision, _names: Names) -> Cell:
    return Link(decision.resource_name or str(decision.resource_id), f"/resources/{decision.resource_id}")


def explanation_text(decision: Decision) -> str:
    """Return the decision's reasons, one fact a line."""
    try:
        return as_text(from_json(decision.explanation))
    except msgspec.ValidationError:
        return "This decision was explained by another version of the program and cannot be shown."


async def _details(visit: Visit, decision: Decision) -> Details:
    async with visit.reading() as tables:
        names = await _load_names(visit, tables, [decision])
    gateway = None if decision.gateway_id is None else names.get(decision.gateway_id, "Deleted gateway")
    facts = [
        Fact("Outcome", outcome_tag(decision)),
        *([] if decision.reason is None else [Fact("Reason", Text(decision.reason, is_code=True))]),
        Fact("Who", _who(decision, names)),
        Fact("Client", _client(decision, names)),
        Fact("Resource", _resource(decision, names)),
        *([] if gateway is None else [Fact("Gateway", Text(gateway))]),
        *([] if decision.expires_at is None else [Fact("Until", Moment(decision.expires_at))]),
        Fact("Time", Instant(decision.decided_at, is_exact=True)),
    ]
    return Details(
        f"{decision.actor_name} → {decision.resource_name or decision.resource_id}",
        (
            Group("Details", facts),
            Group(
                "Identifiers",
                id_facts(
                    **{
                        "Actor ID": decision.actor_id,
                        "Client ID": decision.device_id,
                        "Resource ID": decision.resource_id,
                        "Policy ID": decision.policy_id,
                        "Gateway ID": decision.gateway_id,
                        "Authorization": decision.authorization_id,
                        "Log ID": decision.log_id,
                    }
                ),
            ),
        ),
        "logs/decision.html",
        {"decision": decision, "text": explanation_text(decision)},
    )


async def _resource_name(tables: AccountTables, id_: UUID) -> str | None:
    return _name(await tables.resources.load(id_))


async def _client_name(tables: AccountTables, id_: UUID) -> str | None:
    return _name(await tables.devices.load(id_))


async def _policy_id(_tables: AccountTables, id_: UUID) -> str:
    return str(id_)


def _name(row: Any) -> str | None:
    return None if row is None else row.name


PAGE: Final[LogPage[Decision, Names]] = LogPage(
    name="Decisions",
    path="/logs/decisions",
    icon="scroll-text",
    section=Section.AUDIT,
    about="Every answer to a request for access, with its reasons.",
    live=Live(decisions=True),
    log=DECISION_LOG,
    entry_of=_entry,
    window_of=lambda begin, end: Window(conditions=(DECISIONS.c.decided_at.between(begin, end),)),
    load_facts=_load_names,
    columns=(
        LogColumn(label="Time", cell=lambda one, _: Instant(one.decided_at)),
        LogColumn(label="Outcome", cell=lambda one, _: outcome_tag(one)),
        LogColumn(label="Who", cell=_who),
        LogColumn(label="Resource", cell=_resource),
        LogColumn(label="Client", cell=_client, is_secondary=True),
        LogColumn(label="Reason", cell=lambda one, _: Text(one.reason or ""), is_secondary=True),
    ),
    filters=(
        _Words(
            label="Person, resource or log ID", columns=(DECISIONS.c.actor_name, DECISIONS.c.resource_name)
        ),
        Choice(
            name="outcome",
            label="Outcome",
            options=OUTCOMES,
            condition_of=lambda _visit, value: DECISIONS.c.outcome == value,
        ),
        Period(name="period", label="Period", column=DECISIONS.c.decided_at),
        Of(name="actor_id", label="Decisions on", column=DECISIONS.c.actor_id, name_of=actor_name),
        Of(
            name="resource_id",
            label="Decisions on the resource",
            column=DECISIONS.c.resource_id,
            name_of=_resource_name,
        ),
        Of(name="client_id", label="Decisions on", column=DECISIONS.c.device_id, name_of=_client_name),
        Of(name="policy_id", label="Decisions by policy", column=DECISIONS.c.policy_id, name_of=_policy_id),
    ),
    details=_details,
    empty=Empty(
        "No decisions yet",
        "As soon as a client asks for a resource, the answer and its reasons are noted here.",
        ("/explain", "Explain access"),
    ),
)
