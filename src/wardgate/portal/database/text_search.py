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
    plain = folded(words)
    # What is typed with accents may stand in a text that cannot be folded, or be folded in another way.
    typed = [] if plain == words.lower() else [_pattern(words)]
    return _Contains(column, _pattern(plain), *typed)


def folded(text: str) -> str:
    """Return text without accents and cases."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(char for char in parts if not unicodedata.combining(char)).casefold()


def folded_or_null(text: str | None) -> str | None:
    """Return a column's text folded, as `SQLITE_FUNCTION` does."""
    return None if text is None else folded(text)


def _pattern(words: str) -> str:
    return f"%{words.translate(_ESCAPES)}%"


class _Contains(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


@compiles(_Contains)
def _in_postgres(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    column, plain, *typed = (compiler.process(one, **options) for one in element.clauses)
    # Only a database in UTF-8 can take accents off.
    bare = f"regexp_replace(normalize({column}, NFKD), '[\\u0300-\\u036f]', '', 'g')"
    is_folded = f"CASE WHEN getdatabaseencoding() = 'UTF8' THEN {bare} ILIKE {plain} ESCAPE '/' END"
    is_there = " OR ".join(f"{column} ILIKE {one} ESCAPE '/'" for one in (plain, *typed))
    return f"({is_there} OR (octet_length({column}) > char_length({column}) AND {is_folded}))"


@compiles(_Contains, "sqlite")
def _in_sqlite(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    column, plain, *_ = (compiler.process(one, **options) for one in element.clauses)
    return (
        f"({column} LIKE {plain} ESCAPE '/' OR (length(CAST({column} AS BLOB)) > length({column})"
        f" AND {SQLITE_FUNCTION}({column}) LIKE {plain} ESCAPE '/'))"
    )
