"""Cookies whose values this portal has signed: scripts cannot read them, other sites' forms are not sent with them, and
browsers send them over HTTPS only where the portal is reached over HTTPS.

A value names its cookie and its end, both under the signature: it is worth nothing under another name, and after
its end, whatever the browser keeps.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

from itsdangerous import BadSignature, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

_SIGNER: Final = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}


class SignedCookie:
    """Sets, reads and clears one cookie, or one for each account.

    Args:
        key: signs the values.
        kind: the cookie's name; with `of` in the methods, the name's beginning.
        path: below which browsers send it.
    """

    def __init__(self, key: bytes, kind: str, *, is_secure: bool, path: str = "/") -> None:
        self._key = key
        self._kind = kind
        self._path = path
        self._is_secure = is_secure

    def set(
        self, response: Response, value: Any, *, lifetime: timedelta, now: datetime, of: object = None
    ) -> None:
        """Store a value of JSON's types in the browser."""
        ends_at = int((now + lifetime).timestamp())
        name = self._name(of)
        response.set_cookie(
            name,
            self._signer(name).dumps([ends_at, value]),
            max_age=int(lifetime.total_seconds()),
            path=self._path,
            httponly=True,
            samesite="lax",
            secure=self._is_secure,
        )

    def read(self, request: Request, *, now: datetime, of: object = None) -> Any:
        """Return the value; None if there is no cookie that we signed, or it has ended."""
        name = self._name(of)
        try:
            ends_at, value = self._signer(name).loads(request.cookies.get(name, ""))
        except (BadSignature, ValueError, TypeError):
            return None
        return value if isinstance(ends_at, int) and now.timestamp() < ends_at else None

    def clear(self, response: Response, *, of: object = None) -> None:
        response.delete_cookie(
            self._name(of), path=self._path, httponly=True, samesite="lax", secure=self._is_secure
        )

    def _name(self, of: object) -> str:
        return self._kind if of is None else f"{self._kind}_{of}"

    def _signer(self, name: str) -> URLSafeSerializer:
        return URLSafeSerializer(self._key, salt=f"cookie {name}", signer_kwargs=_SIGNER)
