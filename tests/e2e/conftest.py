"""Real processes in network namespaces. Scenarios carry their ids in their names (docs/scenarios.md)."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from e2e.scene_logs import Complaint, SceneLogs
from wardgate.lab import Internet, why_unavailable
from wardgate.lab.installation import Installation

LABS: list[Internet] = []
"""That outlive a scene."""

_OF_ANY_SCENE = tuple(
    rf"\w+ on [\w-]+: (\[\w+\] )?{said}"  # `wardgate up` says which of its parts
    for said in (
        # The lab's portals have no certificate, and say so at each start.
        "this is plain HTTP on a public address",
        "published peers upload no flow logs",
        # What this machine allows a process, and that somebody sets its clock.
        "open files are limited to",
        r"UDP \w+ buffer is \d+ bytes instead of",
        "the wall clock was set",
        # Said when a portal has been away for long: how long it takes to start is up to the machine.
        "flow records are not uploaded",
    )
)
"""Warnings that may come in any scene, as `Complaint` writes them; a scene's own stand in its marks."""

_LATE_S = 120.0
"""For how long after a scene its warnings may still come: the ends of both look at their hosts every few seconds."""

_former: list[tuple[float, list[str]]] = []
"""When scenes of this process have ended, and what they expect."""

REPORTS_FLOWS = {
    "WARDGATE_EXTERNAL_URL": "http://portal:8080",
    "WARDGATE_FLOW_LOG_UPLOAD_INTERVAL": "2s",
}
"""Settings of a portal that both ends report their flows to, every other second."""


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "logs(pattern): a warning or error that this scene brings about, and fails without",
        "may_log(pattern): one that it may bring about; when it does is up to the machine",
    ):
        config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_unavailable()
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.netns)
            item.add_marker(pytest.mark.timeout(600))  # of a minute: for what hangs
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=f"no lab on this machine: {reason}"))


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
    """After each scene, look through what the product's programs have logged in it: a warning, an error or a trace that
    the scene does not expect fails it, and so does one that it brings about and that is not there (docs/scenarios.md).

    What a scene brings about may come late, into the next.
    """
    logs = SceneLogs(host for internet in LABS for host in internet.hosts.values())
    complaints: list[Complaint] = []
    close = Internet.close

    def look_and_close(internet: Internet) -> None:
        complaints.extend(logs.complaints(internet.hosts.values()))
        close(internet)

    monkeypatch.setattr(Internet, "close", look_and_close)
    certain, possible = (
        [str(mark.args[0]) for mark in request.node.iter_markers(kind)] for kind in ("logs", "may_log")
    )
    yield
    for internet in LABS:
        complaints.extend(logs.complaints(internet.hosts.values()))
    said = [str(one) for one in complaints]
    now = time.monotonic()
    late = [each for ended_at, expected in _former if ended_at > now - _LATE_S for each in expected]
    _former.append((now, [*certain, *possible]))
    expected = [*_OF_ANY_SCENE, *certain, *possible, *late]
    surprises = [one for one in said if not any(re.match(each, one) for each in expected)]
    assert not surprises, "\n".join(["no scene expects:", *surprises])
    missing = [each for each in certain if not any(re.match(each, one) for one in said)]
    assert not missing, "\n".join(["expected and not logged:", *missing])


def running(installation: Installation) -> Installation:
    installation.init()
    installation.start_portal()
    installation.make_access()
    installation.start_peers()
    return installation
