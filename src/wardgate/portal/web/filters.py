"""What narrows a list, from the parameters of its URL. Each filter has a control in `ui.html`, by its `kind`."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, ClassVar, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, and_, or_, select

from wardgate.portal.database.text_search import contains
from wardgate.portal.schema.declaration import TableDeclaration
from wardgate.portal.web.time_zones import time_zones

MAX_WORDS_CHARS = 200
UTC_NAME: Final = "UTC"

Condition = ColumnElement[bool]


@dataclass(frozen=True, kw_only=True)
class Filter(ABC):
    """One filter; `name` is its parameter in the URL."""

    kind: ClassVar[str]
    name: str
    label: str

    @abstractmethod
    def read(self, given: Sequence[str]) -> tuple[str, ...]:
        """Return the values that count, none if it does not narrow. Raises ValueError."""

    @abstractmethod
    def condition(self, _visit: Any, values: tuple[str, ...], /) -> Condition: ...


@dataclass(frozen=True, slots=True)
class Related:
    """Rows of another table that a search looks at too: those that `reference` names."""

    reference: ColumnElement[Any]
    table: TableDeclaration[Any]
    columns: Sequence[ColumnElement[Any]]

    def condition(self, words: str, account_id: UUID) -> Condition:
        """Find what is named by one of the account's rows with these words, which are looked for once and not for each
        row that names one.
        """
        c = self.table.c
        found = select(c.id).where(
            c.account_id == account_id, or_(*(contains(column, words) for column in self.columns))
        )
        return self.reference.in_(found)


@dataclass(frozen=True, kw_only=True)
class Search(Filter):
    """Free text, found anywhere in one of the columns, or of `related` rows."""

    kind: ClassVar[str] = "search"
    name: str = "q"
    columns: Sequence[ColumnElement[Any]]
    related: Sequence[Related] = ()

    def read(self, given: Sequence[str]) -> tuple[str, ...]:
        words = " ".join(given).strip()
        if len(words) > MAX_WORDS_CHARS or "\x00" in words:
            raise ValueError
        return (words,) if words else ()

    def condition(self, visit: Any, values: tuple[str, ...], /) -> Condition:
        return self.within(values[0], visit.account.id if self.related else None)

    def within(self, words: str, account_id: UUID | None) -> Condition:
        """Return the condition for an account's rows; None: for those of the installation, which have none related."""
        related = [] if account_id is None else [one.condition(words, account_id) for one in self.related]
        return or_(self.words_condition(words), *related)

    def words_condition(self, words: str) -> Condition:
        return or_(*(contains(column, words) for column in self.columns))


@dataclass(frozen=True, kw_only=True)
class Choice(Filter):
    """One of a few; `condition_of` says what a value means."""

    kind: ClassVar[str] = "choice"
    options: Mapping[str, str]
    condition_of: Callable[[Any, str], Condition]

    def read(self, given: Sequence[str]) -> tuple[str, ...]:
        values = tuple(one for one in given if one)[:1]
        if not all(one in self.options for one in values):
            raise ValueError
        return values

    def condition(self, visit: Any, values: tuple[str, ...], /) -> Condition:
        return self.condition_of(visit, values[0])


@dataclass(frozen=True, kw_only=True)
class AnyOf(Choice):
    """Some of many: a row that meets one of them stays."""

    kind: ClassVar[str] = "any_of"

    def read(self, given: Sequence[str]) -> tuple[str, ...]:
        values = tuple(dict.fromkeys(one for one in given if one))
        if not all(one in self.options for one in values):
            raise ValueError
        return values

    def condition(self, visit: Any, values: tuple[str, ...], /) -> Condition:
        return or_(*(self.condition_of(visit, one) for one in values))


@dataclass(frozen=True, kw_only=True)
class Period(Filter):
    """From and until, on the clocks of a time zone; the URL has all three in one parameter,
    `<name>=2026-11-01T08:00,2026-11-02T08:00,Europe/Berlin`: either time is empty for none, no zone is UTC. A form
    without the script sends them one after the other.
    """

    kind: ClassVar[str] = "period"
    column: ColumnElement[Any]

    def read(self, given: Sequence[str]) -> tuple[str, ...]:
        parts = (given[0].split(",") if len(given) == 1 else list(given)) + ["", "", ""]
        first, last, zone = (one.strip() for one in parts[:3])
        if not first and not last:
            return ()
        values = (first, last, zone) if zone and zone != UTC_NAME else (first, last)
        begins_at, ends_at = bounds(values)
        if begins_at is not None and ends_at is not None and begins_at > ends_at:
            raise ValueError
        return values

    def condition(self, _visit: Any, values: tuple[str, ...], /) -> Condition:
        begins_at, ends_at = bounds(values)
        given = [] if begins_at is None else [self.column >= begins_at]
        given += [] if ends_at is None else [self.column <= ends_at]
        return and_(*given)


@dataclass(frozen=True, kw_only=True)
class Of(Filter):
    """A filter without a control: another page links here with the id of one of its objects, and a notice says whose
    rows these are. `name_of` says it; None: there is no such object.
    """

    kind: ClassVar[str] = "of"
    column: ColumnElement[Any]
    name_of: Callable[[Any, UUID], Awaitable[str | None]]

    def read(self, given: Sequence[str]) -> tuple[str, ...]:
        return (str(UUID(given[0])),) if given and given[0] else ()

    def condition(self, _visit: Any, values: tuple[str, ...], /) -> Condition:
        return self.column == UUID(values[0])


def bounds(values: tuple[str, ...]) -> tuple[datetime | None, datetime | None]:
    """Return the two ends of what a `Period` holds, in UTC; None: it has no such end. Raises ValueError."""
    first, last, *named = values
    if named and named[0] not in time_zones():
        raise ValueError
    zone = ZoneInfo(named[0]) if named else UTC
    # Of an hour that clocks show twice, a period has both.
    return _instant(first, zone, is_later=False), _instant(last, zone, is_later=True)


def _instant(text: str, zone: tzinfo, *, is_later: bool) -> datetime | None:
    if not text:
        return None
    at = datetime.fromisoformat(text)
    try:
        return (at.replace(tzinfo=zone, fold=is_later) if at.tzinfo is None else at).astimezone(UTC)
    except OverflowError:
        raise ValueError from None
