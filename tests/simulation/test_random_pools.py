"""Random lives of device pools, and that they notice what they are there to notice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import pytest

from wardgate.datapath import commands as c
from wardgate.datapath.programmable import Programmable
from wardgate.policy import pools
from wardgate.portal.channels import journal
from wardgate.portal.channels.claims import Claim
from wardgate.portal.channels.early import Early
from wardgate.portal.channels.pool_access import PoolAccess
from wardgate.portal.devices import tables as devices
from wardgate.portal.schema.declaration import Removal
from wardgate.portal.store import Transaction
from wardgate.simulation.model import Violation
from wardgate.simulation.peers import SimClient
from wardgate.simulation.random_pools import run_pools_seed

CHUNK = 2
SEEDS = range(20)
_TOO_MUCH = "after its access ended|does not lead there|which no policy does|stored nowhere"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first_seed" in metafunc.fixturenames:
        seeds = 600 if metafunc.config.getoption("--profile") == "long" else 20
        metafunc.parametrize("first_seed", range(0, seeds, CHUNK))


@pytest.mark.timeout(240)
def test_what_pools_lead_to_is_granted_and_nothing_else(
    first_seed: int, record_property: Callable[[str, object], None]
) -> None:
    exercised = [run_pools_seed(seed) for seed in range(first_seed, first_seed + CHUNK)]
    for counts in exercised:
        for name, value in dataclasses.asdict(counts).items():
            record_property(f"exercised.{name}", value)
    assert sum(counts.answered for counts in exercised) > 0


def a_target_is_not_told_of_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PoolAccess, "revoke", lambda _pools, _id: None)


def every_device_belongs_to_every_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "belongs_to", lambda _snapshot, _pool, _device: True)


def who_leaves_a_pool_keeps_its_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    # What goes with a row of devices then names no row.
    monkeypatch.setattr(devices, "Removal", lambda table, rows: Removal(table, {**rows, "id": UUID(int=0)}))


def changes_during_a_targets_loading_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Early, "handle_changes", lambda _early, _changes: None)


def a_grant_is_stored_as_it_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    async def valid_claims(_: Transaction, claims: Sequence[Claim], *, now: datetime) -> list[Claim]:
        return list(claims)

    monkeypatch.setattr(journal, "valid_claims", valid_claims)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "plant",
    [
        a_target_is_not_told_of_an_end,
        every_device_belongs_to_every_pool,
        who_leaves_a_pool_keeps_its_grants,
        changes_during_a_targets_loading_are_lost,
        a_grant_is_stored_as_it_was_decided,
    ],
)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert re.search(_TOO_MUCH, first_violation())


class _Deaf:
    """Between machine and engine: access that ends goes on."""

    def __init__(self, engine: Programmable) -> None:
        self.engine = engine

    def apply(self, command: c.Command) -> None:
        if not isinstance(command, c.Revoke | c.RetainGrants):
            self.engine.apply(command)


class _DeafClient(SimClient):
    def between(self, engine: Programmable) -> Programmable:
        return _Deaf(engine)


@pytest.mark.timeout(240)
def test_a_client_that_does_not_end_what_it_granted_is_found() -> None:
    assert re.search("reached .*, to which no pool leads them", first_violation(_DeafClient))


def first_violation(client_type: type[SimClient] = SimClient) -> str:
    """What the first seed that fails says."""
    for seed in SEEDS:
        try:
            run_pools_seed(seed, client_type=client_type)
        except Violation as violation:
            return str(violation)
    return f"nothing was noticed in {len(SEEDS)} seeds"
