"""The units are without a mistake that systemd knows of, and as closed as docs/install.md says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
DOCUMENTED = dict(
    re.findall(
        r"^\| `(wardgate-\w+)` \|.*\| ([\d.]+) \|$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE
    )
)
MEASURED_BY = "252"
"""The version of systemd whose figures the page has."""


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose program is there on any machine."""
    copy = tmp_path / request.param.name
    copy.write_text(request.param.read_text().replace("/usr/bin/wardgate", "/bin/true"))
    return copy


def test_systemd_finds_no_fault(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, ours) == (0, [])


def test_it_is_as_closed_as_the_page_says(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"exposure level for \S+: ([\d.]+)", printed)
    assert found is not None
    version = subprocess.run(
        ["systemd-analyze", "--version"], capture_output=True, text=True, check=True
    ).stdout
    if version.split()[1] == MEASURED_BY:
        assert found[1] == DOCUMENTED[unit.stem]
    else:  # another version looks at other things, too
        assert float(found[1]) <= float(DOCUMENTED[unit.stem])


def test_the_page_tells_of_every_unit() -> None:
    assert set(DOCUMENTED) == {path.stem for path in UNITS}
