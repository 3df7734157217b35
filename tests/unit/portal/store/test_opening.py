"""Opening a database: what is wrong with it is said in one sentence."""

import sqlite3
from pathlib import Path

import pytest

from wardgate.portal.database.base_store import adapter
from wardgate.portal.database.migrations import upgrade
from wardgate.portal.environment import Environment
from wardgate.portal.installation.tables import Account, RelayToken
from wardgate.portal.store import SqliteFile, Store, Transaction, Unusable

pytestmark = pytest.mark.slow


async def test_the_file_is_readable_by_its_owner_only(tmp_path: Path, environment: Environment) -> None:
    store = await Store.open(SqliteFile(tmp_path / "wardgate.db"), environment)
    await store.close()
    assert (tmp_path / "wardgate.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("is_durable", "synchronous"), [(True, 2), (False, 1)])
async def test_a_commit_waits_for_the_disk_unless_the_operator_chose_otherwise(
    tmp_path: Path, environment: Environment, is_durable: bool, synchronous: int
) -> None:
    """SQLite's own words: 2 is FULL, 1 is NORMAL, which in a write-ahead log loses commits but breaks nothing."""
    database = adapter(SqliteFile(tmp_path / "wardgate.db", is_durable=is_durable), environment)
    await database.open(upgrade)
    try:
        for opened in (database.reading(), database.writing()):
            async with opened as connection:
                found = [
                    (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
                    for name in ("synchronous", "journal_mode", "foreign_keys")
                ]
            assert found == [synchronous, "wal", 1]
    finally:
        await database.close()


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


async def test_a_store_that_is_closed_twice_leaves_the_next_one_in_memory_alone(
    environment: Environment,
) -> None:
    for _ in range(2):  # from the second on, they begin with the same image
        first = await Store.open(None, environment)
        await first.close()
    second = await Store.open(None, environment)
    async with second.writing() as transaction:
        token = await transaction.relay_tokens.insert(
            RelayToken(id=transaction.new_id(), name="r", secret_salt="s" * 22, secret_hash="h" * 64)
        )
    await first.close()
    third = await Store.open(None, environment)
    async with second.reading() as transaction, third.reading() as other:
        assert await transaction.relay_tokens.load(token.id) is not None
        assert await other.relay_tokens.load(token.id) is None
    await second.close()
    await third.close()


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


async def test_what_did_not_wait_for_the_disk_is_there_at_once_and_synced_later(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note_sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr("os.fdatasync", note_sync)
    store = await Store.open(SqliteFile(tmp_path / "wardgate.db"), environment)
    async with store.writing(is_synced=False) as transaction:
        await _account(transaction)
    syncing = store.start_sync()
    async with store.reading() as transaction:
        assert len(await transaction.accounts.load_all()) == 1
    assert syncing is not None
    await syncing
    assert synced == ["wardgate.db-wal"]
    await store.close()


@pytest.mark.parametrize("is_in_memory", [True, False])
async def test_where_nobody_waits_for_the_disk_nothing_is_synced(
    tmp_path: Path, environment: Environment, is_in_memory: bool
) -> None:
    file = None if is_in_memory else SqliteFile(tmp_path / "wardgate.db", is_durable=False)
    store = await Store.open(file, environment)
    async with store.writing(is_synced=False) as transaction:
        await _account(transaction)
    assert store.start_sync() is None
    async with store.reading() as transaction:
        assert len(await transaction.accounts.load_all()) == 1
    await store.close()


async def _account(transaction: Transaction) -> None:
    await transaction.accounts.insert(
        Account(
            id=transaction.new_id(),
            name="acme",
            legal_name="acme",
            slug="acme",
            key="acme00",
            ingest_signing_key=transaction.random_bytes(32),
        )
    )
