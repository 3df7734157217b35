"""Browsers in which the operator is signed in: rows in the store, their ids in a signed cookie that is sent below
`/operator` only, and form tokens bound to them.

They know no account, as an account's sessions (`sessions`) know no operator: one cookie is never read as the other.
"""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.installation.tables import OperatorSession
from wardgate.portal.services import Services
from wardgate.portal.sign_in.lookup import as_id
from wardgate.portal.store import Transaction

OPERATOR_PATH: Final = "/operator"
LIFETIME: Final = timedelta(hours=1)
"""Ours: short, for the operator can end accounts; nothing prolongs it."""

MAX_USER_AGENT_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class OperatorSignedIn:
    """A live session; `signed_in_with` says by which token or link, for people."""

    session_id: UUID
    signed_in_with: str


class OperatorSessions:
    """Opens, finds and ends the operator's sessions."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._clock = services.environment.clock
        self._cookie = SignedCookie(
            services.keys.cookies, "operator", is_secure=services.settings.is_secure, path=OPERATOR_PATH
        )

    async def open(
        self, request: Request, transaction: Transaction, *, token_id: UUID | None
    ) -> OperatorSession:
        """Insert a session of this browser in place of the one that it had; `token_id` is what it stands and falls
        with, None for a one-time link.
        """
        origin = origin_of(request.scope)
        former_id = self._session_id(request)
        if former_id is not None:
            await transaction.operator_sessions.delete(former_id)
        return await transaction.operator_sessions.insert(
            OperatorSession(
                id=transaction.new_id(),
                token_id=token_id,
                user_agent=origin.user_agent[:MAX_USER_AGENT_CHARS],
                remote_ip=str(origin.remote_ip),
                remote_ip_location_region=origin.region,
                remote_ip_location_city=origin.city,
                expires_at=transaction.now + LIFETIME,
            )
        )

    def set_cookie(self, response: Response, session: OperatorSession) -> None:
        now = self._clock.now()
        self._cookie.set(response, session.id.hex, lifetime=session.expires_at - now, now=now)

    def clear_cookie(self, response: Response) -> None:
        self._cookie.clear(response)

    async def find(self, request: Request) -> OperatorSignedIn | None:
        """Return the session that the request's cookie names, if it is alive."""
        session_id = self._session_id(request)
        if session_id is None:
            return None
        async with self._services.store.reading() as transaction:
            return await self._alive(transaction, session_id)

    async def is_alive(self, signed_in: OperatorSignedIn) -> bool:
        """Tell whether a session still stands; a long answer asks again and again."""
        async with self._services.store.reading() as transaction:
            return await self._alive(transaction, signed_in.session_id) is not None

    def form_token(self, signed_in: OperatorSignedIn) -> str:
        """Return what every form of this session must send back."""
        return hmac.digest(
            self._services.keys.forms, b"operator " + signed_in.session_id.bytes, "sha256"
        ).hex()

    async def _alive(self, transaction: Transaction, session_id: UUID) -> OperatorSignedIn | None:
        session = await transaction.operator_sessions.load(session_id)
        if session is None or session.expires_at <= transaction.now:
            return None
        if session.token_id is None:
            return OperatorSignedIn(session_id, "signed in by a link")
        token = await transaction.operator_tokens.load(session.token_id)
        return None if token is None else OperatorSignedIn(session_id, f"token “{token.name}”")

    def _session_id(self, request: Request) -> UUID | None:
        value = self._cookie.read(request, now=self._clock.now())
        return as_id(value) if isinstance(value, str) else None
