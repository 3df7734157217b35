"""The frame around every page: who may see it, its navigation, banners and messages, and what goes wrong.

`AccountFrame` stands around the pages of an account, for its administrators; `OperatorFrame` around those of the
installation. They share how pages look and how forms are checked, and nothing of who may come in: a session of one
kind is none of the other.
"""

import hmac
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from wardgate.portal.installation.installers import Installers
from wardgate.portal.outcomes import Missing, Refused
from wardgate.portal.services import Services
from wardgate.portal.sign_in.hashing import RETRY_S
from wardgate.portal.sign_in.pages import sign_in_of
from wardgate.portal.store import INSTALLATION, NotAllowed
from wardgate.portal.web.account_notice import Notice, notice_of
from wardgate.portal.web.asset_files import AssetFiles
from wardgate.portal.web.forms import MAX_FIELD_BYTES, MAX_FIELDS
from wardgate.portal.web.operator_sessions import OPERATOR_PATH, OperatorSessions, OperatorSignedIn
from wardgate.portal.web.page import Page, PageRoute, Section
from wardgate.portal.web.rendering import drawn_icon, load_templates
from wardgate.portal.web.sessions import Sessions, SignedIn
from wardgate.portal.web.toasts import Toasts
from wardgate.portal.web.visit import BaseVisit, OperatorVisit, Visit
from wardgate.portal.web.written_cells import CellWriter

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]

MAX_NAVIGATIONS: Final = 512
"""Kept at a time, of a few kilobytes each: one for every page of an account that somebody looks at."""

_ERRORS: Final = {
    HTTPStatus.NOT_FOUND: "There is nothing here, or nothing that you may see.",
    HTTPStatus.FORBIDDEN: "The form was not sent from this session. Go back, reload the page and try again.",
    HTTPStatus.UNAUTHORIZED: "You are not signed in.",
    HTTPStatus.TOO_MANY_REQUESTS: "There were too many attempts from your address. Wait a little, then try again.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The method is not allowed here.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Too many people sign in at this moment. Try again in a few seconds.",
}


_SignedInT = TypeVar("_SignedInT")


class Frame(ABC, Generic[_SignedInT]):
    """What all pages share; `_SignedInT` is whose session they need.

    Attributes:
        pages: in the order of the navigation within each section.
    """

    def __init__(self, services: Services, pages: tuple[Page, ...], assets: AssetFiles) -> None:
        self.services = services
        self.pages = pages
        self.toasts = Toasts(services)
        self.assets = assets
        self.installers = Installers(services.settings, services.environment)
        self._templates = load_templates()
        self._templates.globals["asset"] = assets.path
        self._templates.globals["drawn_icon"] = cache(partial(drawn_icon, assets.path("icons.svg")))
        self._templates.globals["written_cell"] = CellWriter(assets.path("icons.svg")).write
        self._navigation = lru_cache(maxsize=MAX_NAVIGATIONS)(self._written_navigation)

    @abstractmethod
    async def signed_in(self, request: Request) -> _SignedInT | None:
        """Return whose session the request carries.

        Raises:
            HTTPException: 404, these pages are not for this person.
        """

    @abstractmethod
    async def is_alive(self, signed_in: _SignedInT) -> bool:
        """Tell whether a session still opens these pages; a long answer asks again and again."""

    @abstractmethod
    def form_token(self, signed_in: _SignedInT) -> str:
        """Return what every form of this session must send back."""

    @abstractmethod
    def feed_of(self, signed_in: _SignedInT) -> UUID:
        """Return the feed that the pages are kept current by."""

    @abstractmethod
    def sign_in_of(self, request: Request) -> Response:
        """Send a browser without a session to where one begins."""

    @abstractmethod
    def visit(
        self, page: Page, request: Request, signed_in: _SignedInT, form: FormData
    ) -> BaseVisit[Any]: ...

    def notice(self, _visit: BaseVisit[Any]) -> Notice | None:
        """Return what every page says of its account."""
        return None

    def answers(self, page: Page, route: PageRoute) -> Handler:
        """Return the handler of one of a page's routes: whose pages these are not does not learn that they exist."""

        async def answer(request: Request) -> Response:
            signed_in = await self.signed_in(request)
            if signed_in is None:
                return self.sign_in_of(request)
            form = FormData() if route.method == "GET" else await self.form(request, signed_in)
            visit = self.visit(page, request, signed_in, form)
            # Before anything is read for the page: what changes from here on is told by its stream.
            visit.seen = await self.services.feed.position(self.feed_of(signed_in))
            try:
                return await route.handle(visit)
            except (NotAllowed, Missing):
                raise HTTPException(HTTPStatus.NOT_FOUND) from None
            except Refused as refused:
                return visit.go(page.path, toast=str(refused), tone="bad")

        return answer

    async def form(self, request: Request, signed_in: _SignedInT) -> FormData:
        """Read what was posted.

        Raises:
            HTTPException: 403, it was not sent from a page of this session.
        """
        form = await request.form(max_files=0, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        token = form.get("csrf_token")
        if not isinstance(token, str) or not hmac.compare_digest(
            token.encode(errors="replace"), self.form_token(signed_in).encode()
        ):
            raise HTTPException(HTTPStatus.FORBIDDEN)
        return form

    async def show(
        self, visit: BaseVisit[Any], template: str, *, status: int = 200, values: Mapping[str, Any]
    ) -> Response:
        """Write a page, with what all of them show."""
        async with self.services.store.reading() as transaction:
            banners = await transaction.banners.load_all()
        now = self.services.environment.clock.now()
        toast = self.toasts.find(visit.request)
        response = self.write(
            visit.request,
            template,
            status=status,
            here=visit.page,
            visit=visit,
            csrf_token=visit.form_token(),
            banners=banners,
            notice=self.notice(visit),
            now=now,
            toast=toast,
            **values,
        )
        if toast is not None:
            self.toasts.clear(response)
        return response

    def navigation(self, visit: BaseVisit[Any]) -> Markup:
        """Return the links to all pages, for who is on one of them."""
        return self._navigation(visit.url(""), visit.page.path)

    def _written_navigation(self, base: str, here: str) -> Markup:
        template = self._templates.get_template("navigation.html")
        text = template.render(sections=_navigation(self.pages), base=base, here=here)
        return Markup(text)  # noqa: S704 - the template has escaped it

    def write(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        nonce = request.scope["wardgate.nonce"]
        values["is_exposed"] = self.services.settings.is_exposed
        text = self._templates.get_template(template).render(nonce=nonce, **values)
        return HTMLResponse(text, status, headers={"cache-control": "no-store"})

    async def error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        if status == HTTPStatus.NO_CONTENT:
            return Response(status_code=status)
        text = _ERRORS.get(status, "The request could not be processed.")
        response = self.write(request, "message.html", status=status, heading=status.phrase, text=text)
        response.headers.update(error.headers or {})
        return response

    async def hashing_busy(self, request: Request, _error: Exception) -> Response:
        """Ask somebody to come again who signs in while very many do."""
        headers = {"retry-after": str(RETRY_S)}
        return await self.error(request, HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, headers=headers))

    async def database_unavailable(self, _request: Request, _error: Exception) -> Response:
        """Answer without a page, which may need the database itself."""
        text = "The database does not answer at the moment. Try again in a few seconds."
        return PlainTextResponse(text, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "5"})


