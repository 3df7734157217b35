"""The change feed's entries as what they say: which row came, changed or went.

    match change:
        case Deleted(GatewayToken(id=self._token.id)):
            ...
        case Updated(Account() as before, Account() as after) if before.slug != after.slug:
            ...

An entry is decoded once, for all who live off an account's view. Rows of the feed have no secrets: to read
one is an `AttributeError`.
"""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from wardgate.portal.schema.change_feed import Change
from wardgate.portal.tables import TABLES

_RowT = TypeVar("_RowT")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inserted(Generic[_RowT]):
    after: _RowT
    sequence: int = field(default=0, kw_only=True)

    @property
    def rows(self) -> tuple[_RowT, ...]:
        """The row before and after, as far as there is one."""
        return (self.after,)

    def __repr__(self) -> str:
        return _told(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Updated(Generic[_RowT]):
    before: _RowT
    after: _RowT
    sequence: int = field(default=0, kw_only=True)

    @property
    def rows(self) -> tuple[_RowT, ...]:
        return (self.before, self.after)

    def __repr__(self) -> str:
        return _told(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Deleted(Generic[_RowT]):
    before: _RowT
    sequence: int = field(default=0, kw_only=True)

    @property
    def rows(self) -> tuple[_RowT, ...]:
        return (self.before,)

    def __repr__(self) -> str:
        return _told(self)


RowChange = Inserted[Any] | Updated[Any] | Deleted[Any]


def row_change(entry: Change) -> RowChange:
    """Decode an entry of the feed."""
    decode = TABLES[entry.object].rows.decode
    if entry.before is None:
        assert entry.after is not None
        return Inserted(decode(entry.after), sequence=entry.sequence)
    if entry.after is None:
        return Deleted(decode(entry.before), sequence=entry.sequence)
    return Updated(decode(entry.before), decode(entry.after), sequence=entry.sequence)


def _told(change: RowChange) -> str:
    """Name a change; its rows, which lack their secrets, cannot be shown whole."""
    row = change.rows[-1]
    return f"{type(change).__name__}({row.table} {row.id}, sequence={change.sequence})"
