"""HTTP/2 (RFC 9113) on a TLS connection that negotiated it: the library h2 reads and writes frames, the bounds are
ours.

Published peers upload their flow logs with nothing else (control-plane §7.3), and a browser needs one
connection for a page and its stream. Control channels stay on HTTP/1.1: peers negotiate nothing, and extended
CONNECT (RFC 8441) is not offered.

    head      64 KiB, 200 fields, 10 s
    body      40 s; 128 KiB of all bodies of a connection wait to be read
    streams   100 at a time; each that runs beside another counts as one connection more of its address, until
              the request has really ended, not when its stream is reset; 1,000 in all, then another connection is due
    frames    what is no body is read at 32 KB/s at most after its first 64 KB, a request costs 320 bytes more
              and a reset too, an answer that is woken with others 32: so much for floods of settings, pings,
              window updates and resets
    unread    an answer of which nothing is taken for 30 s is given up
    idle      5 s without a request

As in `protocols`, bytes are handed to the parser in slices, and between two of them others have their turn.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, MutableMapping
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from wardgate.portal.connection_bounds import (
    BODY_S,
    HEAD_S,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    SLICE_BYTES,
    UNREAD_S,
    Closing,
    Ends,
    HeldFlow,
    ReaderWatch,
)
from wardgate.portal.http.rate_limit import Allowance
from wardgate.portal.strangers import Gate

log = logging.getLogger(__name__)

ALPN: Final = "h2"

MAX_STREAMS: Final = 100
"""RFC 9113 §6.5.2 advises no less."""

MAX_REQUESTS: Final = 1000
"""Of one connection, for the library remembers every stream that it has closed: then it ends when it rests."""

MOST_REQUESTS: Final = 2 * MAX_REQUESTS
"""Of one that never rests: whoever asks is told to use another one."""

WINDOW_BYTES: Final = 128 * 1024
"""Ten megabytes, the largest body, take 16 s at a round trip of 200 ms."""

_PREFACE_WINDOW: Final = 65_535
"""Of a new connection (RFC 9113 §6.9.2)."""

ALLOWANCE: Final = 2_000.0
ALLOWANCE_PER_S: Final = 1_000.0
_BYTES_OF_A_TOKEN: Final = 32
_REQUEST_COST: Final = 10.0
_WAKING_COST: Final = 1.0
_PAUSE_S: Final = 0.01

_OF_ONE_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""An answer over HTTP/2 must not have them (RFC 9113 §8.2.2)."""


