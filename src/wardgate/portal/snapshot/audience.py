"""Which connections hear of which change: each of thousands would look at every change of its account to find that it is not meant.

A change of a membership, actor, token or grant is meant for connections that have its ids, one of a policy for those whose actor is in
its group, and the rest of what connections know at all for all of them. Nobody hears of anything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from wardgate.model.ids import ActorId
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.logs.tables import Change

_ADDRESSED: Final = {
    "actors": ("id",),
    "memberships": ("actor_id",),
    "client_tokens": ("id",),
    "gateway_tokens": ("id",),
    "policy_authorizations": ("initiating_device_id", "receiving_device_id"),
}
"""Tables whose changes are meant for connections that have one of these ids."""

_FOR_ALL: Final = frozenset(
    {"accounts", "devices", "groups", "relay_tokens", "resources", "sites", "static_device_pool_members"}
)


@dataclass(frozen=True, slots=True)
class Interest:
    """What a connection is about.

    Attributes:
        ids: of its device, token and actor, in text.
        actor_id: whose groups' policies it lives by; none: it knows no policies.
    """

    ids: frozenset[str]
    actor_id: ActorId | None = None


class Batch:
    """Changes of one account, sorted once for all connections."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._for_all: list[tuple[int, Change]] = []
        self._by_id: dict[str, list[tuple[int, Change]]] = {}
        self._by_group: dict[int, list[tuple[int, Change]]] = {}
        for entry in enumerate(changes):
            self._sort_in(entry)

    def part_for(self, interest: Interest, snapshot: Snapshot) -> list[Change]:
        """Return the changes that a connection is to hear of, in their order; `snapshot` is the one after them."""
        own = [entry for id_ in interest.ids for entry in self._by_id.get(id_, ())]
        if self._by_group and interest.actor_id is not None:
            own += [
                entry
                for group in self._by_group.keys() & snapshot.group_numbers(interest.actor_id)
                for entry in self._by_group[group]
            ]
        if not own:
            return [change for _, change in self._for_all]
        return [change for _, change in sorted({**dict(self._for_all), **dict(own)}.items())]

    def _sort_in(self, entry: tuple[int, Change]) -> None:
        _, change = entry
        images: list[dict[str, Any]] = [one for one in (change.before, change.after) if one is not None]
        if change.object in _FOR_ALL:
            self._for_all.append(entry)
        elif change.object == "policies":
            for number in {UUID(image["group_id"]).int for image in images if image["group_id"] is not None}:
                self._by_group.setdefault(number, []).append(entry)
        else:
            columns = _ADDRESSED.get(change.object, ())
            for id_ in {image[column] for image in images for column in columns}:
                self._by_id.setdefault(id_, []).append(entry)
