"""`/logs` (rest-api §9): four streams, newest first; `/wardgate/logs/export` gives one of them as JSON Lines."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal

import msgspec
from fastapi import Depends, Path, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import ColumnElement, literal, tuple_

from wardgate.portal.instants import parse_rfc_3339
from wardgate.portal.logs.views import LogEntryView, json_line, log_entry
from wardgate.portal.rest.caller import AccountCaller, ForAccount
from wardgate.portal.rest.pages import (
    BAD_CURSOR,
    Limit,
    PageCursor,
    decode_cursor,
    encode_cursor,
    parse_limit,
)
from wardgate.portal.rest.parameters import DATE_TIME, parse_id
from wardgate.portal.rest.problems import Problem, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, Metadata
from wardgate.portal.schema.column_types import UtcDateTime
from wardgate.portal.store.logs import (
    STREAM_OF_DIGIT,
    LogEntry,
    Logs,
    Stream,
    by_actor,
    by_email,
    containing,
    sort_keys,
    time_of,
    within,
)

routes = Routes("logs", tag="Logs")
ROUTES: Final = (routes,)

WINDOW: Final = timedelta(days=90)
EXPORT_SLICE: Final = 1000
JSON_LINES: Final = "application/x-ndjson"

_NAMES: Final = ", ".join(
    stream.value for stream in (Stream.CHANGE, Stream.SESSION, Stream.FLOW, Stream.API_REQUEST)
)
_LOG_ID: Final = re.compile(r"[0-9a-fA-F]{24}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    direction: Literal["after", "before"]
    at_us: int
    log_id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries of which stream."""

    stream: Stream
    conditions: tuple[ColumnElement[bool], ...]


async def _wanted(
    caller: ForAccount,
    type: Annotated[  # noqa: A002 - the parameter's name on the wire
        str | None, Query(description="the stream", json_schema_extra={"enum": [s.value for s in Stream]})
    ] = None,
    begin: Annotated[
        str | None, Query(description="RFC 3339; default: 90 days ago", json_schema_extra=DATE_TIME)
    ] = None,
    end: Annotated[
        str | None, Query(description="RFC 3339, included; default: now", json_schema_extra=DATE_TIME)
    ] = None,
    actor_id: Annotated[str | None, Query(json_schema_extra={"format": "uuid"})] = None,
    actor_email: Annotated[str | None, Query(description="exact; not for `api_request`")] = None,
    q: Annotated[str | None, Query(description="text that an entry contains, whatever its case")] = None,
) -> Wanted:
    if not type:
        raise _bad(f"`type` is required and must be one of: {_NAMES}")
    try:
        stream = Stream(type)
    except ValueError:
        raise _bad(f"`type` must be one of: {_NAMES}") from None
    now = caller.services.environment.clock.now()
    begin_at = parse_instant("begin", begin) if begin else now - WINDOW
    end_at = parse_instant("end", end) if end else now
    if begin_at > end_at:
        raise _bad("`begin` must be less than or equal to `end`")
    conditions = [within(stream, begin_at, end_at)]
    if actor_id:
        actor = parse_id(actor_id)
        if actor is None:
            raise _bad("`actor_id` must be a UUID")
        conditions.append(by_actor(stream, actor))
    if actor_email:
        if stream is Stream.API_REQUEST:
            raise _bad("`actor_email` is not supported for `type=api_request`")
        conditions.append(by_email(stream, actor_email))
    if q:
        conditions.append(containing(stream, q))
    return Wanted(stream, tuple(conditions))


ForStream = Annotated[Wanted, Depends(_wanted)]


@routes.get("/logs", required=["type"])
async def index(
    caller: ForAccount, wanted: ForStream, limit: Limit = None, page_cursor: PageCursor = None
) -> ListOf[LogEntryView]:
    size = parse_limit(limit)
    cursor = None if page_cursor is None else _decode(page_cursor)
    backwards = cursor is not None and cursor.direction == "before"
    beyond = () if cursor is None else (_beyond(wanted.stream, cursor, newer=backwards),)
    async with caller.reading_all() as transaction:
        logs = Logs(transaction, caller.account.id)
        rows = await logs.load(
            wanted.stream, *wanted.conditions, *beyond, limit=size + 1, oldest_first=backwards
        )
        count = await logs.count(wanted.stream, *wanted.conditions)
    has_more = len(rows) > size
    rows = rows[:size]
    if backwards:
        rows.reverse()
    has_next, has_prev = (True, has_more) if backwards else (has_more, cursor is not None)
    metadata = Metadata(
        count=count,
        limit=size,
        next_page=_encode("after", wanted.stream, rows[-1]) if rows and has_next else None,
        prev_page=_encode("before", wanted.stream, rows[0]) if rows and has_prev else None,
    )
    return ListOf(data=[log_entry(row) for row in rows], metadata=metadata)


