"""The log of changes: who changed which object, and how it was before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import RowMapping, or_

from wardgate.portal.logs.json_diff import Line, changed_names, compare
from wardgate.portal.logs.pages.log_page import Details, Group, LogColumn, LogPage
from wardgate.portal.logs.pages.subjects import actor_cell, actor_name, id_facts, source_facts
from wardgate.portal.logs.streams import LOGS, Stream, by_actor, containing, within
from wardgate.portal.schema.change_feed import CHANGES, Change
from wardgate.portal.schema.declaration import Recording
from wardgate.portal.store import AccountTables
from wardgate.portal.tables import TABLES
from wardgate.portal.web.cells import Cell, Fact, Instant, Tag, Text
from wardgate.portal.web.filters import AnyOf, Choice, Condition, Of, Period, Search
from wardgate.portal.web.listing import Empty
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.visit import Visit

OBJECTS: Final = {
    "accounts": "account",
    "actors": "actor",
    "api_tokens": "API token",
    "auth_providers": "authentication provider",
    "client_tokens": "client token",
    "devices": "device",
    "email_otp_auth_providers": "e-mail code provider",
    "entra_auth_providers": "Entra provider",
    "external_identities": "external identity",
    "gateway_tokens": "gateway token",
    "google_auth_providers": "Google provider",
    "groups": "group",
    "memberships": "membership",
    "oidc_auth_providers": "OIDC provider",
    "okta_auth_providers": "Okta provider",
    "one_time_passcodes": "one-time passcode",
    "policies": "policy",
    "resources": "resource",
    "sites": "site",
    "static_device_pool_members": "device pool member",
    "userpass_auth_providers": "password provider",
}
"""What the rows of a table are called, as far as that is not just its name."""

OPERATIONS: Final = {"insert": "created", "update": "changed", "delete": "deleted"}
UNTOLD: Final = frozenset({"updated_at"})
"""Changes with every change."""

_TONES: Final = {"insert": "good", "update": "caution", "delete": "bad"}
_NAMES: Final = ("name", "email", "slug", "description", "message")


def object_text(table: str) -> str:
    return OBJECTS.get(table) or table.removesuffix("s").replace("_", " ")


def name_of(change: Change) -> str:
    """Return what the changed object is called, as well as its row tells."""
    row = change.after or change.before or {}
    return next((str(row[name]) for name in _NAMES if row.get(name)), str(row.get("id", "")))


def told_fields(change: Change) -> list[str]:
    return [name for name in changed_names(change.before, change.after) if name not in UNTOLD]


def operation_tag(change: Change) -> Tag:
    return Tag(OPERATIONS[change.operation], _TONES[change.operation])  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Difference:
    """What an entry's panel shows side by side; a new or deleted object has one side only."""

    lines: Sequence[Line]
    has_before: bool
    has_after: bool


def difference_of(change: Change) -> Difference:
    before, after = (_told(change.before), _told(change.after))
    return Difference(compare(before, after), change.before is not None, change.after is not None)


