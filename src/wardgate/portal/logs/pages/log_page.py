"""A log as a page: the newest entries first, filters in the URL, and a wide panel for one entry.

    /{slug}/logs/changes?q=…&after=PLACE     entries older than a place
    /{slug}/logs/changes/PLACE               … with one entry beside them

A place is the entry's key in the log's index, so that a page costs what it shows, however long the log is. A search
for what is rare stops after some slices and says how far it has come; the person decides whether it goes on.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Column, ColumnElement, RowMapping, String
from starlette.responses import Response

from wardgate.portal.database.log_reading import Log, LogReader, Place, Reading, Window
from wardgate.portal.schema.column_types import UtcDateTime
from wardgate.portal.schema.rights import Action
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.cells import Cell, Coordinates, Fact
from wardgate.portal.web.filters import Filter, Of, Period, bounds
from wardgate.portal.web.listing import Empty, Query, Side
from wardgate.portal.web.page import Page, PageRoute
from wardgate.portal.web.visit import Visit

SIZES: Final = (25, 50, 100)
DEFAULT_SIZE: Final = 25
SLICES_AT_ONCE: Final = 10
"""How far one request searches: this many slices of `SCANNED_AT_ONCE` entries."""

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_A_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_DIGITS: Final = 18
_LOG_ID_CHARS: Final = 24

_EntryT = TypeVar("_EntryT")
_FactsT = TypeVar("_FactsT")


@dataclass(frozen=True, kw_only=True)
class LogColumn(Generic[_EntryT, _FactsT]):
    """One column of a log; `is_secondary` is left out where there is little room."""

    label: str
    cell: Callable[[_EntryT, _FactsT], Cell]
    is_secondary: bool = False
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Some facts of an entry's panel under a heading."""

    heading: str
    facts: Sequence[Fact]

    @property
    def point(self) -> Coordinates | None:
        """What a map shows beside the facts."""
        return next((one.cell for one in self.facts if isinstance(one.cell, Coordinates)), None)


@dataclass(frozen=True, slots=True)
class Details:
    """One entry's panel: `template` shows `shown`, and the groups of facts follow it."""

    title: str
    groups: Sequence[Group]
    template: str | None = None
    shown: Any = None


@dataclass(frozen=True, slots=True)
class LogView:
    """One page of a log.

    Attributes:
        rows: the place of each entry with its cells.
        newer, older: query strings of the pages beside it.
        searched_to: query string to go on with, where a search stopped before it had found a page full.
    """

    rows: Sequence[tuple[str, Sequence[Cell]]]
    newer: str | None
    older: str | None
    searched_to: str | None
    notices: Sequence[str]
    is_newest: bool


