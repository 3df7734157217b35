"""Reading logs of any length: a slice of an index at a time, each in a transaction of its own.

A statement costs as much as a slice has entries, whatever the log holds and however rare a match is. Between
two slices others have their turn, nobody's old view of the database keeps it from tidying up, and a reader
that went away is noticed. What is written meanwhile is read or not; entries themselves never change place.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, RowMapping, Table, func, literal, select, tuple_

from wardgate.portal.database.json_lines import Shape, json_lines
from wardgate.portal.database.transaction import BaseTransaction

SCANNED_AT_ONCE: Final = 10_000
LINES_AT_ONCE: Final = 2_000
COUNTED: Final = 100_000
"""Entries that are looked at to count those that match."""

Place = tuple[Any, ...]
"""The key of an entry, or of none between two entries."""

Reading = Callable[[], AbstractAsyncContextManager[BaseTransaction]]


@dataclass(frozen=True, slots=True)
class Log:
    """A table that is read in the order of `key`, which behind `scope` is an index.

    Attributes:
        conditions: what an entry must meet to be anybody's to read.
    """

    table: Table
    key: tuple[Column[Any], ...]
    conditions: tuple[ColumnElement[bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """Part of a log.

    Attributes:
        newest, oldest: no entry of the part lies beyond them; None if unbounded.
        conditions: what the key does not say.
    """

    newest: Place | None = None
    oldest: Place | None = None
    conditions: tuple[ColumnElement[bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Matching entries of a part of a log. `end` is where the search stopped before it had found enough; None: it
    found enough, or read to the end.
    """

    rows: list[RowMapping]
    end: Place | None


@dataclass(frozen=True, slots=True)
class Count:
    """How many entries match, or at least how many."""

    number: int
    is_exact: bool


class LogReader:
    """The entries of one account in a part of a log that meet some more conditions."""

    def __init__(
        self,
        reading: Reading,
        log: Log,
        account_id: Any,
        *conditions: ColumnElement[bool],
        window: Window = Window(),
    ) -> None:
        """Prepare to read; `reading` opens a transaction for each slice."""
        self._reading = reading
        self._log = log
        self._window = window
        self._of_account = log.table.c.account_id == account_id
        self._conditions = (*log.conditions, *window.conditions, *conditions)

    async def load(
        self, *, limit: int, beyond: Place | None = None, oldest_first: bool = False
    ) -> list[RowMapping]:
        """Return the first so many matching entries, or those that follow a place."""
        return (await self.search(limit=limit, beyond=beyond, oldest_first=oldest_first, slices=None)).rows

    async def search(
        self, *, limit: int, beyond: Place | None = None, oldest_first: bool = False, slices: int | None
    ) -> Part:
        """Return as `load` does, but stop after a number of slices, for somebody who waits for the answer."""
        rows: list[RowMapping] = []
        place = beyond
        while True:
            async with self._reading() as transaction:
                end = await self._end_of_slice(transaction, place, SCANNED_AT_ONCE, oldest_first=oldest_first)
                statement = select(self._log.table).where(
                    self._of_account,
                    *self._within_slice(place, end, oldest_first=oldest_first),
                    *self._conditions,
                )
                result = await transaction.execute(
                    statement.order_by(*self._order(oldest_first=oldest_first)).limit(limit - len(rows))
                )
                rows += result.mappings().all()
            if end is None or len(rows) >= limit:
                return Part(rows, None)
            place = end
            if slices is not None:
                slices -= 1
                if slices <= 0:
                    return Part(rows, end)

    async def count(self) -> Count:
        """Count the matching ones among the newest entries of the part."""
        number, place = 0, None
        for _ in range(COUNTED // SCANNED_AT_ONCE):
            async with self._reading() as transaction:
                end = await self._end_of_slice(transaction, place, SCANNED_AT_ONCE)
                statement = (
                    select(func.count())
                    .select_from(self._log.table)
                    .where(self._of_account, *self._within_slice(place, end), *self._conditions)
                )
                number += (await transaction.execute(statement)).scalar_one()
            if end is None:
                return Count(number, is_exact=True)
            place = end
        return Count(number, is_exact=False)

    async def lines(self, shape: Shape) -> AsyncIterator[str]:
        """Yield all matching entries, newest first, as JSON with a line for each, some thousand lines at a time."""
        place: Place | None = None
        while True:
            async with self._reading() as transaction:
                end = await self._end_of_slice(transaction, place, LINES_AT_ONCE)
                statement = json_lines(
                    transaction.dialect,
                    shape,
                    (self._of_account, *self._within_slice(place, end), *self._conditions),
                    self._order(),
                )
                text: str | None = (await transaction.execute(statement)).scalar_one()
            if text:
                yield text
            if end is None:
                return
            place = end

    async def _end_of_slice(
        self, transaction: BaseTransaction, place: Place | None, size: int, *, oldest_first: bool = False
    ) -> Place | None:
        """Return the key of the last entry of the slice that begins after a place, or None if it is the last
        slice. Reads an index only.
        """
        result = await transaction.execute(
            select(*self._log.key)
            .where(self._of_account, *self._within_slice(place, None, oldest_first=oldest_first))
            .order_by(*self._order(oldest_first=oldest_first))
            .limit(1)
            .offset(size - 1)
        )
        row = result.first()
        return None if row is None else tuple(row)

    def _within_slice(
        self, place: Place | None, end: Place | None, *, oldest_first: bool = False
    ) -> list[ColumnElement[bool]]:
        """Match what comes after a place up to and including another, and lies in the window.

        At most one bound on each side, so that no planner chooses the wider one.
        """
        key, bounds = self._key(), []
        if oldest_first:
            if place is not None:
                bounds.append(key > self._literal(place))
            elif self._window.oldest is not None:
                bounds.append(key >= self._literal(self._window.oldest))
            newest = self._window.newest if end is None else end
            if newest is not None:
                bounds.append(key <= self._literal(newest))
        else:
            if place is not None:
                bounds.append(key < self._literal(place))
            elif self._window.newest is not None:
                bounds.append(key <= self._literal(self._window.newest))
            oldest = self._window.oldest if end is None else end
            if oldest is not None:
                bounds.append(key >= self._literal(oldest))
        return bounds

    def _order(self, *, oldest_first: bool = False) -> list[ColumnElement[Any]]:
        return [column if oldest_first else column.desc() for column in self._log.key]

    def _key(self) -> Any:
        # Compared as a row, so that the index is entered at this place; a disjunction would be read from its end.
        return self._log.key[0] if len(self._log.key) == 1 else tuple_(*self._log.key)

    def _literal(self, place: Place) -> Any:
        values = [literal(value, column.type) for value, column in zip(place, self._log.key, strict=True)]
        return values[0] if len(values) == 1 else tuple_(*values)
