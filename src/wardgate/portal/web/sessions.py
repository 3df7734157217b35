"""Signed-in browsers: a row in the store, its id in a signed cookie per account, and form tokens bound to it."""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.installation.tables import Account
from wardgate.portal.logs.streams import Logs
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.sign_in.lookup import as_id, find_account, find_provider
from wardgate.portal.sign_in.tables import AuthProviderDetails, PortalSession
from wardgate.portal.store import Transaction
from wardgate.portal.subjects import subject_of

LIFETIME: Final = timedelta(seconds=28_800)  # identity §8: unless the provider says otherwise
MAX_USER_AGENT_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A live session, with whose it is."""

    account: Account
    actor: Actor
    session_id: UUID

    @property
    def is_admin(self) -> bool:
        return self.actor.type == "account_admin_user"


class Sessions:
    """Opens, finds and ends sessions of one portal."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._clock = services.environment.clock
        # A cookie for each account: a browser may be signed in to several.
        self._cookie = SignedCookie(services.keys.cookies, "sess", is_secure=services.settings.is_secure)

    async def open(
        self,
        request: Request,
        account: Account,
        actor: Actor,
        transaction: Transaction,
        *,
        provider: AuthProviderDetails | None = None,
    ) -> PortalSession:
        """Insert a session of this browser in place of the one that it had, and log the sign-in with it
        (portal-domain §10.3).

        Args:
            provider: by which somebody signed in; it decides how long the session lives, and takes the session with
                it when it is disabled or deleted. None for a one-time link.
        """
        origin = origin_of(request.scope)
        tables = transaction.of(account.id)
        former_id = self._session_id(request, account)
        if former_id is not None:
            await tables.portal_sessions.delete(former_id)
        provider_id = None if provider is None else provider.id
        subject = {
            **subject_of(actor, origin),
            "auth_provider_id": None if provider_id is None else str(provider_id),
        }
        await Logs(transaction, account.id).append_session("portal", subject)
        return await tables.portal_sessions.insert(
            PortalSession(
                id=transaction.new_id(),
                account_id=account.id,
                actor_id=actor.id,
                auth_provider_id=provider_id,
                user_agent=origin.user_agent[:MAX_USER_AGENT_CHARS],
                remote_ip=str(origin.remote_ip),
                remote_ip_location_region=origin.region,
                remote_ip_location_city=origin.city,
                remote_ip_location_lat=origin.lat,
                remote_ip_location_lon=origin.lon,
                expires_at=transaction.now + lifetime_of(provider),
            )
        )

    def set_cookie(self, response: Response, session: PortalSession) -> None:
        now = self._clock.now()
        self._cookie.set(
            response, session.id.hex, lifetime=session.expires_at - now, now=now, of=session.account_id
        )

    def clear_cookie(self, response: Response, account: Account) -> None:
        self._cookie.clear(response, of=account.id)

    async def find(self, request: Request, slug: str) -> SignedIn | None:
        """Return the session that the request's cookie names in the account of this slug or id, if it is alive."""
        async with self._services.store.reading() as transaction:
            account = await find_account(transaction, slug)
            session_id = None if account is None else self._session_id(request, account)
            if account is None or session_id is None:
                return None
            return await self._alive(transaction, account, session_id)

    async def is_alive(self, signed_in: SignedIn) -> bool:
        """Tell whether a session still stands and is an administrator's; a long answer asks again and again."""
        async with self._services.store.reading() as transaction:
            account = await transaction.accounts.load(signed_in.account.id)
            if account is None:
                return False
            now = await self._alive(transaction, account, signed_in.session_id)
            return now is not None and now.is_admin

    async def close(self, signed_in: SignedIn) -> None:
        async with self._services.store.writing() as transaction:
            await transaction.on_behalf_of(signed_in.actor).portal_sessions.delete(signed_in.session_id)

    def form_token(self, signed_in: SignedIn) -> str:
        """Return what every form of this session must send back."""
        return hmac.digest(self._services.keys.forms, signed_in.session_id.bytes, "sha256").hex()

    async def _alive(self, transaction: Transaction, account: Account, session_id: UUID) -> SignedIn | None:
        tables = transaction.of(account.id)
        session = await tables.portal_sessions.load(session_id)
        if session is None or session.expires_at <= transaction.now:
            return None
        if session.auth_provider_id is not None:
            provider = await find_provider(tables, session.auth_provider_id)
            if provider is None or provider.is_disabled:
                return None
        actor = await tables.actors.load(session.actor_id)
        if actor is None or actor.is_disabled:
            return None
        return SignedIn(account, actor, session_id)

    def _session_id(self, request: Request, account: Account) -> UUID | None:
        value = self._cookie.read(request, now=self._clock.now(), of=account.id)
        return as_id(value) if isinstance(value, str) else None


def lifetime_of(provider: AuthProviderDetails | None) -> timedelta:
    """Return how long a session by this provider lives (identity §8)."""
    seconds = None if provider is None else provider.portal_session_lifetime_secs
    return LIFETIME if seconds is None else timedelta(seconds=seconds)
