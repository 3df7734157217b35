"""The cookie of a signed-in browser: one for each account, with the signed id of a session, whose state is in
the store.
"""

import hashlib
from datetime import timedelta
from typing import Final
from uuid import UUID

from itsdangerous import BadSignature, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

_SIGNER: Final = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}


class SessionCookie:
    """Sets, clears and reads the cookies. Scripts cannot read them and other sites' forms are not sent with
    them.

    Args:
        key: signs the ids.
        is_secure: whether browsers send them over HTTPS only.
    """

    def __init__(self, key: bytes, *, is_secure: bool) -> None:
        self._signer = URLSafeSerializer(key, salt="session", signer_kwargs=_SIGNER)
        self._is_secure = is_secure

    def set(self, response: Response, account_id: UUID, session_id: UUID, *, lifetime: timedelta) -> None:
        response.set_cookie(
            _name(account_id),
            self._signer.dumps(session_id.hex),
            max_age=int(lifetime.total_seconds()),
            httponly=True,
            samesite="lax",
            secure=self._is_secure,
        )

    def clear(self, response: Response, account_id: UUID) -> None:
        response.delete_cookie(_name(account_id), httponly=True, samesite="lax", secure=self._is_secure)

    def session_id(self, request: Request, account_id: UUID) -> UUID | None:
        """Return which session of the account the request names; None if it has no cookie that we signed."""
        try:
            return UUID(hex=self._signer.loads(request.cookies.get(_name(account_id), "")))
        except (BadSignature, ValueError, AttributeError, TypeError):
            return None


def _name(account_id: UUID) -> str:
    return f"sess_{account_id}"
