"""How every sign-in ends, by whatever method (identity §8): `SignIns.finish` once somebody has proved who they are,
`SignIns.fail` otherwise. Between them and what follows may stand a second factor (`second_factor`).

    portal    a session, its cookie, and on to where the person wanted to be
    GUI       a token bound to the client's nonce; a page that leads on to `client_redirect`, which hands the fragment
              to the client by its own URL scheme (control-plane-protocol §2.7)
    headless  a token, shown once for copying (§2.8)

The page between exists because browsers differ in how they treat a redirect to a foreign scheme, and because the
answer to a form may not leave the portal (`form-action`).
"""

from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wardgate.portal.credentials import Issued, issue
from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.sign_in.admission import AccountDisabled, Admitted, NotAdmitted, admit
from wardgate.portal.sign_in.failures import Failure
from wardgate.portal.sign_in.flow import Context, Flow
from wardgate.portal.sign_in.lookup import as_id, find_provider
from wardgate.portal.sign_in.oidc.failures import OidcFailure
from wardgate.portal.sign_in.second_factor import rules as second_factors
from wardgate.portal.sign_in.second_factor.cookie import PATH as SECOND_FACTOR_PATH
from wardgate.portal.sign_in.second_factor.cookie import AttemptCookie
from wardgate.portal.sign_in.start_pages import start_page_of
from wardgate.portal.sign_in.tables import AuthProviderDetails, ClientToken
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.subjects import subject_of
from wardgate.portal.web.sessions import Sessions

CLIENT_LIFETIME: Final = timedelta(seconds=604_800)  # identity §8: unless the provider says otherwise
HAND_OFF_LIFETIME: Final = timedelta(minutes=2)  # identity §9
CLIENT_CALLBACK: Final = (
    "firezone-fd0020211111://handle_client_sign_in_callback"  # control-plane-protocol §2.7
)
MOST_RECENT_ACCOUNTS: Final = 10
_REMEMBERED: Final = timedelta(days=400)


class Render(Protocol):
    """Writes a page: a template, and what it is filled with."""

    def __call__(
        self, request: Request, template: str, *, status: HTTPStatus = HTTPStatus.OK, **values: Any
    ) -> Response: ...


@dataclass(frozen=True, slots=True)
class HandOff:
    """What a GUI client is about to be told."""

    account_id: UUID
    actor_id: UUID
    fragment: str
    state: str


