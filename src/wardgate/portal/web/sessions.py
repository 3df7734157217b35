"""Signed-in browsers: a row in the store, its id in a signed cookie per account, and form tokens bound to it."""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.session_cookie import SessionCookie
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.sign_in.tables import PortalSession
from wardgate.portal.store import Transaction
from wardgate.portal.store.logs import Logs
from wardgate.portal.subjects import subject_of

LIFETIME: Final = timedelta(seconds=28_800)  # identity §7: the default of a portal session
MAX_USER_AGENT_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A live session, with whose it is."""

    account: Account
    actor: Actor
    session_id: UUID


class Sessions:
    """Opens, finds and ends sessions of one portal."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._cookie = SessionCookie(services.keys.sessions, is_secure=services.settings.is_secure)

    async def open(
        self, request: Request, account: Account, actor: Actor, transaction: Transaction
    ) -> PortalSession:
        """Insert a session of this browser, and log the sign-in with it (portal-domain §10.3)."""
        origin = origin_of(request.scope)
        await Logs(transaction, account.id).append_session("portal", subject_of(actor, origin))
        return await transaction.of(account.id).portal_sessions.insert(
            PortalSession(
                id=transaction.new_id(),
                account_id=account.id,
                actor_id=actor.id,
                user_agent=origin.user_agent[:MAX_USER_AGENT_CHARS],
                remote_ip=str(origin.remote_ip),
                remote_ip_location_region=origin.region,
                remote_ip_location_city=origin.city,
                remote_ip_location_lat=origin.lat,
                remote_ip_location_lon=origin.lon,
                expires_at=transaction.now + LIFETIME,
            )
        )

    def set_cookie(self, response: Response, session: PortalSession) -> None:
        self._cookie.set(response, session.account_id, session.id, lifetime=LIFETIME)

    def clear_cookie(self, response: Response, account: Account) -> None:
        self._cookie.clear(response, account.id)

    async def find(self, request: Request, slug: str) -> SignedIn | None:
        """Return the session that the request's cookie names in the account of this slug, if it is alive."""
        async with self._services.store.reading() as transaction:
            account = await transaction.accounts.by_slug(slug)
            session_id = None if account is None else self._cookie.session_id(request, account.id)
            if account is None or session_id is None:
                return None
            return await self._alive(transaction, account, session_id)

    async def is_alive(self, signed_in: SignedIn) -> bool:
        """Tell whether a session still stands; a long answer asks again and again."""
        async with self._services.store.reading() as transaction:
            account = await transaction.accounts.load(signed_in.account.id)
            return (
                account is not None
                and await self._alive(transaction, account, signed_in.session_id) is not None
            )

    async def close(self, signed_in: SignedIn) -> None:
        async with self._services.store.writing() as transaction:
            await transaction.on_behalf_of(signed_in.actor).portal_sessions.delete(signed_in.session_id)

    def form_token(self, signed_in: SignedIn) -> str:
        """Return what every form of this session must send back."""
        return hmac.digest(self._services.keys.forms, signed_in.session_id.bytes, "sha256").hex()

    def is_form_token(self, signed_in: SignedIn, token: object) -> bool:
        return isinstance(token, str) and hmac.compare_digest(
            token.encode(errors="replace"), self.form_token(signed_in).encode()
        )

    async def _alive(self, transaction: Transaction, account: Account, session_id: UUID) -> SignedIn | None:
        tables = transaction.of(account.id)
        session = await tables.portal_sessions.load(session_id)
        if session is None or session.expires_at <= transaction.now:
            return None
        actor = await tables.actors.load(session.actor_id)
        if actor is None or actor.is_disabled or actor.type != "account_admin_user":
            return None
        return SignedIn(account, actor, session_id)
