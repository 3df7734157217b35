"""The pages of docs/protocol name exactly the messages that `wire/dialect.py` knows."""

import re
from pathlib import Path

import pytest

from wardgate.wire import dialect
from wardgate.wire.dialect import Generation, PeerKind

PAGES = Path(__file__).parents[3] / "docs" / "protocol"
NAMED = sorted(set(re.findall(r"`(tests/[^`\s]+)`", (PAGES / "compatibility.md").read_text())))
ROW = re.compile(r"^\| `(?P<second>\w+)` \|(?: `(?P<first>\w+)`)? \|")


def rows(kind: PeerKind, heading: str) -> dict[Generation, set[str]]:
    """Return the events below a heading; where the first generation has no name of its own, it has the same."""
    _before, _heading, section = (PAGES / f"{kind.value}.md").read_text().partition(f"## {heading}\n")
    named: dict[Generation, set[str]] = {one: set() for one in Generation}
    for line in section.split("\n## ")[0].splitlines():
        if (match := ROW.match(line)) is not None:
            named[Generation.V2].add(match["second"])
            named[Generation.V1].add(match["first"] or match["second"])
    return named


@pytest.mark.parametrize("kind", PeerKind)
@pytest.mark.parametrize("generation", Generation)
def test_a_page_has_a_row_for_every_message(kind: PeerKind, generation: Generation) -> None:
    table = dialect._TABLES[kind, generation]
    name = kind.value
    assert rows(kind, f"Portal → {name}")[generation] == {event for event, _bare in table.to_peer.values()}
    assert rows(kind, f"{name.capitalize()} → portal")[generation] == set(table.from_peer)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    text = (PAGES.parents[1] / path).read_text()
    assert not function or f"def {function}(" in text