class AccountFrame(Frame[SignedIn]):
    """Around the pages of an account."""

    def __init__(self, services: Services, pages: tuple[Page, ...], assets: AssetFiles) -> None:
        super().__init__(services, pages, assets)
        self.sessions = Sessions(services)

    async def signed_in(self, request: Request) -> SignedIn | None:
        """Return the administrator whose session the request carries; raises as `Frame.signed_in`."""
        signed_in = await self.sessions.find(request, request.path_params["slug"])
        if signed_in is not None and not signed_in.is_admin:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return signed_in

    async def is_alive(self, signed_in: SignedIn) -> bool:
        return await self.sessions.is_alive(signed_in)

    def form_token(self, signed_in: SignedIn) -> str:
        return self.sessions.form_token(signed_in)

    def feed_of(self, signed_in: SignedIn) -> UUID:
        return signed_in.account.id

    def sign_in_of(self, request: Request) -> Response:
        return sign_in_of(request)

    def visit(self, page: Page, request: Request, signed_in: SignedIn, form: FormData) -> Visit:
        return Visit(self, page, request, form, signed_in=signed_in)

    def notice(self, visit: BaseVisit[Any]) -> Notice | None:
        assert isinstance(visit, Visit)
        return notice_of(visit.account, now=self.services.environment.clock.now())


class OperatorFrame(Frame[OperatorSignedIn]):
    """Around the pages of the installation."""

    def __init__(self, services: Services, pages: tuple[Page, ...], assets: AssetFiles) -> None:
        super().__init__(services, pages, assets)
        self.sessions = OperatorSessions(services)

    async def signed_in(self, request: Request) -> OperatorSignedIn | None:
        return await self.sessions.find(request)

    async def is_alive(self, signed_in: OperatorSignedIn) -> bool:
        return await self.sessions.is_alive(signed_in)

    def form_token(self, signed_in: OperatorSignedIn) -> str:
        return self.sessions.form_token(signed_in)

    def feed_of(self, _signed_in: OperatorSignedIn) -> UUID:
        return INSTALLATION

    def sign_in_of(self, _request: Request) -> Response:
        return RedirectResponse(f"{OPERATOR_PATH}/sign_in", HTTPStatus.SEE_OTHER)

    def visit(
        self, page: Page, request: Request, signed_in: OperatorSignedIn, form: FormData
    ) -> OperatorVisit:
        return OperatorVisit(self, page, request, form, signed_in=signed_in)


def _navigation(pages: tuple[Page, ...]) -> Sequence[tuple[Section, Sequence[Page]]]:
    """Return the sections that have pages, in their order, each with its pages."""
    of_section = {section: [page for page in pages if page.section is section] for section in Section}
    return [(section, entries) for section, entries in of_section.items() if entries]
