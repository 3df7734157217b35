"""Unit tests start no portal: `tests/portal` runs on both databases, and `make check` waits for neither."""

import re
from pathlib import Path

UNIT = Path(__file__).parents[1]
STARTS_A_PORTAL = re.compile(r"\bportal_running\(|\bPortal\.open\(")


def test_a_test_that_starts_a_portal_stands_in_tests_portal() -> None:
    starting = [
        path.relative_to(UNIT)
        for path in UNIT.rglob("*.py")
        if path != Path(__file__) and STARTS_A_PORTAL.search(path.read_text())
    ]
    assert not starting, "move them to tests/portal"
