"""How much a transaction does before everybody else has a turn.

SQLite answers without ever waiting: a transaction about thousands of rows would hold the event loop from end to end.
"""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Final, TypeVar
from uuid import UUID

ROWS_A_TURN: Final = 200
"""Rows read, written or noted, some ten milliseconds."""
STATEMENT_ROWS: Final = 10
"""Rows that take as long as a statement does by itself."""

_T = TypeVar("_T")

as_number: Final[Callable[[UUID], int]] = attrgetter("int")
"""The key by which many ids are sorted: in their own order, which compares two of them in Python."""


def in_turns(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield the rows in slices of one turn each."""
    for start in range(0, len(rows), ROWS_A_TURN):
        yield rows[start : start + ROWS_A_TURN]
