"""A page: its place in the navigation, what it answers, and what it is kept current by.

`TemplatePage` shows one template; `listing.ListPage` is a table with a panel beside it. A domain declares its
pages in `portal/<domain>/pages.py`, and `web/pages.py` lists them.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from starlette.responses import Response

from wardgate.portal.bus import Kind
from wardgate.portal.web.visit import BaseVisit

Handle = Callable[[Any], Awaitable[Response]]
"""Answers a visit of the kind that the page's frame makes."""


class Section(Enum):
    """The groups of the navigation, in its order; the value is the heading."""

    HOME = ""
    ACCESS = "Access control"
    INFRASTRUCTURE = "Infrastructure"
    ACTORS = "Actors"
    AUDIT = "Audit"
    SETTINGS = "Settings"
    INSTALLATION = "Installation"
    OPERATOR = "Operator"


@dataclass(frozen=True, slots=True)
class Live:
    """What a page is kept current by.

    Attributes:
        tables: whose changes concern it (names of tables in the account's feed).
        presence: whose coming and going concerns it.
        decisions: whether answers to access requests concern it.
        every_s: how often it is read again in any case, if it shows what no feed tells of.
    """

    tables: frozenset[str] = frozenset()
    presence: frozenset[Kind] = frozenset()
    decisions: bool = False
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class PageRoute:
    """One path of a page, behind the page's own. A POST's handler runs after its form token was checked."""

    path: str
    handle: Handle
    method: Literal["GET", "POST"] = "GET"


@dataclass(frozen=True, slots=True)
class Found:
    """An object that the command palette found."""

    name: str
    path: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Page(ABC):
    """One entry of the navigation.

    Attributes:
        path: behind the account's slug, or behind `/operator`; empty for the first page.
        icon: one of the symbols in `assets/icons.svg`.
        section: the group of the navigation it stands in; None: reached from elsewhere.
    """

    name: str
    path: str
    icon: str
    section: Section | None
    live: Live = Live()

    @abstractmethod
    def routes(self) -> Sequence[PageRoute]:
        """Return what the page answers."""

    async def find(self, _tables: Any, _words: str, *, limit: int) -> list[Found]:
        """Return objects of the page whose names contain the words, for the command palette."""
        del limit
        return []


@dataclass(frozen=True, kw_only=True)
class TemplatePage(Page):
    """A page that is one template.

    Attributes:
        template: extends `page.html`.
        load: gathers what the template calls `page`, of what the person signed in may see.
        more: what else the page answers, above all its forms.
    """

    template: str
    load: Callable[[Any], Awaitable[object]]
    more: tuple[PageRoute, ...] = ()

    def routes(self) -> Sequence[PageRoute]:
        return (PageRoute("", self.show), *self.more)

    async def show(self, visit: BaseVisit[Any], *, status: int = 200, **values: object) -> Response:
        return await visit.show(self.template, status=status, page=await self.load(visit), **values)