class SignIns:
    """Ends sign-ins of one portal."""

    def __init__(self, services: Services, sessions: Sessions, render: Render) -> None:
        self._services = services
        self._sessions = sessions
        self._render = render
        is_secure = services.settings.is_secure
        self._hand_off = SignedCookie(services.keys.cookies, "client_auth", is_secure=is_secure)
        self._attempt = AttemptCookie(services)
        self._recent = SignedCookie(services.keys.cookies, "recent_accounts", is_secure=is_secure)

    async def finish(
        self, request: Request, flow: Flow, account: Account, actor: Actor, provider: AuthProviderDetails
    ) -> Response:
        """Sign in an actor who has proved with this provider who they are, or ask for the second factor."""
        if provider.type not in second_factors.WITHOUT_PROVIDER:
            return await self.complete(request, flow, account, actor, provider)
        subject = subject_of(actor, origin_of(request.scope))
        async with self._services.store.writing(subject) as transaction:
            tables = transaction.of(account.id)
            decision = await self._decide(tables, flow, actor, provider)
            if not isinstance(decision, Admitted) or not await second_factors.is_asked(
                tables, decision.account, decision.actor, decision.provider
            ):
                attempt = None
            else:
                attempt = await second_factors.begin_attempt(
                    tables, decision.actor, "sign_in", keys=self._services.keys, provider=decision.provider
                )
        if attempt is None:
            return await self.complete(request, flow, account, actor, provider)
        response = _redirect(flow.url(f"/{account.slug}{SECOND_FACTOR_PATH}"))
        self._attempt.set(response, attempt, now=self._services.environment.clock.now())
        return response

    async def complete(
        self, request: Request, flow: Flow, account: Account, actor: Actor, provider: AuthProviderDetails
    ) -> Response:
        """Sign in an actor who has proved all that is asked for.

        All three are read again: what was true when the sign-in began may have changed since.
        """
        subject = {**subject_of(actor, origin_of(request.scope)), "auth_provider_id": str(provider.id)}
        async with self._services.store.writing(subject) as transaction:
            decision = await self._decide(transaction.of(account.id), flow, actor, provider)
            match decision:
                case Admitted():
                    response = await self._sign_in(request, flow, decision, transaction)
                case NotAdmitted(failure):
                    return self.fail(flow, account, failure)
                case AccountDisabled():
                    return _redirect(flow.url(f"/{account.slug}/sign_in/client_account_disabled"))
        self.remember(request, response, account)
        return response

    def fail(self, flow: Flow, account: Account, failure: Failure | OidcFailure) -> Response:
        """Say why somebody is not signed in: on a page of its own if a client waits, else where the methods are."""
        page = "sign_in/client_auth_error" if flow.context.is_client else "sign_in"
        return _redirect(flow.url(f"/{account.slug}/{page}", error=failure.value))

    async def hand_off(self, request: Request, account: Account) -> Response | None:
        """Redirect the browser to the client; None if this browser has no sign-in that was just completed here."""
        now = self._services.environment.clock.now()
        hand_off = _hand_off_of(self._hand_off.read(request, now=now))
        if hand_off is None or hand_off.account_id != account.id:
            return None
        async with self._services.store.reading() as transaction:
            actor = await transaction.of(account.id).actors.load(hand_off.actor_id)
        if actor is None:
            return None
        query = urlencode(
            {
                "account_name": account.name,
                "account_slug": account.slug,
                "actor_name": actor.name,
                "fragment": hand_off.fragment,
                "identity_provider_identifier": actor.email or "",
                "state": hand_off.state,
            }
        )
        # As `location` itself: the framework's own redirect would rewrite what stands in the query.
        return Response(status_code=HTTPStatus.FOUND, headers={"location": f"{CLIENT_CALLBACK}?{query}"})

    def recent_account_ids(self, request: Request) -> list[UUID]:
        """Return the accounts to which this browser signed in, the latest first."""
        now = self._services.environment.clock.now()
        value = self._recent.read(request, now=now)
        ids = (as_id(one) for one in value if isinstance(one, str)) if isinstance(value, list) else ()
        return [id_ for id_ in ids if id_ is not None]

    async def _decide(
        self, tables: AccountTables, flow: Flow, actor: Actor, provider: AuthProviderDetails
    ) -> Admitted | NotAdmitted | AccountDisabled:
        return await admit(
            tables,
            flow.context,
            await tables.actors.load(actor.id),
            await find_provider(tables, provider.id),
        )

    async def _sign_in(
        self, request: Request, flow: Flow, admitted: Admitted, transaction: Transaction
    ) -> Response:
        account, actor, provider = admitted.account, admitted.actor, admitted.provider
        if flow.context is Context.PORTAL:
            session = await self._sessions.open(request, account, actor, transaction, provider=provider)
            response: Response = _redirect(
                flow.destination(account.id, account.slug, start_page=start_page_of(actor))
            )
            self._sessions.set_cookie(response, session)
            return response
        token = await issue(
            transaction.of(account.id).client_tokens,
            transaction=transaction,
            keys=self._services.keys,
            nonce=flow.nonce or "",
            account_id=account.id,
            actor_id=actor.id,
            auth_provider_id=provider.id,
            expires_at=transaction.now + client_lifetime_of(provider),
        )
        return self._handed_off(request, flow, account, actor, token)

    def _handed_off(
        self, request: Request, flow: Flow, account: Account, actor: Actor, token: Issued[ClientToken]
    ) -> Response:
        if flow.context is Context.HEADLESS_CLIENT:
            return self._render(
                request,
                "sign_in/headless_token.html",
                account=account,
                actor=actor,
                token=token.text,
                expires_at=token.row.expires_at,
            )
        response = self._render(request, "sign_in/client_redirect.html", account=account, actor=actor)
        now = self._services.environment.clock.now()
        value = [account.id.hex, actor.id.hex, token.text, flow.state]
        self._hand_off.set(response, value, lifetime=HAND_OFF_LIFETIME, now=now)
        return response

    def remember(self, request: Request, response: Response, account: Account) -> None:
        others = [one for one in self.recent_account_ids(request) if one != account.id]
        ids = [account.id, *others][:MOST_RECENT_ACCOUNTS]
        now = self._services.environment.clock.now()
        self._recent.set(response, [one.hex for one in ids], lifetime=_REMEMBERED, now=now)


def client_lifetime_of(provider: AuthProviderDetails) -> timedelta:
    """Return how long a client's token by this provider lives (identity §8)."""
    seconds = provider.client_session_lifetime_secs
    return CLIENT_LIFETIME if seconds is None else timedelta(seconds=seconds)


def _hand_off_of(value: Any) -> HandOff | None:
    match value:
        case [str(account), str(actor), str(fragment), str(state)]:
            account_id, actor_id = as_id(account), as_id(actor)
            if account_id is not None and actor_id is not None:
                return HandOff(account_id, actor_id, fragment, state)
    return None


def _redirect(url: str) -> RedirectResponse:
    return RedirectResponse(url, HTTPStatus.SEE_OTHER)
