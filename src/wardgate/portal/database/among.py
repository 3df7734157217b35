"""Columns that may have one of a few values, in statements that are put together once.

Statements are kept for a few counts of values only; where there are fewer values, the last is given again, which finds
nothing more.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, bindparam

MOST_AMONG: Final = 64
"""Values of one column in one statement."""

_COUNTS: Final = (1, 4, 16, MOST_AMONG)


def is_among(column: Column[Any], name: str, count: int) -> ColumnElement[bool]:
    """Return the condition that a column has one of `count` values, which are left open under this name."""
    values = [bindparam(f"{name}_{number}", type_=column.type) for number in range(count)]
    return column.in_(values)


def count_for(*lists: Sequence[Any]) -> int:
    """Return the least count that is kept and has room for each list of values.

    Raises:
        ValueError: one has none, or more than `MOST_AMONG`.
    """
    least, most = min(map(len, lists)), max(map(len, lists))
    if least == 0 or most > MOST_AMONG:
        raise ValueError(f"1 to {MOST_AMONG} values are looked up together")
    return next(count for count in _COUNTS if count >= most)


def open_values(name: str, values: Sequence[Any], count: int) -> Mapping[str, Any]:
    """Return what `is_among` has left open."""
    padded = [*values, *[values[-1]] * (count - len(values))]
    return {f"{name}_{number}": value for number, value in enumerate(padded)}