class Http2Protocol(asyncio.Protocol):
    """One connection; made in the place of uvicorn's protocol, with the same arguments."""

    gate: ClassVar[Gate]
    ends: ClassVar[Ends]

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = asyncio.get_running_loop()
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES,
            },
        )
        self._allowance = Allowance(capacity=ALLOWANCE, refill_per_s=ALLOWANCE_PER_S, now=self._loop.time())
        self._requests: dict[int, _Request] = {}
        self._seen = 0
        self._is_going_away = False
        self._unfed = b""
        self._feeding: asyncio.Handle | None = None
        self._bytes_of_head = 0
        self._timer: asyncio.TimerHandle | None = None

    # ── asyncio's and uvicorn's ──────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self.flow = HeldFlow(transport)
        self._reader = ReaderWatch(transport, self._loop)
        self._closing = Closing(transport, self._loop)
        self._server, self._client = get_local_addr(transport), get_remote_addr(transport)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES - _PREFACE_WINDOW)
        self.flush()
        self._end_after(HEAD_S)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        self._unfed = b""
        self._cancel_timer()
        self._reader.stop()
        self._closing.end()
        if self._feeding is not None:
            self._feeding.cancel()
        self.flow.resume_writing()
        for request in self._requests.values():
            request.handle_gone()

    def eof_received(self) -> None: ...

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._reader.start()

    def resume_writing(self) -> None:
        self._reader.stop()
        self.flow.resume_writing()
        if self._feeding is None:
            self._feed()

    def data_received(self, data: bytes) -> None:
        self._unfed += data
        if self._feeding is None:
            self._feed()

    def shutdown(self) -> None:
        """uvicorn's word that the server stops: answer what runs, take nothing new."""
        self._is_going_away = True
        self._rest()

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _feed(self) -> None:
        """Give the parser the next slice; later, if the peer has used up its allowance."""
        self._feeding = None
        if self._transport.is_closing():
            self._unfed = b""
            return
        if self.flow.write_paused:
            # Whoever reads no answers is not read either: pings and settings are answered too.
            self.flow.hold(is_held=True)
            return
        delay_s = self._allowance.delay_s(now=self._loop.time())
        if delay_s > 0:
            self.flow.hold(is_held=True)
            self._feeding = self._loop.call_later(max(delay_s, _PAUSE_S), self._feed)
            return
        piece, self._unfed = self._unfed[:SLICE_BYTES], self._unfed[SLICE_BYTES:]
        try:
            events = self._h2.receive_data(piece)
            self._take(piece, events)
        except H2Error as error:
            log.debug("a stranger sent what is no HTTP/2", extra={"error": type(error).__name__})
            self._close()
            return
        if self._transport.is_closing():
            return
        self.flush()
        if self._unfed:
            self.flow.hold(is_held=True)
            self._feeding = self._loop.call_soon(self._feed)
        else:
            self.flow.hold(is_held=False)

    def _take(self, piece: bytes, events: list[Event]) -> None:
        # A frame of a body costs until it is whole, and gives back what it has cost.
        body = sum(len(event.data) for event in events if isinstance(event, DataReceived))
        self._charge((len(piece) - body) / _BYTES_OF_A_TOKEN)
        # A head or frame without end: nothing of it is an event before all of it is there.
        self._bytes_of_head = 0 if events else self._bytes_of_head + len(piece)
        if self._bytes_of_head > MAX_HEAD_BYTES + SLICE_BYTES:
            self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            self._close()
            return
        for event in events:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(stream_id), headers=headers):
                self._open(stream_id, headers or [], is_whole=event.stream_ended is not None)
            case DataReceived(stream_id=int(stream_id), flow_controlled_length=int(length)):
                request = self._requests.get(stream_id)
                if request is None or not request.take_body(event.data or b"", length):
                    self._h2.acknowledge_received_data(length, stream_id)
            case StreamEnded(stream_id=int(stream_id)):
                if (request := self._requests.get(stream_id)) is not None:
                    request.handle_whole()
            case StreamReset(stream_id=int(stream_id)):
                self._charge(_REQUEST_COST)
                if (request := self._requests.get(stream_id)) is not None:
                    request.handle_gone()
            case WindowUpdated(stream_id=stream_id):
                self._wake([stream_id] if stream_id else self._requests)
            case RemoteSettingsChanged():
                self._wake(self._requests)
            case ConnectionTerminated():
                # The library says nothing more after it; whoever sends this has no use for an answer.
                self._close()
            case _:
                pass

    def _open(self, stream_id: int, headers: Iterable[tuple[bytes, bytes]], *, is_whole: bool) -> None:
        self._charge(_REQUEST_COST)
        self._cancel_timer()
        self._seen += 1
        is_counted = bool(self._requests)
        if (
            self._is_going_away
            or len(self._requests) >= MAX_STREAMS
            or (
                is_counted and not self.gate.admit((self, stream_id), self._client[0] if self._client else "")
            )
        ):
            # Not looked at: the client may ask again, on another connection (RFC 9113 §8.7).
            self.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            self._rest()
            return
        scope, status = self._scope(list(headers))
        request = _Request(self, stream_id, scope, is_whole=is_whole)
        if status:
            if is_counted:
                self.gate.release((self, stream_id))
            request.refuse(status)
            self._rest()
            return
        self._requests[stream_id] = request
        task = self._loop.create_task(request.run(self._config.loaded_app))
        self._server_state.tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, stream_id, is_counted=is_counted))
        if self._seen == MOST_REQUESTS:
            self._go_away()

    def _scope(self, fields: list[tuple[bytes, bytes]]) -> tuple[dict[str, Any], int]:
        """Return the ASGI scope of a request, and the status with which it is refused, or 0."""
        pseudo = {name: value for name, value in fields if name.startswith(b":")}
        headers = [(name, value) for name, value in fields if not name.startswith(b":") and name != b"cookie"]
        if b":authority" in pseudo and all(name != b"host" for name, _value in headers):
            headers.insert(0, (b"host", pseudo[b":authority"]))
        # They may come in several fields, which nobody behind HTTP/1.1 expects (RFC 9113 §8.2.3).
        if cookies := [value for name, value in fields if name == b"cookie"]:
            headers.append((b"cookie", b"; ".join(cookies)))
        target = pseudo.get(b":path", b"")
        path, _mark, query = target.partition(b"?")
        if len(fields) > MAX_FIELDS:
            status = 431
        elif not target.startswith(b"/") or not target.isascii() or b"#" in target:
            status = 400
        else:
            status = 0
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "server": self._server,
            "client": self._client,
            "scheme": "https",
            "root_path": "",
            "method": pseudo.get(b":method", b"").decode("latin-1"),
            "path": unquote(path.decode("ascii", "replace")),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
            "state": self._app_state.copy(),
        }, status

    # ── out, for the requests ────────────────────────────────────────────────────────────────────────────────

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return self._server_state.default_headers

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def send_headers(self, stream_id: int, headers: list[tuple[bytes, bytes]], *, is_last: bool) -> None:
        self._h2.send_headers(stream_id, headers, end_stream=is_last)
        self.flush()

    def send_data(self, stream_id: int, data: bytes, *, is_last: bool) -> int:
        """Send as much as the peer takes at once, at most a frame; return how much that was."""
        window = self._h2.local_flow_control_window(stream_id)
        piece = data[: max(0, min(window, self._h2.max_outbound_frame_size))]
        if piece or not data:
            self._h2.send_data(stream_id, piece, end_stream=is_last and len(piece) == len(data))
            self.flush()
        return len(piece)

    def acknowledge(self, stream_id: int, length: int) -> None:
        """Let the peer send as much again."""
        if length and not self._transport.is_closing():
            self._h2.acknowledge_received_data(length, stream_id)
            self.flush()

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """End a stream, unless it or its connection has ended."""
        with contextlib.suppress(ProtocolError):
            self._h2.reset_stream(stream_id, code)
            self.flush()

    def flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _ended(self, task: "asyncio.Task[None]", stream_id: int, *, is_counted: bool) -> None:
        self._server_state.tasks.discard(task)
        self._server_state.total_requests += 1
        request = self._requests.pop(stream_id)
        if is_counted:
            self.gate.release((self, stream_id))
        self.acknowledge(stream_id, request.take_unread())
        self._rest()

    def _rest(self) -> None:
        """Nothing may be going on any more: wait for more, or close."""
        if self._requests or self._transport.is_closing():
            return
        if self._is_going_away or self._seen >= MAX_REQUESTS:
            self._h2.close_connection()
            self._close()
        else:
            self._end_after(self._config.timeout_keep_alive)

    def _go_away(self) -> None:
        """Say that nothing new is taken (RFC 9113 §6.8) while answers are still to come.

        Written by hand: after its own the library sends nothing any more. Clients that are made with it do not
        read on either, so this is kept for those that never rest.
        """
        self._is_going_away = True
        last = self._h2.highest_inbound_stream_id
        self._transport.write(b"\x00\x00\x08\x07\x00" + bytes(4) + last.to_bytes(4, "big") + bytes(4))

    def _end_after(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = timer = self._loop.call_later(seconds, lambda: self.ends.add(end))

        def end() -> None:
            if self._timer is timer and not self._requests and not self._transport.is_closing():
                self._h2.close_connection()
                self._close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        """Close, whether or not what was said is read."""
        self.flush()
        self._unfed = b""
        for request in self._requests.values():
            request.handle_gone()
        self._closing.begin()

    def _wake(self, stream_ids: Iterable[int]) -> None:
        """Let answers go on. A frame that makes many of them look costs for each but the first, whether or not it
        lets them.
        """
        requests = [self._requests.get(stream_id) for stream_id in stream_ids]
        woken = sum(request.handle_window() for request in requests if request is not None)
        self._charge(max(woken - 1, 0) * _WAKING_COST)

    def _charge(self, cost: float) -> None:
        self._allowance.charge(cost, now=self._loop.time())


class _Request:
    """One stream: a request as far as it was read, and its answer as far as it was given."""

    def __init__(
        self, connection: Http2Protocol, stream_id: int, scope: dict[str, Any], *, is_whole: bool
    ) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._scope = scope
        self._body = bytearray()
        self._unacknowledged = 0
        self._is_whole = is_whole
        self._is_gone = False
        self._is_started = False
        self._is_answered = False
        self._is_continue_awaited = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"]
        )
        self._news = asyncio.Event()
        self._window = asyncio.Event()
        if is_whole:
            self._news.set()
        self._timer = None if is_whole else connection.loop.call_later(BODY_S, self._handle_late)

    # ── what the connection tells ────────────────────────────────────────────────────────────────────────────

    def take_body(self, data: bytes, length: int) -> bool:
        """Keep a part of the body until it is asked for; return False if nobody will ask.

        Args:
            length: what it takes of the windows, padding included.
        """
        if self._is_gone or self._is_answered:
            return False
        self._body += data
        self._unacknowledged += length
        self._news.set()
        return True

    def take_unread(self) -> int:
        """Return how much of the windows was never given back; nothing is read any more."""
        self.handle_gone()
        length, self._unacknowledged = self._unacknowledged, 0
        return length

    def handle_whole(self) -> None:
        self._is_whole = True
        self._cancel_timer()
        self._news.set()

    def handle_gone(self) -> None:
        """Nobody waits for the answer any more."""
        self._is_gone = True
        self._cancel_timer()
        self._news.set()
        self._window.set()

    def handle_window(self) -> bool:
        """Look whether more can be sent; return False if that is about to happen anyway."""
        if self._window.is_set():
            return False
        self._window.set()
        return True

    # ── ASGI ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, app: Any) -> None:
        try:
            await app(self._scope, self._receive, self._send)
        except Exception:
            log.exception("a request failed")
        # Also after a bug of the application's: whoever asked is told something.
        if not self._is_gone and not self._is_answered:
            if self._is_started:
                self._connection.reset(self._stream_id, ErrorCodes.INTERNAL_ERROR)
            else:
                self.refuse(500)
        elif self._is_answered and not self._is_whole:
            # The rest of the body is not wanted (RFC 9113 §8.1).
            self._connection.reset(self._stream_id, ErrorCodes.NO_ERROR)

    def refuse(self, status: int) -> None:
        """Answer with a bare status and take no more of the body."""
        self._is_answered = True
        self._cancel_timer()
        headers = [(b":status", str(status).encode()), *self._connection.default_headers]
        with contextlib.suppress(StreamClosedError):
            self._connection.send_headers(self._stream_id, headers, is_last=True)
        if not self._is_whole:
            self._connection.reset(self._stream_id, ErrorCodes.NO_ERROR)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._is_continue_awaited and not self._is_started and not self._is_gone:
            self._is_continue_awaited = False
            self._connection.send_headers(self._stream_id, [(b":status", b"100")], is_last=False)
        if not self._is_gone and not self._is_answered:
            await self._news.wait()
        if self._is_gone or self._is_answered:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        length, self._unacknowledged = self._unacknowledged, 0
        # A whole request was given; then only the end of the answer, or of the connection, is news.
        self._news.clear()
        self._connection.acknowledge(self._stream_id, length)
        return {"type": "http.request", "body": body, "more_body": not self._is_whole}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self._connection.flow.drain()
        if self._is_gone:
            return
        match message["type"], self._is_started:
            case "http.response.start", False:
                self._start(message)
            case "http.response.body", True if not self._is_answered:
                await self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))
            case kind, _:
                raise RuntimeError(f"{kind} is out of turn")

    def _start(self, message: MutableMapping[str, Any]) -> None:
        self._is_started = True
        self._is_continue_awaited = False
        named = ((name.lower(), value) for name, value in message.get("headers", ()))
        headers = [(name, value) for name, value in named if name not in _OF_ONE_HOP]
        self._connection.send_headers(
            self._stream_id,
            [(b":status", str(message["status"]).encode()), *self._connection.default_headers, *headers],
            is_last=False,
        )

    async def _send_body(self, body: bytes, *, is_last: bool) -> None:
        if self._scope["method"] == "HEAD":
            body = b""
        while not self._is_gone and (body or is_last):
            self._window.clear()
            sent = self._connection.send_data(self._stream_id, body, is_last=is_last)
            if sent == len(body):
                break
            body = body[sent:]
            await self._connection.flow.drain()
            if not sent:
                await self._window_opened()
        if is_last and not self._is_gone:
            self._is_answered = True
            self._news.set()

    async def _window_opened(self) -> None:
        try:
            async with asyncio.timeout(UNREAD_S):
                await self._window.wait()
        except TimeoutError:
            self._connection.reset(self._stream_id, ErrorCodes.CANCEL)
            self.handle_gone()

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _handle_late(self) -> None:
        """The body is not whole in time."""
        if self._is_started:
            self._connection.reset(self._stream_id, ErrorCodes.CANCEL)
        elif not self._is_gone:
            self.refuse(408)
        self.handle_gone()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
