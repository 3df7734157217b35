"""Installed, upgraded and removed in a bare Debian system, from a portal that runs out of the very build."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from packages.conftest import System
from support.free_port import free_port
from support.patience import PATIENCE_S
from wardgate.model.ids import TokenId
from wardgate.portal.environment import Environment
from wardgate.portal.installation.installers import Installers
from wardgate.portal.settings import PortalSettings
from wardgate.wire.tokens import TokenKind, mint_fragment

ACCOUNT = ("--account-name", "Acme", "--account-slug", "acme", "--admin-email", "ada@acme.example")


def token(kind: TokenKind) -> str:
    return mint_fragment(
        kind, account_id=None, token_id=TokenId(UUID(int=7)), secret=b"s" * 32, key=b"k" * 32
    )


@pytest.fixture(scope="module")
def portal(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A portal with the archive in its data directory, run by the archive's own program."""
    data = tmp_path_factory.mktemp("data")
    (archive,) = dist.glob("wardgate-*.tar.gz")
    program = dist / "work" / archive.name.removesuffix(".tar.gz") / "bin" / "wardgate"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    bare = {"PATH": "/usr/bin:/bin"}
    subprocess.run(
        [program, "init", "--data-dir", data, *ACCOUNT, "--external-url", url],
        env=bare, check=True, capture_output=True,
    )  # fmt: skip
    (data / "builds").mkdir()
    shutil.copy(archive, data / "builds")
    options = ("--data-dir", data, "--listen", f"127.0.0.1:{port}", "--external-url", url)
    with subprocess.Popen([program, "portal", *options], env=bare) as process:
        try:
            until_ready(port)
            yield url
        finally:
            process.terminate()


def until_ready(port: int) -> None:
    deadline = time.monotonic() + 4 * PATIENCE_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)  # nothing tells when a socket begins to listen
        finally:
            connection.close()
    raise AssertionError("the portal of the build does not start")


def install(debian: System, portal: str, part: str, *options: str, check: bool = True, **environment: str):  # type: ignore[no-untyped-def]
    """Run the line that the pages show."""
    line = f"curl -fsSL {portal}/install/{part}.sh | sh -s -- {' '.join(options)}"
    return debian.run("sh", "-c", line, check=check, **environment)


def test_what_other_machines_fetch_is_small(dist: Path) -> None:
    """docs/decisions/0017-a-private-python-tree.md"""
    (archive,) = dist.glob("wardgate-*.tar.gz")
    assert archive.stat().st_size <= 60_000_000


def test_a_gateway_is_installed_upgraded_and_removed_without_a_trace(debian: System, portal: str) -> None:
    before = debian.files()
    secret = token(TokenKind.GATEWAY)
    done = install(debian, portal, "gateway", WARDGATE_TOKEN=secret)
    assert f"WARDGATE_API_URL=ws{portal.removeprefix('http')}" in done.stdout, (
        "how to start it without systemd"
    )
    assert secret not in done.stdout + done.stderr
    assert debian.run("wardgate", "--version").stdout.strip()
    settings = debian.root / "etc" / "wardgate"
    assert (settings / "gateway-token").read_text().strip() == secret
    assert {path.name: path.stat().st_mode & 0o777 for path in settings.iterdir()} == {
        "gateway-token": 0o600,
        "gateway.env": 0o600,
    }

    with (settings / "gateway.env").open("a") as file:
        file.write("WARDGATE_LOG_LEVEL=debug\n")
    programs = debian.root / "opt" / "wardgate"
    idle, used = programs / "wardgate-0.0.1-x86_64-idle", programs / "wardgate-0.0.2-x86_64-used"
    for former in (idle, used):
        former.mkdir()
        shutil.copy(debian.root / "usr/bin/sleep", former)
    upgrade = f"curl -fsSL {portal}/install/gateway.sh | sh"
    debian.run("sh", "-c", f"/opt/wardgate/{used.name}/sleep 600 & {upgrade}; kill $!")
    assert (idle.exists(), used.exists()) == (False, True), "a process runs from the second"
    install(debian, portal, "gateway")
    assert (settings / "gateway-token").read_text().strip() == secret, "an upgrade keeps the token"
    assert "WARDGATE_LOG_LEVEL=debug" in (settings / "gateway.env").read_text(), "and what was set by hand"
    assert len([one for one in programs.iterdir() if not one.is_symlink()]) == 1

    install(debian, portal, "gateway", "--uninstall")
    assert debian.files() == before


