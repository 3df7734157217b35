"""The pages, on Starlette, Jinja2 and htmx.

    GET  /assets/…        scripts, styles, pictures
    GET  /install/…       what other machines install themselves with (`installation.installers`)
    …    /{slug}…         the pages of `pages.PAGES`
    GET  /{slug}/live     what has changed of a page, as long as it is open
    GET  /{slug}/search   pages and objects by name
    POST /{slug}/sign_out
    …    /operator…       the same of `pages.OPERATOR_PAGES`, for the operator

Signing in has its own (`sign_in.pages`, `installation.operator_sign_in`); who is not signed in is sent there.

Every answer carries a strict content security policy with a fresh nonce; nothing inline runs.
"""

import base64
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from wardgate.portal.http.asgi import App, Message, Receive, Scope, Send
from wardgate.portal.http.security_headers import page_security, transport_security
from wardgate.portal.installation.operator_sign_in import OperatorSignIn
from wardgate.portal.services import Services
from wardgate.portal.sign_in.hashing import HashingBusy
from wardgate.portal.sign_in.pages import SignInPages, sign_in_of
from wardgate.portal.sign_in.steps import Steps
from wardgate.portal.store import UNAVAILABLE
from wardgate.portal.web.asset_files import AssetFiles
from wardgate.portal.web.frame import AccountFrame, Frame, Handler, OperatorFrame
from wardgate.portal.web.live import LiveStreams
from wardgate.portal.web.operator_sessions import OPERATOR_PATH
from wardgate.portal.web.pages import OPERATOR_PAGES, PAGES
from wardgate.portal.web.palette import PALETTE


def build(services: Services) -> App:
    """Build the pages over one process's services."""
    pages = Pages(services)
    frame = pages.account
    starlette = Starlette(
        routes=pages.routes(),
        exception_handlers={
            HTTPException: frame.error,
            HashingBusy: frame.hashing_busy,
            **dict.fromkeys(UNAVAILABLE, frame.database_unavailable),
        },
    )
    return _SecureHeaders(starlette, services)


class Pages:
    """What is served, by who may see it.

    Attributes:
        account: the frame of the pages for administrators.
        operator: the frame of the pages for the operator.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._assets = AssetFiles()
        self.account = AccountFrame(services, PAGES, self._assets)
        self.operator = OperatorFrame(services, OPERATOR_PAGES, self._assets)

    def routes(self) -> list[BaseRoute]:
        """Return all routes; the first that matches answers."""
        return [
            *self.sign_in_routes(),
            *self.operator_routes(),
            *self.other_routes(),
            *self.account_routes(),
        ]

    def sign_in_routes(self) -> list[BaseRoute]:
        """Return what leads to a session, and so is open to strangers."""
        frame, operator = self.account, self.operator
        # The operator's first: `operator` is no slug.
        return [
            *OperatorSignIn(
                self._services, operator, Steps(self._services, frame.sessions, operator.write)
            ).routes(),
            *SignInPages(self._services, frame.sessions, frame.write).routes(),
        ]

    def other_routes(self) -> list[BaseRoute]:
        """Return what needs no session or any."""
        return [
            Route("/assets/{name}", self._assets.answer),
            Route("/install/{name}", self.account.installers.answer),
            Route("/{slug}/sign_out", _signs_out(self.account), methods=["POST"]),
            Route(f"{OPERATOR_PATH}/{{rest:path}}", _nothing_here),
        ]

    def account_routes(self) -> list[Route]:
        """Return what only administrators of the account are answered."""
        return list(_routes_of(self.account, "/{slug}"))

    def operator_routes(self) -> list[Route]:
        """Return what only the operator is answered."""
        return list(_routes_of(self.operator, OPERATOR_PATH))


def _routes_of(frame: Frame[Any], prefix: str) -> Iterator[Route]:
    """Yield what the pages of a frame answer below a path."""
    yield Route(f"{prefix}/live", LiveStreams(frame).answer)
    for page in (PALETTE, *frame.pages):
        for route in page.routes():
            yield Route(
                f"{prefix}{page.path}{route.path}", frame.answers(page, route), methods=[route.method]
            )


async def _nothing_here(_request: Request) -> Response:
    raise HTTPException(HTTPStatus.NOT_FOUND)


def _signs_out(frame: AccountFrame) -> Handler:
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
