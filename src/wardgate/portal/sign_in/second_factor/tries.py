"""How often codes of one actor's second factors may be tried: from one place, and from anywhere.

Who tries has the first factor already. A code of six digits is right by chance in three of a million tries, as three
steps count: ten tries an hour need two and a half years for an even chance.
"""

from typing import Final
from uuid import UUID

from wardgate.portal.sign_in.throttle import Throttle

FROM_ONE_PLACE: Final = 5
PLACE_WINDOW_S: Final = 300.0
FROM_ANYWHERE: Final = 10
WINDOW_S: Final = 3600.0


class Tries:
    """Counts tries; time is an argument (monotonic seconds)."""

    def __init__(self) -> None:
        self._from_place = Throttle(most=FROM_ONE_PLACE, window_s=PLACE_WINDOW_S)
        self._from_anywhere = Throttle(most=FROM_ANYWHERE, window_s=WINDOW_S)

    def take(self, actor_id: UUID, place: str, *, now: float) -> bool:
        """Count one more try; false if there may be none."""
        return (
            self._from_place.take((actor_id, place), now=now) == 0
            and self._from_anywhere.take(actor_id, now=now) == 0
        )

    def reset(self, actor_id: UUID, place: str) -> None:
        """Forget the tries of an actor: somebody succeeded."""
        self._from_place.reset((actor_id, place))
        self._from_anywhere.reset(actor_id)
