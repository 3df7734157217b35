"""`wardgate backup`, `restore` and `upgrade --check`, and a database whose log is of another moment."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.postgres import postgres_database
from wardgate.cli.main import main
from wardgate.portal import backups
from wardgate.portal.data_directory import Lock
from wardgate.portal.database.sqlite_log import require_matching_log
from wardgate.portal.store import PostgresServer, Unusable

pytestmark = pytest.mark.slow

INIT = ("init", "--account-name", "Acme", "--account-slug", "acme", "--admin-email", "ada@acme.example")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("WARDGATE_DATABASE_URL", raising=False)
    return tmp_path / "data"


@pytest.fixture
def server() -> Iterator[str]:
    with asyncio.Runner() as runner:
        database = postgres_database()
        yield runner.run(database.__aenter__())
        runner.run(database.__aexit__(None, None, None))


@pytest.fixture
def backup(data: Path, tmp_path: Path) -> Path:
    run(*INIT)
    run("backup", str(tmp_path / "backup"))
    return tmp_path / "backup"


def test_a_backup_of_a_running_portal_is_whole_private_and_restored_as_it_was(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*INIT)
    with Lock(data), closing(sqlite3.connect(data / "wardgate.db")) as portal:
        portal.execute("UPDATE accounts SET name = 'In the log'")
        portal.commit()
        assert (data / "wardgate.db-wal").stat().st_size > 0
        run("backup", str(tmp_path / "backup"))
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "backup").iterdir()} == {
        "manifest.json": 0o600,
        "secret.key": 0o600,
        "wardgate.db": 0o600,
    }
    run("restore", "--verify", str(tmp_path / "backup"))
    assert "can be restored" in capsys.readouterr().out
    run("restore", str(tmp_path / "backup"), "--data-dir", str(tmp_path / "new"))
    with closing(sqlite3.connect(tmp_path / "new" / "wardgate.db")) as restored:
        assert restored.execute("SELECT name FROM accounts").fetchone() == ("In the log",)
    assert (tmp_path / "new" / "secret.key").read_bytes() == (data / "secret.key").read_bytes()
    run("sign-in-link", "--data-dir", str(tmp_path / "new"))
    assert "/acme/sign_in/link/" in capsys.readouterr().out


def test_nothing_is_restored_over_an_installation(
    backup: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = (data / "secret.key").read_bytes()
    fails("restore", str(backup))
    assert "move what is there away" in capsys.readouterr().err
    assert (data / "secret.key").read_bytes() == key


def test_a_backup_that_was_changed_is_refused(backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(backup / "wardgate.db")) as changed:
        changed.execute("UPDATE accounts SET name = 'Another'")
        changed.commit()
    fails("restore", "--verify", str(backup))
    assert "other content in accounts" in capsys.readouterr().err
    (backup / "wardgate.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    fails("restore", "--verify", str(backup))
    assert "damaged" in capsys.readouterr().err
    (backup / "manifest.json").write_text("{}")
    fails("restore", "--verify", str(backup))
    assert "manifest.json is damaged" in capsys.readouterr().err


def test_a_backup_of_a_newer_release_is_left_to_that_release(
    backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((backup / "manifest.json").read_text())
    (backup / "manifest.json").write_text(json.dumps({**manifest, "schema": "9999", "version": "99.0"}))
    fails("restore", "--verify", str(backup))
    assert "newer than this program" in capsys.readouterr().err


def test_a_backup_does_not_take_the_place_of_another(
    backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails("backup", str(backup))
    assert "exists: name a directory that does not" in capsys.readouterr().err


def test_a_backup_that_fails_leaves_nothing(data: Path, tmp_path: Path) -> None:
    run(*INIT)
    (data / "wardgate.db").write_bytes(b"no database")
    for log in data.glob("wardgate.db-*"):
        log.unlink()
    fails("backup", str(tmp_path / "backup"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_server_is_dumped_verified_and_restored(
    data: Path,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WARDGATE_DATABASE_URL", server)
    run(*INIT)
    run("backup", str(tmp_path / "backup"))
    assert (tmp_path / "backup" / "wardgate.dump").stat().st_mode & 0o777 == 0o600
    run("restore", "--verify", str(tmp_path / "backup"))
    assert "can be restored" in capsys.readouterr().out
    fails("restore", str(tmp_path / "backup"), "--data-dir", str(tmp_path / "new"))
    assert "is not empty" in capsys.readouterr().err

    async def into_an_empty_one() -> None:
        async with backups.temporary_database(PostgresServer(server), "wardgate_restored") as empty:
            manifest = await backups.restore(tmp_path / "backup", tmp_path / "new", empty)
            assert manifest.rows > 0
            assert await backups.read_rows(empty, "SELECT slug FROM accounts") == [("acme",)]

    asyncio.run(into_an_empty_one())


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("postgresql://ada:p%40ss@db/w", "postgresql://ada@db/w", "p@ss"),
        ("postgresql://ada@db/w?password=x&sslmode=require", "postgresql://ada@db/w?sslmode=require", "x"),
        ("postgresql:///w?host=/run/pg", "postgresql:///w?host=%2Frun%2Fpg", None),
    ],
)
def test_a_password_goes_into_no_list_of_processes(url: str, shown: str, password: str | None) -> None:
    assert backups._without_password(url) == (shown, password)


def test_an_upgrade_is_described_before_it_happens(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*INIT)
    capsys.readouterr()
    run("upgrade", "--check")
    assert "nothing to do" in capsys.readouterr().out
    with closing(sqlite3.connect(data / "wardgate.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
        database.commit()
    run("upgrade", "--check", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "0001"
    assert "will bring the schema from 0001" in told["verdict"]
    with closing(sqlite3.connect(data / "wardgate.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    fails("upgrade", "--check")
    assert "The way back is a backup" in capsys.readouterr().out
    fails("upgrade", code=2)


@pytest.mark.parametrize("since", ["UPDATE", "INSERT"])
def test_an_old_database_beside_a_newer_log_is_noticed_and_left_as_it_is(
    data: Path, tmp_path: Path, since: str
) -> None:
    """As by `cp backup.db wardgate.db` after a crash, with `wardgate.db-wal` forgotten."""
    run(*INIT)
    file, mixed, crashed = (
        directory / "wardgate.db" for directory in (data, tmp_path / "mixed", tmp_path / "crashed")
    )
    with closing(sqlite3.connect(file)) as portal:
        portal.execute("CREATE TABLE things (number INTEGER, text TEXT)")
        portal.execute("CREATE INDEX by_text ON things (text)")
        portal.executemany("INSERT INTO things VALUES (?, ?)", [(n, f"{n:0400}") for n in range(300)])
        portal.commit()
    for place in (mixed, crashed):
        place.parent.mkdir()
    shutil.copy(file, mixed)
    with closing(sqlite3.connect(file)) as portal:
        portal.executemany("INSERT INTO things VALUES (?, ?)", [(n, f"{n * 7:0400}") for n in range(900)])
        portal.commit()
        portal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if since == "UPDATE":
            portal.execute("UPDATE things SET text = text || 'x' WHERE number % 3 = 0")
        else:
            portal.executemany("INSERT INTO things VALUES (?, ?)", [(n, f"{n * 3:0400}") for n in range(90)])
        portal.commit()
        shutil.copy(f"{file}-wal", f"{mixed}-wal")
        for suffix in ("", "-wal"):
            shutil.copy(f"{file}{suffix}", f"{crashed}{suffix}")
    require_matching_log(crashed)
    with Path(f"{crashed}-wal").open("r+b") as torn:
        torn.truncate(torn.seek(0, 2) - 100)
    require_matching_log(crashed)
    before = mixed.read_bytes()
    with pytest.raises(Unusable, match="do not belong together"):
        require_matching_log(mixed)
    assert mixed.read_bytes() == before


def run(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def fails(*words: str, code: int = 1) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code
