"""What a browser keeps of a sign-in that waits for its second factor: the id of the attempt, signed."""

from datetime import datetime
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.services import Services
from wardgate.portal.sign_in.lookup import as_id
from wardgate.portal.sign_in.second_factor.rules import LIFETIME
from wardgate.portal.sign_in.tables import SecondFactorAttempt

PATH: Final = "/sign_in/second_factor"
"""Where the sign-in goes on, behind the account's slug."""


class AttemptCookie:
    """Which attempt a browser has under way, of an account."""

    def __init__(self, services: Services) -> None:
        is_secure = services.settings.is_secure
        self._cookie = SignedCookie(services.keys.cookies, "second_factor", is_secure=is_secure)

    def set(self, response: Response, attempt: SecondFactorAttempt, *, now: datetime) -> None:
        self._cookie.set(response, attempt.id.hex, lifetime=LIFETIME, now=now, of=attempt.account_id)

    def read(self, request: Request, account_id: UUID, *, now: datetime) -> UUID | None:
        value = self._cookie.read(request, now=now, of=account_id)
        return as_id(value) if isinstance(value, str) else None

    def clear(self, response: Response, account_id: UUID) -> None:
        self._cookie.clear(response, of=account_id)
