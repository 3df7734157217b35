"""Moving an installation from one database to another, whole or not at all, and proving that nothing was lost.

Both databases are brought to this program's schema first. The portal is stopped meanwhile; the target must be
empty. Then rows go over table by table, referenced tables first, in one transaction of the target. Before it
commits, every table is read back there and compared with what the source had: the number of rows and a hash
of their content.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from wardgate.portal.database.base_store import adapter
from wardgate.portal.database.errors import Unusable
from wardgate.portal.database.location import Database, SqliteFile
from wardgate.portal.database.migrations import upgrade
from wardgate.portal.environment import Environment
from wardgate.portal.tables import metadata

_SLICE: Final = 500
_HASH_BITS: Final = 256


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a table holds.

    Attributes:
        content: the sum of the rows' SHA-256, so that the order of rows, which databases disagree on, does not matter.
    """

    table: str
    rows: int
    content: int

    def __str__(self) -> str:
        return f"{self.table}: {self.rows} rows, sha256-sum {self.content:064x}"


async def copy(source: Database, target: Database, environment: Environment) -> list[Fingerprint]:
    """Copy everything; returns what was copied, table by table.

    Raises:
        Unusable: one of the databases cannot be used, the target is not empty, or what arrived differs; the
            target is then as before.
    """
    reader, writer = adapter(source, environment), adapter(target, environment)
    try:
        await reader.open(upgrade)
        await writer.open(upgrade)
        # A write transaction, never committed, keeps writers out of a SQLite file while it is read;
        # PostgreSQL shows one moment.
        beginning = reader.writing if isinstance(source, SqliteFile) else reader.reading
        async with beginning() as old, writer.writing() as new:
            for connection in (old, new):
                if connection.dialect.name == "postgresql":
                    # One side is idle while the other works.
                    await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            await _require_empty(new, target)
            copied = [await _copy_table(old, new, table) for table in metadata.sorted_tables]
            for before in copied:
                after = await fingerprint(new, metadata.tables[before.table])
                if after != before:
                    raise Unusable(f"{target} did not keep what it was given: {after} instead of {before}")
            await new.commit()
    finally:
        await reader.close()
        await writer.close()
    return copied


async def fingerprint(connection: AsyncConnection, table: Table) -> Fingerprint:
    """Count and hash a table as it is now."""
    total = _Total(table.name)
    async for rows in _slices(connection, table):
        total.add(rows)
    return total.fingerprint()


async def _copy_table(old: AsyncConnection, new: AsyncConnection, table: Table) -> Fingerprint:
    total = _Total(table.name)
    async for rows in _slices(old, table):
        total.add(rows)
        await new.execute(insert(table), [dict(row) for row in rows])
    if new.dialect.name == "postgresql":
        for column in table.primary_key.columns:
            if column is table.autoincrement_column:
                await new.execute(
                    text(
                        f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'),"  # noqa: S608
                        f" greatest(max({column.name}), 1), count(*) > 0) FROM {table.name}"
                    )
                )
    return total.fingerprint()


async def _require_empty(connection: AsyncConnection, target: Database) -> None:
    for table in metadata.sorted_tables:
        count = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
        if count:
            raise Unusable(
                f"{target} is not empty: {table.name} has {count} rows; name a database of its own"
            )


async def _slices(connection: AsyncConnection, table: Table) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    result = await connection.stream(select(table))
    async for rows in result.mappings().partitions(_SLICE):
        yield rows  # type: ignore[misc]


class _Total:
    def __init__(self, table: str) -> None:
        self._table = table
        self._rows = 0
        self._content = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            encoded = json.dumps(dict(row), sort_keys=True, ensure_ascii=True, default=_encode)
            digest = hashlib.sha256(encoded.encode()).digest()
            self._content = (self._content + int.from_bytes(digest, "big")) % (1 << _HASH_BITS)
            self._rows += 1

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self._table, self._rows, self._content)


def _encode(value: object) -> str:
    for kind, encode in _ENCODINGS:
        if isinstance(value, kind):
            return encode(value)
    raise TypeError(type(value).__name__)


_ENCODINGS: Final[tuple[tuple[type, Callable[[Any], str]], ...]] = (
    (UUID, str),
    (datetime, datetime.isoformat),
    (bytes, bytes.hex),
)
