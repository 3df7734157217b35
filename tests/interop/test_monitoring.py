"""Alert rules and dashboard of `deploy/monitoring`, run by a real Prometheus over what the processes really export."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import wardgate_native
import yaml

from support.free_port import free_port
from support.patience import PATIENCE_S
from support.portal import make_world, portal_running
from wardgate.net.exposition import exposition
from wardgate.portal.metrics import FAULTS, Metrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
START_S = 2 * PATIENCE_S
SEEN = "last_over_time({}[10m])"
"""What was scraped, also where the last scrape came to nothing, as on a machine that is busy for a second."""

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus on this machine")


def exported() -> dict[str, str]:
    """What each kind of process answers at `/metrics`."""
    pages = {"portal": asyncio.run(_of_a_portal())}
    for role in ("client", "gateway"):
        engine = wardgate_native.TunnelEngine(
            role=role,
            private_key=wardgate_native.generate_private_key(),
            seed=b"s" * 32,
            listen_port=1,
            unix_at_zero=0.0,
        )
        # What the process adds to its engine's numbers: documented, and compared with the page by a test of its own.
        page = (ROOT / "docs" / "peer-metrics.md").read_text()
        documented = re.findall(r"^\| `(\w+?)(?:_total)?` \|", page, re.MULTILINE)
        pages[role] = exposition(role, dict.fromkeys(documented, 0) | engine.stats())
    relay = wardgate_native.RelayEngine(
        stamp_secret="0" * 64, ipv4="192.0.2.1", ipv6=None, port=3478, first_port=49152, last_port=49160,
        seed=b"s" * 32, unix_at_zero=0.0,
    )  # fmt: skip
    pages["relay"] = exposition("relay", relay.stats() | {"io_busy_seconds": 0, "udp_receive_dropped": 0})
    return pages


async def _of_a_portal() -> str:
    async with portal_running() as portal:
        world = await make_world(portal)
        async with world.gateway() as gateway:
            await gateway.join()
            portal.services.counters["job_failures"] += 1
            portal.services.counters["denials_forbidden"] += 1
            return (await portal.export_metrics()).decode()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has scraped every kind of process; returns its URL."""
    directory = tmp_path_factory.mktemp("prometheus")
    pages = exported()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(pages[self.path.strip("/")].encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    scrapes = [
        {
            "job_name": f"wardgate-{kind}",
            "scrape_interval": "1s",
            "metrics_path": f"/{kind}",
            "static_configs": [{"targets": [f"127.0.0.1:{server.server_port}"]}],
        }
        for kind in pages
    ]
    configuration = {"scrape_configs": scrapes, "rule_files": [str(MONITORING / "alerts.yml")]}
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [
        "prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _until_scraped(url, kinds=len(pages))
            yield url
        finally:
            process.terminate()
            server.shutdown()
            server.server_close()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_is_understood_and_names_what_there_is(prometheus: str, name: str) -> None:
    expression = EXPRESSIONS[name]
    assert ask(prometheus, "query", query=expression)["status"] == "success"
    for selector in re.findall(r"wardgate_\w+(?:\{[^}]*\})?|\{__name__[^}]*\}", expression):
        metric = selector.partition("{")[0] if not selector.startswith("{") else selector
        assert ask(prometheus, "query", query=SEEN.format(metric))["data"]["result"], (
            f"nobody exports {metric}"
        )


def test_the_first_fault_of_a_portal_is_an_increase() -> None:
    """A series that appears with its first event has not increased."""
    (events,) = re.findall(r'event=~"([a-z_|]+)"', EXPRESSIONS["WardgatePortalFault"])
    (counted,) = re.findall(
        r'_events_total\{event=~"([a-z_|]+)"\}', (ROOT / "docs" / "metrics.md").read_text()
    )
    assert set(events.split("|")) == set(counted.split("|")) == set(FAULTS)
    exported = Metrics().export(Counter(), channels={}, jobs={}, geoip_built_at=None).decode()
    for event in FAULTS:
        assert f'wardgate_portal_events_total{{event="{event}"}} 0.0\n' in exported


def test_the_rules_are_loaded_and_quiet_where_nothing_is_wrong(prometheus: str) -> None:
    (group,) = ask(prometheus, "rules")["data"]["groups"]
    assert {rule["name"] for rule in group["rules"]} == {rule["alert"] for rule in RULES}
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
    subprocess.run(["promtool", "check", "rules", MONITORING / "alerts.yml"], check=True, capture_output=True)


def ask(url: str, what: str, **parameters: str) -> Any:
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    with urllib.request.urlopen(f"{url}/api/v1/{what}{query}", timeout=PATIENCE_S) as answer:
        return json.load(answer)


def _until_scraped(url: str, *, kinds: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            found = ask(url, "query", query="max_over_time(up[10m]) == 1")["data"]["result"]
        except OSError:
            found = []
        if len(found) == kinds:
            return
        time.sleep(0.1)  # Prometheus tells nobody when it has scraped
    raise AssertionError("Prometheus does not scrape")
