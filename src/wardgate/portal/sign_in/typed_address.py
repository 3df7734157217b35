"""The address that was typed with a wrong password, for the form that is shown again. It stays in the browser, in a
cookie that the next page with the form takes, so that no link can put an address there.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.services import Services

MAX_CHARS: Final = 160
_LIFETIME: Final = timedelta(minutes=15)


class TypedAddress:
    """Keeps one address for each account."""

    def __init__(self, services: Services) -> None:
        self._cookie = SignedCookie(
            services.keys.cookies, "typed_address", is_secure=services.settings.is_secure
        )
        self._clock = services.environment.clock

    def keep(self, response: Response, account_id: UUID, typed: str) -> None:
        value = typed.strip()[:MAX_CHARS]
        self._cookie.set(response, value, lifetime=_LIFETIME, now=self._clock.now(), of=account_id)

    def read(self, request: Request, account_id: UUID) -> str:
        value = self._cookie.read(request, now=self._clock.now(), of=account_id)
        return value if isinstance(value, str) else ""

    def clear(self, response: Response, account_id: UUID) -> None:
        self._cookie.clear(response, of=account_id)
