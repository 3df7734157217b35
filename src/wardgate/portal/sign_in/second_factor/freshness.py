"""That a session has just shown its second factor, in a signed cookie: what changes factors asks for it, so that a
browser left alone, or a stolen session, changes none.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.services import Services

LIFETIME: Final = timedelta(minutes=5)


class Freshness:
    """Sets and reads the cookie."""

    def __init__(self, services: Services) -> None:
        is_secure = services.settings.is_secure
        self._cookie = SignedCookie(services.keys.cookies, "confirmed", is_secure=is_secure)

    def set(self, response: Response, session_id: UUID, *, account_id: UUID, now: datetime) -> None:
        self._cookie.set(response, session_id.hex, lifetime=LIFETIME, now=now, of=account_id)

    def is_fresh(self, request: Request, session_id: UUID, *, account_id: UUID, now: datetime) -> bool:
        """Tell whether this very session has shown its second factor within the last five minutes."""
        return bool(self._cookie.read(request, now=now, of=account_id) == session_id.hex)
