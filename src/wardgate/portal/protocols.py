"""What speaks HTTP and WebSocket on an accepted connection: uvicorn's protocols, with bounds for those who
have proved nothing.

    head    64 KiB, 200 fields, 10 s from its first byte, or from the connection's beginning
    body    40 s (REST answers after 30 s itself)
    idle    between requests, uvicorn's own 5 s
    queued  16 requests behind the one that is answered; then nothing more is read
    unread  an answer of which nothing is taken for 30 s ends the connection
    upgrade 15 s until a control channel is accepted or refused

Bytes are handed to the parsers in slices, and between two slices every other connection has its turn: a frame
of six bytes takes as long as one of six thousand. Connections whose time is over are ended a few at a time for
the same reason: thousands that came together are over together.

uvicorn has no such bounds, and no places for them. The names of it that this module rests on are held by
tests/unit/portal/test_protocols.py.
"""

import asyncio
import hashlib
import logging
import re
from base64 import b64encode
from collections.abc import Callable, MutableMapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Request
from websockets.protocol import Protocol, State

from wardgate.portal.channels.endpoint import TRANSPORT_EXTENSION
from wardgate.portal.connection_bounds import (
    BODY_S,
    HEAD_S,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    SLICE_BYTES,
    Closing,
    Ends,
    HeldFlow,
    ReaderWatch,
)
from wardgate.portal.http2 import ALPN as HTTP2
from wardgate.portal.http2 import Http2Protocol
from wardgate.portal.strangers import Gate

log = logging.getLogger(__name__)

MAX_QUEUED: Final = 16
UPGRADE_S: Final = 15.0
MAX_FRAGMENTS: Final = 1024
"""Of one message: an empty one costs its sender six bytes and no part of the message's limit."""

_MAX_LINE_BYTES: Final = MAX_LINE_LENGTH - 64
"""Of a field, or an address: what surely fits a line of the library's."""

_ACCEPT: Final = {"type": "websocket.accept"}
_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n%s\r\n"
)
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes
_OF_UPGRADE: Final = frozenset(
    (
        b"connection",
        b"upgrade",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-protocol",
    )
)
_OF_BODIES: Final = (b"content-length", b"transfer-encoding")
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Timer(Enum):
    HEAD = "head"
    BODY = "body"


