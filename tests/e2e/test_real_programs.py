"""Programs that people use, through the tunnel: remote shells, databases, measurements, browsers."""

from __future__ import annotations

import hashlib
import json
import pwd
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from e2e.on_hosts import listens
from support.certificates import write_certificate
from support.patience import PATIENCE_S
from support.postgres import binaries
from support.unpacked import ROOT as UNPACKED
from support.unpacked import unpacked
from wardgate.lab.host import Host, Process, wait_until
from wardgate.lab.installation import APP4, WEB4, WEB6, Installation

NAME = "app.internal.example"
PROGRAMS = Path(__file__).parent / "programs"
SIZE = 3_000_000


def test_iperf3_in_both_directions_over_tcp_and_udp_and_both_families(cone: Installation) -> None:
    measurements = (
        ("--client", WEB4),
        ("--client", WEB6, "--reverse"),
        ("--client", NAME, "--version4"),
        ("--client", WEB4, "--udp", "--bitrate", "5M"),
    )
    for port, arguments in enumerate(measurements, start=5201):
        server = cone.web.start(f"iperf3-{port}", "iperf3", "--server", "--one-off", "--port", str(port))
        try:
            wait_until(partial(listens, cone.web, port), "iperf3", limit_s=45)
            command = ("iperf3", *arguments, "--port", str(port), "--bytes", "2M", "--json")
            measured = json.loads(cone.client_site.host.run(*command, timeout_s=60, check=False))
            assert "error" not in measured, measured.get("error")
            end = measured["end"]
            assert end.get("sum_received", end.get("sum"))["bytes"] > 0
        finally:
            server.kill()


