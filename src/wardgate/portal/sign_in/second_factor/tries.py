"""How often codes of one actor's second factors may be tried: from one place, and from anywhere.

Who tries has the first factor already. A code of six digits is right by chance in three of a million tries, as three
steps count: ten tries an hour need two and a half years for an even chance. Those are counted in the database, in
the transaction that looks at the code, so that portals which share it count together; what comes from one place is
counted by each process for itself, for that only slows somebody down.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from wardgate.portal.sign_in.tables import SecondFactorTries
from wardgate.portal.sign_in.throttle import Throttle
from wardgate.portal.store import AccountTables

FROM_ONE_PLACE: Final = 5
PLACE_WINDOW_S: Final = 300.0
FROM_ANYWHERE: Final = 10
WINDOW: Final = timedelta(hours=1)


class Places:
    """Counts tries from one place; time is an argument (monotonic seconds)."""

    def __init__(self) -> None:
        self._throttle = Throttle(most=FROM_ONE_PLACE, window_s=PLACE_WINDOW_S)

    def take(self, actor_id: UUID, place: str, *, now: float) -> bool:
        """Count one more try; false if there may be none."""
        return self._throttle.take((actor_id, place), now=now) == 0

    def reset(self, actor_id: UUID, place: str) -> None:
        """Forget the tries of an actor: somebody succeeded."""
        self._throttle.reset((actor_id, place))


async def count_try(tables: AccountTables, actor_id: UUID) -> bool:
    """Count one more try from anywhere; false if there may be none. Writing transactions of an account take turns."""
    repository = tables.second_factor_tries
    former = await repository.find(repository.c.actor_id == actor_id)
    ends_at = tables.now + WINDOW
    if former is None:
        first = SecondFactorTries(
            id=tables.new_id(), account_id=tables.account_id, actor_id=actor_id, tried=1, expires_at=ends_at
        )
        await repository.insert(first)
        return True
    tried = former.tried if tables.now < former.expires_at else 0
    if tried >= FROM_ANYWHERE:
        return False
    await repository.save(replace(former, tried=tried + 1, expires_at=ends_at))
    return True


async def forget_tries(tables: AccountTables, actor_id: UUID) -> None:
    """Begin anew: somebody succeeded, or the actor has other factors."""
    repository = tables.second_factor_tries
    await repository.delete_where(repository.c.actor_id == actor_id)
