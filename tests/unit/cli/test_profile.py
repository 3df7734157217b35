"""The profile that `init` leaves for the commands that call the portal."""

import json
from pathlib import Path
from typing import Any

import pytest

from wardgate.cli.main import main
from wardgate.cli.profile import Profile


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
    file = tmp_path / "data" / "profile.json"
    first = init(tmp_path / "data", capsys, "acme")
    assert Profile.load(file) == Profile("http://127.0.0.1:8080", first["api_token"], first["operator_token"])
    init(tmp_path / "data", capsys, "acme")
    assert Profile.load(file) == Profile("http://127.0.0.1:8080", first["api_token"], first["operator_token"])
    other = init(tmp_path / "data", capsys, "other")
    assert Profile.load(file) == Profile("http://127.0.0.1:8080", other["api_token"], first["operator_token"])
    renewed = init(tmp_path / "data", capsys, "acme", "--new-tokens")
    assert Profile.load(file) == Profile(
        "http://127.0.0.1:8080", renewed["api_token"], renewed["operator_token"]
    )


def test_a_profile_of_an_older_init_has_no_operators_token(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text('{"url": "http://p.example", "token": "t"}')
    file.chmod(0o600)
    assert Profile.load(file) == Profile("http://p.example", "t", None)
