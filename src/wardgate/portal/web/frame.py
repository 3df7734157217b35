"""The frame around every page: who may see it, its navigation, banners and messages, and what goes wrong."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from wardgate.portal.outcomes import Missing, Refused
from wardgate.portal.services import Services
from wardgate.portal.sign_in.pages import sign_in_of
from wardgate.portal.store import NotAllowed
from wardgate.portal.web.account_notice import notice_of
from wardgate.portal.web.asset_files import AssetFiles
from wardgate.portal.web.forms import MAX_FIELD_BYTES, MAX_FIELDS
from wardgate.portal.web.page import Page, PageRoute, Section
from wardgate.portal.web.rendering import load_templates
from wardgate.portal.web.sessions import Sessions, SignedIn
from wardgate.portal.web.toasts import Toasts
from wardgate.portal.web.visit import Visit

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]

_ERRORS: Final = {
    HTTPStatus.NOT_FOUND: "There is nothing here.",
    HTTPStatus.FORBIDDEN: "The form was not sent from this session. Go back, reload the page and try again.",
    HTTPStatus.UNAUTHORIZED: "You are not signed in.",
    HTTPStatus.TOO_MANY_REQUESTS: "There were too many attempts from your address. Wait a little, then try again.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The method is not allowed here.",
}


class Frame:
    """What all pages share."""

    def __init__(self, services: Services, pages: tuple[Page, ...]) -> None:
        self.services = services
        self.sessions = Sessions(services)
        self.toasts = Toasts(services)
        self.assets = AssetFiles()
        self._templates = load_templates()
        self._templates.globals["asset"] = self.assets.path
        self._templates.globals["pages"] = pages
        self._templates.globals["sections"] = tuple(Section)

    def answers(self, page: Page, route: PageRoute) -> Handler:
        """Return the handler of one of a page's routes: who is no administrator does not learn that it exists."""

        async def answer(request: Request) -> Response:
            signed_in = await self.signed_in(request)
            if signed_in is None:
                return sign_in_of(request)
            form = FormData() if route.method == "GET" else await self.form(request, signed_in)
            # Before anything is read for the page: what changes from here on is told by its stream.
            seen = await self.services.feed.position(signed_in.account.id)
            try:
                return await route.handle(Visit(self, page, request, signed_in, form, seen))
            except (NotAllowed, Missing):
                raise HTTPException(HTTPStatus.NOT_FOUND) from None
            except Refused as refused:
                return Visit(self, page, request, signed_in).go(page.path, toast=str(refused), tone="bad")

        return answer

    async def signed_in(self, request: Request) -> SignedIn | None:
        """Return the administrator whose session the request carries.

        Raises:
            HTTPException: 404, the person is no administrator.
        """
        signed_in = await self.sessions.find(request, request.path_params["slug"])
        if signed_in is not None and not signed_in.is_admin:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return signed_in

    async def form(self, request: Request, signed_in: SignedIn) -> FormData:
        """Read what was posted.

        Raises:
            HTTPException: 403, it was not sent from a page of this session.
        """
        form = await request.form(max_files=0, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        if not self.sessions.is_form_token(signed_in, form.get("csrf_token")):
            raise HTTPException(HTTPStatus.FORBIDDEN)
        return form

    async def show(
        self, visit: Visit, template: str, *, status: int = 200, values: Mapping[str, Any]
    ) -> Response:
        """Write a page of an account, with what all of them show."""
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
            account=visit.account,
            actor=visit.actor,
            csrf_token=self.sessions.form_token(visit.signed_in),
            banners=banners,
            notice=notice_of(visit.account, now=now),
            now=now,
            toast=toast,
            **values,
        )
        if toast is not None:
            self.toasts.clear(response)
        return response

    def write(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        nonce = request.scope["wardgate.nonce"]
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

    async def database_unavailable(self, _request: Request, _error: Exception) -> Response:
        """Answer without a page, which may need the database itself."""
        text = "The database does not answer at the moment. Try again in a few seconds."
        return PlainTextResponse(text, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "5"})
