"""`deploy/Containerfile` under hadolint; its steps are carried out in `tests/packages`."""

import subprocess
import sys
from pathlib import Path

DEPLOY = Path(__file__).parents[3] / "deploy"
HADOLINT = Path(sys.executable).with_name("hadolint")


def lint(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HADOLINT, "--no-color", "-"], input=text, capture_output=True, text=True, check=False
    )


def test_the_linter_finds_nothing() -> None:
    done = lint((DEPLOY / "Containerfile").read_text())
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_finds_what_is_planted() -> None:
    done = lint((DEPLOY / "Containerfile").read_text() + "RUN cd /tmp && sudo apt-get upgrade\n")
    assert done.returncode == 1
    assert "DL3004" in done.stdout, "sudo"
