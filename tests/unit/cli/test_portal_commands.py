"""`init`, `portal`, `sign-in-link` and `explain`: what they make, what they print, how they refuse."""

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.certificates import write_certificate
from wardgate.cli.main import main
from wardgate.portal import credentials, data_directory
from wardgate.portal.account_config import AccountConfig
from wardgate.portal.data_directory import Lock
from wardgate.portal.environment import Environment
from wardgate.portal.installation.tables import Account
from wardgate.portal.store import SqliteFile, Store

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("wardgate")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


Init = Callable[..., dict[str, Any]]


@pytest.fixture
def init(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Init:
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path / "data"))

    def run(*more: str) -> dict[str, Any]:
        _run(
            "init",
            "--account-name",
            "Acme",
            "--account-slug",
            "acme",
            "--admin-email",
            "a@example.com",
            "--json",
            *more,
        )
        return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]

    return run


def test_init_makes_an_account_with_an_admin_and_tokens_that_work(init: Init, tmp_path: Path) -> None:
    made = init()
    assert made.keys() == {"account_id", "account_slug", "api_token", "operator_token", "sign_in_link"}
    assert made["sign_in_link"].startswith("http://127.0.0.1:8080/acme/sign_in/link/")
    account, admin = asyncio.run(_check(tmp_path / "data", made))
    assert (str(account.id), account.slug) == (made["account_id"], "acme")
    assert admin == "a@example.com"


def test_a_second_init_prints_the_same_ids_no_tokens_and_a_fresh_link(init: Init) -> None:
    first, second = init(), init()
    assert second["account_id"] == first["account_id"]
    assert second["api_token"] is None
    assert second["operator_token"] is None
    assert second["sign_in_link"] != first["sign_in_link"]


def test_new_tokens_replace_the_old_ones(init: Init, tmp_path: Path) -> None:
    first, second = init(), init("--new-tokens")
    assert second["api_token"] not in (None, first["api_token"])
    asyncio.run(_check(tmp_path / "data", second))
    with pytest.raises(credentials.InvalidToken):
        asyncio.run(_check(tmp_path / "data", first))


def test_the_search_domain_reaches_the_account(init: Init, tmp_path: Path) -> None:
    made = init("--search-domain", "Corp.Example.com")
    account, _admin = asyncio.run(_check(tmp_path / "data", made))
    assert AccountConfig.parse(account.config) == AccountConfig(search_domain="corp.example.com")


