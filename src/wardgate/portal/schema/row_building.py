"""Rows out of what a database returns, quickly; and rows as JSON in the change feed, there and back.

The `__init__` of a frozen dataclass takes its values by name and writes each through `object.__setattr__`: of
a list of 100 rows that alone is a third of a millisecond. Here each value goes straight into its slot, in the
order of the table's columns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, get_type_hints
from uuid import UUID

import msgspec
from sqlalchemy import LargeBinary, Table
from sqlalchemy.types import TypeEngine

from wardgate.portal.schema.column_types import UtcDateTime, Uuid, json_instant

REDACTED: Final = "[redacted]"

_RowT = TypeVar("_RowT")
_Setter = Callable[[Any, Any], None]


class Building(Generic[_RowT]):
    """Makes the rows of one table.

    A row may be made with some of its columns only: a snapshot reads no others, and the change feed has no
    secrets. To read one that is missing is an `AttributeError`, so that none is taken for empty.
    """

    def __init__(self, row_class: type[_RowT], table: Table, secrets: frozenset[str]) -> None:
        self._row_class = row_class
        self._columns = table.c
        self._secrets = secrets
        self._fields: tuple[Field[Any], ...] = fields(row_class)  # type: ignore[arg-type]
        self._slots = self._slots_of([column.name for column in table.c])
        kept = [field for field in self._fields if field.name not in secrets]
        self._image = _image_type(row_class, kept)
        self._image_columns = tuple(
            (field.name, _TO_JSON.get(type(table.c[field.name].type))) for field in self._fields
        )
        self._redacted = dict.fromkeys(secrets, REDACTED)
        self._kept_values = attrgetter(*(field.name for field in kept))
        self._kept_slots = self._slots_of([field.name for field in kept])

    def of(self, values: Iterable[Any]) -> _RowT:
        """Return a row of the values of all columns, in the order of `select(table)`."""
        return self._fill(self._slots, values)

    def partial(self, names: Sequence[str]) -> Callable[[Iterable[Any]], _RowT]:
        """Return a builder of rows from the values of these columns; ids may be text, as `slices` has them."""
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
        image: dict[str, Any] = {}
        for name, to_json in self._image_columns:
            value = getattr(row, name)
            image[name] = value if to_json is None or value is None else to_json(value)
        return image | self._redacted

    def decode(self, image: Mapping[str, Any]) -> _RowT:
        """Return the row of an image, without its secrets.

        A column younger than the image has its default, one that the table has no more is left out.
        """
        if self._secrets:
            return self._decode_by_column(image)
        try:
            # Most images have all columns, and msgspec fills the row itself in a third of the time.
            return msgspec.convert(image, self._row_class)
        except msgspec.ValidationError:
            return self._decode_by_column(image)

    def _decode_by_column(self, image: Mapping[str, Any]) -> _RowT:
        return self._fill(self._kept_slots, self._kept_values(msgspec.convert(image, self._image)))

    def _fill(self, slots: tuple[_Setter, ...], values: Iterable[Any]) -> _RowT:
        row = object.__new__(self._row_class)
        for into_slot, value in zip(slots, values, strict=True):
            into_slot(row, value)
        return row

    def _slots_of(self, names: Iterable[str]) -> tuple[_Setter, ...]:
        return tuple(getattr(self._row_class, name).__set__ for name in names)


def values_of(row: Any) -> dict[str, Any]:
    """Return a row's values by the names of its columns."""
    names, values = _reader_of(row.__class__)
    return dict(zip(names, values(row), strict=True))


@cache
def _reader_of(row_class: type[Any]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return the names of a row's columns, of which there are several, and what reads them all."""
    names = tuple(field.name for field in fields(row_class))
    return names, attrgetter(*names)


_TO_JSON: Final[Mapping[type[TypeEngine[Any]], Callable[[Any], Any]]] = {
    Uuid: msgspec.to_builtins,  # in C, unlike `str`
    UtcDateTime: json_instant,
    LargeBinary: bytes.hex,
}


def _parse_uuid(text: str) -> UUID:
    return msgspec.convert(text, UUID)


def _image_type(row_class: type, kept: Sequence[Field[Any]]) -> type[msgspec.Struct]:
    """Return the shape of an image, in which msgspec converts all columns by one call into C."""
    hints = get_type_hints(row_class)
    members: list[tuple[str, Any, Any]] = []
    for field in kept:
        hint, default = hints[field.name], None
        if field.default_factory is not MISSING:
            default = msgspec.field(default_factory=field.default_factory)
        elif field.default is not MISSING:
            default = field.default
        else:
            hint |= None
        members.append((field.name, hint, default))
    return msgspec.defstruct(f"{row_class.__name__}Image", members)
