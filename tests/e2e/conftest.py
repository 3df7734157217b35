"""Real processes in network namespaces. Scenarios carry their ids in their names (docs/scenarios.md)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from e2e.scene_logs import Complaint, SceneLogs
from wardgate.lab import Internet, why_unavailable
from wardgate.lab.installation import Installation

LABS: list[Internet] = []
"""That outlive a scene."""

_EXPECTED = [
    # The lab's portals have no certificate, and say so at each start.
    r"this is plain HTTP on a public address",
    r"published peers upload no flow logs",
    # What this machine allows a process, what its kernel has, and that somebody sets its clock.
    r"open files are limited to",
    r"UDP \w+ buffer is \d+ bytes instead of",
    r"the kernel refuses gso_max_segs",
    r"the wall clock was set",
    # Said when a portal has been away for long: how long it takes to start is up to the machine.
    r"flow records are not uploaded",
    # How many checks peers send at once is up to when they learn of each other.
    r"a source asked too often",
    # asyncio's, where a command is given up just as it ends.
    r"Unknown child process pid",
]
"""Warnings and errors of any scene, as `Complaint` writes them; a scene's own stand in `@pytest.mark.logs`."""

REPORTS_FLOWS = {
    "WARDGATE_EXTERNAL_URL": "http://portal:8080",
    "WARDGATE_FLOW_LOG_UPLOAD_INTERVAL": "2s",
}
"""Settings of a portal that both ends report their flows to, every other second."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "logs(pattern): a warning or error that this scene brings about")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_unavailable()
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.netns)
            item.add_marker(pytest.mark.timeout(600))  # of a minute: for what hangs
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=f"no lab on this machine: {reason}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for several in terminalreporter.stats.values() for one in several]
    surprises = [
        f"{report.nodeid}: {value}"
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == "surprise"
    ]
    if surprises:
        terminalreporter.section("warnings that no scene expects")
        for surprise in surprises:
            terminalreporter.write_line(surprise)


@pytest.fixture(scope="session")
def machine_before() -> tuple[bytes, bytes]:
    """Interfaces and firewall rules of the machine before the first lab."""
    return machine()


def machine() -> tuple[bytes, bytes]:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, check=True).stdout
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout
    return links, rules


@pytest.fixture(scope="session")
def shared(machine_before: tuple[bytes, bytes]) -> Iterator[Installation]:  # before it
    with Internet() as internet:
        LABS.append(internet)
        yield running(Installation(internet, portal_settings=REPORTS_FLOWS))


@pytest.fixture
def cone(shared: Installation) -> Installation:
    """Endpoint-independent NAT before client and gateway: the path is direct.

    All tests share it, because it takes long to build; what one has ended is started again before the next.
    """
    shared.mend()
    return shared


@pytest.fixture(autouse=True)
def _no_surprise_in_the_logs(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """After each scene, look through what the product's programs have logged in it.

    What a scene before expects may come late, and counts as expected from then on. An error or a trace that is not
    expected fails the scene. A warning is told at the end of the run: many say that the machine was slow, and which of
    them a machine brings about is not known beforehand.
    """
    logs = SceneLogs(host for internet in LABS for host in internet.hosts.values())
    complaints: list[Complaint] = []
    close = Internet.close

    def look_and_close(internet: Internet) -> None:
        complaints.extend(logs.complaints(internet.hosts.values()))
        close(internet)

    monkeypatch.setattr(Internet, "close", look_and_close)
    _EXPECTED.extend(str(marker.args[0]) for marker in request.node.iter_markers("logs"))
    yield
    for internet in LABS:
        complaints.extend(logs.complaints(internet.hosts.values()))
    surprises = [one for one in complaints if not any(re.search(each, str(one)) for each in _EXPECTED)]
    request.node.user_properties.extend(("surprise", str(one)) for one in surprises)
    assert not any(one.is_error for one in surprises), "\n".join(map(str, surprises))


def running(installation: Installation) -> Installation:
    installation.init()
    installation.start_portal()
    installation.make_access()
    installation.start_peers()
    return installation
