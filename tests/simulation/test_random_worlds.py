"""Random lives of a whole installation; a failing seed prints the command that replays it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from wardgate.simulation.random_world import run_seed

CHUNK = 10


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first_seed" in metafunc.fixturenames:
        seeds = 5000 if metafunc.config.getoption("--profile") == "long" else 200
        metafunc.parametrize("first_seed", range(0, seeds, CHUNK))


@pytest.mark.timeout(240)
def test_what_is_granted_is_reached_and_nothing_else(
    first_seed: int, record_property: Callable[[str, object], None]
) -> None:
    for seed in range(first_seed, first_seed + CHUNK):
        counts = run_seed(seed)
        for name, value in dataclasses.asdict(counts).items():
            record_property(f"exercised.{name}", value)


@pytest.mark.timeout(60)
def test_a_seed_replays_exactly() -> None:
    counts = run_seed(42)
    assert run_seed(42) == counts
    assert counts.checked_flows > 0, "peers record flows, and each record is compared with what was sent"
