"""The WebSocket of a simulated peer: the portal's own ASGI application, frames delayed by the link's latency.

Frames of one direction keep their order and none is lost while the link stands, as over TCP; a cut link
swallows both directions silently until somebody closes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from wardgate.portal.http.asgi import App, Message
from wardgate.wire.upgrade import UpgradeRequest

GOING_AWAY = 1012


class LinkOwner(Protocol):
    """The peer at the near end."""

    def handle_link_up(self) -> None: ...

    def handle_link_refused(self, status: int, headers: dict[str, str], body: bytes) -> None: ...

    def handle_link_frame(self, frame: str) -> None: ...

    def handle_link_closed(self) -> None: ...


@dataclass
class _Answer:
    status: int = 0
    headers: dict[str, str] | None = None
    body: bytes = b""


class ControlLink:
    """One connection attempt and, if it succeeds, the connection."""

    def __init__(
        self, app: App, request: UpgradeRequest, *, source_ip: str, latency_s: float, owner: LinkOwner
    ) -> None:
        """Start connecting; the outcome comes to `owner`."""
        self._latency_s = latency_s
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._under_way: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._is_over = False
        self._is_cut = False
        self._answer = _Answer()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = self._loop.create_task(self._run(app, _scope(request, source_ip)))

    def send(self, frame: str) -> None:
        """Send a text frame to the portal."""
        self._later(self._put, {"type": "websocket.receive", "text": frame})

    def close(self) -> None:
        """Close from the peer's side; the owner is not told."""
        self._is_over = True
        self._later(self._put, {"type": "websocket.disconnect", "code": 1000})

    def cut(self) -> None:
        """From now on nothing arrives on either side."""
        self._is_cut = True

    def reset(self) -> None:
        """The connection breaks: both ends notice."""
        # Also a link that was cut before: the portal's end of it may stand for as long as nobody says anything.
        self._put({"type": "websocket.disconnect", "code": 1006})
        self._end(self._owner.handle_link_closed)

    async def ended(self) -> None:
        """Wait until the portal has let go of its end."""
        await asyncio.wait({self._task})

    async def _run(self, app: App, scope: dict[str, Any]) -> None:
        await asyncio.sleep(2 * self._latency_s)  # TCP's handshake, then the request on its way
        try:
            await app(scope, self._to_app.get, self._receive_from_app)
        finally:
            self._later(self._end, self._owner.handle_link_closed)

    async def _receive_from_app(self, message: Message) -> None:
        match message["type"]:
            case "websocket.accept":
                self._later(self._tell, self._owner.handle_link_up)
            case "websocket.send":
                self._later(self._tell, self._owner.handle_link_frame, message["text"])
            case "websocket.close":
                self._later(self._end, self._owner.handle_link_closed)
            case "websocket.http.response.start":
                self._answer.status = message["status"]
                self._answer.headers = {
                    name.decode().lower(): value.decode() for name, value in message["headers"]
                }
            case "websocket.http.response.body":
                self._answer.body += message.get("body", b"")
                if not message.get("more_body"):
                    answer = self._answer
                    self._later(self._refuse, answer.status, answer.headers or {}, answer.body)

    def _refuse(self, status: int, headers: dict[str, str], body: bytes) -> None:
        if not self._is_over:
            self._is_over = True
            self._owner.handle_link_refused(status, headers, body)

    def _tell(self, method: Callable[..., None], *arguments: object) -> None:
        if not self._is_over:
            method(*arguments)

    def _end(self, tell: Callable[[], None]) -> None:
        if not self._is_over:
            self._is_over = True
            tell()

    def _put(self, message: Message) -> None:
        self._to_app.put_nowait(message)

    def _later(self, method: Callable[..., None], *arguments: object) -> None:
        if not self._is_cut:
            # Timers that are due at the same instant fire in no particular order, so what is under way queues up here.
            self._under_way.append((method, arguments))
            self._loop.call_later(self._latency_s, self._arrive)

    def _arrive(self) -> None:
        method, arguments = self._under_way.popleft()
        method(*arguments)


def _scope(request: UpgradeRequest, source_ip: str) -> dict[str, Any]:
    url = urlsplit(request.url)
    headers = [(b"host", (url.hostname or "").encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in request.headers]
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": headers,
        "client": (source_ip, 40_000),
        "server": (url.hostname, url.port),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }
