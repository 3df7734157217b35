"""The pages, on Starlette, Jinja2 and htmx. An account's overview is kept current by one stream of server-sent events.

    GET  /assets/…                      scripts, styles, icon
    GET  /{slug}                        who is online, last decisions
    GET  /{slug}/events                 the same part of the page again at each change
    GET  /{slug}/account                settings, limits, the account's end
    POST /{slug}/account/deletion       delete it in a week; …/cancel calls that off
    POST /{slug}/sign_out

Signing in has its own (`sign_in.pages`); who is not signed in is sent there.

Every answer carries a strict content security policy with a fresh nonce; nothing inline runs.
"""

import asyncio
import base64
import contextlib
import hashlib
import logging
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader, StrictUndefined
from jinja2 import Environment as Templates
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from wardgate.model.shown_text import shown_text
from wardgate.portal.http.asgi import App, Message, Receive, Scope, Send
from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.security_headers import page_security, transport_security
from wardgate.portal.installation import account_lifecycle
from wardgate.portal.installation.account_lifecycle import Author, LifecycleError, WrongSlug
from wardgate.portal.installation.tables import Account
from wardgate.portal.schema.rights import Action
from wardgate.portal.services import Services
from wardgate.portal.sign_in.pages import SignInPages, sign_in_of
from wardgate.portal.store import UNAVAILABLE
from wardgate.portal.subjects import subject_of
from wardgate.portal.web import account as account_page
from wardgate.portal.web.account import notice_of
from wardgate.portal.web.overview import load_overview
from wardgate.portal.web.page import Page
from wardgate.portal.web.pages import PAGES
from wardgate.portal.web.sessions import Sessions, SignedIn
from wardgate.supervision import Tasks

log = logging.getLogger(__name__)

KEEPALIVE_S: Final = 15.0
SETTLE_S: Final = 0.1  # changes come in bursts; one message shows them all
MAX_FORM_BYTES: Final = 64 * 1024

_HERE: Final = Path(__file__).parent


def build(services: Services) -> App:
    """Build the pages over one process's services."""
    return _Pages(services).application()