def test_ssh_runs_a_command_and_carries_what_it_is_given(cone: Installation, tmp_path: Path) -> None:
    keys = {name: tmp_path / name for name in ("host_key", "own_key")}
    for key in keys.values():
        cone.web.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    allow_root_by_key(cone.web)
    settings = {
        "Port": "22",
        "HostKey": str(keys["host_key"]),
        "AuthorizedKeysFile": f"{keys['own_key']}.pub",
        "StrictModes": "no",  # the key lies in a directory of the test's
        "UsePAM": "no",
        "PidFile": "none",
    }
    # From OpenSSH 9.8 on it hands each connection to programs that it looks for where they would be installed.
    for setting, program in (("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")):
        if (path := UNPACKED / "usr" / "lib" / "openssh" / program).exists():
            settings[setting] = str(path)
    configuration = tmp_path / "sshd_config"
    configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    # The server runs itself again for each connection, so it must be named by its path.
    found = shutil.which("sshd", path=unpacked("sshd")[1].removeprefix("PATH="))
    assert found is not None
    server = cone.web.start("sshd", *unpacked(found, "-D", "-e", "-f", str(configuration)))
    try:
        wait_until(partial(listens, cone.web, 22), "sshd", limit_s=45)
        ssh = shlex.join(
            [
                *("ssh", "-i", str(keys["own_key"]), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
                *("-o", "UserKnownHostsFile=/dev/null", f"root@{NAME}", "sha256sum"),
            ]
        )
        line = f"head -c {SIZE} /dev/zero | {ssh}"
        printed = cone.client_site.host.run("sh", "-c", line, timeout_s=90)
        assert printed.split()[0] == hashlib.sha256(bytes(SIZE)).hexdigest()
    finally:
        server.kill()


def test_psql_asks_a_database(cone: Installation, tmp_path: Path) -> None:
    owner = pwd.getpwnam("postgres")
    data = cone.web.directory / "run" / "database"
    data.mkdir()
    shutil.chown(data, owner.pw_uid, owner.pw_gid)
    for folder in data.parents[:3]:  # the lab's directories are root's alone
        folder.chmod(0o755)
    become = ("setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups")
    cone.web.run(
        *(*become, str(binaries() / "initdb"), "-D", str(data), "-U", "wardgate", "-A", "trust", "-N"),
        timeout_s=90,
    )
    with (data / "pg_hba.conf").open("a") as trusted:
        trusted.write("host all all 0.0.0.0/0 trust\n")
    server = cone.web.start(
        "postgres",
        *(*become, str(binaries() / "postgres"), "-D", str(data), "-c", f"listen_addresses={WEB4}"),
        *("-c", f"unix_socket_directories={data}", "-c", "fsync=off"),
    )
    try:
        wait_until(partial(listens, cone.web, 5432), "PostgreSQL", limit_s=60)
        query = f"SELECT sum(length(repeat('x', 1000))) FROM generate_series(1, {SIZE // 1000})"
        psql = ("psql", "-h", WEB4, "-U", "wardgate", "-d", "postgres", "-At", "-c")
        assert cone.client_site.host.run(*psql, query, timeout_s=60).strip() == str(SIZE)
        rows = cone.client_site.host.run(*psql, "SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
        assert len(rows) == 1001 * 1000
    finally:
        server.stop()


@pytest.mark.parametrize(("program", "port"), [("websocket", 8765), ("quic", 4433)])
def test_what_is_sent_comes_back(cone: Installation, program: str, port: int, tmp_path: Path) -> None:
    """Over a WebSocket, and over a QUIC stream, whose datagrams are as large as the path lets them be."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key, name=NAME)
    file = str(PROGRAMS / f"{program}.py")
    server = cone.web.start(program, sys.executable, file, "serve", str(port), str(certificate), str(key))
    try:
        wait_until(lambda: "ready" in server.log(), program, limit_s=60)
        for host in (WEB4, NAME):
            printed = cone.client_site.host.run(
                *(sys.executable, file, "ask", str(port), host, str(SIZE)), timeout_s=90
            )
            assert printed.strip() == "same"
    finally:
        server.kill()


def test_chromium_opens_a_page_over_http_and_https_by_name(cone: Installation, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key, name=NAME)
    (tmp_path / "index.html").write_text("<!doctype html><title>Wiki</title><p>private</p>")
    server = https_server(cone.web, tmp_path, certificate, key)
    try:
        chromium = shutil.which("chromium")
        assert chromium is not None, "make test installs chromium"
        wrapper = tmp_path / "chromium"
        inside = shlex.join(cone.client_site.host.command(chromium))
        wrapper.write_text(f'#!/bin/sh\nexec {inside} "$@"\n')
        wrapper.chmod(0o700)
        with sync_playwright() as playwright:
            # Tests run as root, for whom Chromium has no sandbox.
            browser = playwright.chromium.launch(executable_path=wrapper, args=["--no-sandbox"])
            page = browser.new_context(ignore_https_errors=True).new_page()
            page.goto(f"http://{NAME}/get", timeout=PATIENCE_S * 1000)
            expect(page.locator("body")).to_contain_text(NAME)
            page.goto(f"https://{NAME}/index.html", timeout=PATIENCE_S * 1000)
            expect(page).to_have_title("Wiki")
            assert page.locator("p").inner_text() == "private"
            browser.close()
    finally:
        server.kill()


def https_server(host: Host, directory: Path, certificate: Path, key: Path) -> Process:
    program = (
        "import http.server, ssl, sys\n"
        f"server = http.server.ThreadingHTTPServer(({APP4!r}, 443), http.server.SimpleHTTPRequestHandler)\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
        f"context.load_cert_chain({str(certificate)!r}, {str(key)!r})\n"
        "server.socket = context.wrap_socket(server.socket, server_side=True)\n"
        "server.serve_forever()\n"
    )
    started = host.start("https", "env", f"--chdir={directory}", sys.executable, "-c", program)
    wait_until(lambda: listens(host, 443), "the HTTPS server", limit_s=45)
    return started


def allow_root_by_key(host: Host) -> None:
    """Give the lab's host what sshd wants: a user of its own, its directory, and a root who is not locked out."""
    with (host.etc / "passwd").open("a") as users:
        users.write("sshd:x:991:65534::/run/sshd:/usr/sbin/nologin\n")
    lines = (host.etc / "shadow").read_text().splitlines()
    others = [line for line in lines if not line.startswith("root:")]
    (host.etc / "shadow").write_text("\n".join(["root:*:19000:0:99999:7:::", *others]) + "\n")
    host.run("mount", "-t", "tmpfs", "-o", "mode=0755", "none", "/run")
    host.run("mkdir", "/run/sshd")
