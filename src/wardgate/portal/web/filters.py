"""What narrows a list, from the parameters of its URL. Each filter has a control in `ui.html`, by its `kind`."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select

from wardgate.portal.database.text_search import contains
from wardgate.portal.schema.declaration import TableDeclaration

MAX_WORDS_CHARS = 200

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
    """From and until, in UTC; the URL has both in one parameter each, `<name>=2026-11-01T08:00,2026-11-02T08:00`
    with either side empty for none.
    """

    kind: ClassVar[str] = "period"
    column: ColumnElement[Any]

    def read(self, given: Sequence[str]) -> tuple[str, ...]:
        parts = (given[0].split(",") if len(given) == 1 else list(given)) + ["", ""]
        first, last = parts[0].strip(), parts[1].strip()
        instants = [instant(one) for one in (first, last) if one]
        if len(instants) == 2 and instants[0] > instants[1]:
            raise ValueError
        return (first, last) if first or last else ()

    def condition(self, _visit: Any, values: tuple[str, ...], /) -> Condition:
        first, last = values
        bounds = [self.column >= instant(first)] if first else []
        bounds += [self.column <= instant(last)] if last else []
        return and_(*bounds)


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


def instant(text: str) -> datetime:
    """Parse what a `Period` holds. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