def test_init_makes_no_admin_beyond_the_accounts_limit(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    asyncio.run(_limit(tmp_path / "data", "acme", {"account_admin_users_count": 1}))
    init()
    with pytest.raises(SystemExit):
        init("--admin-email", "b@example.com")
    assert "Admins limit reached" in capsys.readouterr().err


def test_everything_in_the_data_directory_is_its_owners_alone(init: Init, tmp_path: Path) -> None:
    init()
    for path in [tmp_path / "data", *(tmp_path / "data").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    profile = json.loads((tmp_path / "data" / "profile.json").read_text())
    assert profile["url"] == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--account-slug", "x", "no slug"),
        ("--account-slug", "actors", "reserved"),
        ("--account-slug", "healthz", "reserved"),
        ("--admin-email", "nobody", "no e-mail address"),
        ("--account-name", "A", "3 to 64 characters"),
        ("--search-domain", ".corp", "no search domain"),
        ("--external-url", "portal.example.org", "http://"),
    ],
)
def test_init_refuses_what_it_cannot_use(
    init: Init, tmp_path: Path, flag: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        init(flag, value)
    assert ended.value.code == 2
    _one_line(capsys, said)
    assert not (tmp_path / "data" / "wardgate.db").exists()


def test_init_without_an_account_is_a_usage_error(init: Init, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _run("init")
    assert ended.value.code == 2


def test_a_data_directory_that_cannot_be_made_is_named(
    tmp_path: Path, init: Init, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path / "file" / "data"))
    with pytest.raises(SystemExit) as ended:
        init()
    assert ended.value.code == 1
    _one_line(capsys, "cannot make the data directory")


@pytest.mark.parametrize("command", ["init", "restore"])
def test_root_writes_nothing_into_the_directory_of_another_user(
    command: str,
    init: Init,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The portal that runs as that user could not read it."""
    data = tmp_path / "data"
    data.mkdir()
    if os.geteuid() == 0:
        os.chown(data, 65534, 65534)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(SystemExit) as ended:
        init() if command == "init" else _run("restore", str(tmp_path / "backup"))
    assert ended.value.code == 1
    _one_line(capsys, "run this as that user, `sudo -u ")
    assert not list(data.iterdir())


def test_a_data_directory_that_is_a_file_is_called_that(
    tmp_path: Path, init: Init, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(SystemExit) as ended:
        init()
    assert ended.value.code == 1
    _one_line(capsys, "is no directory")


def test_a_portal_without_an_installation_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _fails("portal", "--data-dir", str(tmp_path))
    _one_line(capsys, "wardgate init")


@pytest.mark.parametrize("is_empty_file_left", [False, True])
def test_an_installation_that_lost_its_database_begins_anew_only_when_it_is_told_to(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_empty_file_left: bool
) -> None:
    lost = init()
    database = tmp_path / "data" / "wardgate.db"
    database.unlink()
    if is_empty_file_left:
        database.touch()
    for command in (
        ("portal", "--listen", "127.0.0.1:0"),
        ("sign-in-link",),
        ("init", "--account-name", "Acme", "--account-slug", "acme", "--admin-email", "a@example.com"),
    ):
        _fails(*command)
        _one_line(capsys, "--new-database")
        assert database.exists() == is_empty_file_left
    made = init("--new-database")
    assert made["account_id"] != lost["account_id"]
    asyncio.run(_check(tmp_path / "data", made))
    with pytest.raises(credentials.InvalidToken):
        asyncio.run(_check(tmp_path / "data", lost))


def test_a_new_database_is_not_made_where_there_is_one(init: Init) -> None:
    assert init("--new-database")["account_id"] == init("--new-database")["account_id"]


def test_a_first_init_that_was_killed_can_be_run_again(
    init: Init, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(data_directory, "make_keys", killed)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - however the command ends
            init()
    asyncio.run(_check(tmp_path / "data", init()))


def test_a_second_portal_on_one_directory_is_refused(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    with Lock(tmp_path / "data"):
        _fails("portal", "--listen", "127.0.0.1:0")
    _one_line(capsys, "another portal is running")


def test_a_port_in_use_is_named(init: Init, capsys: pytest.CaptureFixture[str]) -> None:
    init()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _fails("portal", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    _one_line(capsys, "Address already in use")


def test_a_metrics_port_in_use_is_named(
    init: Init, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("WARDGATE_METRICS_PORT", str(taken.getsockname()[1]))
        _fails("portal", "--listen", "127.0.0.1:0")
    _one_line(capsys, "cannot serve metrics on port")


def test_tls_files_that_are_no_pair_are_named(
    init: Init, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    write_certificate(tmp_path / "portal.crt", tmp_path / "portal.key", name="portal.example")
    write_certificate(tmp_path / "other.crt", tmp_path / "other.key", name="portal.example")
    monkeypatch.setenv("WARDGATE_TLS_CERTIFICATE", str(tmp_path / "portal.crt"))
    monkeypatch.setenv("WARDGATE_TLS_KEY", str(tmp_path / "other.key"))
    _fails("portal", "--listen", "127.0.0.1:0")
    _one_line(capsys, "other.key does not belong to the certificate")


def test_a_damaged_database_is_named(init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init()
    (tmp_path / "data" / "wardgate.db").write_bytes(b"damaged" * 1000)
    _fails("portal", "--listen", "127.0.0.1:0")
    _one_line(capsys, "damaged or not a Wardgate database")


def test_a_damaged_secret_is_named(init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init()
    (tmp_path / "data" / "secret.key").write_bytes(b"short")
    _fails("portal", "--listen", "127.0.0.1:0")
    _one_line(capsys, "secret.key is damaged")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--listen", "somewhere"), "not HOST:PORT"),
        (("--listen", "127.0.0.1:99999"), "not HOST:PORT"),
        (("--log-level", "loud"), "log level"),
    ],
)
def test_bad_portal_settings_say_what_is_wrong(
    init: Init, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    _fails("portal", *arguments, code=2)
    _one_line(capsys, said)


def test_a_sign_in_link_works_once(init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init()
    _run("sign-in-link")
    link = capsys.readouterr().out.strip()
    assert asyncio.run(_redeem(tmp_path / "data", link)) == "a@example.com"
    with pytest.raises(credentials.InvalidToken):
        asyncio.run(_redeem(tmp_path / "data", link))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--account-slug", "nobody"), "no account"), (("--email", "x@example.com"), "no such enabled admin")],
)
def test_a_sign_in_link_for_nobody_is_refused(
    init: Init, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    _fails("sign-in-link", *arguments)
    _one_line(capsys, said)


def test_explain_needs_a_portal_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path))
    asking = ("explain", "--actor", _SOME_ID, "--resource", _SOME_ID)
    _fails(*asking)
    _one_line(capsys, "WARDGATE_URL")
    token = tmp_path / "token"
    token.write_text("x")
    _fails(*asking, "--url", "http://127.0.0.1:1", "--token-file", str(token))
    _one_line(capsys, "cannot reach the portal")


def test_explain_needs_exactly_one_who(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--resource", _SOME_ID])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--at", "24h", "--remote-ip", "192.0.2.1"), "--at looks up what was answered then"),
        (("--at", "yesterday"), "--at: "),
        (("--at", "2026-11-22T09:00:00"), "lacks its time zone"),
    ],
)
def test_explain_takes_a_time_or_assumptions(
    more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--actor", _SOME_ID, "--resource", _SOME_ID, *more])
    assert ended.value.code == 2
    _one_line(capsys, said)


_SOME_ID = "b1b1b1b1-0000-4000-8000-000000000001"


def _run(*arguments: str) -> None:
    """Run a command that succeeds."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    if ended.value.code not in (0, None):
        raise SystemExit(ended.value.code)


def _fails(*arguments: str, code: int = 1) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == code


def _one_line(capsys: pytest.CaptureFixture[str], said: str) -> None:
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("wardgate: ")
    assert error.count("\n") == 1


async def _limit(directory: Path, slug: str, limits: dict[str, int]) -> None:
    store = await Store.open(SqliteFile(directory / "wardgate.db"), Environment.of_this_process())
    try:
        async with store.writing() as tx:
            account = await tx.accounts.by_slug(slug)
            assert account is not None
            await tx.accounts.save(replace(account, limits=limits))
    finally:
        await store.close()


async def _check(directory: Path, made: dict[str, Any]) -> tuple[Account, str | None]:
    """Use everything that `init` printed; return the account and whom the link signs in."""
    keys = data_directory.load_keys(directory)
    store = await Store.open(SqliteFile(directory / "wardgate.db"), Environment.of_this_process())
    try:
        async with store.reading() as tx:
            account, _actor, _token = await credentials.find_api_token(
                made["api_token"], transaction=tx, keys=keys
            )
            await credentials.find_operator_token(made["operator_token"], transaction=tx, keys=keys)
    finally:
        await store.close()
    return account, await _redeem(directory, made["sign_in_link"])


async def _redeem(directory: Path, link: str) -> str | None:
    keys = data_directory.load_keys(directory)
    store = await Store.open(SqliteFile(directory / "wardgate.db"), Environment.of_this_process())
    try:
        async with store.writing() as tx:
            _account, admin = await credentials.redeem_sign_in_link(
                link.rsplit("/", 1)[1], transaction=tx, keys=keys
            )
    finally:
        await store.close()
    return admin.email
