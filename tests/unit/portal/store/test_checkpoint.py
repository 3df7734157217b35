"""SQLite's log is copied into the file beside the event loop."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from unit.portal.store.conftest import make_account
from wardgate.portal.database import sqlite_database
from wardgate.portal.environment import Environment
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import SqliteFile, Store

pytestmark = pytest.mark.slow


async def test_a_few_commits_of_many_rows_are_copied_too(tmp_path: Path) -> None:
    store = await Store.open(SqliteFile(tmp_path / "wardgate.db"), Environment.of_this_process())
    try:
        account_id = await make_account(store, "acme")
        async with store.writing() as tx:
            await tx.of(account_id).sites.insert_all(
                [
                    Site(id=tx.new_id(), account_id=account_id, name=f"site {number:04}")
                    for number in range(2000)
                ]
            )
        task = store._database._checkpoint  # type: ignore[attr-defined]
        assert task is not None
        await asyncio.wait((task,))
        assert _newest_without_log(tmp_path) == "site 1999"
    finally:
        await store.close()


async def test_after_so_many_commits_the_file_has_what_was_in_the_log_and_the_log_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sqlite_database._ROWS_OF_A_COMMIT + 3  # the site, its change, the account's counter
    monkeypatch.setattr(sqlite_database, "_ROWS_A_CHECKPOINT", 20 * rows)
    store = await Store.open(SqliteFile(tmp_path / "wardgate.db"), Environment.of_this_process())
    try:
        account_id = await make_account(store, "acme")
        log_bytes = []
        for number in range(60):
            async with store.writing() as tx:
                await tx.of(account_id).sites.insert(
                    Site(id=tx.new_id(), account_id=account_id, name=f"site {number:02}")
                )
            task = store._database._checkpoint  # type: ignore[attr-defined]
            if task is not None:
                await asyncio.wait((task,))
                log_bytes.append((tmp_path / "wardgate.db-wal").stat().st_size)
                assert _newest_without_log(tmp_path) == f"site {number:02}"
        assert len(log_bytes) == 3
        assert log_bytes[2] <= log_bytes[1] + 4096, "it begins anew"
    finally:
        await store.close()


def _newest_without_log(directory: Path) -> str:
    copy = directory / "copy.db"
    shutil.copy(directory / "wardgate.db", copy)
    with closing(sqlite3.connect(copy)) as connection:
        return str(connection.execute("SELECT max(name) FROM sites WHERE name LIKE 'site %'").fetchone()[0])
