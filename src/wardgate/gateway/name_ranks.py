"""The order of one client's DNS resources: where several cover a name, the most specific pattern decides.

The engine compares ranks, which are numbers, within one client. They are spaced, so that a new pattern finds room between its neighbours
and moves none of them; only when the room is used up, after dozens of patterns at one place, are all numbered anew.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from wardgate.model.name_pattern import NamePattern

SPACING: Final = 1 << 40  # room for 40 halvings, and for millions of patterns in the engine's 64 bits

_SortKey = tuple[bool, tuple[tuple[int, int], ...], str]


@dataclass(slots=True)
class NameRanks:
    """Ranks by the text of the pattern; resources that share a pattern share its rank."""

    _order: list[_SortKey] = field(default_factory=list)
    _ranks: dict[str, int] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, address: str) -> int:
        return self._ranks[address]

    def add(self, address: str, pattern: NamePattern | None) -> bool:
        """Rank one more resource of this pattern, None where it cannot be parsed; tells whether the others got new ranks."""
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
        """One resource of this pattern is gone."""
        self._uses[address] -= 1
        if not self._uses[address]:
            del self._uses[address], self._ranks[address]
            del self._order[bisect_left(self._order, _sort_key(address, pattern))]


def _sort_key(address: str, pattern: NamePattern | None) -> _SortKey:
    # A pattern that cannot be parsed matches nothing and ranks last.
    return pattern is None, () if pattern is None else pattern.specificity, address
