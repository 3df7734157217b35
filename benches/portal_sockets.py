"""A list of 100 objects over a real socket: the portal as a process of its own, and Headscale beside it where
it is installed.

    python -m benches.portal_sockets        builds Headscale from the Go module proxy into .cache/ (about ten minutes)

Headscale has no policies with ids; what it lists by its REST gateway is users, of about as many fields. Both
read from SQLite and check a bearer token, and each process answers one caller over a connection that is kept
open.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benches.portal_account import percentiles

CALLS: Final = 100  # of each subject, alternating
WARM_UP: Final = 10
PAGE: Final = 100
MODULE: Final = "github.com/juanfont/headscale"
VERSION: Final = "v0.27.1"
BUILT: Final = Path(__file__).parents[1] / ".cache" / "headscale"

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_START_S: Final = 120.0


def measure(directory: Path, api_token: str) -> dict[str, Any]:
    """Return percentiles and CPU time a call of each server, in milliseconds; `directory` is the portal's own."""
    binary = shutil.which("headscale") or (str(BUILT) if BUILT.exists() else None)
    with contextlib.ExitStack() as stack:
        servers = {"wardgate": stack.enter_context(_wardgate(directory, api_token))}
        if binary is not None:
            servers["headscale"] = stack.enter_context(_headscale(binary))
        taken: dict[str, list[float]] = {name: [] for name in servers}
        before: dict[str, float] = {}
        for number in range(WARM_UP + CALLS):
            for name, server in servers.items():
                if number == WARM_UP:
                    before[name] = server.cpu_s()
                started = time.perf_counter()
                server.list()
                if number >= WARM_UP:
                    taken[name].append(time.perf_counter() - started)
        return {
            name: {**percentiles(taken[name]), "cpu": (server.cpu_s() - before[name]) / CALLS * 1e3}
            for name, server in servers.items()
        }


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and the connection to it."""

    process: subprocess.Popen[bytes]
    connection: http.client.HTTPConnection
    path: str
    token: str
    field: str

    def list(self) -> None:
        """Ask for the list, and check that all of it came."""
        answer = self.call("GET", self.path)
        assert len(answer[self.field]) == PAGE

    def call(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        content: dict[str, Any] = json.loads(answer.read())
        assert answer.status == 200, content
        return content

    def cpu_s(self) -> float:
        """Return what the process has used of the CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@contextlib.contextmanager
def _wardgate(directory: Path, api_token: str) -> Iterator[Server]:
    port = free_port()
    environment = {
        **os.environ,
        "WARDGATE_DATA_DIR": str(directory),
        "WARDGATE_LISTEN": f"127.0.0.1:{port}",
        "WARDGATE_API_CAPACITY": "1000000000",
        "WARDGATE_LOG_LEVEL": "warning",
    }
    with running([str(Path(sys.executable).with_name("wardgate")), "portal"], port, environment) as process:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        yield Server(process, connection, f"/policies?limit={PAGE}", api_token, "data")


@contextlib.contextmanager
def _headscale(binary: str) -> Iterator[Server]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="headscale-") as name:
        directory = Path(name)
        (directory / "derp.yaml").write_text(
            "regions: {900: {regionid: 900, regioncode: none, regionname: none, nodes: "
            "[{name: 900a, regionid: 900, hostname: derp.invalid}]}}\n"
        )
        # JSON is YAML.
        (directory / "config.yaml").write_text(json.dumps(_configuration(directory, port)))
        command = [binary, "-c", str(directory / "config.yaml")]
        with running([*command, "serve"], port, dict(os.environ)) as process:
            created = subprocess.run([*command, "apikeys", "create"], capture_output=True, check=True)
            token = created.stdout.decode().split()[-1]
            server = Server(
                process, http.client.HTTPConnection("127.0.0.1", port), "/api/v1/user", token, "users"
            )
            for number in range(PAGE):
                user = {"name": f"user{number}", "email": f"user{number}@example.org"}
                server.call("POST", "/api/v1/user", user | {"displayName": f"User {number}"})
            yield server


def _configuration(directory: Path, port: int) -> dict[str, Any]:
    return {
        "server_url": f"http://127.0.0.1:{port}",
        "listen_addr": f"127.0.0.1:{port}",
        "metrics_listen_addr": f"127.0.0.1:{free_port()}",
        "grpc_listen_addr": f"127.0.0.1:{free_port()}",
        "noise": {"private_key_path": str(directory / "noise.key")},
        "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48", "allocation": "sequential"},
        "derp": {"server": {"enabled": False}, "urls": [], "paths": [str(directory / "derp.yaml")]},
        "disable_check_updates": True,
        "database": {
            "type": "sqlite",
            "sqlite": {"path": str(directory / "db.sqlite"), "write_ahead_log": True},
        },
        "policy": {"mode": "file", "path": ""},
        "dns": {"magic_dns": False, "override_local_dns": False, "base_domain": "example.invalid"},
        "unix_socket": str(directory / "headscale.sock"),
        "unix_socket_permission": "0700",
        "logtail": {"enabled": False},
        "log": {"level": "warn", "format": "text"},
    }


@contextlib.contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not answer") from None
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def sync_ms(directory: Path) -> float:
    """Return how long this disk takes to have a page of 4 KiB: the median of 100."""
    taken = []
    with (directory / "sync").open("wb", buffering=0) as file:
        for _ in range(CALLS):
            file.write(bytes(4096))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


def report(results: dict[str, Any]) -> None:
    ours, theirs = results["wardgate"], results.get("headscale")
    print(f"  the same over a socket, {CALLS} calls each")
    print(f"    {'wardgate':<42} {ours['p50']:>8.2f} ms   p99 {ours['p99']:.1f} ms; CPU {ours['cpu']:.2f} ms")
    if theirs is None:
        print("    Headscale is not installed: skipped (`python -m benches.portal_sockets` builds it)")
    else:
        print(
            f"    {f'Headscale {VERSION}, {PAGE} users':<42} {theirs['p50']:>8.2f} ms   p99 {theirs['p99']:.1f} ms; "
            f"CPU {theirs['cpu']:.2f} ms; ratio of p50 {ours['p50'] / theirs['p50']:.3f} ×"
        )


def build() -> None:
    """Build Headscale with Go out of the module proxy."""
    downloaded = subprocess.run(
        ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"], check=True, capture_output=True
    )
    source = json.loads(downloaded.stdout)["Dir"]
    BUILT.parent.mkdir(exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(
        ["go", "build", "-C", source, "-o", str(BUILT), "./cmd/headscale"], check=True, env=environment
    )


if __name__ == "__main__":
    build()
