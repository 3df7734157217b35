"""A page that is one form over one object: a page of settings.

    GET, POST /{slug}/settings/dns

Two administrators at once are handled as in a panel (`forms`): nothing that was typed is lost.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from starlette.responses import Response

from wardgate.portal.object_versions import tag_of
from wardgate.portal.outcomes import FieldErrors, Refused
from wardgate.portal.schema.row import Row
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.forms import Filled, Form, messages
from wardgate.portal.web.listing import errors_of
from wardgate.portal.web.page import Page, PageRoute
from wardgate.portal.web.visit import Visit

_RowT = TypeVar("_RowT", bound=Row)


@dataclass(frozen=True, kw_only=True)
class FormPage(Page, Generic[_RowT]):
    """One form.

    Attributes:
        about: one line below the heading.
        load: returns the object that the form shows. Raises `Missing`.
        change: stores what was given, and returns the object. Raises `Refused`.
        locked: says why nothing can be changed now; None: it can.
        note: template with what stands below the form.
    """

    about: str
    form: Form
    load: Callable[[Visit, AccountTables], Awaitable[_RowT]]
    change: Callable[[Visit, AccountTables, Transaction, _RowT, Mapping[str, Any]], Awaitable[_RowT]]
    locked: Callable[[Visit], str | None] = lambda _visit: None
    note: str | None = None

    def routes(self) -> Sequence[PageRoute]:
        return (PageRoute("", self._show), PageRoute("", self._change, "POST"))

    async def _show(self, visit: Visit) -> Response:
        async with visit.reading() as tables:
            row = await self.load(visit, tables)
        return await self._show_form(visit, self.form.of(row, tag_of(row)))

    async def _change(self, visit: Visit) -> Response:
        filled = self.form.submitted(visit.form)
        errors: FieldErrors = {}
        try:
            async with visit.writing() as (tables, transaction):
                before = await self.load(visit, tables)
                version = tag_of(before)
                if filled.version != version:
                    filled = filled.merged(before, version)
                given, errors = filled.given()
                if not filled.is_stale and not errors:
                    await self.change(visit, tables, transaction, before, given)
        except Refused as refused:
            errors = errors_of(refused)
        if errors or filled.is_stale:
            return await self._show_form(visit, filled.refused(errors))
        return visit.go(self.path, toast="Saved.")

    async def _show_form(self, visit: Visit, filled: Filled) -> Response:
        async with visit.reading() as tables:
            options = await filled.options(visit, tables)
        is_refused = bool(filled.errors or filled.is_stale)
        return await visit.show(
            "form_page.html",
            status=HTTPStatus.UNPROCESSABLE_ENTITY if is_refused else HTTPStatus.OK,
            page=self,
            filled=filled,
            options=options,
            messages=messages,
            locked=self.locked(visit),
        )
