"""Column types that both databases know, and that SQLite's texts are read back from quickly.

SQLite keeps an id as 32 hexadecimal digits and an instant as text without a zone. Each is turned into its
value by one call into C: a page of a list has hundreds of them, a snapshot hundreds of thousands.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy
from sqlalchemy import DateTime
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

_INSTANTS: Final = 256
"""Kept as text and as values: the rows of a transaction share some, and each of them takes microseconds."""


class Uuid(sqlalchemy.Uuid[UUID]):
    """An id; PostgreSQL has a type for it."""

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[UUID | str | None], UUID | None] | None:
        if dialect.supports_native_uuid:
            return super().result_processor(dialect, coltype)  # type: ignore[no-any-return,no-untyped-call]
        return _parse_uuid


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC, microseconds. SQLite stores no zone: it is removed on the way in and restored on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else _in_utc(value)

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        return _instant_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        return _parse_instant if dialect.name == "sqlite" else super().result_processor(dialect, coltype)


@lru_cache(_INSTANTS)
def json_instant(value: datetime) -> str:
    """Write an instant as JSON has it in the change feed."""
    return value.isoformat()


def json_text(value: Any) -> str:
    """Write a value of a JSON column: in C, a third of the time of the standard library."""
    return msgspec.json.encode(value).decode()


def _parse_uuid(text: UUID | str | None) -> UUID | None:
    return None if text is None else msgspec.convert(text, UUID)


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time without zone must not reach the store")
    return value.astimezone(UTC)


@lru_cache(_INSTANTS)
def _instant_text(value: datetime | None) -> str | None:
    """Write an instant as SQLAlchemy does for SQLite: always with microseconds, so that text sorts as time does."""
    return None if value is None else _in_utc(value).isoformat(" ", "microseconds").removesuffix("+00:00")


@lru_cache(_INSTANTS)
def _parse_instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text + "+00:00")
