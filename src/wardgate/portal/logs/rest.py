"""`/logs` (rest-api §9): four streams, newest first; `/wardgate/logs/export` gives one of them as JSON Lines."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal

import msgspec
from fastapi import Depends, Path, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import ColumnElement

from wardgate.portal.database.log_reading import Count, LogReader, Place, Window
from wardgate.portal.instants import parse_rfc_3339
from wardgate.portal.logs.streams import (
    LOGS,
    STREAM_OF_DIGIT,
    LogEntry,
    Stream,
    by_actor,
    by_email,
    containing,
    entry,
    find,
    time_of,
    within,
)
from wardgate.portal.logs.views import LogEntryView, log_entry, shape_of
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
from wardgate.portal.rest.views import CountedListOf, CountedMetadata, Data

routes = Routes("logs", tag="Logs")
ROUTES: Final = (routes,)

WINDOW: Final = timedelta(days=90)
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
    window: Window
    conditions: tuple[ColumnElement[bool], ...]

    def reader(self, caller: AccountCaller) -> LogReader:
        return LogReader(
            caller.reading_all,
            LOGS[self.stream],
            caller.account.id,
            *self.conditions,
            window=self.window,
        )


async def _wanted(
    caller: ForAccount,
    type: Annotated[  # noqa: A002 - the parameter's name on the wire
        str | None, Query(description="the stream", json_schema_extra={"enum": [s.value for s in Stream]})
    ] = None,
    begin: Annotated[
        str | None, Query(description="RFC 3339; default: 90 days ago", json_schema_extra=DATE_TIME)
    ] = None,
    end: Annotated[
        str | None, Query(description="RFC 3339, inclusive; default: now", json_schema_extra=DATE_TIME)
    ] = None,
    actor_id: Annotated[str | None, Query(json_schema_extra={"format": "uuid"})] = None,
    actor_email: Annotated[str | None, Query(description="exact; not for `api_request`")] = None,
    q: Annotated[str | None, Query(description="text that an entry contains, regardless of case")] = None,
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
    conditions: list[ColumnElement[bool]] = []
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
    return Wanted(stream, within(stream, begin_at, end_at), tuple(conditions))


ForStream = Annotated[Wanted, Depends(_wanted)]


@routes.get("/logs", required=["type"])
async def index(
    caller: ForAccount, wanted: ForStream, limit: Limit = None, page_cursor: PageCursor = None
) -> CountedListOf[LogEntryView]:
    size = parse_limit(limit)
    cursor = None if page_cursor is None else _decode(page_cursor)
    backwards = cursor is not None and cursor.direction == "before"
    reader = wanted.reader(caller)
    rows = await reader.load(
        limit=size + 1,
        beyond=None if cursor is None else _place(wanted.stream, cursor),
        oldest_first=backwards,
    )
    has_more = len(rows) > size
    rows = rows[:size]
    if backwards:
        rows.reverse()
    entries = [entry(wanted.stream, row) for row in rows]
    has_next, has_prev = (True, has_more) if backwards else (has_more, cursor is not None)
    is_all = cursor is None and not has_more
    metadata = CountedMetadata.of(
        Count(len(rows), is_exact=True) if is_all else await reader.count(),
        limit=size,
        next_page=_encode("after", wanted.stream, entries[-1]) if entries and has_next else None,
        prev_page=_encode("before", wanted.stream, entries[0]) if entries and has_prev else None,
        shown=len(rows),
    )
    return CountedListOf(data=[log_entry(one) for one in entries], metadata=metadata)


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
    found = await find(caller.reading_all, caller.account.id, stream, log_id)
    if found is None:
        raise not_found()
    return Data(data=log_entry(found))


@routes.get(
    "/wardgate/logs/export",
    required=["type"],
    tag="Wardgate",
    response_class=StreamingResponse,
    responses={
        200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}, "description": "one entry per line"}
    },
)
async def export(caller: ForAccount, wanted: ForStream) -> StreamingResponse:
    """Return every matching entry of a stream, newest first, one JSON object per line."""
    headers = {"content-disposition": f'attachment; filename="{wanted.stream.value}-log.jsonl"'}
    return StreamingResponse(
        wanted.reader(caller).lines(shape_of(wanted.stream)), media_type=JSON_LINES, headers=headers
    )


def parse_instant(name: str, text: str) -> datetime:
    """Parse an RFC 3339 time of a query.

    Raises:
        Problem: 400, naming the parameter.
    """
    try:
        return parse_rfc_3339(text)
    except ValueError:
        raise _bad(f"`{name}` must be an RFC 3339 timestamp (e.g. `2026-05-26T00:00:00Z`)") from None


def _place(stream: Stream, cursor: _Cursor) -> Place:
    if stream is Stream.CHANGE:
        return (cursor.log_id,)
    return _EPOCH + timedelta(microseconds=cursor.at_us), cursor.log_id


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
