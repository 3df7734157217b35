"""Entries of the log streams as the API represents them (rest-api §9.4, §9.5)."""

from typing import Annotated, Any, Final, Literal, assert_never
from uuid import UUID

from pydantic import BaseModel, Field, RootModel, WithJsonSchema
from sqlalchemy import Column, ColumnCollection

from wardgate.portal.database import json_lines
from wardgate.portal.database.json_lines import Members, Shape, Unless
from wardgate.portal.logs.streams import LogEntry, Stream
from wardgate.portal.logs.tables import (
    API_REQUEST_LOGS,
    FLOW_LOGS,
    SESSION_LOGS,
    ApiRequest,
    FlowLog,
    SessionLog,
)
from wardgate.portal.rest.views import Instant
from wardgate.portal.schema.change_feed import CHANGES, Change

Image = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "the row, column by column; secrets are `[redacted]`",
            "additionalProperties": {
                "type": ["string", "number", "boolean", "null", "array", "object"],
                "items": {"type": ["string", "number", "boolean", "null", "object"]},
            },
        }
    ),
]


class Subject(BaseModel):
    """Who did it, as known then; clients and gateways name their device and token too."""

    actor_id: UUID | None = None
    actor_name: str | None = None
    actor_email: str | None = None
    actor_type: str | None = None
    auth_provider_id: UUID | None = None
    ip: str | None = None
    ip_region: str | None = None
    ip_city: str | None = None
    ip_lat: float | None = None
    ip_lon: float | None = None
    user_agent: str | None = None
    device_id: UUID | None = None
    gateway_id: UUID | None = None
    token_id: UUID | None = None


class ChangeEntry(BaseModel):
    type: Literal["change"] = "change"
    log_id: str
    timestamp: Instant
    object: str
    operation: Literal["insert", "update", "delete"]
    before: Image | None
    after: Image | None
    subject: Subject | None


class SessionEntry(BaseModel):
    type: Literal["session"] = "session"
    log_id: str
    timestamp: Instant
    context: Literal["client", "gateway", "portal"]
    subject: Subject


class ApiRequestEntry(BaseModel):
    type: Literal["api_request"] = "api_request"
    log_id: str
    timestamp: Instant
    actor_id: UUID | None
    api_token_id: UUID
    method: str
    path: str
    content_length: int | None
    request_id: str
    user_agent: str
    ip: str
    ip_region: str | None
    ip_city: str | None
    ip_lat: float | None
    ip_lon: float | None


class Outer(BaseModel):
    """One path that carried the flow; source address and port are both known or both not."""

    src_ip: str | None = None
    src_port: int | None = None
    dst_ip: str
    dst_port: int
    path_activated_at: str | None = None


class FlowEntry(BaseModel):
    """One side's report of a flow, oriented from initiator to responder; counters are null while it is open."""

    type: Literal["flow"] = "flow"
    log_id: str
    timestamp: Instant
    initiator_device_id: UUID
    responder_device_id: UUID
    role: Literal["initiator", "responder"]
    policy_authorization_id: UUID
    policy_id: UUID
    protocol: Literal["tcp", "udp"]
    flow_start: Instant
    flow_end: Instant | None
    last_packet: Instant | None
    authorized_at: Instant
    authorization_expires_at: Instant
    initiator_auth_provider_id: UUID | None
    initiator_actor_id: UUID
    initiator_actor_name: str
    initiator_actor_email: str | None
    initiator_client_version: str | None
    initiator_device_os_name: str | None
    initiator_device_os_version: str | None
    initiator_device_serial: str | None
    initiator_device_uuid: str | None
    initiator_device_identifier_for_vendor: str | None
    initiator_device_firebase_installation_id: str | None
    resource_id: UUID
    resource_name: str
    resource_address: str | None
    inner_src_ip: str
    inner_dst_ip: str
    inner_src_port: int
    inner_dst_port: int
    inner_domain: str | None
    outers: list[Outer] | None
    rx_packets: int | None
    tx_packets: int | None
    rx_bytes: int | None
    tx_bytes: int | None


class LogEntryView(RootModel[ChangeEntry | SessionEntry | FlowEntry | ApiRequestEntry]):
    """An entry of one of the streams; `type` says which."""

    root: ChangeEntry | SessionEntry | FlowEntry | ApiRequestEntry = Field(discriminator="type")


def log_entry(row: LogEntry) -> LogEntryView:
    """Show one entry."""
    return LogEntryView(_shown(row))


def shape_of(stream: Stream) -> Shape:
    """Return how the database writes an entry: the same as `log_entry` shows."""
    return _SHAPES[stream]


def _shown(row: LogEntry) -> ChangeEntry | SessionEntry | FlowEntry | ApiRequestEntry:
    match row:
        case Change():
            return ChangeEntry(
                log_id=row.log_id,
                timestamp=row.committed_at,
                object=row.object,
                operation=row.operation,  # type: ignore[arg-type] # the table admits these words only
                before=row.before,
                after=row.after,
                subject=None if row.subject is None else Subject(**row.subject),
            )
        case SessionLog():
            return SessionEntry(
                log_id=row.log_id,
                timestamp=row.timestamp,
                context=row.context,  # type: ignore[arg-type] # the table admits these words only
                subject=Subject(**row.subject),
            )
        case ApiRequest():
            names = ApiRequestEntry.model_fields.keys() - {"type", "timestamp", "api_token_id"}
            values = {name: getattr(row, name) for name in names}
            return ApiRequestEntry(**values, timestamp=row.inserted_at, api_token_id=row.token_id)
        case FlowLog():
            values = {
                name: getattr(row, name) for name in FlowEntry.model_fields.keys() - {"type", "timestamp"}
            }
            if row.flow_end is None:
                values["outers"] = None
            return FlowEntry(**values, timestamp=row.inserted_at)
        case _:
            assert_never(row)


def _shape(
    view: type[BaseModel], columns: ColumnCollection[str, Column[Any]], **others: json_lines.Field
) -> Shape:
    fields: dict[str, json_lines.Field] = {"type": view.model_fields["type"].default, **others}
    return {name: fields[name] if name in fields else columns[name] for name in view.model_fields}


def _subject(column: Column[Any]) -> Members:
    return Members(column, tuple(Subject.model_fields), floats=frozenset({"ip_lat", "ip_lon"}))


_changes, _sessions = CHANGES.c, SESSION_LOGS.c
_calls, _flows = API_REQUEST_LOGS.c, FLOW_LOGS.c
_SHAPES: Final = {
    Stream.CHANGE: _shape(
        ChangeEntry, _changes, timestamp=_changes.committed_at, subject=_subject(_changes.subject)
    ),
    Stream.SESSION: _shape(SessionEntry, _sessions, subject=_subject(_sessions.subject)),
    Stream.API_REQUEST: _shape(
        ApiRequestEntry, _calls, timestamp=_calls.inserted_at, api_token_id=_calls.token_id
    ),
    Stream.FLOW: _shape(
        FlowEntry,
        _flows,
        timestamp=_flows.inserted_at,
        outers=Unless(_flows.flow_end, Members(_flows.outers, tuple(Outer.model_fields), is_list=True)),
    ),
}
