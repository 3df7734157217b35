"""The token of the headless client: how it is got, kept and deleted."""

import io
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from wardgate.cli import client_sign_in
from wardgate.cli.client_token_file import read_token, write_token
from wardgate.cli.command_line import read
from wardgate.cli.commands.tree import ROOT
from wardgate.cli.errors import UsageError, UserError
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import Terminal

TOKEN = ".wg_client_" + "a" * 128


def settings_of(*words: str, **environment: str) -> Settings:
    call = read(ROOT, ["client", *words])
    return Settings("client", environment, {}, call.given, call.name)


@pytest.mark.parametrize(
    ("words", "url"),
    [
        (("--auth-base-url", "https://p.example/"), "https://p.example/?as=headless-client"),
        (
            ("--api-url", "wss://p.example", "--account-slug", "acme"),
            "https://p.example/acme?as=headless-client",
        ),
        (("--api-url", "ws://127.0.0.1:8080"), "http://127.0.0.1:8080/?as=headless-client"),
    ],
)
def test_the_address_names_the_flow(words: tuple[str, ...], url: str) -> None:
    assert client_sign_in.sign_in_url(settings_of("sign-in", *words)) == url


def test_variables_of_the_published_client_are_known() -> None:
    settings = settings_of(
        "sign-in", FIREZONE_AUTH_BASE_URL="https://p.example", FIREZONE_ACCOUNT_SLUG="acme"
    )
    assert client_sign_in.sign_in_url(settings) == "https://p.example/acme?as=headless-client"


def test_without_an_address_it_is_asked_for() -> None:
    with pytest.raises(UsageError, match="--auth-base-url"):
        client_sign_in.sign_in_url(settings_of("sign-in"))


@pytest.mark.parametrize("slug", ["../x", "a/b", "a?b", ""])
def test_a_slug_adds_nothing_else_to_the_address(slug: str) -> None:
    with pytest.raises(UsageError):
        settings_of("sign-in", "--account-slug", slug)


def test_a_pasted_token_is_kept_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "token"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f" {TOKEN}\n"))
    os.umask(0)
    settings = settings_of("sign-in", "--auth-base-url", "https://p.example", "--token-path", str(path))
    client_sign_in.sign_in(settings)
    assert read_token(path) == TOKEN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["token"]
    shown = capsys.readouterr()
    assert shown.out == "https://p.example/?as=headless-client\n"
    assert TOKEN not in shown.err


@pytest.mark.parametrize("pasted", ["", "\n", "two words", "é", ".wg_gateway_" + "a" * 128, "x" * 5000])
def test_what_is_no_token_of_a_client_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pasted: str
) -> None:
    path = tmp_path / "token"
    monkeypatch.setattr(sys, "stdin", io.StringIO(pasted))
    settings = settings_of("sign-in", "--auth-base-url", "https://p.example", "--token-path", str(path))
    with pytest.raises(UserError):
        client_sign_in.sign_in(settings)
    assert not path.exists()


def test_signing_in_again_replaces_the_token_and_follows_no_link(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "token", tmp_path / "elsewhere"
    elsewhere.write_text("keep")
    path.symlink_to(elsewhere)
    write_token(path, TOKEN)
    assert elsewhere.read_text() == "keep"
    assert read_token(path) == TOKEN


def test_signing_out_deletes_the_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    write_token(path, TOKEN)
    for _ in range(2):
        client_sign_in.sign_out(settings_of("sign-out", "--token-path", str(path), FIREZONE_TOKEN=TOKEN))
    assert not path.exists()
    told = capsys.readouterr().err
    assert "Nobody is signed in" in told
    assert "FIREZONE_TOKEN" in told  # it is used all the same


@pytest.mark.parametrize(
    ("words", "answer", "is_deleted"), [([], "y", True), ([], "", False), (["-f"], "", True)]
)
def test_who_signs_out_at_a_terminal_is_asked_first_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], answer: str, is_deleted: bool
) -> None:
    terminal = Terminal(io.StringIO(f"{answer}\n"), io.StringIO(), io.StringIO(), True, 80)
    monkeypatch.setattr(Terminal, "of_this_process", classmethod(lambda _: terminal))
    path = tmp_path / "token"
    write_token(path, TOKEN)
    client_sign_in.sign_out(settings_of("sign-out", "--token-path", str(path), *words))
    assert path.exists() is not is_deleted


def test_status_tells_of_the_token_and_of_the_client(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    words: Any = ("status", "--token-path", str(path), "--health-check-addr", "127.0.0.1:1")
    assert client_sign_in.status(settings_of(*words)) == 1
    write_token(path, TOKEN)
    assert client_sign_in.status(settings_of(*words)) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines() == [
        f"token: none; there is no {path}",
        "client: not running",
        f"token: in {path}",
        "client: not running",
    ]


def test_the_client_itself_still_takes_its_options() -> None:
    call = read(ROOT, ["client", "--check"])
    assert (call.path, call.command.run) == (("wardgate", "client"), "wardgate.cli.client:run")
    with pytest.raises(UsageError, match="sign-in"):
        read(ROOT, ["client", "sign-inn"])
