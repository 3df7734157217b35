"""What `wardgate up` tells a person once everything runs."""

import logging
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from wardgate.cli import up
from wardgate.cli.settings import Settings
from wardgate.cli.up import CLIENT_TOKEN_THERE, Tokens, instructions
from wardgate.portal.settings import PortalSettings

LINK = "http://192.0.2.7:8080/home/sign_in/link/x"
TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "client-token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def tokens(token_file: Path) -> Tokens:
    folder = token_file.parent
    return Tokens(folder / "relay-token", folder / "gateway-token", token_file, "wg_signin_x")


def portal(url: str, **settings: Path) -> PortalSettings:
    return PortalSettings(data_dir=Path("/var/lib/wardgate"), external_url=url, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.4.4:8080",
        "http://[2606:4700::1]:8080",
        "http://wardgate.example.org",
        "http://localhost.example.org",
    ],
)
def test_plain_http_on_a_public_address_is_warned_of(url: str, tokens: Tokens) -> None:
    text = instructions(portal(url), LINK, tokens, has_gateway=True)
    assert "Warning: this is plain HTTP on a public address" in text
    assert "WARDGATE_TLS_CERTIFICATE" in text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080",
        "http://localhost:8080",
        "http://192.168.1.5:8080",
        "http://100.64.3.4:8080",
        "http://[fd00::7]:8080",
        "http://[::1]:8080",
        "https://wardgate.example.org",
        "https://8.8.4.4",
    ],
)
def test_nothing_is_warned_of_at_home_or_behind_tls(url: str, tokens: Tokens) -> None:
    assert "Warning" not in instructions(portal(url), LINK, tokens, has_gateway=True)


def test_a_portal_with_a_certificate_is_not_warned_of(tokens: Tokens) -> None:
    files = {"tls_certificate": Path("/c.pem"), "tls_key": Path("/k.pem")}
    assert "Warning" not in instructions(
        portal("https://8.8.4.4:8443", **files), LINK, tokens, has_gateway=True
    )


def test_the_token_stays_in_its_file(tokens: Tokens) -> None:
    text = instructions(portal("http://192.0.2.7:8080"), LINK, tokens, has_gateway=True)
    assert TOKEN not in text
    assert str(tokens.client) in text
    assert "http://192.0.2.7:8080/operator/sign_in/link/wg_signin_x" in text
    assert f"sudo wardgate client --api-url ws://192.0.2.7:8080 --token-path {CLIENT_TOKEN_THERE}" in text


def test_the_printed_line_makes_a_file_that_only_its_owner_reads(tokens: Tokens, tmp_path: Path) -> None:
    text = instructions(portal("http://192.0.2.7:8080"), LINK, tokens, has_gateway=True)
    (line,) = (line.strip() for line in text.splitlines() if "/dev/stdin" in line)
    there = tmp_path / "new" / "client-token"
    words = shlex.split(line.replace(CLIENT_TOKEN_THERE, str(there)), comments=True)
    assert words[0] == "sudo"
    with tokens.client.open("rb") as pasted:
        subprocess.run(words[1:], stdin=pasted, check=True)
    assert there.read_text() == f"{TOKEN}\n"
    assert there.stat().st_mode & 0o777 == 0o600
    assert there.stat().st_uid == os.geteuid()


def test_every_child_logs_as_its_parent_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDGATE_LOG_LEVEL", "error")
    tokens = Tokens(tmp_path, tmp_path, tmp_path, "")
    settings = Settings("up", os.environ, given={"log_format": "json", "log_level": logging.DEBUG})
    children = up._children(portal("http://192.0.2.7:8080"), tokens, "192.0.2.7", settings)
    assert {"portal", "relay"} <= {child.name for child in children}
    for child in children:
        assert child.environment["WARDGATE_LOG_FORMAT"] == "json"
        assert child.environment["WARDGATE_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize("has_gateway", [False, True])
def test_a_missing_gateway_is_told_with_its_cure(has_gateway: bool, tokens: Tokens) -> None:
    text = instructions(portal("http://192.0.2.7:8080"), LINK, tokens, has_gateway=has_gateway)
    assert ("Start `wardgate up` with sudo" in text) is not has_gateway
