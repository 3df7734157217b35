"""`wardgate demo`: a person reaches a private server through real NATs, step by step, with the proof beside
each claim."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from wardgate.cli.commands.tree import DEMO_JSON, KEEP, SIMULATED
from wardgate.cli.errors import UserError
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.lab import Internet, LabUnavailable, Nat, why_unavailable
from wardgate.lab.host import CommandFailed, wait_until
from wardgate.lab.installation import (
    PORTAL_URL,
    TEN_MEGABYTES,
    TEN_MEGABYTES_SHA256,
    WEB4,
    Download,
    Installation,
    RequestRefused,
)
from wardgate.lab.packet_watch import PacketWatch

_BY_NAME: Final = f"http://app.internal.example/bytes?num={TEN_MEGABYTES}"
_BY_ADDRESS: Final = f"http://{WEB4}/bytes?num={TEN_MEGABYTES}"
_UNGRANTED: Final = "http://172.21.0.100/get"
_WEB_PORT: Final = 80
_FAILURES: Final = (AssertionError, CommandFailed, LabUnavailable, RequestRefused, TimeoutError)
"""What a failing step raises itself: the message says everything. For any other error its type is named too.
"""


def run(settings: Settings) -> None:
    """Tell the story.

    Raises:
        UserError: a step failed.
    """
    as_json = settings[DEMO_JSON]
    report = _Report(quiet=as_json)
    failure: str | None = "interrupted"
    try:
        with _ended_by_signals():
            _tell(report, simulated=settings[SIMULATED], keep=settings[KEEP])
        failure = None
    except Exception as error:
        failure = f"{report.place}: {_one_line(error)}"
        raise UserError(failure) from error
    finally:
        if as_json:
            result = {"steps": report.steps, "measures": report.measures, "error": failure}
            echo(json.dumps(result))
    report.say(
        f"\nAll {len(report.steps)} steps done in {sum(step['seconds'] for step in report.steps):.1f} s."
    )


class _Report:
    """Prints each step as it happens and remembers it."""

    def __init__(self, *, quiet: bool) -> None:
        self.steps: list[dict[str, Any]] = []
        self.measures: dict[str, float] = {}
        self._quiet = quiet

    @property
    def place(self) -> str:
        """What failed, if something has just failed."""
        if not self.steps:
            return "the demo did not start"
        return "the demo failed" if self.steps[-1]["ok"] else f"step {len(self.steps)} failed"

    def say(self, line: str) -> None:
        if not self._quiet:
            echo(line)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Run one step of the story; the value prints a line of evidence. An exception marks the step as
        failed and propagates."""
        self.say(f"\n{len(self.steps) + 1}. {name}")
        started = time.monotonic()
        entry: dict[str, Any] = {"name": name, "ok": False, "seconds": 0.0}
        self.steps.append(entry)
        try:
            yield lambda line: self.say(f"   {line}")
            entry["ok"] = True
        finally:
            entry["seconds"] = round(time.monotonic() - started, 3)
            self.say(f"   {'done' if entry['ok'] else 'FAILED'} in {entry['seconds']:.1f} s")


def _tell(report: _Report, *, simulated: bool, keep: bool) -> None:
    reason = None if simulated else why_unavailable()
    if reason is not None:
        report.say(f"This machine cannot build the small internet: {reason}.")
        report.say("The same story in the simulator instead (virtual time and network):")
    if simulated or reason is not None:
        from wardgate.simulation.story import tell  # the simulator is heavy and rarely wanted

        tell(report.step, report.say, report.measures)
    else:
        _tell_in_the_lab(report, keep=keep)


def _tell_in_the_lab(report: _Report, *, keep: bool) -> None:
    try:
        with Internet() as internet:
            try:
                _story(report, internet)
            except Exception:
                _save_logs(report, internet)
                raise
            if keep:
                _keep(report, internet)
    finally:
        report.say("\nEverything that the demo created is gone: namespaces, processes, files.")


