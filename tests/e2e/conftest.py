"""Real processes in network namespaces. Scenarios carry their ids in their names (docs/scenarios.md)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from wardgate.lab import Internet, why_unavailable
from wardgate.lab.installation import Installation

REPORTS_FLOWS = {
    "WARDGATE_EXTERNAL_URL": "http://portal:8080",
    "WARDGATE_FLOW_LOG_UPLOAD_INTERVAL": "2s",
}
"""Settings of a portal that both ends report their flows to, every other second."""


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
        yield running(Installation(internet, portal_settings=REPORTS_FLOWS))


@pytest.fixture
def cone(shared: Installation) -> Installation:
    """Endpoint-independent NAT before client and gateway: the path is direct.

    All tests share it, because it takes long to build; what one has ended is started again before the next.
    """
    shared.mend()
    return shared


def running(installation: Installation) -> Installation:
    installation.init()
    installation.start_portal()
    installation.make_access()
    installation.start_peers()
    return installation