@routes.get("/logs/{log_id}")
async def show(
    caller: ForAccount,
    log_id: Annotated[str, Path(json_schema_extra={"pattern": "^[0-9a-fA-F]{24}$"})],
) -> Data[LogEntryView]:
    if _LOG_ID.fullmatch(log_id) is None:
        raise _bad("`log_id` must be a 24-char hex string")
    stream = STREAM_OF_DIGIT.get(log_id[0].lower())
    if stream is None:
        raise not_found()
    async with caller.reading_all() as transaction:
        row = await Logs(transaction, caller.account.id).find(stream, log_id)
    if row is None:
        raise not_found()
    return Data(data=log_entry(row))


@routes.get(
    "/wardgate/logs/export",
    required=["type"],
    tag="Wardgate",
    response_class=StreamingResponse,
    responses={
        200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}, "description": "one entry a line"}
    },
)
async def export(caller: ForAccount, wanted: ForStream) -> StreamingResponse:
    """Give every entry of a stream that matches, newest first, one JSON object a line."""
    headers = {"content-disposition": f'attachment; filename="{wanted.stream.value}-log.jsonl"'}
    return StreamingResponse(_lines(caller, wanted), media_type=JSON_LINES, headers=headers)


def parse_instant(name: str, text: str) -> datetime:
    """Parse an RFC 3339 time of a query.

    Raises:
        Problem: 400, naming the parameter.
    """
    try:
        return parse_rfc_3339(text)
    except ValueError:
        raise _bad(f"`{name}` must be an RFC 3339 timestamp (e.g. `2026-05-26T00:00:00Z`)") from None


async def _lines(caller: AccountCaller, wanted: Wanted) -> AsyncIterator[bytes]:
    """Read in slices, each in a transaction of its own, so that a slow reader holds nothing."""
    beyond: tuple[ColumnElement[bool], ...] = ()
    while True:
        async with caller.reading_all() as transaction:
            logs = Logs(transaction, caller.account.id)
            rows = await logs.load(wanted.stream, *wanted.conditions, *beyond, limit=EXPORT_SLICE)
        if rows:
            yield b"".join(map(json_line, rows))
        if len(rows) < EXPORT_SLICE:
            return
        beyond = (_beyond(wanted.stream, _cursor("after", wanted.stream, rows[-1]), newer=False),)


def _beyond(stream: Stream, cursor: _Cursor, *, newer: bool) -> ColumnElement[bool]:
    *time, log_id = sort_keys(stream)
    further = log_id > cursor.log_id if newer else log_id < cursor.log_id
    if not time:
        return further
    at = _EPOCH + timedelta(microseconds=cursor.at_us)
    # Compared as a row, so that the index is entered at this place; a disjunction would be read from its end.
    place = tuple_(literal(at, UtcDateTime()), literal(cursor.log_id))
    key = tuple_(time[0], log_id)
    return key > place if newer else key < place


def _cursor(direction: Literal["after", "before"], stream: Stream, row: LogEntry) -> _Cursor:
    return _Cursor(direction, (time_of(stream, row) - _EPOCH) // timedelta(microseconds=1), row.log_id)


def _encode(direction: Literal["after", "before"], stream: Stream, row: LogEntry) -> str:
    return encode_cursor(_cursor(direction, stream, row))


def _decode(text: str) -> _Cursor:
    cursor = decode_cursor(text, _Cursor)
    try:
        _EPOCH + timedelta(microseconds=cursor.at_us)
    except OverflowError:
        raise Problem(HTTPStatus.BAD_REQUEST, BAD_CURSOR) from None
    return cursor


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, detail)
