"""Rows out of what a database returns, quickly; and rows as JSON in the change feed, there and back.

The `__init__` of a frozen dataclass takes its values by name and writes each through `object.__setattr__`: of a list of 100 rows
that alone is a third of a millisecond. Here each value goes straight into its slot, in the order of the table's columns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Column, LargeBinary, Table

from wardgate.portal.schema.column_types import UtcDateTime, Uuid

REDACTED: Final = "[redacted]"

_RowT = TypeVar("_RowT")
_Setter = Callable[[Any, Any], None]


class Building(Generic[_RowT]):
    """Makes the rows of one table.

    A row may be made with some of its columns only: a snapshot reads no others, and the change feed has no secrets. To read one that is
    missing is an `AttributeError`, so that none is taken for empty.
    """

    def __init__(self, row_class: type[_RowT], table: Table, secrets: frozenset[str]) -> None:
        self._row_class = row_class
        self._columns = table.c
        self._secrets = secrets
        self._fields: tuple[Field[Any], ...] = fields(row_class)  # type: ignore[arg-type]
        self._slots = self._slots_of([column.name for column in table.c])
        self._decoders = tuple(
            (field, getattr(row_class, field.name).__set__, _decoder_of(table.c[field.name]))
            for field in self._fields
            if field.name not in secrets
        )

    def of(self, values: Iterable[Any]) -> _RowT:
        """Return a row of the values of all columns, in the order of `select(table)`."""
        row = object.__new__(self._row_class)
        for into_slot, value in zip(self._slots, values, strict=True):
            into_slot(row, value)
        return row

    def partial(self, names: Sequence[str]) -> Callable[[Iterable[Any]], _RowT]:
        """Return what makes rows of the values of these columns, in their order; ids may be text, as `slices` has them."""
        slots = self._slots_of(names)
        parse = tuple(_parse_uuid if isinstance(self._columns[name].type, Uuid) else None for name in names)

        def row_of(values: Iterable[Any]) -> _RowT:
            row = object.__new__(self._row_class)
            for into_slot, parsed, value in zip(slots, parse, values, strict=True):
                into_slot(row, value if parsed is None or value is None else parsed(value))
            return row

        return row_of

    def encode(self, row: _RowT) -> dict[str, Any]:
        """Return the row as the change feed keeps it: JSON, secrets as `REDACTED`."""
        return {
            field.name: REDACTED if field.name in self._secrets else _json(getattr(row, field.name))
            for field in self._fields
        }

    def decode(self, image: Mapping[str, Any]) -> _RowT:
        """Return the row of an image, without its secrets.

        A column younger than the image has its default, one that the table has no more is left out.
        """
        row = object.__new__(self._row_class)
        for field, into_slot, decode in self._decoders:
            try:
                value = image[field.name]
            except KeyError:
                into_slot(row, _default_of(field))
            else:
                into_slot(row, value if decode is None or value is None else decode(value))
        return row

    def _slots_of(self, names: Iterable[str]) -> tuple[_Setter, ...]:
        return tuple(getattr(self._row_class, name).__set__ for name in names)


def values_of(row: Any) -> dict[str, Any]:
    """Return a row's values by the names of its columns."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _json(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value


def _decoder_of(column: Column[Any]) -> Callable[[str], Any] | None:
    """Return what undoes `_json`; None where JSON has the value itself."""
    match column.type:
        case Uuid():
            return _parse_uuid
        case UtcDateTime():
            return datetime.fromisoformat
        case LargeBinary():
            return bytes.fromhex
        case _:
            return None


def _parse_uuid(text: str) -> UUID:
    return msgspec.convert(text, UUID)


def _default_of(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default
