"""Words anywhere in a text, in whatever case and with whatever accents: `zurich` finds `Zürich`, and the other way."""

import unicodedata
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

SQLITE_FUNCTION: Final = "wardgate_folded"
_ESCAPES: Final = str.maketrans({one: f"/{one}" for one in "/%_"})


def contains(column: ColumnElement[Any], words: str) -> ColumnElement[bool]:
    """Return the condition that a text contains words, of which no character is a wildcard.

    Most texts are ASCII, where LIKE is blind to the case by itself on SQLite, and ILIKE on PostgreSQL. Others, whose
    bytes are more than their characters, are folded first.
    """
    return _Contains(column, _pattern(words), _pattern(folded(words)))


def folded(text: str | None) -> str | None:
    """Return text without accents and cases."""
    if text is None:
        return None
    parts = unicodedata.normalize("NFKD", text)
    return "".join(char for char in parts if not unicodedata.combining(char)).casefold()


def _pattern(words: str | None) -> str:
    return f"%{(words or '').translate(_ESCAPES)}%"


class _Contains(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


@compiles(_Contains)
def _in_postgres(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    column, typed, plain = (compiler.process(one, **options) for one in element.clauses)
    # Only a database in UTF-8 can take accents off.
    bare = f"regexp_replace(normalize({column}, NFKD), '[\\u0300-\\u036f]', '', 'g')"
    is_folded = f"CASE WHEN getdatabaseencoding() = 'UTF8' THEN {bare} ILIKE {plain} ESCAPE '/' END"
    return (
        f"({column} ILIKE {typed} ESCAPE '/' OR {column} ILIKE {plain} ESCAPE '/'"
        f" OR (octet_length({column}) > char_length({column}) AND {is_folded}))"
    )


@compiles(_Contains, "sqlite")
def _in_sqlite(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    column, _, plain = (compiler.process(one, **options) for one in element.clauses)
    return (
        f"({column} LIKE {plain} ESCAPE '/' OR (length(CAST({column} AS BLOB)) > length({column})"
        f" AND {SQLITE_FUNCTION}({column}) LIKE {plain} ESCAPE '/'))"
    )
