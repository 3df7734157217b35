"""The order of one client's DNS resources: where several cover a name, the most specific pattern wins.

The engine compares numeric ranks within one client. They are spaced out, so that a new pattern fits between
its neighbours without changing their ranks; only when a gap is used up, after 40 insertions at the same
place, are all patterns renumbered.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from wardgate.model.name_pattern import NamePattern

SPACING: Final = 1 << 40  # allows 40 halvings, and millions of patterns within the engine's 64 bits

_SortKey = tuple[bool, tuple[tuple[int, int], ...], str]


@dataclass(slots=True)
class NameRanks:
    """Ranks by pattern text, smaller is more specific; resources with the same pattern share a rank."""

    _order: list[_SortKey] = field(default_factory=list)
    _ranks: dict[str, int] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, address: str) -> int:
        return self._ranks[address]

    def add(self, address: str, pattern: NamePattern | None) -> bool:
        """Count one more resource with a pattern (None: unparseable); tell whether others were renumbered."""
        self._uses[address] = self._uses.get(address, 0) + 1
        if address in self._ranks:
            return False
        key = _sort_key(address, pattern)
        at = bisect_left(self._order, key)
        self._order.insert(at, key)
        before = self._ranks[self._order[at - 1][2]] if at > 0 else None
        after = self._ranks[self._order[at + 1][2]] if at + 1 < len(self._order) else None
        if before is None:
            self._ranks[address] = 0 if after is None else after - SPACING
        elif after is None:
            self._ranks[address] = before + SPACING
        else:
            self._ranks[address] = (before + after) // 2
            if self._ranks[address] == before:
                self._ranks = {text: place * SPACING for place, (_, _, text) in enumerate(self._order)}
                return True
        return False

    def remove(self, address: str, pattern: NamePattern | None) -> None:
        """Count one resource with this pattern less."""
        self._uses[address] -= 1
        if not self._uses[address]:
            del self._uses[address], self._ranks[address]
            del self._order[bisect_left(self._order, _sort_key(address, pattern))]


def _sort_key(address: str, pattern: NamePattern | None) -> _SortKey:
    # An unparseable pattern matches nothing and ranks last.
    return pattern is None, () if pattern is None else pattern.specificity, address
