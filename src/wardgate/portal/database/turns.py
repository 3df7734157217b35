"""How much a transaction does before everybody else has a turn.

SQLite answers without ever waiting: a transaction about thousands of rows would hold the event loop from end to end.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter
from typing import Final, TypeVar
from uuid import UUID

ROWS_A_TURN: Final = 100
"""Rows read, written or noted, some five milliseconds."""
STATEMENT_ROWS: Final = 10
"""Rows that take as long as a statement does by itself."""

MANY: Final = 2_000
"""Of so many ids each pass through all of them (sorting, hashing, comparing two sets) takes a millisecond or more."""

_T = TypeVar("_T")

as_number: Final[Callable[[UUID], int]] = attrgetter("int")
"""The key by which many ids are sorted: in their own order, which compares two of them in Python."""


def leaving_and_coming(current: Collection[UUID], wanted: Collection[UUID]) -> tuple[list[UUID], list[UUID]]:
    """Return in order who is not wanted any more, and who is wanted and not there."""
    here, there = set(current), set(wanted)
    return sorted(here - there, key=as_number), sorted(there - here, key=as_number)


def in_turns(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield the rows in slices of one turn each."""
    for start in range(0, len(rows), ROWS_A_TURN):
        yield rows[start : start + ROWS_A_TURN]
