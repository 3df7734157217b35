"""Real processes in network namespaces. Scenarios carry their ids in their names (docs/scenarios.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from wardgate.lab import Internet, Nat, why_unavailable
from wardgate.lab.installation import Installation


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_unavailable()
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.netns)
            item.add_marker(pytest.mark.timeout(180))
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=f"no lab on this machine: {reason}"))


@pytest.fixture(scope="module")
def cone() -> Iterator[Installation]:
    """Endpoint-independent NAT before client and gateway: the path is direct."""
    with Internet() as internet:
        yield running(Installation(internet))


@pytest.fixture
def installation() -> Iterator[Callable[..., Installation]]:
    """Build an installation of one's own; arguments as `Installation`."""
    with Internet() as internet:
        yield lambda **options: running(Installation(internet, **options))


def running(installation: Installation) -> Installation:
    installation.init()
    installation.start_portal()
    installation.make_access()
    installation.start_peers()
    return installation


SYMMETRIC = {"client_nat": Nat.SYMMETRIC, "gateway_nat": Nat.SYMMETRIC}
