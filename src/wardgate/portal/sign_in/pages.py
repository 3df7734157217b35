"""The pages around the methods of signing in (identity §2): choosing an account, choosing a method, and where sign-ins
end.

    GET       /                                   where to go
    GET       /getting_started                    what this is, for who has no account here yet
    GET, POST /sign_in                            which account?
    GET       /{slug}?as=…                        where clients begin
    GET       /{slug}/sign_in                     by which method? A client goes to the default provider at once
    GET       /{slug}/sign_in/client_redirect     on to the client, by its own URL scheme
    GET       /{slug}/sign_in/client_auth_error
    GET       /{slug}/sign_in/client_account_disabled
    GET       /{slug}/sign_in/link/{secret}       the one-time link of `wardgate sign-in-link`
    POST      /{slug}/sign_out
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from wardgate.portal import credentials
from wardgate.portal.services import Services
from wardgate.portal.sign_in.email_code import EmailCode
from wardgate.portal.sign_in.failures import Failure, failure_of
from wardgate.portal.sign_in.find_account import FindAccount
from wardgate.portal.sign_in.flow import Flow, MalformedFlow
from wardgate.portal.sign_in.lookup import default_provider, find_account, usable_providers
from wardgate.portal.sign_in.oidc.pages import OidcPages
from wardgate.portal.sign_in.outcome import Render, SignIns
from wardgate.portal.sign_in.password import Password
from wardgate.portal.sign_in.second_factor.pages import SecondFactorPages
from wardgate.portal.sign_in.sign_up import SignUp
from wardgate.portal.sign_in.steps import Step, Steps
from wardgate.portal.sign_in.typed_address import TypedAddress
from wardgate.portal.web.sessions import Sessions
from wardgate.wire.tokens import InvalidToken

SIGN_IN_COMMAND: Final = "wardgate sign-in-link"

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_-]{3,100}")
_CLIENTS: Final = frozenset({"client", "gui-client", "headless-client"})


class SignInPages:
    """All that a browser without a session is served."""

    def __init__(self, services: Services, sessions: Sessions, render: Render) -> None:
        self._services = services
        self._sessions = sessions
        self._render = render
        self._sign_ins = SignIns(services, sessions, render)
        self._steps = Steps(services, sessions, render)
        self._typed = TypedAddress(services)

    def routes(self) -> Sequence[BaseRoute]:
        steps = self._steps
        return (
            Route("/", self._home),
            Route("/getting_started", self._getting_started),
            Route("/sign_in", self._ask_for_account, methods=["GET"]),
            Route("/sign_in", self._choose_account, methods=["POST"]),
            _ClientStart("/{slug}", self._begin_client),
            steps.get("/sign_in", self._ask_for_method),
            steps.end("/sign_in/client_redirect", self._hand_off),
            steps.end("/sign_in/client_auth_error", self._tell_client_error),
            steps.end("/sign_in/client_account_disabled", self._tell_account_disabled),
            Route("/{slug}/sign_in/link/{secret}", self._redeem_link, methods=["GET"]),
            *FindAccount(self._services, steps).routes(),
            *SignUp(self._services, steps, self._sign_ins).routes(),
            *EmailCode(self._services, steps, self._sign_ins).routes(),
            *OidcPages(self._services, steps, self._sign_ins, self._render).routes(),
            *Password(self._services, steps, self._sign_ins).routes(),
            *SecondFactorPages(self._services, steps, self._sign_ins).routes(),
        )

    async def _home(self, request: Request) -> Response:
        flow = _flow_of(request)
        if flow is None:
            return self._steps.malformed(request)
        is_known = flow.context.is_client or self._sign_ins.recent_account_ids(request)
        return RedirectResponse(
            flow.url("/sign_in" if is_known else "/getting_started"), HTTPStatus.SEE_OTHER
        )

    async def _getting_started(self, request: Request) -> Response:
        return self._steps.show(
            request,
            "sign_in/getting_started.html",
            command=SIGN_IN_COMMAND,
            sign_up=self._services.settings.sign_up,
        )

    async def _ask_for_account(self, request: Request) -> Response:
        flow = _flow_of(request)
        if flow is None:
            return self._steps.malformed(request)
        return await self._show_accounts(request, flow)

    async def _choose_account(self, request: Request) -> Response:
        flow = _flow_of(request)
        if flow is None:
            return self._steps.malformed(request)
        chosen = (await self._steps.form(request)).get("account_id_or_slug", "").strip()
        if not _ACCOUNT.fullmatch(chosen):
            return await self._show_accounts(
                request, flow, chosen, "An account is named by letters, digits, - and _."
            )
        async with self._services.store.reading() as transaction:
            account = await find_account(transaction, chosen)
        if account is None:
            return await self._show_accounts(request, flow, chosen, "There is no account of this name.")
        return RedirectResponse(flow.url(f"/{chosen.lower()}/sign_in"), HTTPStatus.SEE_OTHER)

    async def _show_accounts(
        self, request: Request, flow: Flow, chosen: str = "", error: str | None = None
    ) -> Response:
        ids = self._sign_ins.recent_account_ids(request)
        async with self._services.store.reading() as transaction:
            accounts = transaction.accounts
            found = {one.id: one for one in await accounts.load_all(accounts.c.id.in_(ids))} if ids else {}
        return self._steps.show(
            request,
            "sign_in/account.html",
            status=HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY,
            flow=flow,
            # A client is of somebody who has an account.
            sign_up=self._services.settings.sign_up and not flow.context.is_client,
            recent=[found[id_] for id_ in ids if id_ in found],
            chosen=chosen,
            error=error,
        )

    async def _begin_client(self, request: Request) -> Response:
        flow, slug = _flow_of(request), request.path_params["slug"]
        if flow is None:
            return self._steps.malformed(request)
        if not _ACCOUNT.fullmatch(slug):
            return RedirectResponse(flow.url("/sign_in"), HTTPStatus.SEE_OTHER)
        return RedirectResponse(flow.url(f"/{slug}/sign_in"), HTTPStatus.SEE_OTHER)

    async def _ask_for_method(self, step: Step) -> Response:
        async with self._services.store.reading() as transaction:
            providers = await usable_providers(transaction.of(step.account.id), step.flow.context)
        failure = failure_of(step.request.query_params.get("error"))
        default = default_provider(providers) if step.flow.context.is_client else None
        # After a failure a person shall read why, and may choose another method.
        if default is not None and failure is None:
            return step.go(f"/sign_in/{default.type}/{default.id}")
        typed = self._typed.read(step.request, step.account.id)
        response = self._steps.show_step(
            step,
            "sign_in/methods.html",
            providers=providers,
            failure=failure,
            command=SIGN_IN_COMMAND,
            typed=typed,
        )
        if typed:
            self._typed.clear(response, step.account.id)
        return response

    async def _hand_off(self, step: Step) -> Response:
        handed_off = await self._sign_ins.hand_off(step.request, step.account)
        return handed_off or step.go("/sign_in/client_auth_error", error=Failure.TIMED_OUT.value)

    async def _tell_client_error(self, step: Step) -> Response:
        failure = failure_of(step.request.query_params.get("error")) or Failure.TIMED_OUT
        retry = step.url("/sign_in") if step.flow.context.is_client else None
        return self._render(
            step.request, "sign_in/failed.html", status=HTTPStatus.FORBIDDEN, failure=failure, retry=retry
        )

    async def _tell_account_disabled(self, step: Step) -> Response:
        return self._render(
            step.request,
            "sign_in/account_disabled.html",
            status=HTTPStatus.FORBIDDEN,
            account=step.account,
        )

    async def _redeem_link(self, request: Request) -> Response:
        if request.method != "GET" or "prefetch" in request.headers.get("sec-purpose", ""):
            raise HTTPException(HTTPStatus.NO_CONTENT)
        try:
            async with self._services.store.writing() as transaction:
                account, actor = await credentials.redeem_sign_in_link(
                    request.path_params["secret"], transaction=transaction, keys=self._services.keys
                )
                if account.slug.lower() != request.path_params["slug"].lower():
                    raise InvalidToken("invalid link")
                session = await self._sessions.open(request, account, actor, transaction)
        except InvalidToken:
            return self._render(
                request,
                "sign_in/link_used.html",
                status=HTTPStatus.UNAUTHORIZED,
                command=SIGN_IN_COMMAND,
            )
        response = RedirectResponse(f"/{account.slug}", HTTPStatus.SEE_OTHER)
        self._sessions.set_cookie(response, session)
        self._sign_ins.remember(request, response, account)
        return response


class _ClientStart(Route):
    """The address at which clients begin is that of the account's first page; the query tells them apart."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1")) if scope["type"] == "http" else {}
        if query.get("as", [""])[-1] not in _CLIENTS:
            return Match.NONE, {}
        return super().matches(scope)


def sign_in_of(request: Request) -> Response:
    """Send a browser that has no session to the sign-in of the account that its path names, and back here
    afterwards.

    Raises:
        HTTPException: the path names no account.
    """
    slug = request.path_params["slug"]
    if not _ACCOUNT.fullmatch(slug):
        raise HTTPException(HTTPStatus.NOT_FOUND)
    query = f"?{request.url.query}" if request.url.query else ""
    wanted = f"{request.url.path}{query}" if request.method == "GET" else ""
    flow = Flow.parse({"redirect_to": wanted})
    return RedirectResponse(flow.url(f"/{slug}/sign_in"), HTTPStatus.SEE_OTHER)


def _flow_of(request: Request) -> Flow | None:
    try:
        return Flow.parse(request.query_params)
    except MalformedFlow:
        return None
