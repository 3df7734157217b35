"""`/openapi.json` and the pages at `/swaggerui`, which let one read and try the API without any other
host."""

import functools
import hashlib
import json
from collections.abc import Callable
from importlib import resources
from typing import Any, Final

from wardgate.portal.http.asgi import App, Receive, Scope, Send
from wardgate.portal.http.headers import raw_headers

_SEGMENTS: Final = frozenset({"openapi.json", "openapi", "swaggerui"})
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_FILES: Final = {
    "/swaggerui": ("index.html", "text/html; charset=utf-8"),
    "/swaggerui/start.js": ("start.js", "text/javascript; charset=utf-8"),
    "/swaggerui/swagger-ui-bundle.js": ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "/swaggerui/swagger-ui.css": ("swagger-ui.css", "text/css; charset=utf-8"),
}
_FOLDER: Final = resources.files("wardgate.portal.rest") / "swagger_ui"


class Documentation:
    """Serves the documentation, which needs no credentials, and passes everything else on to the API."""

    def __init__(self, api: App, openapi: Callable[[], dict[str, Any]]) -> None:
        self._api = api
        self._openapi = openapi

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/") if scope["type"] == "http" else ""
        if path.removeprefix("/").partition("/")[0] not in _SEGMENTS:
            await self._api(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(scope, send, 405, "text/plain", b"", {"allow": "GET, HEAD"})
        elif path == "/openapi.json":
            await _answer(scope, send, 200, "application/json", self._document())
        elif path == "/openapi":
            await _answer(scope, send, 308, "text/plain", b"", {"location": "/openapi.json"})
        elif path in _FILES:
            name, media_type = _FILES[path]
            await _answer(scope, send, 200, media_type, _content(name))
        else:
            await _answer(scope, send, 404, "text/plain", b"")

    def _document(self) -> bytes:
        return json.dumps(self._openapi(), ensure_ascii=False).encode()


@functools.cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


async def _answer(
    scope: Scope,
    send: Send,
    status: int,
    media_type: str,
    body: bytes,
    more_headers: dict[str, str] | None = None,
) -> None:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    is_known = status == 200 and dict(scope["headers"]).get(b"if-none-match") == tag.encode()
    headers = {
        "content-type": media_type,
        "content-security-policy": CSP,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
        "etag": tag,
        **({} if is_known else {"content-length": str(len(body))}),
        **(more_headers or {}),
    }
    await send(
        {
            "type": "http.response.start",
            "status": 304 if is_known else status,
            "headers": raw_headers(headers),
        }
    )
    sent = b"" if is_known or scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": sent})
