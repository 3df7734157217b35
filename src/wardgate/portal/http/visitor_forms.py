"""Forms of browsers that have no session: a random id in a signed cookie, and a token in each form that only this
portal can have made of it.

`Origin` would not do: our pages send no referrer, so browsers write `Origin: null` with their forms. `Sec-Fetch-Site`
alone would not do either: browsers leave it out where a portal is reached over plain HTTP. Where it is sent, it is
looked at as well, for a neighbouring host may set cookies for ours.
"""

import hmac
import random
from datetime import datetime, timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.signed_cookie import SignedCookie

LIFETIME: Final = timedelta(hours=8)
_ID_BYTES: Final = 16


class VisitorForms:
    """Makes and checks the tokens.

    Args:
        key: of the tokens.
        cookie_key: of the cookie.
    """

    def __init__(self, key: bytes, cookie_key: bytes, *, rng: random.Random, is_secure: bool) -> None:
        self._key = key
        self._rng = rng
        self._cookie = SignedCookie(cookie_key, "visitor", is_secure=is_secure)

    def visitor(self, request: Request, *, now: datetime) -> str:
        """Return the browser's id, a new one if it has none."""
        return self._known(request, now) or self._rng.randbytes(_ID_BYTES).hex()

    def token(self, visitor: str) -> str:
        """Return what a form of this browser must send back."""
        return hmac.digest(self._key, f"visitor {visitor}".encode(), "sha256").hex()

    def remember(self, response: Response, visitor: str, *, now: datetime) -> None:
        self._cookie.set(response, visitor, lifetime=LIFETIME, now=now)

    def is_own(self, request: Request, token: object, *, now: datetime) -> bool:
        """Tell whether a form came from a page that this browser had from us."""
        visitor = self._known(request, now)
        if visitor is None or not isinstance(token, str):
            return False
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        return hmac.compare_digest(token.encode(errors="replace"), self.token(visitor).encode())

    def _known(self, request: Request, now: datetime) -> str | None:
        value = self._cookie.read(request, now=now)
        return value if isinstance(value, str) else None
