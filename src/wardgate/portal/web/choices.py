"""What a field of a form offers: a few fixed choices, or some of the account's objects, however many there are.

Of many, a form shows those that are chosen and what words find. Looking for more sends the form itself with another
button, so that nothing typed is lost and no script is needed; with one it is sent while somebody types.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from wardgate.portal.schema.row import Row
from wardgate.portal.store import AccountTables, Repository
from wardgate.portal.web.filters import MAX_WORDS_CHARS, Condition, Search
from wardgate.portal.web.visit import Visit

SHOWN_AT_ONCE: Final = 100
MOST_CHOSEN: Final = 1000

_RowT = TypeVar("_RowT", bound=Row)


@dataclass(frozen=True, slots=True)
class Option:
    """One of a field's choices; `group` is a heading above it."""

    value: str
    label: str
    note: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a field's choices are read for: what is chosen, and the words that look for more."""

    chosen: tuple[str, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class Choices(Sequence[Option]):
    """The options of a field.

    Attributes:
        is_searched: whether they are some of many, so that the form offers to look for others.
        has_more: whether the words find more than these.
    """

    options: Sequence[Option] = ()
    words: str = ""
    is_searched: bool = False
    has_more: bool = False

    def __len__(self) -> int:
        return len(self.options)

    def __getitem__(self, index: Any) -> Any:
        return self.options[index]

    def __iter__(self) -> Iterator[Option]:
        return iter(self.options)


ChoicesOf = Callable[[Any, Any, Asked], Awaitable[Choices]]
"""Reads choices, of what the page's visits read."""


@dataclass(frozen=True, kw_only=True)
class Lookup(Generic[_RowT]):
    """Choices out of one table.

    Attributes:
        search: what the words look at.
        describe: writes rows as options.
        order_by: of what is found.
        only: which rows may be chosen; None: all.
    """

    repository: Callable[[AccountTables], Repository[_RowT]]
    search: Search
    describe: Callable[[Visit, AccountTables, Sequence[_RowT]], Awaitable[Sequence[Option]]]
    order_by: Sequence[Any]
    only: Callable[[Visit, AccountTables], Sequence[Condition]] | None = None

    async def __call__(self, visit: Visit, tables: AccountTables, asked: Asked) -> Choices:
        """Return what is chosen, and what the words find beside it."""
        repository = self.repository(tables)
        only = () if self.only is None else self.only(visit, tables)
        ids = _ids(asked.chosen)
        chosen = (
            await repository.load_all(*only, repository.c.id.in_(ids), order_by=self.order_by) if ids else []
        )
        words = [self.search.within(asked.words, tables.account_id)] if asked.words else []
        # Found ones are told from chosen ones here: a condition on their ids would hide an index.
        found = await repository.load_all(
            *only, *words, order_by=self.order_by, limit=SHOWN_AT_ONCE + len(chosen) + 1
        )
        known = {row.id for row in chosen}
        others = [row for row in found if row.id not in known]
        options = await self.describe(visit, tables, [*chosen, *others[:SHOWN_AT_ONCE]])
        has_more = len(others) > SHOWN_AT_ONCE
        return Choices(options, asked.words, bool(asked.words) or has_more, has_more)


def words_of(text: object) -> str:
    """Return the words to look for."""
    return text.strip()[:MAX_WORDS_CHARS].replace("\x00", "") if isinstance(text, str) else ""


def _ids(texts: Sequence[str]) -> list[UUID]:
    ids: dict[UUID, None] = {}
    for text in texts[:MOST_CHOSEN]:
        try:
            ids[UUID(text)] = None
        except ValueError:
            continue
    return list(ids)
