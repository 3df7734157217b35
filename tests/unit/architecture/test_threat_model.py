"""docs/threat-model.md names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:tests|native)/[^`\s]+)`", PAGE)))


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert (ROOT / path).is_file()
    assert not function or re.search(rf"\b(?:def|fn) {function}\(", (ROOT / path).read_text())


def test_every_boundary_has_a_table_whose_rows_name_a_test() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    boundaries = [section for section in sections if "→" in section.partition("\n")[0]]
    assert len(boundaries) == 10
    for section in boundaries:
        rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
        assert rows
        assert [row for row in rows if not re.search(r"`(?:tests|native)/", row)] == []