def _story(report: _Report, internet: Internet) -> None:
    with report.step(
        "Build a small internet: portal, two relays, a client, a gateway with a private web server, each"
        " behind NAT"
    ) as show:
        lab = Installation(internet)
        show(f"{len(internet.hosts)} hosts and routers; every router drops unsolicited packets")
    with report.step(
        "Start the portal on SQLite in an empty data directory; `wardgate init` makes the account"
    ) as show:
        lab.init()
        lab.start_portal()
        show(f"portal at {PORTAL_URL}, account “Demo”")
    with report.step("Create a site, a group, resources, policies and tokens through the REST API") as show:
        lab.make_access()
        show(
            "Engineers may use: app.internal.example, 10.20.0.0/24, 10:20::/64 and *.httpbin names; nobody"
            " may use 172.21.0.100"
        )
    with report.step("Start relays, gateway and client as processes with those tokens") as show:
        lab.start_peers()
        show("portal reports: 2 relays, 1 gateway, 1 client online")
    _reach(report, lab)
    _refuse(report, lab)
    _revoke(report, lab)
    _lose_the_portal(report, lab)
    _lose_a_relay(report, lab)


def _reach(report: _Report, lab: Installation) -> None:
    with report.step("Fetch 10 MB from the private web server, by name and by address") as show:
        direct_before, passed_before = lab.direct_bytes(), lab.passed_by_relays()
        first = _must(lab.fetch("http://app.internal.example/get"))
        assert first.first_byte_ms is not None, "an answer without a byte"
        report.measures["cold_connect_ms"] = round(first.first_byte_ms, 1)
        show(
            f"first request, nothing connected before: {first.first_byte_ms:.0f} ms from connect to the"
            f" first byte"
        )
        resolved = lab.client_site.host.run("getent", "ahostsv4", "app.internal.example").split()[0]
        show(f"app.internal.example is {resolved} here (a proxy address); the gateway resolves the real one")
        by_name, by_address = _must(lab.fetch(_BY_NAME)), _must(lab.fetch(_BY_ADDRESS))
        for kind, done in (("by name", by_name), ("by address", by_address)):
            assert done.sha256 == TEN_MEGABYTES_SHA256, f"wrong SHA-256 {kind}"
            show(f"{kind}: {done.bytes:,} bytes, SHA-256 correct, {done.mbit_s:,.0f} Mbit/s")
        report.measures["direct_mbit_s"] = round(max(by_name.mbit_s, by_address.mbit_s), 1)
        direct = lab.direct_bytes() - direct_before
        passed = lab.passed_by_relays() - passed_before
        show(f"the gateway's router counted {direct:,} bytes straight to the client's router,")
        show(f"the relays' own routers {passed:,} bytes: the path is direct, through both NATs")
        assert direct > 2 * TEN_MEGABYTES, "the path was not direct"
        assert passed < TEN_MEGABYTES / 100, "the path was not direct"


def _refuse(report: _Report, lab: Installation) -> None:
    with report.step("Request a resource without a policy, and ask the portal why it is denied") as show:
        refused = lab.fetch(_UNGRANTED, timeout_s=2)
        assert refused.error is not None, "a resource without a policy was reached"
        show(f"172.21.0.100: {refused.error}")
        explain = ("explain", "--client-id", lab.ids["client"], "--resource-id", lab.ids["secret"])
        environment = {"WARDGATE_URL": PORTAL_URL, "WARDGATE_TOKEN": lab.api.token}
        explanation = lab.wardgate(lab.portal_site.host, *explain, environment=environment, check=False)
        assert explanation.startswith("DENIED"), explanation
        for line in explanation.strip().splitlines():
            show(f"| {line}")


def _revoke(report: _Report, lab: Installation) -> None:
    with report.step("Delete the policy while a download runs") as show:
        endless = lab.fetch_in_background(f"http://{WEB4}/slow?num=1000000000&rate=2000000", timeout_s=3)
        with PacketWatch(lab.web, _WEB_PORT, "eth1") as watch:
            wait_until(lambda: watch.count > 200, "the download running", limit_s=10)
            asked_at, asking_from = time.time(), time.monotonic()
            lab.revoke("network")
            answered_after_s = time.monotonic() - asking_from
            wait_until(lambda: time.time() - watch.last_at > 1, "silence at the web server", limit_s=10)
            last_at = watch.last_at
        outlived_s = max(0.0, last_at - asked_at)
        report.measures["revocation_ms"] = round(outlived_s * 1000, 1)
        show(f"DELETE answered after {answered_after_s * 1000:.0f} ms")
        show(last_packet(asked_at, last_at))
        assert outlived_s < 1, "access outlived its policy by more than a second"
        outcome = endless.wait(limit_s=30)
        assert outcome.error is not None, "the download continued without its policy"
        show(f"the download ended: {outcome.error}")
        lab.grant("network")
        wait_until(
            lambda: lab.fetch(f"http://{WEB4}/get", timeout_s=2).error is None, "access restored", limit_s=15
        )
        show("policy restored: the next request succeeds")


