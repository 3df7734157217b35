"""`wardgate db`, and the other commands on a PostgreSQL."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import postgres_database
from wardgate.cli.main import main
from wardgate.portal.data_directory import Lock

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


def test_an_installation_moves_to_a_server_and_goes_on_there(
    data: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*INIT)
    run("db", "copy", "--from", f"sqlite:///{data}/wardgate.db", "--to", server)
    told = capsys.readouterr().out
    assert "accounts: 1 rows, sha256-sum " in told
    assert told.endswith(" rows copied and verified.\n")
    (data / "wardgate.db").unlink()
    monkeypatch.setenv("WARDGATE_DATABASE_URL", server)
    run("sign-in-link", "--email", "ada@acme.example")
    assert "/acme/sign_in/link/" in capsys.readouterr().out


def test_everything_can_begin_on_a_server(
    data: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARDGATE_DATABASE_URL", server)
    run(*INIT)
    assert "Account acme" in capsys.readouterr().out
    assert not (data / "wardgate.db").exists()


def test_a_running_portal_is_not_copied(data: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(*INIT)
    with Lock(data):
        fails("db", "copy", "--from", f"sqlite:///{data}/wardgate.db", "--to", server)
    assert "another portal is running" in capsys.readouterr().err


def test_what_is_not_there_cannot_be_copied(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails("db", "copy", "--from", f"sqlite:///{data}/absent.db", "--to", f"sqlite:///{data}/new.db")
    assert "there is no file" in capsys.readouterr().err


def test_a_database_is_not_copied_to_itself(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*INIT)
    capsys.readouterr()
    fails("db", "copy", "--from", f"sqlite:///{data}/wardgate.db", "--to", f"sqlite:///{data}/wardgate.db")
    assert "the same database" in capsys.readouterr().err


def test_upgrade_says_what_it_brought_up_to_date(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*INIT)
    capsys.readouterr()
    run("db", "upgrade")
    assert capsys.readouterr().out == f"{data / 'wardgate.db'} is up to date.\n"


@pytest.mark.parametrize(
    ("url", "said", "code"),
    [
        (
            "postgresql://u:secret@127.0.0.1:1/d",
            "cannot use postgresql://127.0.0.1:1/d: Connection refused; is the",
            1,
        ),
        ("postgresql://u:secret@127.0.0.1:port/d", "--database-url: '127.0.0.1:port' is no host", 2),
        ("sqlite:////nonexistent/a.db", "there is no directory /nonexistent", 1),
        ("mysql://u:secret@h/d", "a database URL begins with sqlite:/// or postgresql://", 2),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_in_one_line_without_the_password(
    url: str, said: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("db", "upgrade", "--database-url", url) == code
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert "secret" not in line


def run(*arguments: str) -> None:
    assert code_of(*arguments) == 0


def fails(*arguments: str) -> None:
    assert code_of(*arguments) == 1


def code_of(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
