"""A pool that many draw on, of which nobody can take so much that nothing is left for the next.

Whoever holds fewer units than are free may take one more. So one greedy holder alone gets half of the pool,
two get a third each, and whoever comes next finds something free at once: nobody has to wait until the greedy
are done, and nobody needs a quota while the pool is quiet.
"""

from collections import Counter
from collections.abc import Hashable


class FairShares:
    """Counts units by holder.

    Attributes:
        refused: how many units were wanted and not given.
    """

    def __init__(self, total: int, *, at_most: int | None = None) -> None:
        """`at_most` limits the units of one holder, however many are free."""
        self.refused = 0
        self._total = total
        self._at_most = total if at_most is None else at_most
        self._taken = 0
        self._held: Counter[Hashable] = Counter()

    def take(self, holder: Hashable) -> bool:
        """Take a unit; return False if this holder has its share already."""
        if self._held[holder] >= min(self._total - self._taken, self._at_most):
            if not self._held[holder]:
                del self._held[holder]
            self.refused += 1
            return False
        self._held[holder] += 1
        self._taken += 1
        return True

    def give_back(self, holder: Hashable) -> None:
        self._held[holder] -= 1
        self._taken -= 1
        if not self._held[holder]:
            del self._held[holder]

    def __len__(self) -> int:
        """Units taken."""
        return self._taken
