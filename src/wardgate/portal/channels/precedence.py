"""Who goes first: a peer that asks, before what nobody waits for.

The event loop runs everything in the order in which it came up. To write down a group of grants takes as
long as ten requests, each of which would wait for it. So such work does a piece at a time, and between two
pieces it waits for an iteration of the loop that brought nothing from a peer; but not for long, as it must keep up.
"""

from collections.abc import Callable
from typing import Final

from wardgate.portal.environment import Clock

PATIENCE_S: Final = 0.02
"""How long a piece of work waits for a quiet moment: where no core has time left, it takes turns with the peers."""


class Precedence:
    """Tells when nobody asks.

    Attributes:
        on_quiet: called in a moment in which nobody asks; for work of a millisecond.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked = 0
        self.on_quiet: Callable[[], None] = _nothing

    def note(self) -> None:
        """Take note that a peer asks for something, or comes."""
        self._asked += 1

    async def give_way(self) -> None:
        """Wait until nobody asks, or for `PATIENCE_S`; at least for two iterations of the loop."""
        until = self._clock.monotonic() + PATIENCE_S
        # What came during the last piece is handled in the iteration that begins now, but after us.
        await self._clock.sleep(0)
        while True:
            before = self._asked
            await self._clock.sleep(0)
            if self._asked == before:
                self.on_quiet()
                return
            if self._clock.monotonic() >= until:
                return


def _nothing() -> None:
    """Nobody waits for a quiet moment."""
