"""The committed list of faults fits the present tree, so that `make mutants` judges what it says it judges."""

import shlex
from pathlib import Path

import pytest

from .runner import ROOT, mutants

LIST = mutants.load(ROOT / mutants.LIST)


@pytest.mark.parametrize("mutant", LIST, ids=lambda mutant: mutant.id)
def test_a_fault_can_be_planted_exactly_once(mutant: "mutants.Mutant") -> None:
    mutants.plant(mutant, ROOT)


@pytest.mark.parametrize("mutant", LIST, ids=lambda mutant: mutant.id)
def test_a_gate_exists(mutant: "mutants.Mutant") -> None:
    if mutant.is_rust:
        crate = mutant.gate.removeprefix(mutants.CARGO).split()[0]
        assert (ROOT / "native" / "crates" / crate.removeprefix("wardgate-") / "Cargo.toml").exists()
        assert mutant.file.startswith(("native/", "fuzz/")), "cargo does not see it"
    else:
        paths = [word for word in shlex.split(mutant.gate) if word.startswith("tests/")]
        assert paths
        assert [path for path in paths if not Path(ROOT, path.partition("::")[0]).exists()] == []


@pytest.mark.parametrize("mutant", LIST, ids=lambda mutant: mutant.id)
def test_a_fault_is_told_in_one_sentence(mutant: "mutants.Mutant") -> None:
    assert 10 <= len(mutant.fault) <= 160
    assert "\n" not in mutant.fault


def test_the_list_reaches_everywhere() -> None:
    """Every package that decides anything, and every crate but the one that only converts types."""
    packages = {Path(one.file).parts[2] for one in LIST if one.file.startswith("src/wardgate/")}
    crates = {Path(one.file).parts[2] for one in LIST if one.file.startswith("native/crates/")}
    assert len(LIST) >= 120
    assert packages >= {
        "model",
        "policy",
        "wire",
        "dns",
        "connect",
        "net",
        "portal",
        "relay",
        "gateway",
        "client",
        "cli",
    }
    assert crates >= {"packet", "stun", "wireguard", "connect", "datapath", "io"}
