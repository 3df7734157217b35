"""A table with a panel beside it: the page of one kind of object.

    /{slug}/sites                 the table
    /{slug}/sites/count           how many rows its filters leave, as text
    /{slug}/sites/new             … with the form of a new one beside it
    /{slug}/sites/{id}            … with one object's panel
    /{slug}/sites/{id}/edit       … with its form
    /{slug}/sites/{id}/{action}   POST: what the panel's buttons do

Filters, order and page are the query of all of them, so every state has an address. The words of the table, its
columns and filters are declared; what may be done is the domain's `rules.py`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Generic
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy import ColumnClause, ColumnElement, nulls_first, nulls_last
from sqlalchemy.sql.functions import coalesce
from starlette.responses import PlainTextResponse, Response
from typing_extensions import TypeVar

from wardgate.portal.object_versions import tag_of
from wardgate.portal.outcomes import FieldErrors, Invalid, Missing, Refused
from wardgate.portal.schema.row import Row
from wardgate.portal.store import AccountTables, Repository, Transaction
from wardgate.portal.web.cells import Cell, Fact, Status
from wardgate.portal.web.filters import Filter, Of, Search
from wardgate.portal.web.forms import Filled, Form, messages
from wardgate.portal.web.page import Found, Page, PageRoute
from wardgate.portal.web.visit import BaseVisit, Visit

SIZES: Final = (10, 25, 50, 100)
DEFAULT_SIZE: Final = 25
MAX_PAGE: Final = 100_000
MAX_COUNTED: Final = 10_000
"""Beyond this a list says "more than": counting on would read the whole table for a number that nobody needs."""
MAX_PINNED: Final = 100

_RowT = TypeVar("_RowT", bound=Row)
_FactsT = TypeVar("_FactsT")
# Pages of an account by default; those of the operator say `OperatorVisit, Transaction`.
_VisitT = TypeVar("_VisitT", bound=BaseVisit[Any], default=Visit)
_TablesT = TypeVar("_TablesT", default=AccountTables)


@dataclass(frozen=True, kw_only=True)
class Column(Generic[_RowT, _FactsT]):
    """One column.

    Attributes:
        name: in the URL, if the table can be sorted by it.
        cell: makes a row's cell, with what `ListPage.load_facts` gathered for all rows of the page.
        sort: what it is sorted by; None: it is not.
        is_secondary: left out where there is little room.
        is_number: to the right.
    """

    name: str
    label: str
    cell: Callable[[_RowT, _FactsT], Cell]
    sort: ColumnElement[Any] | None = None
    is_secondary: bool = False
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Empty:
    """What a page says that has nothing yet: what this is for, and how to make the first one. `leads_to` is a page and
    what its button says, where the next step is on another one.
    """

    heading: str
    text: str
    leads_to: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Pinned:
    """The few rows that stand before all others, in whatever order: a condition that they meet, and one of the others,
    as an index has it. They are read apart, so that an index gives the others in either direction.
    """

    first: ColumnElement[bool]
    others: ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Side:
    """What stands beside the table: a template with its values; `is_wide` for much."""

    title: str
    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    is_wide: bool = False

    @property
    def all_values(self) -> Mapping[str, Any]:
        return {"row": None, "status": None, "is_editable": False, "mistyped": None, **self.values}


@dataclass(frozen=True, kw_only=True)
class Tab(Generic[_RowT, _VisitT, _TablesT]):
    """A tab of a panel; its template has `row` and what `load` returns as `tab`. `count` stands beside its name.

    `load_apart` in place of `load` has no transaction open: for what reads a log, slice by slice.
    """

    name: str
    label: str
    template: str
    load: Callable[[_VisitT, _TablesT, _RowT], Awaitable[Any]] | None = None
    load_apart: Callable[[_VisitT, _RowT], Awaitable[Any]] | None = None
    count: Callable[[_VisitT, _TablesT, _RowT], Awaitable[int]] | None = None
    is_offered: Callable[[_VisitT, _RowT], bool] = lambda _visit, _row: True


@dataclass(frozen=True, kw_only=True)
class PanelAction(Generic[_RowT, _VisitT, _TablesT]):
    """A button of a panel, behind a second one that confirms it.

    Attributes:
        name: the last segment of its address.
        run: does it; returns what the toast says. Raises `Refused`.
        warning: what stands above the second button.
        typed: what has to be typed to confirm, for what destroys much.
        leaves: whether the object is gone afterwards.
        undone_by: the name of the action that takes it back altogether.
    """

    name: str
    label: str
    run: Callable[[_VisitT, _TablesT, Transaction, _RowT], Awaitable[str]]
    warning: str
    is_dangerous: bool = False
    typed: Callable[[_RowT], str] | None = None
    leaves: bool = False
    undone_by: str | None = None
    is_offered: Callable[[_VisitT, _RowT], bool] = lambda _visit, _row: True


@dataclass(frozen=True, kw_only=True)
class Panel(Generic[_RowT, _VisitT, _TablesT]):
    """The panel of one object; `facts` are the lines of its side."""

    facts: Callable[[_VisitT, _TablesT, _RowT], Awaitable[Sequence[Fact]]]
    tabs: tuple[Tab[_RowT, _VisitT, _TablesT], ...] = ()
    status: Callable[[_VisitT, _TablesT, _RowT], Awaitable[Status | None]] | None = None
    actions: tuple[PanelAction[_RowT, _VisitT, _TablesT], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Editing(Generic[_RowT, _VisitT, _TablesT]):
    """How objects are made and changed; `make` and `change` raise `Refused`.

    Attributes:
        form: of a stored object; it may depend on the object.
        new_form: of a new one; None for the same.
        is_editable: whether a stored object can be changed.
        once: template of what is shown of a new object this once: a secret, which `make` left in `visit.secret`.
    """

    form: Callable[[_RowT | None], Form]
    make: Callable[[_VisitT, _TablesT, Transaction, Mapping[str, Any]], Awaitable[_RowT]] | None = None
    change: Callable[[_VisitT, _TablesT, Transaction, _RowT, Mapping[str, Any]], Awaitable[_RowT]] | None = (
        None
    )
    is_editable: Callable[[_VisitT, _RowT], bool] = lambda _visit, _row: True
    once: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """How a table is shown: all that its URL says of it."""

    filters: Mapping[str, tuple[str, ...]]
    sort: str
    page: int
    size: int
    wrong: tuple[str, ...] = ()
    default_sort: str = ""

    def text(self, **changes: object) -> str:
        """Return the query string with some parameters changed (None: left out); "" or "?…". Any change but of the
        page leads to the first page.
        """
        pairs: dict[str, Any] = {name: list(values) for name, values in self.filters.items()}
        for name, values in pairs.items():
            if len(values) > 1 and name in self._periods:
                pairs[name] = [",".join(values)]
        pairs["sort"] = self.sort if self.sort != self.default_sort else None
        pairs["size"] = self.size if self.size != DEFAULT_SIZE else None
        pairs["page"] = self.page if not changes and self.page > 1 else None
        pairs.update(changes)
        if pairs["page"] == 1:
            pairs["page"] = None
        kept = {name: value for name, value in pairs.items() if value not in (None, "", [])}
        return f"?{urlencode(kept, doseq=True)}" if kept else ""

    _periods: frozenset[str] = frozenset()

    @property
    def is_narrowed(self) -> bool:
        return bool(self.filters)


@dataclass(frozen=True, slots=True)
class ListContents(Generic[_RowT]):
    """One page of a table; `count` is None where the page does not wait for it: the script asks then."""

    rows: Sequence[_RowT]
    cells: Sequence[Sequence[Cell]]
    count: int | None
    query: Query
    notices: Sequence[str]
    has_next: bool

    @property
    def total(self) -> str:
        return f"{self.last:,}+" if self.count is None else _total(self.count)

    @property
    def first(self) -> int:
        return (self.query.page - 1) * self.query.size + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1


@dataclass(frozen=True, kw_only=True)
class ListPage(Page, Generic[_RowT, _FactsT, _VisitT, _TablesT]):
    """The page of one kind of object.

    Attributes:
        singular: "site", for buttons and messages.
        about: one line below the heading.
        repository: where its rows are.
        columns: the first leads to the panel.
        load_facts: gathers what cells need beside their rows, for all rows at once.
        only: which rows of the table are of this kind; None: all.
        pinned: what stands before what the person ordered.
        default_sort: a column's name, with `-` before it for descending.
        label_of: what an object is called.
        more: what else the page answers.
        buttons: template with further buttons beside the primary one.
    """

    singular: str
    about: str
    repository: Callable[[_TablesT], Repository[_RowT]]
    columns: tuple[Column[_RowT, _FactsT], ...]
    load_facts: Callable[[_VisitT, _TablesT, Sequence[_RowT]], Awaitable[_FactsT]]
    empty: Empty
    filters: tuple[Filter, ...] = ()
    only: ColumnElement[bool] | None = None
    pinned: Pinned | None = None
    default_sort: str = "name"
    panel: Panel[_RowT, _VisitT, _TablesT] | None = None
    editing: Editing[_RowT, _VisitT, _TablesT] | None = None
    label_of: Callable[[_RowT], str] = lambda row: str(row.name)  # type: ignore[attr-defined]
    more: tuple[PageRoute, ...] = ()
    buttons: str | None = None

    def routes(self) -> Sequence[PageRoute]:
        routes = [PageRoute("", self._list), PageRoute("/count", self._count)]
        if self.editing is not None and self.editing.make is not None:
            routes += [PageRoute("/new", self._new), PageRoute("/new", self._make, "POST")]
        routes += self.more
        if self.panel is not None:
            routes.append(PageRoute("/{id}", self._details))
        if self.editing is not None and self.editing.change is not None:
            routes += [PageRoute("/{id}/edit", self._edit), PageRoute("/{id}/edit", self._change, "POST")]
        if self.panel is not None and self.panel.actions:
            routes += [PageRoute("/{id}/{action}", self._act, "POST")]
        return routes

    @property
    def can_make(self) -> bool:
        return self.editing is not None and self.editing.make is not None

    async def find(self, tables: _TablesT, words: str, *, limit: int) -> list[Found]:
        search = next((one for one in self.filters if isinstance(one, Search)), None)
        if search is None:
            return []
        found = search.within(words, getattr(tables, "account_id", None))
        given = [found, *([] if self.only is None else [self.only])]
        order = [self._sorted_by(self.default_sort)]
        rows = await self.repository(tables).load_all(*given, order_by=order, limit=limit)
        labels = await self.labels(tables, rows)
        return [
            Found(label, f"{self.path}/{row.id}", self.name) for row, label in zip(rows, labels, strict=True)
        ]

    async def labels(self, _tables: _TablesT, rows: Sequence[_RowT]) -> list[str]:
        """Return what objects are called. Overridden where that takes more than their rows."""
        return [self.label_of(row) for row in rows]

    async def label(self, tables: _TablesT, row: _RowT) -> str:
        return (await self.labels(tables, [row]))[0]

    async def load(self, tables: _TablesT, id_: UUID | None) -> _RowT:
        """Return an object of this page. Raises Missing."""
        repository = self.repository(tables)
        given = [] if self.only is None else [self.only]
        row = None if id_ is None else await repository.find(repository.c.id == id_, *given)
        if row is None:
            raise Missing
        return row

    async def show(
        self, visit: _VisitT, side: Side | None = None, *, status: int = 200, **values: Any
    ) -> Response:
        """Answer with the table, and something beside it."""
        query = self._query(visit)
        async with visit.reading() as tables:
            shown = await self._shown(visit, tables, query)
        response = await visit.show(
            "list.html", status=status, page=self, shown=shown, query=query, side=side, **values
        )
        if "size" in visit.request.query_params and not query.wrong:
            response.set_cookie(
                "page_size",
                str(query.size),
                max_age=365 * 86_400,
                httponly=True,
                samesite="lax",
                secure=visit.services.settings.is_secure,
            )
        return response

    def gone(self, visit: _VisitT) -> Response:
        """Answer to the address of an object that is not there."""
        return visit.go(self.path, toast=f"This {self.singular} does not exist.", tone="caution")

    async def show_details(self, visit: _VisitT, row: _RowT, *, status: int = 200, **values: Any) -> Response:
        """Answer with an object's panel."""
        assert self.panel is not None
        panel = self.panel
        tabs = [one for one in panel.tabs if one.is_offered(visit, row)]
        wanted = visit.request.query_params.get("tab")
        tab = next((one for one in tabs if one.name == wanted), tabs[0] if tabs else None)
        shown = None
        if tab is not None and tab.load_apart is not None:
            shown = await tab.load_apart(visit, row)
        async with visit.reading() as tables:
            if tab is not None and tab.load is not None:
                shown = await tab.load(visit, tables, row)
            side = Side(
                await self.label(tables, row),
                "panel.html",
                {
                    "row": row,
                    "panel": panel,
                    "facts": await panel.facts(visit, tables, row),
                    "status": None if panel.status is None else await panel.status(visit, tables, row),
                    "tabs": [
                        (one, None if one.count is None else await one.count(visit, tables, row))
                        for one in tabs
                    ],
                    "here_tab": tab,
                    "tab": shown,
                    "actions": [one for one in panel.actions if one.is_offered(visit, row)],
                    "is_editable": self._is_editable(visit, row),
                    **values,
                },
                is_wide=bool(tabs),
            )
        return await self.show(visit, side, status=status)

    async def _list(self, visit: _VisitT) -> Response:
        return await self.show(visit)

    async def _details(self, visit: _VisitT) -> Response:
        try:
            async with visit.reading() as tables:
                row = await self.load(tables, visit.id())
        except Missing:
            return self.gone(visit)
        return await self.show_details(visit, row)

    async def _new(self, visit: _VisitT) -> Response:
        assert self.editing is not None
        return await self._show_form(visit, None, self.editing.form(None).blank(visit.query()))

    async def _make(self, visit: _VisitT) -> Response:
        assert self.editing is not None
        assert self.editing.make is not None
        filled = self.editing.form(None).submitted(visit.form)
        if filled.is_search:
            return await self._show_form(visit, None, filled)
        given, errors = filled.given()
        if not errors:
            try:
                async with visit.writing() as (tables, transaction):
                    row = await self.editing.make(visit, tables, transaction, given)
                    label = await self.label(tables, row)
            except Refused as refused:
                errors = errors_of(refused)
            else:
                if self.editing.once is not None:
                    side = Side(label, self.editing.once, {"row": row, "secret": visit.secret}, is_wide=True)
                    return await self.show(visit, side)
                told = f"{_capitalised(self.singular)} “{label}” was created."
                return visit.go(f"{self.path}/{row.id}", toast=told)
        return await self._show_form(visit, None, filled.refused(errors))

    async def _edit(self, visit: _VisitT) -> Response:
        assert self.editing is not None
        try:
            async with visit.reading() as tables:
                row = await self.load(tables, visit.id())
        except Missing:
            return self.gone(visit)
        if not self._is_editable(visit, row):
            return await self.show_details(visit, row)
        return await self._show_form(visit, row, self.editing.form(row).of(row, tag_of(row)))

    async def _change(self, visit: _VisitT) -> Response:
        assert self.editing is not None
        assert self.editing.change is not None
        try:
            async with visit.reading() as tables:
                before = await self.load(tables, visit.id())
            filled = self.editing.form(before).submitted(visit.form)
            if filled.is_search:
                return await self._show_form(visit, before, filled)
            async with visit.writing() as (tables, transaction):
                before = await self.load(tables, visit.id())
                filled = self.editing.form(before).submitted(visit.form)
                version = tag_of(before)
                if filled.version != version:
                    filled = filled.merged(before, version)
                given, errors = filled.given()
                if not filled.is_stale and not errors:
                    row = await self.editing.change(visit, tables, transaction, before, given)
                    label = await self.label(tables, row)
        except Missing:
            return self.gone(visit)
        except Refused as refused:
            errors = errors_of(refused)
        else:
            if not filled.is_stale and not errors:
                told = f"{_capitalised(self.singular)} “{label}” was saved."
                return visit.go(f"{self.path}/{row.id}", toast=told)
        return await self._show_form(visit, before, filled.refused(errors))

    async def _act(self, visit: _VisitT) -> Response:
        assert self.panel is not None
        name = visit.request.path_params["action"]
        action = next((one for one in self.panel.actions if one.name == name), None)
        try:
            async with visit.writing() as (tables, transaction):
                row = await self.load(tables, visit.id())
                if action is None or not action.is_offered(visit, row):
                    raise Missing
                if action.typed is not None and _typed(visit) != action.typed(row).strip():
                    raise Mistyped
                told = await action.run(visit, tables, transaction, row)
        except Mistyped:
            return await self.show_details(visit, row, mistyped=name, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        except Missing:
            return self.gone(visit)
        except Refused as refused:
            return visit.go(f"{self.path}/{row.id}", toast=_told(refused), tone="bad")
        here = f"{self.path}/{row.id}"
        undo = None if action.undone_by is None else f"{here}/{action.undone_by}"
        return visit.go(self.path if action.leaves else here, toast=told, undo=undo)

    async def _show_form(self, visit: _VisitT, row: _RowT | None, filled: Filled) -> Response:
        async with visit.reading() as tables:
            title = f"New {self.singular}" if row is None else f"Edit {await self.label(tables, row)}"
            options = await filled.options(visit, tables)
        values = {"row": row, "filled": filled, "options": options, "messages": messages}
        is_refused = bool(filled.errors or filled.is_stale)
        status = HTTPStatus.UNPROCESSABLE_ENTITY if is_refused else HTTPStatus.OK
        return await self.show(visit, Side(title, "form.html", values), status=status)

    def _is_editable(self, visit: _VisitT, row: _RowT) -> bool:
        editing = self.editing
        return editing is not None and editing.change is not None and editing.is_editable(visit, row)

    def _query(self, visit: _VisitT) -> Query:
        """Read the URL; what is invalid is left out and named."""
        given, wrong = visit.query(), []
        filters: dict[str, tuple[str, ...]] = {}
        for one in self.filters:
            try:
                values = one.read(given.get(one.name, []))
            except ValueError:
                wrong.append(one.label.lower())
                continue
            if values:
                filters[one.name] = values
        sort = (given.get("sort") or [self.default_sort])[-1]
        if self._sorted_by(sort) is None:
            sort = self.default_sort
            wrong.append("order")
        page, size = _number(given.get("page"), 1, MAX_PAGE), DEFAULT_SIZE
        chosen = given.get("size") or [visit.request.cookies.get("page_size", "")]
        if chosen[-1] in map(str, SIZES):
            size = int(chosen[-1])
        elif "size" in given:
            wrong.append("page size")
        if page is None:
            wrong.append("page")
        periods = frozenset(one.name for one in self.filters if one.kind == "period")
        return Query(filters, sort, page or 1, size, tuple(wrong), self.default_sort, periods)

    def _sorted_by(self, sort: str) -> ColumnElement[Any] | None:
        name = sort.removeprefix("-")
        return next((one.sort for one in self.columns if one.name == name and one.sort is not None), None)

    async def _shown(self, visit: _VisitT, tables: _TablesT, query: Query) -> ListContents[_RowT]:
        repository = self.repository(tables)
        conditions = self._conditions(visit, query)
        notices = []
        for one in self.filters:
            if isinstance(one, Of) and one.name in query.filters:
                name = await one.name_of(tables, UUID(query.filters[one.name][0]))
                notices.append(f"{one.label} {name or 'that does not exist any more'}")
        rows = await self._rows(repository, conditions, query)
        has_next = len(rows) > query.size
        rows = rows[: query.size]
        count: int | None = (query.page - 1) * query.size + len(rows)
        if has_next and query.is_narrowed:
            count = None  # it would read the whole table, where the page costs what it shows
        elif has_next or (not rows and query.page > 1):
            count = await repository.count(*conditions, at_most=MAX_COUNTED + 1)
        facts = await self.load_facts(visit, tables, rows)
        cells = [[column.cell(row, facts) for column in self.columns] for row in rows]
        return ListContents(rows, cells, count, query, notices, has_next)

    async def _count(self, visit: _VisitT) -> Response:
        """Answer with how many rows the filters leave, as the page says it."""
        async with visit.reading() as tables:
            given = self._conditions(visit, self._query(visit))
            count = await self.repository(tables).count(*given, at_most=MAX_COUNTED + 1)
        return PlainTextResponse(_total(count), headers={"cache-control": "no-store"})

    def _conditions(self, visit: _VisitT, query: Query) -> list[ColumnElement[bool]]:
        conditions = [] if self.only is None else [self.only]
        narrowing = [one for one in self.filters if one.name in query.filters]
        return conditions + [one.condition(visit, query.filters[one.name]) for one in narrowing]

    async def _rows(
        self, repository: Repository[_RowT], conditions: Sequence[ColumnElement[bool]], query: Query
    ) -> list[_RowT]:
        """Return the rows of a page, and one more if there is a next page."""
        order = self._order(repository, query.sort)
        offset, limit = (query.page - 1) * query.size, query.size + 1
        if self.pinned is None:
            return await repository.load_page(*conditions, order_by=order, limit=limit, offset=offset)
        pinned = await repository.load_all(*conditions, self.pinned.first, order_by=order, limit=MAX_PINNED)
        first = pinned[offset : offset + limit]
        others = await repository.load_page(
            *conditions,
            self.pinned.others,
            order_by=order,
            limit=limit - len(first),
            offset=max(0, offset - len(pinned)),
        )
        return [*first, *others]

    def _order(self, repository: Repository[_RowT], sort: str) -> Sequence[ColumnElement[Any]]:
        """Return one direction for all columns, so that an index serves both."""
        by = self._sorted_by(sort)
        assert by is not None
        id_ = repository.c.id
        order, then = (by.desc(), id_.desc()) if sort.startswith("-") else (by.asc(), id_.asc())
        # Said of what is never null, it hides an index from PostgreSQL.
        is_never_null = isinstance(by, coalesce) or (isinstance(by, ColumnClause) and not by.nullable)
        if not is_never_null:
            order = nulls_last(order) if sort.startswith("-") else nulls_first(order)
        return (order, then)


class Mistyped(Exception):
    """What had to be typed to confirm was not."""


def errors_of(refused: Refused) -> FieldErrors:
    """Return what a rule refused, by field."""
    return refused.errors if isinstance(refused, Invalid) else {"base": [_told(refused)]}


def _total(count: int) -> str:
    return f"{MAX_COUNTED:,}+" if count > MAX_COUNTED else f"{count:,}"


def _capitalised(words: str) -> str:
    return words[:1].upper() + words[1:]


def _told(refused: Refused) -> str:
    return str(refused) or "That is not possible any more: something has changed meanwhile."


def _typed(visit: BaseVisit[Any]) -> str:
    typed = visit.form.get("typed", "")
    return typed.strip() if isinstance(typed, str) else ""


def _number(given: list[str] | None, least: int, most: int) -> int | None:
    text = given[-1] if given else str(least)
    is_number = text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most
    return int(text) if is_number else None
