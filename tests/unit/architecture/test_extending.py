"""docs/extending.md shows how the program is extended; here each change is applied to a copy of the tree and tested."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "extending.md").read_text()
TREE: Final = ("src", "tests", "docs", "scripts", "pyproject.toml", "README.md")
GENERATED: Final = ("docs/cli.md", "docs/openapi.json", "docs/openapi-3.0.json", "docs/tables.md")
GENERATING: Final = {
    r"^\+\+\+ b/\S+/tables\.py$": ("scripts/revision.py", "what the page shows"),
    r"^\+\+\+ b/\S+/rest\.py$": ("scripts/openapi.py",),
}
"""What is run after a change to such a file, as CONTRIBUTING says; what it writes is no place."""
_IMPORTED: Final = re.compile(r"(from \S+ )?import .*|    \w+( as \w+)?,|\)")


@dataclass(frozen=True)
class Extension:
    """A section of the page: what it says, and the change it shows."""

    title: str
    places: int
    diff: str

    @property
    def touched(self) -> frozenset[tuple[str, int]]:
        """Where one has to know what to write: runs of changed lines.

        Tests, imports and what is generated come by themselves; of a page of the documentation it is enough to know
        that it is there.
        """
        places: set[tuple[str, int]] = set()
        for whole in re.split(r"^diff --git .*\n", self.diff, flags=re.MULTILINE)[1:]:
            path = re.findall(r"^\+\+\+ b/(\S+)", whole, re.MULTILINE)[0]
            if path.startswith("tests/") or path in GENERATED:
                continue
            for number, hunk in enumerate(re.split(r"^@@ .*\n", whole, flags=re.MULTILINE)[1:]):
                changed = [line[1:] for line in hunk.splitlines() if line[:1] in "+-" and line[1:].strip()]
                if not all(_IMPORTED.fullmatch(line) for line in changed):
                    places.add((path, 0 if path.startswith("docs/") else number))
        return frozenset(places)

    @property
    def tests(self) -> list[str]:
        return re.findall(r"^\+\+\+ b/(tests/\S+\.py)", self.diff, re.MULTILINE)


def extensions() -> list[Extension]:
    sections = re.findall(r"^## (.+?): (\d+) places?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return [
        Extension(
            title, int(places), "\n".join(re.findall(r"^```diff\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        )
        for title, places, text in sections
    ]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the changes touch, and of what their tests need; with what is compiled of it already."""
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("e2e", "interop", "mutants", "simulation")
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def test_the_page_shows_what_people_add() -> None:
    assert len(extensions()) == len(re.findall(r"^```diff$", PAGE, re.MULTILINE))
    assert len(extensions()) >= 7


@pytest.mark.parametrize("extension", extensions(), ids=lambda one: one.title)
def test_a_change_takes_as_many_places_as_the_page_says(extension: Extension) -> None:
    assert len(extension.touched) == extension.places, sorted(extension.touched)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("extension", extensions(), ids=lambda one: one.title)
def test_a_change_applies_and_its_tests_pass(extension: Extension, tree: Path) -> None:
    applied = subprocess.run(
        ["git", "apply", "-C1", "-"],
        input=extension.diff,
        cwd=tree,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, applied.stderr
    assert extension.tests
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    for changed, script in GENERATING.items():
        if re.search(changed, extension.diff, re.MULTILINE):
            subprocess.run([sys.executable, *script], cwd=tree, env=environment, check=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *extension.tests,
    ]
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:]
    where = subprocess.run(
        [sys.executable, "-c", "import wardgate; print(wardgate.__file__)"],
        cwd=tree, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(tree)
