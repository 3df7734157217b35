"""The pages, on Starlette, Jinja2 and htmx.

    GET  /assets/…        scripts, styles, pictures
    …    /{slug}…         the pages of `pages.PAGES`
    GET  /{slug}/live     what has changed of a page, as long as it is open
    GET  /{slug}/search   pages and objects by name
    POST /{slug}/sign_out

Signing in has its own (`sign_in.pages`); who is not signed in is sent there.

Every answer carries a strict content security policy with a fresh nonce; nothing inline runs.
"""

import base64
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from wardgate.portal.http.asgi import App, Message, Receive, Scope, Send
from wardgate.portal.http.security_headers import page_security, transport_security
from wardgate.portal.services import Services
from wardgate.portal.sign_in.pages import SignInPages, sign_in_of
from wardgate.portal.store import UNAVAILABLE
from wardgate.portal.web.frame import Frame, Handler
from wardgate.portal.web.live import LiveStreams
from wardgate.portal.web.pages import PAGES
from wardgate.portal.web.palette import PALETTE


def build(services: Services) -> App:
    """Build the pages over one process's services."""
    frame = Frame(services, PAGES)
    routes: list[BaseRoute] = [
        *SignInPages(services, frame.sessions, frame.write).routes(),
        Route("/assets/{name}", frame.assets.answer),
        Route("/{slug}/live", LiveStreams(frame, PAGES).answer),
        Route("/{slug}/sign_out", _signs_out(frame), methods=["POST"]),
    ]
    for page in (PALETTE, *PAGES):
        for route in page.routes():
            path = f"/{{slug}}{page.path}{route.path}"
            routes.append(Route(path, frame.answers(page, route), methods=[route.method]))
    starlette = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: frame.error,
            **dict.fromkeys(UNAVAILABLE, frame.database_unavailable),
        },
    )
    return _SecureHeaders(starlette, services)


def _signs_out(frame: Frame) -> Handler:
    async def sign_out(request: Request) -> Response:
        signed_in = await frame.sessions.find(request, request.path_params["slug"])
        if signed_in is None:
            return sign_in_of(request)
        await frame.form(request, signed_in)
        await frame.sessions.close(signed_in)
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        frame.sessions.clear_cookie(response, signed_in.account)
        return response

    return sign_out


class _SecureHeaders:
    """Adds the headers that every page and asset carries, and draws the nonce that scripts and styles must show."""

    def __init__(self, inner: App, services: Services) -> None:
        self._inner = inner
        self._rng = services.environment.rng
        self._hsts = transport_security(is_secure=services.settings.is_secure)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        nonce = base64.b64encode(self._rng.randbytes(18)).decode()
        headers = page_security(nonce) + self._hsts

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        await self._inner({**scope, "wardgate.nonce": nonce}, receive, send_with_headers)
