"""A form beside the table that does something with the object of a panel: makes a token for it, grants access to it.

    GET  /{slug}/groups/{id}/grant    the form
    POST /{slug}/groups/{id}/grant    what it does; refused, the form again with all that was typed

A page has its `routes` among its own.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, TypeVar, cast

from starlette.responses import Response

from wardgate.portal.outcomes import Missing, Refused
from wardgate.portal.schema.row import Row
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.forms import Filled, Form, messages
from wardgate.portal.web.listing import ListPage, Side, errors_of
from wardgate.portal.web.page import PageRoute
from wardgate.portal.web.visit import Visit

_RowT = TypeVar("_RowT", bound=Row)
_DoneT = TypeVar("_DoneT")


@dataclass(frozen=True, kw_only=True)
class PanelForm(Generic[_RowT, _DoneT]):
    """One form of a panel.

    Attributes:
        name: the last segment of its address.
        tab: where it was opened, and where its "Cancel" leads.
        title: its heading.
        about: a line above the fields; empty for none.
        button: what its button is called.
        form: its fields.
        run: does it. Raises `Refused`.
        answer: what is shown afterwards.
    """

    name: str
    tab: str
    title: Callable[[_RowT], str]
    button: str
    form: Callable[[Visit], Form]
    run: Callable[[Visit, AccountTables, Transaction, _RowT, Mapping[str, Any]], Awaitable[_DoneT]]
    answer: Callable[[Visit, _RowT, _DoneT], Awaitable[Response]]
    about: str = ""

    @property
    def routes(self) -> tuple[PageRoute, ...]:
        path = f"/{{id}}/{self.name}"
        return PageRoute(path, self._blank), PageRoute(path, self._send, "POST")

    async def _blank(self, visit: Visit) -> Response:
        return await self._show(visit, self.form(visit).blank(visit.query()))

    async def _send(self, visit: Visit) -> Response:
        filled = self.form(visit).submitted(visit.form)
        if filled.is_search:
            return await self._show(visit, filled)
        given, errors = filled.given()
        if not errors:
            try:
                async with visit.writing() as (tables, transaction):
                    row = await _page(visit).load(tables, visit.id())
                    done = await self.run(visit, tables, transaction, row, given)
            except Refused as refused:
                errors = errors_of(refused)
            else:
                return await self.answer(visit, row, done)
        return await self._show(visit, filled.refused(errors))

    async def _show(self, visit: Visit, filled: Filled) -> Response:
        page = _page(visit)
        try:
            async with visit.reading() as tables:
                row = await page.load(tables, visit.id())
                options = await filled.options(visit, tables)
        except Missing:
            return page.gone(visit)
        values = {
            "row": row,
            "filled": filled,
            "options": options,
            "messages": messages,
            "panel_form": self,
        }
        side = Side(self.title(row), "panel_form.html", values)
        return await page.show(
            visit, side, status=HTTPStatus.UNPROCESSABLE_ENTITY if filled.errors else HTTPStatus.OK
        )


def _page(visit: Visit) -> ListPage[Any, Any]:
    return cast(ListPage[Any, Any], visit.page)
