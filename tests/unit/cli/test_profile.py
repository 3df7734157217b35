"""The profile that `init` leaves for the commands that call the portal."""

import json
from pathlib import Path
from typing import Any

import pytest

from wardgate.cli.main import main
from wardgate.cli.profile import Profile, data_dir_of
from wardgate.cli.settings import Settings


def init(data: Path, capsys: pytest.CaptureFixture[str], slug: str, *more: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main(
            ["init", "--data-dir", str(data), "--account-name", "Acme", "--account-slug", slug,
             "--admin-email", "a@example.com", "--json", *more]
        )  # fmt: skip
    assert ended.value.code in (0, None)
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


def test_a_later_init_replaces_only_what_it_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, url = tmp_path / "data" / "profile.json", "http://127.0.0.1:8080"
    first = init(tmp_path / "data", capsys, "acme")
    assert Profile.load(file) == Profile(url, first["api_token"], first["operator_token"], url)
    init(tmp_path / "data", capsys, "acme")
    assert Profile.load(file) == Profile(url, first["api_token"], first["operator_token"], url)
    other = init(tmp_path / "data", capsys, "other")
    assert Profile.load(file) == Profile(url, other["api_token"], first["operator_token"], url)
    renewed = init(tmp_path / "data", capsys, "acme", "--new-tokens")
    assert Profile.load(file) == Profile(url, renewed["api_token"], renewed["operator_token"], url)


def test_the_services_own_user_finds_the_services_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `sudo -u wardgate-portal wardgate backup …` does, whose home it is."""
    settings = Settings.load("portal", {}, {}, "wardgate backup")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/var/lib/wardgate")
    assert data_dir_of(settings) == Path("/var/lib/wardgate")
    monkeypatch.setenv("HOME", "/home/ada")
    assert data_dir_of(settings) == Path("/home/ada/.local/share/wardgate")


def test_links_lead_to_the_external_url_that_init_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data" / "profile.json"
    made = init(tmp_path / "data", capsys, "acme", "--external-url", "https://portal.example.org")
    assert made["sign_in_link"].startswith("https://portal.example.org/acme/")
    assert _link(tmp_path / "data", capsys).startswith("https://portal.example.org/acme/")
    again = init(tmp_path / "data", capsys, "acme")
    assert again["sign_in_link"].startswith("https://portal.example.org/acme/")
    other = ("--external-url", "http://127.0.0.1:9090")
    assert _link(tmp_path / "data", capsys, *other).startswith("http://127.0.0.1:9090/acme/")
    monkeypatch.setenv("WARDGATE_EXTERNAL_URL", "https://moved.example.org")
    monkeypatch.setenv("WARDGATE_REST_HOST", "api.example.org")
    init(tmp_path / "data", capsys, "acme")
    moved = Profile.load(file)
    assert moved is not None
    assert (moved.url, moved.web_url) == ("https://api.example.org", "https://moved.example.org")
    assert moved.token == made["api_token"]


def test_a_profile_of_an_older_init_has_no_operators_token(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text('{"url": "http://p.example", "token": "t"}')
    file.chmod(0o600)
    assert Profile.load(file) == Profile("http://p.example", "t", None)


def _link(data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["sign-in-link", "--data-dir", str(data), *more])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out
