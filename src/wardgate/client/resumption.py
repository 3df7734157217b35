"""Access that is asked for again without a packet: a program that only receives would wait for ever for one.

```
 in use ──network changed, gateway gone, process replaced──► wanted ──granted──► done
                                                             │  ▲
                                                     "offline"  └─ asked again after a quarter of a second, for 20 s
```

A gateway that is being upgraded is back within a second; until then the portal calls it offline.
"""

from collections.abc import Iterable
from typing import Final

from wardgate.model.ids import ResourceId

MAX_RESUMED: Final = 64  # ours, resources
AGAIN_AFTER_S: Final = 0.25  # ours
GIVEN_UP_AFTER_S: Final = 20.0  # ours: a packet asks from then on


class Resumption:
    """Decides when; the caller asks."""

    def __init__(self) -> None:
        self._until: dict[ResourceId, float] = {}
        self._due: dict[ResourceId, float] = {}

    def want(self, resources: Iterable[ResourceId], *, now: float) -> None:
        """These were in use; no more are wanted than `MAX_RESUMED` at a time."""
        self._until = {one: until for one, until in self._until.items() if until > now or one in self._due}
        for resource_id in resources:
            if len(self._until) < MAX_RESUMED or resource_id in self._until:
                self._until[resource_id] = now + GIVEN_UP_AFTER_S
                self._due[resource_id] = now

    def forget(self, resource_id: ResourceId) -> None:
        """It is granted, refused, or exists no more."""
        self._until.pop(resource_id, None)
        self._due.pop(resource_id, None)

    def handle_portal_lost(self) -> None:
        """What was asked for gets no answer: it is due when the portal is back."""
        self._due = dict.fromkeys(self._until, 0.0)

    def handle_refused(self, resource_id: ResourceId, reason: str, *, now: float) -> None:
        """Only who is offline may be back soon."""
        if resource_id not in self._until:
            return
        if reason == "offline" and now + AGAIN_AFTER_S < self._until[resource_id]:
            self._due[resource_id] = now + AGAIN_AFTER_S
        else:
            self.forget(resource_id)

    def take_due(self, *, now: float) -> tuple[ResourceId, ...]:
        """Return what is to be asked for now."""
        found = tuple(resource_id for resource_id, at in self._due.items() if at <= now)
        for resource_id in found:
            del self._due[resource_id]
        return found

    def poll_timeout(self) -> float | None:
        return min(self._due.values(), default=None)
