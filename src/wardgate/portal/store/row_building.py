"""Rows out of what a database returns, quickly.

The `__init__` of a frozen dataclass takes its values by name and writes each through `object.__setattr__`: of a list of 100 rows
that alone is a third of a millisecond. Here each value goes straight into its slot, in the order of the table's columns.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, Final, TypeVar

from wardgate.portal.store import schema
from wardgate.portal.store.rows import Row

_RowT = TypeVar("_RowT", bound=Row)


def built(row_class: type[_RowT], values: Iterable[Any]) -> _RowT:
    """Return a row of the values of all columns, in the order of `select(table)`."""
    row = object.__new__(row_class)
    for into_slot, value in zip(_slots(row_class), values, strict=True):
        into_slot(row, value)
    return row


def _slots(row_class: type[Row]) -> tuple[Callable[[Any, Any], None], ...]:
    slots = _SLOTS.get(row_class)
    if slots is None:
        columns = schema.metadata.tables[row_class.table].c
        slots = _SLOTS[row_class] = tuple(getattr(row_class, column.name).__set__ for column in columns)
    return slots


_SLOTS: Final[dict[type[Row], tuple[Callable[[Any, Any], None], ...]]] = {}


def values_of(row: Any) -> dict[str, Any]:
    """Return a row's values by the names of its columns."""
    return {field.name: getattr(row, field.name) for field in fields(row)}
