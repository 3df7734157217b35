"""The log of sessions: connects of clients and gateways, and sign-ins to the portal."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping, or_

from wardgate.portal.devices.tables import Device
from wardgate.portal.logs.pages.log_page import Details, Group, LogColumn, LogPage
from wardgate.portal.logs.pages.subjects import actor_cell, actor_name, id_facts, place_of, source_facts
from wardgate.portal.logs.streams import LOGS, Stream, by_actor, containing, within
from wardgate.portal.logs.tables import SESSION_LOGS, SessionLog
from wardgate.portal.sign_in.lookup import as_id
from wardgate.portal.store import AccountTables
from wardgate.portal.web.cells import Cell, Fact, Instant, Link, Tag, Text
from wardgate.portal.web.filters import Choice, Condition, Of, Period, Search
from wardgate.portal.web.listing import Empty
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.visit import Visit

CONTEXTS: Final = {"client": "Client", "gateway": "Gateway", "portal": "Portal"}
Devices = Mapping[UUID, Device]
_ICONS: Final = {"client": "laptop", "gateway": "server", "portal": "globe"}


class _Words(Search):
    """Text in an entry, or its id."""

    def words_condition(self, words: str) -> Condition:
        return or_(containing(Stream.SESSION, words), SESSION_LOGS.c.log_id == words.lower())


class _ByActor(Of):
    def condition(self, _visit: Visit, values: tuple[str, ...], /) -> Condition:
        return by_actor(Stream.SESSION, UUID(values[0]))


def _entry(row: RowMapping) -> SessionLog:
    return SessionLog(**row)


async def _load_devices(_visit: Visit, tables: AccountTables, entries: Sequence[SessionLog]) -> Devices:
    ids = {id_ for id_ in map(_device_id, entries) if id_ is not None}
    devices = await tables.devices.load_all(tables.devices.c.id.in_(ids))
    return {one.id: one for one in devices}


def _device_id(session: SessionLog) -> UUID | None:
    return as_id(session.subject.get("device_id") or session.subject.get("gateway_id") or "")


def _who(session: SessionLog, devices: Devices) -> Cell:
    return _device(session, devices) if session.context == "gateway" else actor_cell(session.subject)


def _device(session: SessionLog, devices: Devices) -> Cell:
    id_ = _device_id(session)
    device = None if id_ is None else devices.get(id_)
    if session.context == "portal":
        return Text("")
    if device is None:
        return Text(f"Deleted {session.context}")
    if session.context == "client":
        return Link(device.name, f"/clients/{device.id}")
    return Link(device.name, f"/sites/{device.site_id}")


async def _details(visit: Visit, session: SessionLog) -> Details:
    subject = session.subject
    async with visit.reading() as tables:
        devices = await _load_devices(visit, tables, [session])
    what = "Sign-in to the portal" if session.context == "portal" else f"A {session.context} connected"
    return Details(
        what,
        (
            Group(
                "Details",
                (
                    Fact("Kind", Tag(CONTEXTS[session.context])),
                    Fact("Who", _who(session, devices)),
                    *([Fact("Client", _device(session, devices))] if session.context == "client" else []),
                    Fact("Time", Instant(session.timestamp, is_exact=True)),
                ),
            ),
            Group("Source", source_facts(subject)),
            Group(
                "Identifiers",
                id_facts(
                    **{
                        "Actor ID": subject.get("actor_id"),
                        "Device ID": subject.get("device_id") or subject.get("gateway_id"),
                        "Token ID": subject.get("token_id"),
                        "Authentication provider": subject.get("auth_provider_id"),
                        "Log ID": session.log_id,
                    }
                ),
            ),
        ),
    )


PAGE: Final[LogPage[SessionLog, Devices]] = LogPage(
    name="Sessions",
    path="/logs/sessions",
    icon="log-out",
    section=Section.AUDIT,
    about="Who signed in to the portal, and which clients and gateways connected.",
    live=Live(tables=frozenset({"portal_sessions"}), presence=frozenset({"client", "gateway"})),
    log=LOGS[Stream.SESSION],
    entry_of=_entry,
    window_of=lambda begin, end: within(Stream.SESSION, begin, end),
    load_facts=_load_devices,
    columns=(
        LogColumn(label="Time", cell=lambda one, _: Instant(one.timestamp)),
        LogColumn(label="Kind", cell=lambda one, _: Text(CONTEXTS[one.context], icon=_ICONS[one.context])),
        LogColumn(label="Who", cell=_who),
        LogColumn(label="Address", cell=lambda one, _: Text(one.subject.get("ip") or "–", is_code=True)),
        LogColumn(label="Place", cell=lambda one, _: Text(place_of(one.subject) or "–"), is_secondary=True),
    ),
    filters=(
        _Words(label="Actor, e-mail or log ID", columns=()),
        Choice(
            name="context",
            label="Kind",
            options=CONTEXTS,
            condition_of=lambda _visit, value: SESSION_LOGS.c.context == value,
        ),
        Period(name="period", label="Period", column=SESSION_LOGS.c.timestamp),
        _ByActor(name="actor_id", label="Sessions of", column=SESSION_LOGS.c.log_id, name_of=actor_name),
    ),
    details=_details,
    empty=Empty(
        "No sessions yet", "Sign-ins to the portal and connects of clients and gateways are noted here."
    ),
)
