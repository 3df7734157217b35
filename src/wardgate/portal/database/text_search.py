"""Words anywhere in a text, in whatever case."""

from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_ESCAPES: Final = str.maketrans({one: f"/{one}" for one in "/%_"})


def contains(column: ColumnElement[Any], words: str) -> ColumnElement[bool]:
    """Return the condition that a text contains words, of which no character is a wildcard.

    SQLAlchemy's `icontains` makes small letters of both sides, which costs SQLite twice what comparing does; there LIKE
    is blind to the case of ASCII by itself.
    """
    return _Contains(column, f"%{words.translate(_ESCAPES)}%")


class _Contains(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


@compiles(_Contains)
def _ilike(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    return _like(element, compiler, "ILIKE", options)


@compiles(_Contains, "sqlite")
def _sqlite_like(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    return _like(element, compiler, "LIKE", options)


def _like(element: _Contains, compiler: SQLCompiler, operator: str, options: dict[str, Any]) -> str:
    column, pattern = (compiler.process(one, **options) for one in element.clauses)
    return f"({column} {operator} {pattern} ESCAPE '/')"
