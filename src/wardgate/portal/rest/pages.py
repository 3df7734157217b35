"""Pagination of lists (rest-api §6): keyset cursors over (`inserted_at`, `id`).

A cursor is the direction and the boundary row's two keys, JSON in unpadded base64url. It carries no
authority, for every query is scoped to the caller's account; what does not decode is refused.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from fastapi import Depends, Query
from pydantic import WithJsonSchema
from sqlalchemy import ColumnElement, and_, or_

from wardgate.portal.rest.problems import Problem
from wardgate.portal.schema.row import Row
from wardgate.portal.store import Repository

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100

BAD_CURSOR: Final = "Invalid page cursor"

_RowT = TypeVar("_RowT", bound=Row)
_CursorT = TypeVar("_CursorT", bound=msgspec.Struct)


class _Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    direction: Literal["after", "before"]
    inserted_us: int
    id: UUID


@dataclass(frozen=True, slots=True)
class PageQuery:
    limit: int
    cursor: "_Cursor | None"


@dataclass(frozen=True, slots=True)
class Page(Generic[_RowT]):
    rows: Sequence[_RowT]
    count: int
    limit: int
    next_page: str | None
    prev_page: str | None


Limit = Annotated[
    str | None,
    Query(description=f"page size, clamped to 1…{MAX_LIMIT}; default {DEFAULT_LIMIT}"),
    WithJsonSchema({"type": "integer", "default": DEFAULT_LIMIT}),
]
PageCursor = Annotated[
    str | None,
    Query(description="`next_page` or `prev_page` of the page before; repeat the filters with it"),
    WithJsonSchema({"type": "string", "format": "page-cursor"}),
]


async def page_query(limit: Limit = None, page_cursor: PageCursor = None) -> PageQuery:
    return PageQuery(parse_limit(limit), None if page_cursor is None else _parse_cursor(page_cursor))


Paging = Annotated[PageQuery, Depends(page_query)]


async def load_page(
    repository: Repository[_RowT],
    query: PageQuery,
    *conditions: ColumnElement[bool],
    newest_first: bool = False,
) -> Page[_RowT]:
    """Load one page of the rows that meet all conditions, in the collection's fixed order.

    Raises:
        ValueError: the transaction is none for lists (`AccountCaller.listing`).
    """
    if not repository.is_long:
        raise ValueError("a list costs what its table has rows, and everybody would wait for it")
    c, cursor = repository.c, query.cursor
    backwards = cursor is not None and cursor.direction == "before"
    descending = newest_first is not backwards
    bounds: tuple[ColumnElement[bool], ...] = ()
    if cursor is not None:
        at = _EPOCH + timedelta(microseconds=cursor.inserted_us)
        bounds = (_beyond(c, at, cursor.id, descending=descending),)
    order = [c.inserted_at.desc(), c.id.desc()] if descending else [c.inserted_at, c.id]
    rows = await repository.load_all(*conditions, *bounds, order_by=order, limit=query.limit + 1)
    has_more = len(rows) > query.limit
    rows = rows[: query.limit]
    if backwards:
        rows.reverse()
    is_all = cursor is None and not has_more
    count = len(rows) if is_all else await repository.count(*conditions)
    has_next, has_prev = (True, has_more) if backwards else (has_more, cursor is not None)
    return Page(
        rows,
        count,
        query.limit,
        _encode("after", rows[-1]) if rows and has_next else None,
        _encode("before", rows[0]) if rows and has_prev else None,
    )


def _beyond(c: Any, at: datetime, id_: UUID, *, descending: bool) -> ColumnElement[bool]:
    if descending:
        return or_(c.inserted_at < at, and_(c.inserted_at == at, c.id < id_))
    return or_(c.inserted_at > at, and_(c.inserted_at == at, c.id > id_))


def parse_limit(text: str | None) -> int:
    """Parse and clamp a page size.

    Raises:
        Problem: 400, it is no integer.
    """
    if text is None:
        return DEFAULT_LIMIT
    digits = text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()):
        raise Problem(HTTPStatus.BAD_REQUEST, "limit must be an integer")
    if len(digits) > 30:
        return 1 if text.startswith("-") else MAX_LIMIT
    return min(max(int(text), 1), MAX_LIMIT)


def encode_cursor(cursor: msgspec.Struct) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def decode_cursor(text: str, type_: type[_CursorT]) -> _CursorT:
    """Decode a cursor.

    Raises:
        Problem: 400 if it is malformed.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=type_)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        raise Problem(HTTPStatus.BAD_REQUEST, BAD_CURSOR) from None


def _parse_cursor(text: str) -> _Cursor:
    cursor = decode_cursor(text, _Cursor)
    try:
        _EPOCH + timedelta(microseconds=cursor.inserted_us)
    except OverflowError:
        raise Problem(HTTPStatus.BAD_REQUEST, BAD_CURSOR) from None
    return cursor


def _encode(direction: Literal["after", "before"], row: Row) -> str:
    return encode_cursor(_Cursor(direction, (row.inserted_at - _EPOCH) // timedelta(microseconds=1), row.id))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
