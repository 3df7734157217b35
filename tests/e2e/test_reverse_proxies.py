"""The recipes of docs/deploy, run as they stand there: only names, ports and files of the machine are exchanged."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
import yaml
from websockets.sync.client import ClientConnection, connect

from support.certificates import write_certificate
from support.free_port import free_port
from support.patience import PATIENCE_S
from support.portal import GATEWAY_AGENT
from wardgate.lab.host import wait_until

DOCS: Final = Path(__file__).parents[2] / "docs" / "deploy"
NAME: Final = "portal.example.org"
CALLER: Final = "127.0.0.7"  # who the portal must see: not the proxy, which comes from 127.0.0.1
SPOOFED: Final = {
    "X-Forwarded-For": "198.51.100.66",
    "X-Forwarded-Proto": "http",
    "X-Geo-Location-Region": "AQ",
    "X-Geo-Location-City": "McMurdo",
    "X-Geo-Location-Coordinates": "-77.8,166.7",
    "X-Azure-Geo-Country": "AQ",
}
_WARDGATE: Final = (sys.executable, "-m", "wardgate.cli.main")


@dataclass(frozen=True)
class Portal:
    port: int
    api_token: str
    sign_in_link: Callable[[], str]


@dataclass(frozen=True)
class Proxy:
    """A way to the portal through a running proxy."""

    portal: Portal
    port: int
    trust: ssl.SSLContext

    def socket(self) -> socket.socket:
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=PATIENCE_S, source_address=(CALLER, 0)
        )

    @contextlib.contextmanager
    def ask(
        self, path: str, body: object = None, *, headers: Mapping[str, str] = {}
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(NAME, self.port, context=self.trust)
        connection.sock = self.trust.wrap_socket(self.socket(), server_hostname=NAME)
        content = None if body is None else json.dumps(body)
        sent = {"Content-Type": "application/json", **SPOOFED, **headers}
        with contextlib.closing(connection):
            connection.request("GET" if body is None else "POST", path, content, sent)
            with connection.getresponse() as answer:
                yield answer

    def rest(self, path: str, body: object = None) -> Any:
        with self.ask(path, body, headers={"Authorization": f"Bearer {self.portal.api_token}"}) as answer:
            text = answer.read()
            assert answer.status < 400, text
            return json.loads(text)["data"]


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """A portal process with the settings that all recipes name."""
    (settings,) = {_block(recipe, "ini") for recipe in ("caddy", "nginx", "traefik")}
    port = free_port()
    directory = tmp_path_factory.mktemp("portal")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WARDGATE_")},
        **dict(line.split("=", 1) for line in _exchanged(settings, {":8080": f":{port}"}).splitlines()),
        "WARDGATE_DATA_DIR": str(directory / "data"),
    }
    account = (
        "--account-name",
        "Acme",
        "--account-slug",
        "acme",
        "--admin-email",
        "ada@example.org",
        "--json",
    )
    made = json.loads(_output(("init", *account), environment))

    def sign_in_link() -> str:
        text = _output(("sign-in-link",), environment)
        found = re.search(rf"https://{NAME}(/acme/sign_in/link/\S+)", text)
        assert found is not None, text
        return found[1]

    with _running((*_WARDGATE, "portal"), environment, directory / "portal.log", port):
        yield Portal(port, made["api_token"], sign_in_link)


@pytest.fixture(params=["caddy", "nginx"])
def proxy(request: pytest.FixtureRequest, portal: Portal, tmp_path: Path) -> Iterator[Proxy]:
    certificate, key = tmp_path / "portal.crt", tmp_path / "portal.key"
    write_certificate(certificate, key, name=NAME)
    port = free_port()
    start = {"caddy": _caddy, "nginx": _nginx}[request.param]
    command = start(portal, port, certificate, key, tmp_path)
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path)}
    with _running(command, environment, tmp_path / "proxy.log", port):
        yield Proxy(portal, port, ssl.create_default_context(cafile=certificate))


def test_the_recipe_carries_everything_that_the_portal_does(proxy: Proxy) -> None:
    link = proxy.portal.sign_in_link()
    with proxy.ask(link) as signed_in:
        cookie = signed_in.headers["Set-Cookie"]
        assert (signed_in.status, signed_in.headers["Location"]) == (303, "/acme")
        assert "; Secure" in cookie
        assert "; HttpOnly" in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    with proxy.ask("/acme", headers=session) as page:
        assert page.status == 200
        assert len(page.headers.get_all("Strict-Transport-Security") or []) == 1
    with proxy.ask("/acme/live/") as redirect:
        assert redirect.headers["Location"] == f"https://{NAME}:{proxy.port}/acme/live"
    with proxy.ask("/readyz") as ready:
        assert json.loads(ready.read())["status"] == "ready"

    site = proxy.rest("/sites", {"site": {"name": f"Office {proxy.port}"}})["id"]
    gateway = proxy.rest(f"/sites/{site}/gateways", {"gateway": {"name": "office-live"}})
    with proxy.ask("/acme/live", headers=session) as events:
        assert events.headers["Content-Type"].startswith("text/event-stream")
        assert "gateway" in _event(events)
        with _gateway(proxy, gateway) as channel:
            channel.send(json.dumps({"topic": "gateway", "event": "phx_join", "payload": None, "ref": 0}))
            assert json.loads(channel.recv(PATIENCE_S))["payload"]["status"] == "ok"
            assert json.loads(channel.recv(PATIENCE_S))["event"] == "init"
            # Fails when the stream falls silent: a proxy that collects keeps what it has.
            while "presence" not in (told := _event(events)):
                assert told

    # The record of a connect is written within a tenth of a second or so.
    (seen,) = wait_until(
        lambda: [one for one in proxy.rest(f"/sites/{site}/gateways") if one["last_seen_remote_ip"]],
        "the gateway's address",
        limit_s=PATIENCE_S,
    )
    assert (seen["last_seen_remote_ip"], seen["last_seen_remote_ip_location_region"]) == (CALLER, None)
    requests = proxy.rest("/logs?type=api_request")
    assert {(one["ip"], one["ip_region"]) for one in requests} == {(CALLER, None)}


def test_the_recipe_that_cannot_be_run_is_readable_and_removes_the_same_headers() -> None:
    page = (DOCS / "traefik.md").read_text()
    static, dynamic = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    router = dynamic["http"]["routers"]["wardgate"]
    assert router["rule"] == f"Host(`{NAME}`)"
    assert set(router["entryPoints"]) <= static["entryPoints"].keys()
    assert router["tls"]["certResolver"] in static["certificatesResolvers"]
    removed = dynamic["http"]["middlewares"]["wardgate-headers"]["headers"]["customRequestHeaders"]
    assert removed == {name: "" for name in SPOOFED if not name.startswith("X-Forwarded")}


def _caddy(portal: Portal, port: int, certificate: Path, key: Path, directory: Path) -> tuple[str, ...]:
    recipe = _exchanged(
        _block("caddy", "caddyfile"),
        {
            f"{NAME} {{": f"https://{NAME}:{port} {{\n\ttls {certificate} {key}",
            "127.0.0.1:8080": f"127.0.0.1:{portal.port}",
        },
    )
    file = directory / "Caddyfile"
    file.write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{recipe}")
    return ("caddy", "run", "--adapter", "caddyfile", "--config", str(file))


def _nginx(portal: Portal, port: int, certificate: Path, key: Path, directory: Path) -> tuple[str, ...]:
    recipe = _exchanged(
        _block("nginx", "nginx"),
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "listen [::]:443 ssl;": "",
            f"/etc/letsencrypt/live/{NAME}/fullchain.pem": str(certificate),
            f"/etc/letsencrypt/live/{NAME}/privkey.pem": str(key),
            "127.0.0.1:8080": f"127.0.0.1:{portal.port}",
        },
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    file = directory / "nginx.conf"
    file.write_text(
        f"daemon off;\nuser root;\npid {directory}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{own}\n{recipe}\n}}\n"
    )
    return ("/usr/sbin/nginx", "-p", str(directory), "-c", str(file), "-e", "stderr")


@contextlib.contextmanager
def _gateway(proxy: Proxy, made: Mapping[str, Any]) -> Iterator[ClientConnection]:
    query = {
        "external_id": str(proxy.port),
        "name": "office",
        "public_key": base64.b64encode(str(proxy.port).ljust(32).encode()).decode(),
    }
    with connect(
        f"wss://{NAME}:{proxy.port}/gateway/v2/websocket?{urlencode(query)}",
        sock=proxy.socket(),
        ssl=proxy.trust,
        server_hostname=NAME,
        additional_headers={"X-Authorization": f"Bearer {made['token']}", **SPOOFED},
        user_agent_header=GATEWAY_AGENT,
        compression=None,
        proxy=None,
    ) as channel:
        yield channel


def _event(stream: http.client.HTTPResponse) -> str:
    """Return the data of the next server-sent event; raises when none comes."""
    lines: list[str] = []
    while True:
        line = stream.readline().decode().rstrip("\n")
        assert not line.startswith(":"), "the portal had nothing to say for long"
        if not line and lines:
            return "\n".join(lines)
        if line.startswith("data: "):
            lines.append(line.removeprefix("data: "))


def _block(recipe: str, language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", (DOCS / f"{recipe}.md").read_text(), re.DOTALL)
    return str(block)


def _exchanged(text: str, exchanges: Mapping[str, str]) -> str:
    for old, new in exchanges.items():
        assert text.count(old) == 1, f"the recipe has no (single) {old!r}"
        text = text.replace(old, new)
    return text


def _output(arguments: tuple[str, ...], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        (*_WARDGATE, *arguments), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def _running(
    command: tuple[str, ...], environment: Mapping[str, str], log: Path, port: int
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), "a listener", PATIENCE_S)
        except TimeoutError as error:
            raise AssertionError(log.read_text()) from error
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(4 * PATIENCE_S)  # a portal waits for connections to end


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
