"""Opening a database: what is wrong with it is said in one sentence."""

import sqlite3
from pathlib import Path

import pytest

from wardgate.portal.environment import Environment
from wardgate.portal.store import SqliteFile, Store, Unusable


async def test_the_file_is_readable_by_its_owner_only(tmp_path: Path, environment: Environment) -> None:
    store = await Store.open(SqliteFile(tmp_path / "wardgate.db"), environment)
    await store.close()
    assert (tmp_path / "wardgate.db").stat().st_mode & 0o777 == 0o600


async def test_what_was_written_is_there_after_reopening(tmp_path: Path, environment: Environment) -> None:
    for _ in range(2):
        store = await Store.open(SqliteFile(tmp_path / "wardgate.db"), environment)
        assert await store.is_available()
        await store.close()


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_damaged_file_is_refused(tmp_path: Path, environment: Environment, content: bytes) -> None:
    (tmp_path / "wardgate.db").write_bytes(content)
    with pytest.raises(Unusable, match="damaged or not a Wardgate database"):
        await Store.open(SqliteFile(tmp_path / "wardgate.db"), environment)


async def test_a_missing_directory_is_refused(tmp_path: Path, environment: Environment) -> None:
    with pytest.raises(Unusable, match="cannot open"):
        await Store.open(SqliteFile(tmp_path / "absent" / "wardgate.db"), environment)


async def test_a_newer_schema_is_refused(tmp_path: Path, environment: Environment) -> None:
    path = tmp_path / "wardgate.db"
    await (await Store.open(SqliteFile(path), environment)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Unusable, match="newer Wardgate"):
        await Store.open(SqliteFile(path), environment)
