"""What every request of the API passes first, whoever sends it (rest-api §1, steps 3, 5 and 6).

Each gets an id, its caller's own if that is one, and where REST has a host of its own, whoever comes by
another name is sent there with 308, which keeps method and body. Reports of flows are taken in under every
name: a gateway that has sent one does not send it again.

Deliberately absent is the `_method` of form posts (step 2): forms carry no bearer token, so none gets as far
as a handler.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from wardgate.portal.environment import Environment
from wardgate.portal.http.asgi import App, Message, Receive, Scope, Send
from wardgate.portal.http.headers import headers_of, host_of
from wardgate.portal.http.security_headers import transport_security
from wardgate.portal.services import Services

REQUEST_ID: Final = "wardgate.request_id"

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~+/=-]{20,200}")


class Entrance:
    """The outermost application of the API; `inner` finds the request's id in its scope."""

    def __init__(self, inner: App, services: Services) -> None:
        self._inner = inner
        self._environment = services.environment
        hosts, self._url = services.settings.hosts, services.settings.rest_url
        self._host = None if hosts is None else hosts.rest
        self._hsts = transport_security(is_secure=services.settings.is_secure)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = _request_id(headers_of(scope), self._environment)
        common = [(b"x-request-id", request_id.encode("latin-1")), *self._hsts]

        async def send_with_common(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *common]}
            await send(message)

        if self._host in (None, host_of(scope)) or scope["path"].startswith("/ingestion"):
            await self._inner({**scope, REQUEST_ID: request_id}, receive, send_with_common)
        else:
            await self._redirect(scope, send_with_common)

    async def _redirect(self, scope: Scope, send: Send) -> None:
        query = scope.get("query_string", b"").decode("latin-1")
        place = self._url + quote(scope["path"]) + (f"?{query}" if query else "")
        headers = [(b"location", place.encode("latin-1")), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 308, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _request_id(headers: Mapping[str, str], environment: Environment) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else environment.new_id().hex
