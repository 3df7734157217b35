"""Inserts of many rows and look-ups of few, made ready once for each table and database.

SQLAlchemy looks up what it has compiled and converts parameters by name for every execution, which takes several
times as long as the database does. Rows that come by the thousand (grants, decisions, changes) go to the driver as
tuples, in the words that SQLAlchemy compiled, converted by its own types. What is looked up for each connect and each
call of the API comes from the database in the same way, from SQLite in a tenth of the time.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Dialect, Float, Select, Table, TextClause, Update, insert
from sqlalchemy.types import TypeEngine

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


class PreparedText:
    """A statement with named parameters whose types are declared in it."""

    def __init__(self, statement: TextClause, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        order = compiled.positiontup
        assert order is not None
        self.text = str(compiled)
        self._parameters: tuple[tuple[str, _Convert | None], ...] = tuple(
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in order
        )

    def parameters(self, **values: Any) -> tuple[Any, ...]:
        """Return the values as the driver takes them."""
        return tuple(
            [values[name] if convert is None else convert(values[name]) for name, convert in self._parameters]
        )


@lru_cache(_KEPT)
def prepared_text(statement: TextClause, dialect: Dialect) -> PreparedText:
    """Return the statement, compiled once; for those that are made once in a process."""
    return PreparedText(statement, dialect)


@lru_cache(_KEPT)
def prepared_insert(table: Table, names: tuple[str, ...], dialect: Dialect) -> PreparedInsert:
    """Return the insertion of rows that have these columns, compiled once."""
    return PreparedInsert(table, names, dialect)


class PreparedStatement:
    """A statement whose values are left open; each has the type of the column that it is compared with or set to."""

    def __init__(self, statement: Select[Any] | Update, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        order = compiled.positiontup
        assert order is not None
        self.text = str(compiled)
        self._order: tuple[tuple[str, _Convert | None], ...] = tuple(
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in order
        )
        self._given = dict(compiled.params)  # the number of a LIMIT, say; None where a value is left open

    def parameters(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values as the driver takes them."""
        given = self._given
        return tuple(
            [
                value if convert is None else convert(value)
                for name, convert in self._order
                for value in (values[name] if name in values else given[name],)
            ]
        )


class PreparedSelect(PreparedStatement):
    """A look-up, and how its rows are read."""

    def __init__(self, statement: Select[Any], dialect: Dialect) -> None:
        super().__init__(statement, dialect)
        self._columns: tuple[_Convert | None, ...] = tuple(
            _reading_of(column.type, dialect) for column in statement.selected_columns
        )

    def row(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Return a row of the driver as SQLAlchemy would."""
        return tuple(
            [
                value if convert is None else convert(value)
                for convert, value in zip(self._columns, row, strict=True)
            ]
        )


def _reading_of(type_: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    """Return what makes a value of what the driver gives for one of this type."""
    if isinstance(type_, Float):
        # Both drivers give floats; PostgreSQL's dialect would ask for the number of the server's type.
        return None
    return type_.dialect_impl(dialect).result_processor(dialect, None)


@lru_cache(_KEPT)
def prepared_select(statement: Select[Any], dialect: Dialect) -> PreparedSelect:
    """Return a look-up that is kept for the length of the process, compiled once."""
    return PreparedSelect(statement, dialect)


@lru_cache(_KEPT)
def prepared_update(statement: Update, dialect: Dialect) -> PreparedStatement:
    """Return an update that is kept for the length of the process, compiled once."""
    return PreparedStatement(statement, dialect)