class HttpProtocol(HttpToolsProtocol):
    """One connection that speaks HTTP/1.1, until it is upgraded; HTTP/2 is handed on at once."""

    gate: ClassVar[Gate]
    ends: ClassVar[Ends]
    http2: ClassVar[type[Http2Protocol]]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        session = transport.get_extra_info("ssl_object")
        if session is not None and session.selected_alpn_protocol() == HTTP2:
            protocol = self.http2(self.config, self.server_state, self.app_state)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            return
        super().connection_made(transport)
        self.flow: FlowControl = HeldFlow(transport)
        self._reader = ReaderWatch(transport, self.loop)
        self._closing = Closing(transport, self.loop)
        self._unfed = b""
        self._feeding: asyncio.Handle | None = None
        self._is_in_body = False
        self._is_refused = False
        self._bytes_of_head = 0
        self._timers: dict[_Timer, asyncio.TimerHandle] = {}
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unfed = b""
        self._cancel(*_Timer)
        self._reader.stop()
        self._closing.end()
        super().connection_lost(exc)
        self._drop_parser()

    def data_received(self, data: bytes) -> None:
        self._unfed += data
        if self._feeding is None:
            self._feed()

    def _feed(self) -> None:
        """Give the parser the next slice."""
        self._feeding = None
        if self.transport.is_closing():
            self._unfed = b""
            return
        if len(self.pipeline) >= MAX_QUEUED:
            self._hold(is_held=bool(self._unfed))
            return
        piece, self._unfed = self._unfed[:SLICE_BYTES], self._unfed[SLICE_BYTES:]
        if not self._is_in_body:
            self._await_head()
        self._bytes_of_head += len(piece)
        super().data_received(piece)
        if self.transport.get_protocol() is not self:
            # Upgraded. A peer says nothing more before it is answered (RFC 6455 §4.1).
            self._unfed = b""
            self._cancel(*_Timer)
            self._reader.stop()
            if self.flow.read_paused:
                self.transport.resume_reading()
            self._drop_parser()
        elif self._is_refused or self._bytes_of_head > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._unfed:
            self._hold(is_held=True)
            self._feeding = self.loop.call_soon(self._feed)
        else:
            self._hold(is_held=False)

    # ── what the parser finds ────────────────────────────────────────────────────────────────────────────────

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_FIELDS:
            self._is_refused = True
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_refused:
            return
        self._cancel(_Timer.HEAD)
        self._bytes_of_head = 0
        self._is_in_body = True
        self._timers[_Timer.BODY] = self.loop.call_later(BODY_S, self._is_over, _Timer.BODY)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._is_refused:
            return
        # What is no body and yet comes behind the head (trailers, chunk extensions) is bounded like a head.
        self._bytes_of_head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_refused:
            return
        self._is_in_body = False
        self._bytes_of_head = 0
        self._cancel(_Timer.BODY)
        super().on_message_complete()
        if self._is_answered() and self.timeout_keep_alive_task is None:
            # It was answered before it was whole; uvicorn's own timer ended with the next bytes.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def handle_websocket_upgrade(self) -> None:
        if self._is_refused:
            return
        if not _is_of_a_size(self.url, self.headers):
            # The library's own parser refuses it, and words why.
            super().handle_websocket_upgrade()
            return
        self.connections.discard(self)
        channel_class: Any = self.ws_protocol_class
        channel: ChannelProtocol = channel_class(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        channel.connection_made(self.transport)
        channel.begin(self.scope["method"], self.url, self.headers)
        self.transport.set_protocol(channel)

    # ── what is answered ─────────────────────────────────────────────────────────────────────────────────────

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._closing.begin()
        elif self._unfed and self._feeding is None:
            self._feeding = self.loop.call_soon(self._feed)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader.start()

    def resume_writing(self) -> None:
        self._reader.stop()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        timer = self.timeout_keep_alive_task

        def end() -> None:
            if self.timeout_keep_alive_task is timer:
                self._closing.begin()

        self.ends.add(end)

    # ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────

    def _await_head(self) -> None:
        if _Timer.HEAD not in self._timers:
            self._timers[_Timer.HEAD] = self.loop.call_later(HEAD_S, self._is_over, _Timer.HEAD)

    def _is_over(self, which: _Timer) -> None:
        timer = self._timers[which]

        def end() -> None:
            if self._timers.get(which) is timer:
                self._refuse(b"408 Request Timeout")

        self.ends.add(end)

    def _refuse(self, status: bytes) -> None:
        """End the connection; say why, unless an answer is on its way or nothing was asked."""
        was_asked = self._bytes_of_head > 0 or self._is_in_body
        if was_asked and (self._cycle() is None or self._is_answered()) and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
        self._unfed = b""
        self._closing.begin()

    def _is_answered(self) -> bool:
        cycle = self._cycle()
        return cycle is not None and cycle.response_complete

    def _cycle(self) -> RequestResponseCycle | None:
        """Return the latest request and its answer; None before the first."""
        return self.cycle

    def _drop_parser(self) -> None:
        """Let go of the parser, which holds this object: what is left then goes without the collector of garbage."""
        self.parser = None  # type: ignore[assignment]

    def _hold(self, *, is_held: bool) -> None:
        flow = self.flow
        assert isinstance(flow, HeldFlow)
        flow.hold(is_held=is_held)

    def _cancel(self, *wanted: _Timer) -> None:
        for one in wanted:
            timer = self._timers.pop(one, None)
            if timer is not None:
                timer.cancel()


class Inbox:
    """What asyncio's queue does for one reader, in a tenth of its memory; uvicorn's protocol fills it.

    Attributes:
        take: offered the text of the first message of a turn, if the reader waits for it; true: it has taken it.
        is_turn_over: whether one was offered in this turn.
    """

    __slots__ = ("_messages", "_waiting", "is_turn_over", "take")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._waiting: asyncio.Future[None] | None = None
        self.take: Callable[[str], bool] | None = None
        self.is_turn_over = True

    def put_nowait(self, message: Any) -> None:
        if not self.is_turn_over and self.take is not None:
            self.is_turn_over = True
            text = message.get("text")
            is_waited_for = self._waiting is not None and not self._waiting.done()
            if text is not None and is_waited_for and self.take(text):
                return
        self._messages.append(message)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def empty(self) -> bool:
        return not self._messages

    def qsize(self) -> int:
        return len(self._messages)

    async def get(self) -> Any:
        while not self._messages:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._messages.pop(0)


class ChannelProtocol(WebSocketsSansIOProtocol):
    """One connection that has been upgraded, with a way to end a socket whose peer has stopped reading.

    Thousands of them are quiet, so what only the upgrade needs is dropped with its end.
    """

    gate: ClassVar[Gate]
    ends: ClassVar[Ends]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.request = self.response = None  # type: ignore[assignment]
        self._accept_key: bytes | None = None
        self._inbox = Inbox()
        self.queue = self._inbox  # type: ignore[assignment]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._unfed = b""
        self._feeding: asyncio.Handle | None = None
        self._closing = Closing(transport, self.loop)
        self._upgrade_timer = self.loop.call_later(UPGRADE_S, self.ends.add, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unfed = b""
        self._upgrade_timer.cancel()
        self._closing.end()
        super().connection_lost(exc)
        # It holds its own object: a parser that has been closed goes without the collector of garbage.
        self.conn.parser.close()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        # As above: the scope leads to the object that has it, and so does what takes its frames.
        self.scope["extensions"].clear()
        self._inbox.take = None

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            self._begin(data)
            return
        self._unfed += data
        if self._feeding is None:
            self._feed()

    def begin(self, method: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Take the head from the HTTP protocol, which has parsed it: to parse it once more took a twentieth of all that
        a connect costs, and to have the library look at it and word the answer as much again.
        """
        self.conn.parser.close()
        self.conn.parser = Protocol.parse(self.conn)  # of frames, which follow the head
        next(self.conn.parser)
        if not self.conn.available_extensions:
            self._accept_key = _accept_key(method, headers)
        if self._accept_key is not None:
            self._start(url.decode("ascii"), headers)
            return
        self.handle_connect(_request(method, url, headers))
        if self.transport.is_closing():
            self._closing.begin()

    def _start(self, url: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Start the application on an upgrade that will be accepted with `_accept_key`, as `handle_connect` does."""
        self.handshake_initiated = True
        raw_path, _, query_string = url.partition("?")
        self.scope = {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + unquote(raw_path),
            "raw_path": self.root_path.encode("ascii") + raw_path.encode("ascii"),
            "query_string": query_string.encode("ascii"),
            "headers": headers,
            "subprotocols": [],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}, TRANSPORT_EXTENSION: self},  # type: ignore[dict-item]
        }
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.on_task_complete)
        self.tasks.add(task)

    def _begin(self, head: bytes) -> None:
        """Take the head, whole, from the HTTP protocol that has read it."""
        try:
            super().data_received(head)
        except UnicodeError:
            # A path or query with bytes that no address has.
            self.transport.write(_BAD_REQUEST)
            self._closing.begin()
            return
        if self.conn.handshake_exc is not None:
            self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_REQUEST)
            self._closing.begin()

    def _feed(self) -> None:
        """Give the parser slices until one of them held a message; the next waits until that was taken.

        After our close nobody takes any: messages are dropped, and the peer's close is read, which ends the connection.
        """
        self._feeding = None
        if self.transport.is_closing():
            self._unfed = b""
            return
        if self._unfed and self.handshake_complete and self._may_feed():
            piece, self._unfed = self._unfed[:SLICE_BYTES], self._unfed[SLICE_BYTES:]
            self._inbox.is_turn_over = False
            super().data_received(piece)
            self._inbox.is_turn_over = True
        if self._unfed and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
        if self.handshake_complete and self._may_feed():
            self._read_on()

    def _may_feed(self) -> bool:
        return self.close_sent or self.queue.empty()

    def _read_on(self) -> None:
        """Everything was taken: the next slice, or the next bytes."""
        if self._unfed:
            if self._feeding is None:
                self._feeding = self.loop.call_soon(self._feed)
        elif self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def send_receive_event_to_app(self) -> None:
        # uvicorn stops reading until a message is taken, two system calls for each. Here bytes behind a message wait
        # in `_unfed`, and reading stops only when there are some.
        was_paused, self.read_paused = self.read_paused, True
        super().send_receive_event_to_app()
        self.read_paused = was_paused

    def hand_over(self, take: Callable[[str], bool]) -> None:
        self._inbox.take = take

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.queue.empty():
            self._read_on()
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:  # type: ignore[override]
        if self._accept_key is not None and message == _ACCEPT:
            self._accept(self._accept_key)
        else:
            await super().send(message)  # type: ignore[arg-type]
        if message["type"] == "websocket.accept":
            self._upgrade_timer.cancel()
            self.gate.prove(self.transport.get_extra_info("socket").fileno())
            self._forget_upgrade()
            self._read_on()
        elif self.transport.is_closing():
            self._closing.begin()

    def _accept(self, key: bytes) -> None:
        """Word the answer as the library does."""
        if self.disconnected:
            raise ClientDisconnected
        self._accept_key = None
        if not self.transport.is_closing():
            self.handshake_complete = True
            self.conn.state = State.OPEN
            more = b"".join([b"%s: %s\r\n" % header for header in self.default_headers])
            self.transport.write(_SWITCHING % (key, more))
            self.start_keepalive()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[TRANSPORT_EXTENSION] = self

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(1009, "too many fragments")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            # Whoever reads no answers gets none; only the latest need be answered (RFC 6455 §5.5.3).
            self.conn.data_to_send()

    def handle_parser_exception(self) -> None:
        code = None if self.conn.close_sent is None else self.conn.close_sent.code
        log.debug("a peer sent what is no WebSocket message", extra={"code": code})
        super().handle_parser_exception()
        self._closing.begin()

    def is_gone(self) -> bool:
        return self.transport.is_closing()

    def unsent_bytes(self) -> int:
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def has_unread(self) -> bool:
        return not self.queue.empty()

    def is_writable(self) -> bool:
        return (
            self.writable.is_set()
            and self.handshake_complete
            and not self.close_sent
            and not self.disconnected
            and self.conn.state is State.OPEN
            and not self.transport.is_closing()
        )

    def write(self, texts: Sequence[str]) -> None:
        for text in texts:
            self.conn.send_text(text.encode())
        self.transport.write(b"".join(self.conn.data_to_send()))

    def fail(self, code: int) -> None:
        if not self.close_sent:
            self.conn.send_close(code)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.abort()

    def _forget_upgrade(self) -> None:
        """Drop the head of the request, in all the forms in which it is kept."""
        headers: Any = self.scope["headers"]
        headers.clear()
        kept: Request | None = self.request
        if kept is not None:
            kept.headers.clear()  # the parser keeps the request
            self.request = self.response = None  # type: ignore[assignment]

    def _give_up(self) -> None:
        """The upgrade was neither accepted nor refused in time."""
        if not self.handshake_complete:
            self._closing.begin()