def last_packet(asked_at: float, last_at: float) -> str:
    """Say when the last packet came. The kernel stamps it on arrival, so it may be older than the request to
    delete."""
    if last_at <= asked_at:
        return "no packet of the download reached the web server after the request was sent"
    late_ms = (last_at - asked_at) * 1000
    return f"last packet of the download at the web server {late_ms:.0f} ms after the request was sent"


def _lose_the_portal(report: _Report, lab: Installation) -> None:
    with report.step("Stop the portal: tunnels keep working. Start it again: nothing breaks") as show:
        _must(lab.fetch("http://app.internal.example/get"))
        code = lab.stop_portal()
        show(f"portal stopped with exit code {code}")
        _must(lab.fetch(_BY_NAME))
        show("without the portal: 10 MB by name, as before")
        lab.start_portal()
        wait_until(lambda: lab.gateway_online() and lab.client_online(), "everyone back online", limit_s=20)
        _must(lab.fetch(_BY_ADDRESS))
        show("with the portal back: everyone is online again, 10 MB by address")


def _lose_a_relay(report: _Report, lab: Installation) -> None:
    with report.step(
        "Symmetric NAT in front of both ends: no direct path is possible, a relay carries it"
    ) as show:
        lab.restart_ends(client_nat=Nat.SYMMETRIC, gateway_nat=Nat.SYMMETRIC)
        before, sent_before = lab.relayed_bytes(), lab.relayed_bytes(lab.gateway_site)
        done = _must(lab.fetch(_BY_NAME))
        assert done.sha256 == TEN_MEGABYTES_SHA256, "wrong SHA-256 through the relay"
        used = {relay: count - before[relay] for relay, count in lab.relayed_bytes().items()}
        sent = {
            relay: count - sent_before[relay] for relay, count in lab.relayed_bytes(lab.gateway_site).items()
        }
        show(
            f"10 MB, SHA-256 correct, {done.mbit_s:,.0f} Mbit/s; the gateway's router counted {_counts(sent)}"
        )
        assert sum(sent.values()) > TEN_MEGABYTES, "no relay carried the download"
        in_use = max(used, key=lambda relay: used[relay])
    with report.step(f"Kill {in_use} (SIGKILL) in the middle of a download") as show:
        download = lab.fetch_in_background(f"http://{WEB4}/slow?num=15000000&rate=3000000", timeout_s=30)
        start = lab.relayed_bytes()[in_use]
        wait_until(lambda: lab.relayed_bytes()[in_use] > start + 3_000, "the download running", limit_s=10)
        lab.relays[in_use].kill()
        outcome = _must(download.wait(limit_s=60))
        report.measures["relay_failover_s"] = round(outcome.longest_gap_s, 2)
        show(f"{outcome.bytes:,} bytes arrived; the longest stall was {outcome.longest_gap_s:.1f} s")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} bytes to {relay}" for relay, count in counts.items())


def _must(download: Download) -> Download:
    assert download.error is None, f"the download failed: {download.error}"
    return download


def _keep(report: _Report, internet: Internet) -> None:
    report.say("\nRunning until Ctrl-C. Look around from another terminal, as root:")
    for name in ("client", "gateway", "portal", "relay-1", "relay-2", "web"):
        report.say(f"  {name:8} {' '.join(internet.hosts[name].command('bash'))}")
    report.say(f"  logs     {internet.state}/*/log/")
    with suppress(KeyboardInterrupt):  # the end that was asked for
        signal.pause()


def _save_logs(report: _Report, internet: Internet) -> None:
    """Keep the processes' logs of a failed run; the state directory goes with the lab."""
    target = Path(tempfile.mkdtemp(prefix="wardgate-demo-"))
    for name, host in internet.hosts.items():
        if host.processes:
            shutil.copytree(host.directory / "log", target / name, dirs_exist_ok=True)
    report.say(f"   logs of every process: {target}")


def _one_line(error: Exception) -> str:
    """Say what went wrong in one line; of a command's or a process's output, the first line and the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason was given"]
    text = lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"
    return text if isinstance(error, _FAILURES) else f"{text} ({type(error).__name__})"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM end the story as Ctrl-C does, with clean-up."""

    def end(_number: int, _frame: object) -> None:
        sys.exit(130)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
