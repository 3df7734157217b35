"""Inserts of many rows, made ready once for each table and database.

SQLAlchemy looks up what it has compiled and converts parameters by name for every execution, which takes several
times as long as the database does. Rows that come by the thousand (grants, decisions, changes) go to the driver as
tuples, in the words that SQLAlchemy compiled, converted by its own types.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Dialect, Table, insert

_Convert = Callable[[Any], Any]

_KEPT: Final = 256
"""Tables, each with and without a column that the database fills, in the engines of one process."""


class PreparedInsert:
    """The insertion of rows that have these columns."""

    def __init__(self, table: Table, names: tuple[str, ...], dialect: Dialect) -> None:
        compiled = insert(table).compile(dialect=dialect, column_keys=list(names))
        order = compiled.positiontup
        assert order is not None  # both drivers number their parameters
        self.text = str(compiled)
        self._columns: tuple[tuple[str, _Convert | None], ...] = tuple(
            (name, table.c[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in order
        )

    def parameters(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        """Return the rows as the driver takes them."""
        columns = self._columns
        return [
            tuple([row[name] if convert is None else convert(row[name]) for name, convert in columns])
            for row in rows
        ]


@lru_cache(_KEPT)
def prepared_insert(table: Table, names: tuple[str, ...], dialect: Dialect) -> PreparedInsert:
    """Return the insertion of rows that have these columns, compiled once."""
    return PreparedInsert(table, names, dialect)
