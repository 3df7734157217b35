"""Rows as lines of JSON that the database writes: a program that only passes text on is ten times as fast,
and holds up nobody.

What a line holds is a `Shape`: for each name, in this order, where its value comes from. Ids are written with
hyphens, instants in UTC with microseconds and `Z`, NULL is `null`, and floats keep every digit that tells
them from their neighbours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Float,
    Select,
    Text,
    and_,
    case,
    cast,
    column,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB

from wardgate.portal.schema.column_types import UtcDateTime, Uuid


@dataclass(frozen=True, slots=True)
class Members:
    """Some members of the object in a JSON column, in this order and no others; `null` for one that it lacks.

    Attributes:
        floats: those of them that are numbers with a fraction.
        is_list: the column holds a list of such objects.
    """

    column: Column[Any]
    names: tuple[str, ...]
    floats: frozenset[str] = frozenset()
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Unless:
    """What a column says, or `null` as long as another one is NULL."""

    is_null: Column[Any]
    value: "Column[Any] | Members"


Field = str | Column[Any] | Members | Unless
"""A word, or where a value comes from."""

Shape = Mapping[str, Field]


def json_lines(
    dialect: str,
    shape: Shape,
    conditions: Iterable[ColumnElement[bool]],
    order: Sequence[ColumnElement[Any]],
) -> Select[Any]:
    """Select one text: a line for each row that meets the conditions, in this order; NULL if there is none."""
    return (_of_sqlite if dialect == "sqlite" else _of_postgres)(shape, and_(*conditions), order)


# ── SQLite ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_sqlite(
    shape: Shape, condition: ColumnElement[bool], order: Sequence[ColumnElement[Any]]
) -> Select[Any]:
    pairs = [part for name, field in shape.items() for part in (_word(name), _in_sqlite(field))]
    # Lines are put together in the order in which the inner statement gives them.
    lines = select(func.json_object(*pairs).label("line")).where(condition).order_by(*order).subquery()
    return select(func.group_concat(lines.c.line, _NEWLINE) + _NEWLINE)


def _in_sqlite(field: Field) -> ColumnElement[Any]:
    match field:
        case str():
            return _word(field)
        case Unless():
            value = case((field.is_null.is_not(None), _in_sqlite(field.value)))
            return func.json(value) if _is_json(field.value) else value
        case Members(is_list=True):
            each = func.json_each(_raw(field.column)).table_valued("value")
            objects = select(func.json_group_array(_members_in_sqlite(each.c.value, field))).select_from(each)
            return func.json(case((field.column.is_not(None), objects.scalar_subquery())))
        case Members():
            members = _members_in_sqlite(_raw(field.column), field)
            return func.json(case((field.column.is_not(None), members)))
        case Column(type=Uuid()):
            return _hyphenated(_raw(field))
        case Column(type=UtcDateTime()):
            return func.replace(_raw(field), " ", "T") + "Z"
        case Column(type=JSON()):
            return func.json(_raw(field))
        case Column(type=Float()):
            return _float(field)
        case _:
            return field


def _is_json(field: Field) -> bool:
    return isinstance(field, Members) or (isinstance(field, Column) and isinstance(field.type, JSON))


def _members_in_sqlite(value: ColumnElement[Any], members: Members) -> ColumnElement[Any]:
    pairs: list[ColumnElement[Any]] = []
    for name in members.names:
        member = func.json_extract(value, _word(f"$.{name}"))
        pairs += [_word(name), _float(member) if name in members.floats else member]
    return func.json_object(*pairs)


def _hyphenated(digits: ColumnElement[str]) -> ColumnElement[str]:
    first, *others = (func.substr(digits, start, length, type_=Text()) for start, length in _PARTS_OF_AN_ID)
    text: ColumnElement[str] = first
    for part in others:
        text = text + "-" + part
    return text


def _float(number: ColumnElement[Any]) -> ColumnElement[Any]:
    """SQLite writes 15 digits of a float, which tell most from their neighbours; 17 tell all."""
    is_told = cast(func.printf(_word("%!.15g"), number), Float) == number
    return case((is_told, number), (number.is_not(None), func.json(func.printf(_word("%!.17g"), number))))


def _raw(column: Column[Any]) -> ColumnElement[str]:
    """Name a column as the text that SQLite keeps, without what SQLAlchemy does to values of its type."""
    return type_coerce(column, Text)


_PARTS_OF_AN_ID: Final = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))


# ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────────────────────


def _of_postgres(
    shape: Shape, condition: ColumnElement[bool], order: Sequence[ColumnElement[Any]]
) -> Select[Any]:
    fields = [_in_postgres(field).label(name) for name, field in shape.items()]
    rows = select(*fields).where(condition).order_by(*order).subquery("line")
    line = cast(func.row_to_json(literal_column("line")), Text)
    return select(func.string_agg(line, _NEWLINE) + _NEWLINE).select_from(rows)


def _in_postgres(field: Field) -> ColumnElement[Any]:
    match field:
        case str():
            return _word(field)
        case Unless():
            return case((field.is_null.is_not(None), _in_postgres(field.value)))
        case Members(is_list=True):
            each = func.jsonb_array_elements(field.column).table_valued(column("value", JSONB))
            objects = select(func.json_agg(_members_in_postgres(each.c.value, field))).select_from(each)
            none = cast(_word("[]"), JSON)
            return case((field.column.is_not(None), func.coalesce(objects.scalar_subquery(), none)))
        case Members():
            return case((field.column.is_not(None), _members_in_postgres(field.column, field)))
        case Column(type=UtcDateTime()):
            return func.to_char(func.timezone("UTC", field), _word('YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        case _:
            return field


def _members_in_postgres(value: ColumnElement[Any], members: Members) -> ColumnElement[Any]:
    typed = type_coerce(value, JSONB)
    return func.json_build_object(
        *(part for name in members.names for part in (_word(name), typed[_word(name)]))
    )


def _word(text: str) -> ColumnElement[str]:
    """Write a word of this program's into the statement."""
    assert "'" not in text
    return literal_column(f"'{text}'", Text())


_NEWLINE: Final = literal_column("'\n'", Text())