def _is_of_a_size(url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Tell whether the library would not refuse a head because of its size, its body, or an address that is none."""
    return (
        len(headers) <= MAX_NUM_HEADERS
        and len(url) <= _MAX_LINE_BYTES
        and url.isascii()
        and all(
            len(name) + len(value) <= _MAX_LINE_BYTES and name not in _OF_BODIES for name, value in headers
        )
    )


def _request(method: str, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Request:
    """Return a head that has been parsed as the library has it."""
    fields = Headers()
    for name, value in headers:
        fields[name.decode("ascii")] = value.decode("latin-1")
    return Request(url.decode("ascii"), fields, method)


def _accept_key(method: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """Return what an upgrade, as peers write it, is accepted with (RFC 6455 §4.2); None for another one, which the
    library looks at: one that is wrong, names several things in a field, or asks for a subprotocol.
    """
    of_upgrade: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _OF_UPGRADE:
            if name in of_upgrade:
                return None
            of_upgrade[name] = value
    key = of_upgrade.get(b"sec-websocket-key", b"")
    if (
        method != "GET"
        or of_upgrade.get(b"connection", b"").lower() != b"upgrade"
        or of_upgrade.get(b"upgrade", b"").lower() != b"websocket"
        or of_upgrade.get(b"sec-websocket-version") != b"13"
        or b"sec-websocket-protocol" in of_upgrade
        or _KEY.fullmatch(key) is None
    ):
        return None
    return b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def protocols(gate: Gate) -> tuple[type[HttpProtocol], type[ChannelProtocol]]:
    """Return the protocols for the connections of one listener; the first hands over to HTTP/2 by itself."""

    class Http(HttpProtocol):
        pass

    class Channel(ChannelProtocol):
        pass

    class Http2(Http2Protocol):
        pass

    Http.gate = Channel.gate = Http2.gate = gate
    Http.ends = Channel.ends = Http2.ends = Ends()
    Http.http2 = Http2
    return Http, Channel
