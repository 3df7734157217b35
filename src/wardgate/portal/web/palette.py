"""The command palette: any page or object by name. Without a script it is a page with a search field."""

from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from wardgate.portal.web.filters import MAX_WORDS_CHARS
from wardgate.portal.web.page import Found, Page, PageRoute, TemplatePage
from wardgate.portal.web.visit import BaseVisit

FOUND_OF_A_PAGE: Final = 6


@dataclass(frozen=True, slots=True)
class Search:
    """What was looked for, and what was found, by page."""

    words: str
    pages: tuple[Page, ...]
    found: tuple[tuple[Page, tuple[Found, ...]], ...]


async def search(visit: BaseVisit[Any]) -> Search:
    """Look for the words in the names of pages and of objects."""
    words = visit.request.query_params.get("q", "").strip()[:MAX_WORDS_CHARS].replace("\x00", "")
    pages = tuple(page for page in visit.frame.pages if words.casefold() in page.name.casefold())
    found: list[tuple[Page, tuple[Found, ...]]] = []
    if words:
        async with visit.reading() as tables:
            for page in visit.frame.pages:
                objects = await page.find(tables, words, limit=FOUND_OF_A_PAGE)
                if objects:
                    found.append((page, tuple(objects)))
    return Search(words, pages, tuple(found))


async def _results(visit: BaseVisit[Any]) -> Response:
    return await visit.show("found.html", page=await search(visit))


PALETTE: Final = TemplatePage(
    name="Search",
    path="/search",
    icon="search",
    section=None,
    template="search.html",
    load=search,
    more=(PageRoute("/results", _results),),
)
