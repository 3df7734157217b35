"""What a database refuses, said the same way for SQLite and PostgreSQL.

PostgreSQL holds to lengths, ranges and well-formed text; SQLite stores anything. So `check_storable` looks
first, and a program that was tried on one database meets no surprise on the other.
"""

import math
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Integer, String, Table, exc
from sqlalchemy.sql import visitors

from wardgate.portal.database.errors import Conflict, DanglingReference, StoreError, Unstorable
from wardgate.portal.schema.column_types import UtcDateTime, Uuid
from wardgate.portal.schema.columns import LEAST
from wardgate.portal.tables import metadata

_UNIQUE: Final = "23505"
_DANGLING: Final = frozenset({"23001", "23503"})
_CHECK: Final = "23514"
_DATA_EXCEPTION: Final = "22"


def check_storable(table: Table, values: Mapping[str, Any]) -> None:
    """Check what is about to be stored in columns of `table`.

    Raises:
        Unstorable: text too short, too long or with a NUL or half a surrogate pair, a number out of range or
            not finite.
    """
    for name, column, lengths in _checked_columns(table):
        value = values.get(name)
        # Nearly all that is stored is no value or plain text, and every insert comes by here for each column.
        if value is None or (
            type(value) is str and len(value) in lengths and value.isascii() and "\0" not in value
        ):
            continue
        reason = _fault(column, value)
        if reason is not None:
            raise Unstorable(table.name, name, reason)


@cache
def _checked_columns(table: Table) -> tuple[tuple[str, Column[Any], range], ...]:
    """Return the columns that a value of their type may not fit, each with the lengths that a text may have."""
    return tuple(
        (column.name, column, range(column.info.get(LEAST, 0), _longest(column) + 1))
        for column in table.c
        if not isinstance(column.type, Uuid | UtcDateTime | Boolean) or LEAST in column.info
    )


def _longest(column: Column[Any]) -> int:
    """Return how long plain text in a column may be; -1 if it holds no text."""
    kind = column.type
    if not isinstance(kind, String):
        return -1
    return sys.maxsize - 1 if kind.length is None else kind.length


def sanitized(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a log entry with what cannot be stored cut off, replaced or left out: a log loses
    no entry.
    """
    return {name: _trimmed(table.c[name], value) for name, value in values.items()}


def refusal(error: exc.DBAPIError) -> StoreError | exc.DBAPIError:
    """Return what a database's refusal means; the error itself when it is our own mistake."""
    message, state = str(error.orig), _state(error)
    if state in _DANGLING or (state is None and "FOREIGN KEY" in message.upper()):
        return DanglingReference(message)
    if state == _UNIQUE:
        known = _UNIQUE_KEYS.get(getattr(_cause(error), "constraint_name", ""))
        return error if known is None else Conflict(known.table, known.fields)
    if is_bad_value(error):
        return Unstorable("", "", message.partition("\n")[0])
    named = message.removeprefix("UNIQUE constraint failed: ").removeprefix("index ").strip("'")
    if named in _UNIQUE_KEYS:
        known = _UNIQUE_KEYS[named]
        return Conflict(known.table, known.fields)
    return error


def is_bad_value(error: exc.DBAPIError) -> bool:
    """Tell whether PostgreSQL cannot take in a value at all, such as a NUL in a condition on text."""
    return (_state(error) or "").startswith(_DATA_EXCEPTION) or isinstance(_cause(error), ValueError)


def is_contradiction(error: exc.DBAPIError) -> bool:
    """Tell whether the values of a row do not go together: a CHECK refused them, each of which fits its column."""
    return _state(error) == _CHECK or str(error.orig).startswith("CHECK constraint failed")


def _trimmed(column: Column[Any], value: Any) -> Any:
    if isinstance(value, str):
        text = value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
        return text[: getattr(column.type, "length", None)]
    return value if _fault(column, value) is None else None


def _fault(column: Column[Any], value: Any) -> str | None:
    kind = column.type
    if isinstance(value, str | bytes) and len(value) < column.info.get(LEAST, 0):
        return "is empty" if not value else f"is shorter than {column.info[LEAST]}"
    if isinstance(value, str) and isinstance(kind, String):
        if kind.length is not None and len(value) > kind.length:
            return f"is longer than {kind.length} characters"
        return _text_fault(value)
    if isinstance(value, int) and isinstance(kind, Integer):
        bits = 63 if isinstance(kind, BigInteger) else 31
        return None if -(1 << bits) <= value < 1 << bits else "is out of range"
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number"
    return _json_fault(value) if isinstance(kind, JSON) else None


def _json_fault(value: Any) -> str | None:
    match value:
        case str():
            return _text_fault(value)
        case float():
            return None if math.isfinite(value) else "holds a number that is not finite"
        case dict():
            parts = [*value.keys(), *value.values()]
        case list() | tuple():
            parts = list(value)
        case _:
            return None
    return next((fault for part in parts if (fault := _json_fault(part)) is not None), None)


def _text_fault(value: str) -> str | None:
    if "\0" in value:
        return "holds a NUL character"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair"
    return None


def _cause(error: exc.DBAPIError) -> BaseException | None:
    return None if error.orig is None else error.orig.__cause__


def _state(error: exc.DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _unique_keys() -> dict[str, Conflict]:
    """Map how SQLite and PostgreSQL name a unique index in an error to what the caller is answered."""
    keys = {}
    for table in metadata.tables.values():
        primary = [column.name for column in table.primary_key.columns]
        conflict = Conflict(table.name, tuple(name for name in primary if name != "account_id"))
        keys[str(table.primary_key.name or f"{table.name}_pkey")] = conflict
        keys[", ".join(f"{table.name}.{name}" for name in primary)] = conflict
        for index in table.indexes:
            if index.unique:
                columns = [
                    element.name
                    for expression in index.expressions
                    for element in visitors.iterate(expression)  # type: ignore[arg-type]
                    if isinstance(element, Column)
                ]
                conflict = Conflict(
                    table.name, tuple(name for name in columns if name != "account_id") or ("id",)
                )
                keys[str(index.name)] = conflict
                keys[", ".join(f"{table.name}.{name}" for name in columns)] = conflict
    return keys


_UNIQUE_KEYS: Final = _unique_keys()