def test_what_was_installed_runs_every_part(debian: System, portal: str) -> None:
    install(debian, portal, "client", WARDGATE_TOKEN=token(TokenKind.CLIENT))
    install(
        debian, portal, "relay", WARDGATE_TOKEN=token(TokenKind.RELAY), WARDGATE_PUBLIC_IP4_ADDR="192.0.2.7"
    )
    relay = (debian.root / "etc" / "wardgate" / "relay.env").read_text()
    assert "WARDGATE_PUBLIC_IP4_ADDR=192.0.2.7\n" in relay
    removed = install(debian, portal, "relay", "--uninstall")
    assert "stays for the client" in removed.stdout
    assert debian.run("wardgate", "client", "--help").stdout


def test_without_a_token_or_with_a_wrong_one_nothing_is_started(debian: System, portal: str) -> None:
    none = install(debian, portal, "gateway", check=False)
    assert (none.returncode, "a gateway needs a token" in none.stderr) == (1, True)
    wrong = install(debian, portal, "gateway", check=False, WARDGATE_TOKEN=token(TokenKind.CLIENT))
    assert (wrong.returncode, "a gateway token is needed" in wrong.stderr) == (1, True)
    assert not (debian.root / "usr/local/bin/wardgate").exists()
    assert not list((debian.root / "etc" / "wardgate").glob("*token*")), "it is asked for again"


def test_a_build_that_differs_from_its_checksum_is_not_unpacked(debian: System, portal: str) -> None:
    script = debian.run("curl", "-fsSL", f"{portal}/install/gateway.sh").stdout
    head, assignment, rest = script.partition("builds='x86_64 ")
    forged = head + assignment + hashlib.sha256(b"another").hexdigest() + rest[64:]
    done = debian.run("sh", text=forged, check=False, WARDGATE_TOKEN=token(TokenKind.GATEWAY))
    assert (done.returncode, "does not have the checksum" in done.stderr) == (1, True)
    assert list((debian.root / "opt" / "wardgate").iterdir()) == []


def test_a_disk_that_is_full_is_told_in_a_line_and_nothing_stays(debian: System, portal: str) -> None:
    (debian.root / "opt" / "wardgate").mkdir(parents=True)
    line = (
        "mount -t tmpfs -o size=60m tmpfs /opt/wardgate"
        f" && curl -fsSL {portal}/install/gateway.sh | sh; ls -A /opt/wardgate"
    )
    done = debian.run("sh", "-c", line, WARDGATE_TOKEN=token(TokenKind.GATEWAY))
    assert "No space left on device" in done.stderr
    assert (len(done.stderr.splitlines()), done.stdout.splitlines()[1:]) == (1, [])


def test_debian_packages_are_installed_upgraded_and_purged(debian: System, dist: Path) -> None:
    before = debian.files()
    paths = sorted(dist.glob("*.deb"))
    for path in paths:
        shutil.copy(path, debian.root / "tmp")
    install_all = ("dpkg", "-i", *(f"/tmp/{path.name}" for path in paths))
    debian.run(*install_all)
    assert debian.run("wardgate", "--version").stdout.strip()
    for part in ("client", "gateway", "relay", "portal"):
        enabled = debian.run("systemctl", "is-enabled", f"wardgate-{part}", check=False).stdout.strip()
        assert enabled == "enabled", part
        debian.run("systemd-analyze", "verify", f"/lib/systemd/system/wardgate-{part}.service")
    assert "wardgate-portal" in (debian.root / "etc/passwd").read_text()
    (served,) = (debian.root / "usr/share/wardgate/builds").iterdir()
    assert served.read_bytes() == next(dist.glob("wardgate-*.tar.gz")).read_bytes()

    token_file = debian.root / "etc/wardgate/gateway-token"
    token_file.write_text(token(TokenKind.GATEWAY))
    debian.run(*install_all)
    assert token_file.exists(), "an upgrade keeps the token"
    script = asyncio.run(Installers(PortalSettings(), Environment.of_this_process()).script("gateway"))
    refused = debian.run("sh", "-s", "--", "--uninstall", text=script, check=False)
    assert (refused.returncode, "apt-get purge wardgate-gateway" in refused.stderr) == (1, True)
    assert token_file.exists()

    names = [path.name.partition("_")[0] for path in paths]
    debian.run("dpkg", "--purge", *sorted(names, reverse=True))
    assert debian.files() == before
    assert "wardgate" not in (debian.root / "etc/passwd").read_text()