@dataclass(frozen=True, kw_only=True)
class LogPage(Page, Generic[_EntryT, _FactsT]):
    """The page of one log.

    Attributes:
        about: one line below the heading.
        log: where it is.
        entry_of: makes an entry of a row.
        window_of: the part of the log between two instants.
        load_facts: gathers what cells need beside the entries, for all of them at once.
        details: an entry's panel.
    """

    about: str
    log: Log
    entry_of: Callable[[RowMapping], _EntryT]
    window_of: Callable[[datetime, datetime], Window]
    load_facts: Callable[[Visit, AccountTables, Sequence[_EntryT]], Awaitable[_FactsT]]
    columns: tuple[LogColumn[_EntryT, _FactsT], ...]
    details: Callable[[Visit, _EntryT], Awaitable[Details]]
    empty: Empty
    filters: tuple[Filter, ...] = ()

    def routes(self) -> Sequence[PageRoute]:
        return (PageRoute("", self._list), PageRoute("/{place}", self._details))

    def place_text(self, row: RowMapping) -> str:
        """Return an entry's place as it stands in a URL."""
        return encode_place(tuple(row[column.name] for column in self.log.key))

    async def _list(self, visit: Visit) -> Response:
        return await self._show(visit, None)

    async def _details(self, visit: Visit) -> Response:
        place = parse_place(self.log, visit.request.path_params["place"])
        row = None if place is None else await self._find(visit, place)
        if row is None:
            told = "This entry does not exist: it was older than the log is kept, or never there."
            return visit.go(self.path, toast=told, tone="caution")
        details = await self.details(visit, self.entry_of(row))
        values = {"place": self.place_text(row), "details": details}
        return await self._show(visit, Side(details.title, "logs/entry.html", values, is_wide=True))

    async def _find(self, visit: Visit, place: Place) -> RowMapping | None:
        """Return the entry at a place."""
        reader = LogReader(
            reading_of(visit, self.log), self.log, visit.account.id, window=Window(place, place)
        )
        rows = await reader.load(limit=1)
        return rows[0] if rows else None

    async def _show(self, visit: Visit, side: Side | None) -> Response:
        query = self._query(visit)
        shown = await self._shown(visit, query)
        beside = {name: visit.request.query_params.get(name) for name in ("after", "before")}
        return await visit.show(
            "logs/log.html",
            page=self,
            query=query,
            shown=shown,
            side=side,
            here_query=query.text(**beside),
            is_live=shown.is_newest and not query.is_narrowed,
        )

    async def _shown(self, visit: Visit, query: Query) -> LogView:
        given = visit.request.query_params
        after, before = (parse_place(self.log, given.get(name, "")) for name in ("after", "before"))
        is_backwards = before is not None and after is None
        reader = await self._reader(visit, query)
        part = await reader.search(
            limit=query.size + 1,
            beyond=before if is_backwards else after,
            oldest_first=is_backwards,
            slices=SLICES_AT_ONCE,
        )
        rows = part.rows[: query.size]
        has_more = len(part.rows) > query.size
        if is_backwards:
            rows.reverse()
        entries = [self.entry_of(row) for row in rows]
        async with visit.reading() as tables:
            facts = await self.load_facts(visit, tables, entries)
            notices = await self._notices(tables, query)
        cells = [[column.cell(one, facts) for column in self.columns] for one in entries]
        places = [self.place_text(row) for row in rows]
        has_newer, has_older = (has_more, True) if is_backwards else (after is not None, has_more)
        # A search that stopped goes on where it stopped, whichever way it went.
        reached = None if part.end is None else encode_place(part.end)
        return LogView(
            rows=list(zip(places, cells, strict=True)),
            newer=query.text(before=places[0]) if places and has_newer else None,
            older=query.text(after=places[-1]) if places and has_older else None,
            searched_to=None
            if reached is None
            else query.text(**{"before" if is_backwards else "after": reached}),
            notices=notices,
            is_newest=after is None and before is None,
        )

    async def _reader(self, visit: Visit, query: Query) -> LogReader:
        conditions: list[ColumnElement[bool]] = []
        window = Window()
        for one in self.filters:
            values = query.filters.get(one.name)
            if values is None:
                continue
            if isinstance(one, Period):
                begin, end = bounds(values)
                soon = visit.services.environment.clock.now() + timedelta(days=1)
                window = self.window_of(max(begin or EARLIEST, EARLIEST), end or soon)
            else:
                conditions.append(one.condition(visit, values))
        return LogReader(reading_of(visit, self.log), self.log, visit.account.id, *conditions, window=window)

    async def _notices(self, tables: AccountTables, query: Query) -> list[str]:
        notices = []
        for one in self.filters:
            if isinstance(one, Of) and one.name in query.filters:
                name = await one.name_of(tables, UUID(query.filters[one.name][0]))
                notices.append(f"{one.label} {name or 'that does not exist any more'}")
        return notices

    def _query(self, visit: Visit) -> Query:
        """Read the URL; what is invalid is left out and named."""
        given, wrong = visit.query(), []
        filters: dict[str, tuple[str, ...]] = {}
        for one in self.filters:
            try:
                values = one.read(given.get(one.name, []))
            except ValueError:
                wrong.append(one.label.lower())
                continue
            if values:
                filters[one.name] = values
        size = given.get("size", [visit.request.cookies.get("page_size", "")])[-1]
        wrong += ["place" for name in ("after", "before") if self._is_wrong(given.get(name))]
        periods = frozenset(one.name for one in self.filters if isinstance(one, Period))
        number = int(size) if size in map(str, SIZES) else DEFAULT_SIZE
        return Query(filters, "", 1, number, tuple(wrong), "", periods)

    def _is_wrong(self, given: list[str] | None) -> bool:
        return given is not None and given[-1] != "" and parse_place(self.log, given[-1]) is None


def reading_of(visit: Visit, log: Log) -> Reading:
    """Return what opens a transaction for each slice of a log."""
    return partial(_reading, visit, log)


@asynccontextmanager
async def _reading(visit: Visit, log: Log) -> AsyncIterator[Transaction]:
    """Open a transaction for what may take long; the log's queries name the account themselves."""
    async with visit.services.store.reading(is_long=True) as transaction:
        transaction.on_behalf_of(visit.actor).require(Action.READ, log.table.name)
        yield transaction


def encode_place(place: Place) -> str:
    return "-".join(
        str((part - _EPOCH) // _A_MICROSECOND) if isinstance(part, datetime) else str(part) for part in place
    )


def parse_place(log: Log, text: str) -> Place | None:
    """Return the place that a URL names; None: it is none of this log's."""
    parts = text.split("-")
    if len(parts) != len(log.key):
        return None
    try:
        return tuple(_parsed(part, column) for part, column in zip(parts, log.key, strict=True))
    except (ValueError, OverflowError):
        return None


def _parsed(text: str, column: Column[Any]) -> Any:
    if isinstance(column.type, String):
        if not (text.isascii() and text.isalnum() and len(text) <= _LOG_ID_CHARS):
            raise ValueError(text)
        return text.lower()
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise ValueError(text)
    return _EPOCH + int(text) * _A_MICROSECOND if isinstance(column.type, UtcDateTime) else int(text)