def load_templates() -> Templates:
    return Templates(
        loader=ChoiceLoader(
            [
                FileSystemLoader(_HERE / "templates"),
                PrefixLoader({"sign_in": FileSystemLoader(_HERE.parent / "sign_in" / "templates")}),
            ]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
    )


class _Pages:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = Sessions(services)
        self._assets = {
            path.name: path.read_bytes() for path in (_HERE / "assets").iterdir() if path.is_file()
        }
        self._versions = {
            name: hashlib.sha256(content).hexdigest()[:12] for name, content in self._assets.items()
        }
        self._templates = load_templates()
        self._templates.globals["asset"] = self._asset_path
        self._templates.globals["pages"] = PAGES

    def application(self) -> App:
        starlette = Starlette(
            routes=[
                *SignInPages(self._services, self._sessions, self._page).routes(),
                Route("/assets/{name}", self._asset),
                *(Route(f"/{{slug}}{page.path}", self._shows(page)) for page in PAGES),
                Route("/{slug}/events", self._events),
                Route("/{slug}/account/deletion", self._schedule_deletion, methods=["POST"]),
                Route("/{slug}/account/deletion/cancel", self._cancel_deletion, methods=["POST"]),
                Route("/{slug}/sign_out", self._sign_out, methods=["POST"]),
            ],
            exception_handlers={
                HTTPException: self._error,
                **dict.fromkeys(UNAVAILABLE, self._database_unavailable),
            },
        )
        return _SecureHeaders(starlette, self._services)

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._assets.get(name)
        if content is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        is_current = request.query_params.get("v") == self._versions[name]
        lifetime = "public, max-age=31536000, immutable" if is_current else "no-cache"
        media_type = mimetypes.guess_type(name)[0] or "text/plain"
        return Response(content, media_type=media_type, headers={"cache-control": lifetime})

    def _shows(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler that shows a page to whoever is signed in."""

        async def show(request: Request) -> Response:
            signed_in = await self._sessions.find(request, request.path_params["slug"])
            if signed_in is None:
                return sign_in_of(request)
            return await self._page_of(request, signed_in, page)

        return show

    async def _schedule_deletion(self, request: Request) -> Response:
        signed_in = await self._sessions.find(request, request.path_params["slug"])
        if signed_in is None:
            return sign_in_of(request)
        typed_slug = (await self._form(request, signed_in)).get("slug", "")
        try:
            async with self._services.store.writing(_subject(request, signed_in)) as transaction:
                transaction.on_behalf_of(signed_in.actor).require(Action.UPDATE, "accounts")
                account = await transaction.accounts.load(signed_in.account.id)
                if account is not None:
                    await account_lifecycle.schedule_deletion(
                        transaction,
                        self._services.settings,
                        account,
                        typed_slug=typed_slug,
                        author=Author(signed_in.actor.name),
                    )
        except WrongSlug:
            told = "This is not the account's slug. Nothing has changed."
            return await self._page_of(request, signed_in, account_page.PAGE, error=told)
        except LifecycleError as refused:
            log.info("an account's deletion was refused", extra={"reason": str(refused)})
        return _back_to_account(signed_in)

    async def _cancel_deletion(self, request: Request) -> Response:
        signed_in = await self._sessions.find(request, request.path_params["slug"])
        if signed_in is None:
            return sign_in_of(request)
        await self._form(request, signed_in)
        try:
            async with self._services.store.writing(_subject(request, signed_in)) as transaction:
                transaction.on_behalf_of(signed_in.actor).require(Action.UPDATE, "accounts")
                account = await transaction.accounts.load(signed_in.account.id)
                if account is not None:
                    await account_lifecycle.cancel_deletion(
                        transaction, self._services.settings, account, author=Author(signed_in.actor.name)
                    )
        except LifecycleError as refused:
            log.info("cancelling a deletion was refused", extra={"reason": str(refused)})
        return _back_to_account(signed_in)

    async def _page_of(
        self, request: Request, signed_in: SignedIn, page: Page, *, error: str | None = None
    ) -> Response:
        """Write a page of an account, with what all of them show; `error` is why a form of it was refused."""
        async with self._services.store.reading() as transaction:
            banners = await transaction.banners.load_all()
        return self._page(
            request,
            page.template,
            status=HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY,
            here=page,
            page=await page.load(self._services, signed_in),
            account=signed_in.account,
            actor=signed_in.actor,
            csrf_token=self._sessions.form_token(signed_in),
            banners=banners,
            notice=notice_of(signed_in.account, now=self._services.environment.clock.now()),
            error=error,
        )

    async def _form(self, request: Request, signed_in: SignedIn) -> dict[str, str]:
        """Read a form's texts.

        Raises:
            HTTPException: it was not sent from a page of this session.
        """
        async with request.form(max_files=0, max_fields=10, max_part_size=MAX_FORM_BYTES) as form:
            if not self._sessions.is_form_token(signed_in, form.get("csrf_token")):
                raise HTTPException(HTTPStatus.FORBIDDEN)
            return {name: value for name, value in form.items() if isinstance(value, str)}

    async def _events(self, request: Request) -> Response:
        signed_in = await self._sessions.find(request, request.path_params["slug"])
        if signed_in is None:
            raise HTTPException(HTTPStatus.UNAUTHORIZED)
        return StreamingResponse(
            self._stream(signed_in),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _stream(self, signed_in: SignedIn) -> AsyncIterator[str]:
        """Yield the page's changing part at once and after each change, for as long as the session lives."""
        account = signed_in.account
        async with self._changes(account) as (changed, follower):
            # A page whose stream ends connects again, to one that can follow.
            while not follower.done() and await self._sessions.is_alive(signed_in):
                changed.clear()
                overview = await load_overview(self._services, signed_in)
                yield _event(self._templates.get_template("online.html").render(page=overview))
                while not changed.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(KEEPALIVE_S):
                            await changed.wait()
                            break
                    if not await self._sessions.is_alive(signed_in):
                        return
                    yield ": still here\n\n"
                await self._services.environment.clock.sleep(SETTLE_S)

    @contextlib.asynccontextmanager
    async def _changes(self, account: Account) -> AsyncIterator[tuple[asyncio.Event, "asyncio.Task[object]"]]:
        """Set the event whenever presence, the decision log or the account's feed moved; the future ends if
        the feed cannot be followed.
        """
        changed = asyncio.Event()
        bus = self._services.environment.bus
        topics = (f"presence:{account.id}", "presence:relay", f"decisions:{account.id}")
        with contextlib.ExitStack() as watches:
            for topic in topics:
                watches.callback(bus.watch(topic, changed.set))
            tasks = Tasks()
            try:
                yield changed, tasks.start(self._follow(account, changed), name="page")
            finally:
                await tasks.close()

    async def _follow(self, account: Account, changed: asyncio.Event) -> None:
        feed = self._services.feed
        try:
            async with contextlib.aclosing(
                feed.follow(account.id, await feed.position(account.id))
            ) as batches:
                async for _ in batches:
                    changed.set()
        finally:
            changed.set()

    async def _sign_out(self, request: Request) -> Response:
        signed_in = await self._sessions.find(request, request.path_params["slug"])
        if signed_in is None:
            return sign_in_of(request)
        await self._form(request, signed_in)
        await self._sessions.close(signed_in)
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        self._sessions.clear_cookie(response, signed_in.account)
        return response

    async def _error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        if status == HTTPStatus.NO_CONTENT:
            return Response(status_code=status)
        text = _ERRORS.get(status, "The request could not be processed.")
        response = self._message(request, status, status.phrase, text)
        response.headers.update(error.headers or {})
        return response

    async def _database_unavailable(self, _request: Request, _error: Exception) -> Response:
        """Answer without a page, which may need the database itself."""
        text = "The database does not answer at the moment. Try again in a few seconds."
        headers = {"retry-after": "5"}
        return PlainTextResponse(text, HTTPStatus.SERVICE_UNAVAILABLE, headers)

    def _message(self, request: Request, status: HTTPStatus, heading: str, text: str) -> Response:
        return self._page(request, "message.html", status=status, heading=heading, text=text)

    def _page(
        self, request: Request, template: str, *, status: HTTPStatus = HTTPStatus.OK, **values: Any
    ) -> Response:
        nonce = request.scope["wardgate.nonce"]
        return HTMLResponse(
            self._templates.get_template(template).render(nonce=nonce, **values),
            status,
            headers={"cache-control": "no-store"},
        )

    def _asset_path(self, name: str) -> str:
        return f"/assets/{name}?v={self._versions[name]}"


def _subject(request: Request, signed_in: SignedIn) -> dict[str, Any]:
    return subject_of(signed_in.actor, origin_of(request.scope))


def _back_to_account(signed_in: SignedIn) -> Response:
    """Show the account's page as it stands now; reloading it sends no form again."""
    return RedirectResponse(f"/{signed_in.account.slug}/account", HTTPStatus.SEE_OTHER)


_ERRORS: Final = {
    HTTPStatus.NOT_FOUND: "There is nothing here.",
    HTTPStatus.FORBIDDEN: "The form was not sent from this session. Go back, reload the page and try again.",
    HTTPStatus.UNAUTHORIZED: "You are not signed in.",
    HTTPStatus.TOO_MANY_REQUESTS: "There were too many attempts from your address. Wait a little, then try again.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The method is not allowed here.",
}


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


def _finalized(value: object) -> object:
    """Show what does not print as an escape, but for line breaks, which HTML takes as spaces.

    Markup of our own stays as it is.
    """
    return "\n".join(map(shown_text, value.split("\n"))) if type(value) is str else value


def _event(text: str) -> str:
    """Write one unnamed server-sent event; the page's element is filled with its data."""
    return "".join(f"data: {line}\n" for line in text.splitlines() if line.strip()) + "\n"
