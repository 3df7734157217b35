"""Spans for HTTP requests and for upgrades to control channels."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.types import Message, Scope, Send

from wardgate.portal.environment import Clock
from wardgate.portal.spans import RecordSpan

MAX_CONTEXT_LENGTH: Final = 512  # characters; W3C Trace Context has tracestate propagated up to there
_CONTEXT: Final = {b"traceparent", b"tracestate"}  # W3C Trace Context
NO_CONTEXT: Final[Mapping[str, str]] = {}
"""Of whoever gave none, and of everybody while nobody collects spans."""


class TracedRequest:
    """One HTTP request on its way through an ASGI application.

    Its span has the method, the part of the portal and the status; no path, for these name accounts and people. A
    stream of events has none: it says when somebody closed a page.
    """

    def __init__(self, scope: Scope, send: Send, clock: Clock) -> None:
        self._scope = scope
        self._send = send
        self._clock = clock
        self._began_at = clock.monotonic()
        self._status = 0
        self._is_stream = False

    async def send(self, message: Message) -> None:
        """Stands for the server's own `send`."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            types = (value for name, value in message.get("headers", ()) if name.lower() == b"content-type")
            self._is_stream = any(value.startswith(b"text/event-stream") for value in types)
        await self._send(message)

    def end(self, record: RecordSpan, part: str) -> None:
        """The application has returned, or failed before it answered."""
        if self._is_stream:
            return
        attributes: dict[str, str | int] = {
            "http.request.method": self._scope["method"],
            "wardgate.part": part,
        }
        if self._status:
            attributes["http.response.status_code"] = self._status
        took_s = self._clock.monotonic() - self._began_at
        record(f"{self._scope['method']} {part}", took_s, attributes, context_of(self._scope))


class TracedUpgrade:
    """One upgrade on its way through an ASGI application: its span ends when it is accepted or refused, not with the
    channel.
    """

    def __init__(self, scope: Scope, send: Send, clock: Clock, record: RecordSpan) -> None:
        self._scope = scope
        self._send = send
        self._clock = clock
        self._record = record
        self._began_at = clock.monotonic()

    async def send(self, message: Message) -> None:
        """Stands for the server's own `send`."""
        if message["type"] in ("websocket.accept", "websocket.http.response.start"):
            # While the head of the request is there: a channel that is open keeps nothing of it.
            attributes: dict[str, str | int] = {
                "http.request.method": "GET",
                "wardgate.part": "upgrade",
                "http.response.status_code": message.get("status", int(HTTPStatus.SWITCHING_PROTOCOLS)),
            }
            took_s = self._clock.monotonic() - self._began_at
            self._record("GET upgrade", took_s, attributes, context_of(self._scope))
        await self._send(message)


def context_of(scope: Scope) -> dict[str, str]:
    """Return the trace context that a request came with."""
    return {
        name.decode("ascii"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _CONTEXT and len(value) <= MAX_CONTEXT_LENGTH
    }
