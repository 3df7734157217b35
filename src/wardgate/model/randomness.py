"""The random source that pure code is handed; `random.Random` and `random.SystemRandom` both are one."""

from typing import Protocol


class Rng(Protocol):
    def random(self) -> float:
        """Draw from [0, 1)."""

    def getrandbits(self, bits: int, /) -> int:
        """Draw from [0, 2**bits)."""