def _told(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if row is None else {name: value for name, value in row.items() if name not in UNTOLD}


class _Words(Search):
    """Text in an entry, or its id."""

    def words_condition(self, words: str) -> Condition:
        return or_(containing(Stream.CHANGE, words), CHANGES.c.log_id == words.lower())


class _ObjectWithId(Of):
    """Changes of one object, whose panel links here."""

    def condition(self, _visit: Visit, values: tuple[str, ...], /) -> Condition:
        return is_of_object(UUID(values[0]))


class _ByActor(Of):
    def condition(self, _visit: Visit, values: tuple[str, ...], /) -> Condition:
        return by_actor(Stream.CHANGE, UUID(values[0]))


def is_of_object(id_: UUID) -> Condition:
    """Match changes of the row with this id."""
    return or_(CHANGES.c.after["id"].as_string() == str(id_), CHANGES.c.before["id"].as_string() == str(id_))


async def _the_id(_tables: AccountTables, id_: UUID) -> str:
    return str(id_)


def _entry(row: RowMapping) -> Change:
    return Change(**row)


async def _no_facts(_visit: Visit, _tables: AccountTables, _entries: Sequence[Change]) -> None:
    return None


def _object_cell(change: Change, _facts: None) -> Cell:
    return Text(name_of(change), object_text(change.object))


def _fields_cell(change: Change, _facts: None) -> Cell:
    if change.operation != "update":
        return Text("")
    fields = told_fields(change)
    return Text(", ".join(fields[:3]) + (f" and {len(fields) - 3} more" if len(fields) > 3 else ""))


async def _details(_visit: Visit, change: Change) -> Details:
    subject = change.subject
    row = change.after or change.before or {}
    title = f"{object_text(change.object)} {OPERATIONS[change.operation]}"
    return Details(
        title[0].upper() + title[1:],
        (
            Group(
                "Details",
                (
                    Fact("Object", Text(name_of(change), object_text(change.object))),
                    Fact("Operation", operation_tag(change)),
                    Fact("By", actor_cell(subject)),
                    Fact("Time", Instant(change.committed_at, is_exact=True)),
                ),
            ),
            Group("Source", source_facts(subject)),
            Group(
                "Identifiers",
                id_facts(
                    **{
                        "Object ID": row.get("id"),
                        "Actor ID": (subject or {}).get("actor_id"),
                        "Authentication provider": (subject or {}).get("auth_provider_id"),
                        "Log ID": change.log_id,
                    }
                ),
            ),
        ),
        "logs/difference.html",
        difference_of(change),
    )


AUDITED: Final = tuple(
    sorted(
        name
        for name, declaration in TABLES.items()
        if declaration.recording is Recording.AUDIT and (name == "accounts" or "account_id" in declaration.c)
    )
)

PAGE: Final[LogPage[Change, None]] = LogPage(
    name="Changes",
    path="/logs/changes",
    icon="history",
    section=Section.AUDIT,
    about="Who changed what, with each object before and after.",
    live=Live(tables=frozenset(AUDITED)),
    log=LOGS[Stream.CHANGE],
    entry_of=_entry,
    window_of=lambda begin, end: within(Stream.CHANGE, begin, end),
    load_facts=_no_facts,
    columns=(
        LogColumn(label="Time", cell=lambda one, _: Instant(one.committed_at)),
        LogColumn(label="Object", cell=_object_cell),
        LogColumn(label="Operation", cell=lambda one, _: operation_tag(one)),
        LogColumn(label="By", cell=lambda one, _: actor_cell(one.subject)),
        LogColumn(label="Fields", cell=_fields_cell, is_secondary=True),
    ),
    filters=(
        _Words(label="Actor, name or log ID", columns=()),
        Choice(
            name="operation",
            label="Operation",
            options={name: word.capitalize() for name, word in OPERATIONS.items()},
            condition_of=lambda _visit, value: CHANGES.c.operation == value,
        ),
        AnyOf(
            name="object",
            label="Objects",
            options={name: object_text(name)[0].upper() + object_text(name)[1:] for name in AUDITED},
            condition_of=lambda _visit, value: CHANGES.c.object == value,
        ),
        Choice(
            name="by",
            label="By",
            options={"actors": "People and API clients", "system": "The system"},
            condition_of=lambda _visit, value: (
                CHANGES.c.subject.is_(None) if value == "system" else CHANGES.c.subject.is_not(None)
            ),
        ),
        Period(name="period", label="Period", column=CHANGES.c.committed_at),
        _ObjectWithId(name="id", label="Changes of the object", column=CHANGES.c.log_id, name_of=_the_id),
        _ByActor(name="actor_id", label="Changes by", column=CHANGES.c.log_id, name_of=actor_name),
    ),
    details=_details,
    empty=Empty("No changes yet", "Whatever somebody creates, changes or deletes is noted here."),
)
