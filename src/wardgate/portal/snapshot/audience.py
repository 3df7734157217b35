"""Which connections hear of which change: otherwise thousands would look at each change in vain.

The declaration of a table says who is to hear of its changes (`heard_by`): all of the account, those that are
named in it, or the members of a group, before or after the change. Nobody hears of anything else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

from wardgate.model.ids import ActorId
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.database.row_changes import Inserted, RowChange
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.schema.declaration import AllConnections, MembersOf, Named, Nobody
from wardgate.portal.tables import TABLES

_UNHEARD_WHEN_INSERTED: Final = frozenset(
    name
    for name, declaration in TABLES.items()
    if declaration.snapshot is None
    and isinstance(declaration.heard_by, Named)
    and not declaration.heard_by.of_insertions
)


def is_unheard(change: Change) -> bool:
    """Tell whether neither a snapshot nor any connection has a use for a change."""
    return change.operation == "insert" and change.object in _UNHEARD_WHEN_INSERTED


@dataclass(frozen=True, slots=True)
class Interest:
    """What a connection is about.

    Attributes:
        numbers: of the ids of its device, token and actor (`UUID.int`, which is hashed much faster).
        actor_id: the actor whose groups' policies concern it; None if it knows no policies.
    """

    numbers: frozenset[int]
    actor_id: ActorId | None = None

    @classmethod
    def in_(cls, *ids: UUID, actor_id: ActorId | None = None) -> Self:
        return cls(frozenset(one.int for one in ids), actor_id)


class Batch:
    """Changes of one account, sorted once for all connections."""

    def __init__(self, changes: Sequence[RowChange]) -> None:
        self._for_all: list[tuple[int, RowChange]] = []
        self._by_id: dict[int, list[tuple[int, RowChange]]] = {}
        self._by_group: dict[int, list[tuple[int, RowChange]]] = {}
        for position, change in enumerate(changes):
            self._sort_in(position, change)

    @property
    def is_for_few(self) -> bool:
        """Whether nobody hears of anything but those who have one of `numbers`."""
        return not self._for_all and not self._by_group

    @property
    def numbers(self) -> Iterable[int]:
        """The ids that changes name."""
        return self._by_id

    def part_for(self, interest: Interest, snapshot: Snapshot) -> list[RowChange]:
        """Return the changes that a connection hears of, in their order; `snapshot` is the one after them."""
        own = [entry for number in interest.numbers for entry in self._by_id.get(number, ())]
        if self._by_group and interest.actor_id is not None:
            own += [
                entry
                for group in self._by_group.keys() & snapshot.group_numbers(interest.actor_id)
                for entry in self._by_group[group]
            ]
        if not own:
            return [change for _, change in self._for_all]
        positions = {**dict(self._for_all), **dict(own)}
        return [positions[position] for position in sorted(positions)]

    def _sort_in(self, position: int, change: RowChange) -> None:
        rows = change.rows
        match TABLES[rows[0].table].heard_by:
            case Named(columns, of_insertions):
                if isinstance(change, Inserted) and not of_insertions:
                    return
                for number in _numbers(rows, columns):
                    self._by_id.setdefault(number, []).append((position, change))
            case AllConnections(of_insertions):
                if of_insertions or not isinstance(change, Inserted):
                    self._for_all.append((position, change))
            case MembersOf(column):
                for number in _numbers(rows, (column,)):
                    self._by_group.setdefault(number, []).append((position, change))
            case Nobody():
                pass


def _numbers(rows: tuple[Any, ...], columns: tuple[str, ...]) -> set[int]:
    """Return the numbers of the ids in these columns, before and after the change."""
    return {id_.int for row in rows for column in columns if (id_ := getattr(row, column)) is not None}
