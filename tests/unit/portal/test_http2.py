"""The bounds of one HTTP/2 connection (`wardgate.portal.http2`), on virtual time; the caller's frames are those of the
library's client half, or written by hand where that would not send them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.portal.test_protocols import Caller, Wire
from wardgate.portal.connection_bounds import BODY_S, HEAD_S, MAX_FIELDS, MAX_HEAD_BYTES, UNREAD_S
from wardgate.portal.http2 import (
    ALLOWANCE,
    ALLOWANCE_PER_S,
    MAX_REQUESTS,
    MAX_STREAMS,
    MOST_REQUESTS,
    WINDOW_BYTES,
    Http2Protocol,
)
from wardgate.simulation.virtual_time import run_virtual

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
IDLE_S = 5
GET = ((":method", "GET"), (":scheme", "https"), (":authority", "portal"), (":path", "/"))
POST = ((":method", "POST"), *GET[1:])


class _Negotiated:
    def selected_alpn_protocol(self) -> str:
        return "h2"


class _TlsWire(Wire):
    """As `Wire`, with TLS on it that negotiated HTTP/2."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _Negotiated() if name == "ssl_object" else super().get_extra_info(name, default)


class Http2Caller(Caller):
    """A caller with a client's half of the protocol; answers are collected by stream."""

    wire_type = _TlsWire
    turn_s = 0.01
    """A peer that has used up its allowance is read again only as time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="ascii"))
        self.h2.initiate_connection()
        self.events: list[Event] = []
        self.takes_data = True
        self._read_up_to = 0

    async def sync(self, *, turns: int = 200) -> None:
        """Send what the client half has to say, and take in what is answered."""
        await self.say(self.h2.data_to_send(), turns=turns)
        while self._read_up_to < len(self.wire.written):
            new = self.wire.written[self._read_up_to :]
            self._read_up_to = len(self.wire.written)
            events = self.h2.receive_data(new)
            for event in events:
                if self.takes_data and isinstance(event, DataReceived) and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.events += events
            await self.say(self.h2.data_to_send(), turns=turns)

    async def ask(self, headers: Iterable[tuple[str, str]] = GET, *, is_whole: bool = True) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, list(headers), end_stream=is_whole)
        await self.sync()
        return stream_id

    def status(self, stream_id: int) -> str | None:
        for event in self._of(stream_id):
            if isinstance(event, ResponseReceived):
                return str(dict(event.headers)[":status"])
        return None

    def body(self, stream_id: int) -> bytes:
        return b"".join(event.data for event in self._of(stream_id) if isinstance(event, DataReceived))

    def is_ended(self, stream_id: int) -> bool:
        return any(isinstance(event, StreamEnded) for event in self._of(stream_id))

    def reset_code(self, stream_id: int) -> int | None:
        return next((one.error_code for one in self._of(stream_id) if isinstance(one, StreamReset)), None)

    def goodbye(self) -> int | None:
        """Return the code of the GOAWAY, if one came."""
        return next((one.error_code for one in self.events if isinstance(one, ConnectionTerminated)), None)

    def _of(self, stream_id: int) -> list[Any]:
        return [event for event in self.events if getattr(event, "stream_id", None) == stream_id]


def scene(play: Callable[[Http2Caller], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def run() -> None:
        caller = Http2Caller()
        assert isinstance(caller.wire.protocol, Http2Protocol)
        await play(caller)

    def test() -> None:
        run_virtual(run())

    test.__name__ = play.__name__
    return test


def test_the_bounds_that_the_other_tests_go_by() -> None:
    assert (MAX_STREAMS, MAX_REQUESTS, WINDOW_BYTES) == (100, 1000, 131_072)
    assert (ALLOWANCE, ALLOWANCE_PER_S) == (2000, 1000)


# ── requests and answers ─────────────────────────────────────────────────────────────────────────────────────


@scene
async def test_a_request_reaches_the_application_as_any_other(caller: Http2Caller) -> None:
    headers = (*GET[:-1], (":path", "/a%20b?c=d"), ("cookie", "a=1"), ("x-b", "2"), ("cookie", "c=3"))
    stream_id = await caller.ask(headers)
    assert (caller.status(stream_id), caller.body(stream_id)) == ("200", b"ok")
    assert caller.is_ended(stream_id)
    scope = caller.started[0]
    assert {name: scope[name] for name in ("type", "http_version", "method", "path", "scheme", "client")} == {
        "type": "http",
        "http_version": "2",
        "method": "GET",
        "path": "/a b",
        "scheme": "https",
        "client": ("192.0.2.7", 4711),
    }
    assert (scope["raw_path"], scope["query_string"]) == (b"/a%20b", b"c=d")
    assert scope["headers"] == [(b"host", b"portal"), (b"x-b", b"2"), (b"cookie", b"a=1; c=3")]


@scene
async def test_a_body_larger_than_the_window_arrives_whole(caller: Http2Caller) -> None:
    sent = 4 * WINDOW_BYTES
    stream_id = await caller.ask(POST, is_whole=False)
    while sent:
        size = min(sent, caller.h2.local_flow_control_window(stream_id), 16_384)
        assert size, "the portal has taken what came, so there is a window"
        sent -= size
        caller.h2.send_data(stream_id, bytes(size), end_stream=not sent)
        await caller.sync(turns=20)
    assert caller.status(stream_id) == "200"


@scene
async def test_an_answer_larger_than_the_window_arrives_whole(caller: Http2Caller) -> None:
    caller.answer, caller.parts = bytes(range(256)) * 2048, 4
    stream_id = await caller.ask()
    assert caller.body(stream_id) == caller.answer
    assert caller.is_ended(stream_id)


@scene
async def test_requests_on_one_connection_are_answered_beside_each_other(caller: Http2Caller) -> None:
    caller.may_answer.clear()
    streams = [await caller.ask() for _ in range(3)]
    assert len(caller.started) == 3
    caller.may_answer.set()
    await caller.sync()
    assert [caller.status(one) for one in streams] == ["200"] * 3


@scene
async def test_head_is_answered_without_a_body(caller: Http2Caller) -> None:
    stream_id = await caller.ask(((":method", "HEAD"), *GET[1:]))
    assert (caller.status(stream_id), caller.body(stream_id)) == ("200", b"")
    assert caller.is_ended(stream_id)


@scene
async def test_a_body_that_waits_for_leave_is_given_it(caller: Http2Caller) -> None:
    stream_id = await caller.ask((*POST, ("expect", "100-continue")), is_whole=False)
    assert [type(one) for one in caller.events if getattr(one, "stream_id", 0) == stream_id] == [
        InformationalResponseReceived
    ]
    caller.h2.send_data(stream_id, b"x", end_stream=True)
    await caller.sync()
    assert caller.status(stream_id) == "200"


@scene
async def test_a_body_that_nobody_wants_is_declined_and_the_connection_goes_on(caller: Http2Caller) -> None:
    caller.reads_body = False
    stream_id = await caller.ask(POST, is_whole=False)
    assert (caller.status(stream_id), caller.reset_code(stream_id)) == ("200", ErrorCodes.NO_ERROR)
    assert caller.status(await caller.ask()) == "200"


@scene
async def test_a_path_that_no_address_has_is_a_bad_request(caller: Http2Caller) -> None:
    for path in ("*", "http://portal/", "/a#b"):
        assert caller.status(await caller.ask((*GET[:-1], (":path", path)))) == "400"
    assert caller.started == []


@scene
async def test_a_failure_of_the_application_is_answered_500(caller: Http2Caller) -> None:
    async def fail(_scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError("a bug")

    caller.wire.protocol._config.loaded_app = fail
    assert caller.status(await caller.ask()) == "500"
    assert not caller.wire.is_closed


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────


@scene
async def test_a_connection_on_which_nothing_is_asked_is_closed(caller: Http2Caller) -> None:
    await caller.sync()
    for _ in range(20):
        caller.h2.ping(b"12345678")
        if not caller.wire.is_closed:
            await caller.sync(turns=5)
        await asyncio.sleep(1)
    assert caller.closed_after_s() == HEAD_S


@scene
async def test_a_connection_is_closed_some_time_after_its_last_answer(caller: Http2Caller) -> None:
    await asyncio.sleep(3)
    await caller.ask()
    await asyncio.sleep(60)
    assert caller.closed_after_s() == 3 + IDLE_S


@scene
async def test_too_many_fields_are_refused(caller: Http2Caller) -> None:
    stream_id = await caller.ask((*GET, *((f"a{number}", "") for number in range(MAX_FIELDS))))
    assert caller.status(stream_id) == "431"
    assert caller.started == []


@scene
async def test_a_head_above_the_bound_ends_the_connection(caller: Http2Caller) -> None:
    # Packed by the table it takes few bytes: the bound is on what it stands for.
    stream_id = caller.h2.get_next_available_stream_id()
    caller.h2.send_headers(
        stream_id, [*GET, *[("a", "y" * 4000)] * (MAX_HEAD_BYTES // 4000 + 1)], end_stream=True
    )
    await caller.sync()
    assert caller.goodbye() == ErrorCodes.ENHANCE_YOUR_CALM
    assert caller.wire.is_closed
    assert caller.started == []


@scene
async def test_a_head_without_end_is_not_kept(caller: Http2Caller) -> None:
    await caller.sync()
    await caller.say(_frame(1, 0, 1, b"\x82"))
    for _ in range(12):
        await caller.say(_frame(9, 0, 1, bytes([0x40, 1, 97, 127]) + b"y" * 16_000), turns=20)
    assert caller.wire.is_closed
    assert caller.started == []


@scene
async def test_a_body_that_is_not_whole_in_time_ends_its_stream(caller: Http2Caller) -> None:
    stream_id = await caller.ask(POST, is_whole=False)
    for _ in range(int(BODY_S) - 1):
        await asyncio.sleep(1)
        caller.h2.send_data(stream_id, b"x")
        await caller.sync(turns=5)
    assert caller.status(stream_id) is None
    await asyncio.sleep(2)
    await caller.sync()
    assert caller.status(stream_id) == "408"


@scene
async def test_all_bodies_that_nobody_reads_wait_in_one_window(caller: Http2Caller) -> None:
    async def never(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.Event().wait()

    caller.wire.protocol._config.loaded_app = never
    streams = [await caller.ask(POST, is_whole=False) for _ in range(3)]
    sent = 0
    for stream_id in streams:
        while size := min(caller.h2.local_flow_control_window(stream_id), 16_384):
            caller.h2.send_data(stream_id, bytes(size))
            await caller.sync(turns=10)
            sent += size
    assert sent == WINDOW_BYTES


@scene
async def test_an_answer_that_nobody_takes_is_given_up(caller: Http2Caller) -> None:
    caller.answer, caller.takes_data = bytes(1024 * 1024), False
    stream_id = await caller.ask()
    await asyncio.sleep(UNREAD_S - 1)
    await caller.sync()
    assert caller.reset_code(stream_id) is None
    await asyncio.sleep(2)
    await caller.sync()
    assert caller.reset_code(stream_id) == ErrorCodes.CANCEL
    assert caller.wire.protocol._requests == {}


@scene
async def test_whoever_reads_nothing_at_all_is_not_read_and_loses_the_connection(caller: Http2Caller) -> None:
    await caller.sync()
    caller.wire.is_read = False
    ping = _frame(6, 0, 0, b"12345678")
    while not caller.wire.is_paused:
        caller.wire.protocol.data_received(ping * 240)
        await asyncio.sleep(1)
        if caller.wire.is_closed:
            break
    assert len(caller.wire.written) < 200_000
    await asyncio.sleep(UNREAD_S + 1)
    assert caller.wire.is_aborted


@scene
async def test_so_many_requests_run_at_a_time_and_one_more_is_refused(caller: Http2Caller) -> None:
    caller.gate._most = caller.gate._most_of_one = 1000
    caller.may_answer.clear()
    for _ in range(MAX_STREAMS):
        await caller.ask()
        await asyncio.sleep(0.02)
    assert len(caller.started) == MAX_STREAMS
    # Whether its stream is open or not: what was reset is still at work.
    for stream_id in range(1, 40, 2):
        caller.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        await caller.sync(turns=2)
        await asyncio.sleep(0.02)
    assert len(caller.wire.protocol._requests) == MAX_STREAMS
    last = await caller.ask()
    assert caller.reset_code(last) == ErrorCodes.REFUSED_STREAM


@scene
async def test_a_request_beside_others_counts_as_a_connection_of_its_address(caller: Http2Caller) -> None:
    caller.may_answer.clear()
    streams = [await caller.ask() for _ in range(7)]
    assert len(caller.started) == 5, "the connection stands for one, and four more are let in"
    refused = [caller.reset_code(one) for one in streams if caller.reset_code(one) is not None]
    assert refused == [ErrorCodes.REFUSED_STREAM] * 2
    assert caller.counters["connections_refused"] == 2
    caller.may_answer.set()
    await caller.sync()
    assert caller.status(await caller.ask()) == "200"
    assert len(caller.gate._open) == 1, "only the connection is counted now"


@scene
async def test_a_flood_of_resets_is_read_no_faster_than_the_allowance(caller: Http2Caller) -> None:
    await caller.sync()
    began = len(caller.started)
    flood = b""
    for _ in range(MAX_REQUESTS // 2):
        stream_id = caller.h2.get_next_available_stream_id()
        caller.h2.send_headers(stream_id, list(GET), end_stream=True)
        caller.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        flood += caller.h2.data_to_send()
    caller.wire.protocol.data_received(flood)
    for _ in range(2000):
        await asyncio.sleep(0)
    # A request and its reset cost twenty tokens, and a slice of some sixty more is read beyond the last.
    assert len(caller.started) - began < ALLOWANCE / 20 + 200
    assert caller.wire.is_paused


@scene
async def test_a_flood_of_empty_frames_is_read_no_faster_than_the_allowance(caller: Http2Caller) -> None:
    await caller.sync()
    frame = _frame(4, 0, 0, b"")
    flood = frame * 20_000
    started_at_s = asyncio.get_running_loop().time()
    caller.wire.protocol.data_received(flood)
    while caller.wire.protocol._unfed:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0.1)
    took_s = asyncio.get_running_loop().time() - started_at_s
    assert took_s > (len(flood) / 32 - ALLOWANCE) / ALLOWANCE_PER_S - 1


@scene
async def test_a_window_that_wakes_many_answers_costs_for_each(caller: Http2Caller) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"nobody takes it"})

    caller.gate._most = caller.gate._most_of_one = 1000
    caller.wire.protocol._config.loaded_app = app
    caller.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    await caller.sync()
    for _ in range(20):
        await caller.ask()
    assert not caller.wire.is_paused
    for _ in range(300):
        caller.wire.protocol.data_received(_frame(8, 0, 0, (1).to_bytes(4, "big")))
        for _ in range(5):
            await asyncio.sleep(0)
    # As bytes they are worth 122 tokens.
    assert caller.wire.is_paused


@scene
async def test_after_many_requests_another_connection_is_asked_for(caller: Http2Caller) -> None:
    for _ in range(MAX_REQUESTS):
        stream_id = caller.h2.get_next_available_stream_id()
        caller.h2.send_headers(stream_id, list(GET), end_stream=True)
        await caller.say(caller.h2.data_to_send(), turns=12)
        await asyncio.sleep(0.02)
    await caller.sync()
    assert caller.status(stream_id) == "200"
    assert caller.goodbye() == ErrorCodes.NO_ERROR
    assert caller.wire.is_closed


@scene
async def test_a_connection_that_never_rests_is_told_to_go_and_its_answer_still_comes(
    caller: Http2Caller,
) -> None:
    answer = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    caller.wire.protocol._config.loaded_app = app
    slow = await caller.ask((*GET[:-1], (":path", "/slow")))
    for _ in range(MOST_REQUESTS - 2):
        caller.h2.send_headers(caller.h2.get_next_available_stream_id(), list(GET), end_stream=True)
        await caller.sync(turns=6)
        await asyncio.sleep(0.02)
    stream_id = caller.h2.get_next_available_stream_id()
    caller.h2.send_headers(stream_id, list(GET), end_stream=True)
    await caller.say(caller.h2.data_to_send())
    goodbye = _frame(7, 0, 0, stream_id.to_bytes(4, "big") + bytes(4))
    before, found, after = caller.wire.written.partition(goodbye)
    assert found
    answer.set()
    caller.wire.written = before[caller._read_up_to :] + after
    caller._read_up_to = 0
    await caller.sync()
    await asyncio.sleep(1)
    assert caller.status(slow) == "204"
    assert caller.wire.is_closed


@scene
async def test_a_stopping_server_answers_what_it_has_begun(caller: Http2Caller) -> None:
    caller.may_answer.clear()
    stream_id = await caller.ask()
    caller.wire.protocol.shutdown()
    assert not caller.wire.is_closed
    caller.may_answer.set()
    for _ in range(50):
        await asyncio.sleep(0)
    await caller.sync()
    assert caller.wire.is_closed
    assert (caller.status(stream_id), caller.goodbye()) == ("200", ErrorCodes.NO_ERROR)


@scene
async def test_a_connection_that_rests_is_read_again_when_it_closes(caller: Http2Caller) -> None:
    await caller.sync()
    caller.wire.protocol.data_received(_frame(4, 0, 0, b"") * 20_000)
    while not caller.wire.is_paused:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0)
    caller.wire.protocol.shutdown()
    assert caller.wire.is_closed
    # asyncio's TLS does not see a peer's end otherwise.
    assert not caller.wire.is_paused


@scene
async def test_an_application_learns_that_its_caller_has_gone(caller: Http2Caller) -> None:
    heard: list[Any] = []

    async def listen(_scope: Any, receive: Any, _send: Any) -> None:
        heard.extend([await receive(), await receive()])

    caller.wire.protocol._config.loaded_app = listen
    first, second = await caller.ask(), await caller.ask()
    caller.h2.reset_stream(first, ErrorCodes.CANCEL)
    await caller.sync()
    caller.wire.protocol.connection_lost(None)
    for _ in range(20):
        await asyncio.sleep(0)
    assert second > first
    assert [one["type"] for one in heard] == ["http.request", "http.disconnect"] * 2


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 12), st.integers(0, 255), st.integers(0, 5))
def test_whatever_is_sent_the_connection_ends_or_answers(
    junk: bytes, kind: int, flags: int, stream: int
) -> None:
    async def play() -> None:
        caller = Http2Caller()
        await caller.sync()
        await caller.say(_frame(kind, flags, stream, junk) + junk, turns=10)
        if not caller.wire.is_closed:
            await caller.say(_frame(kind, flags, stream, b""), turns=10)
        await asyncio.sleep(BODY_S + UNREAD_S)
        assert caller.wire.is_closed

    run_virtual(play())


@scene
async def test_a_window_that_stays_shut_from_the_beginning_holds_no_answer_for_ever(
    caller: Http2Caller,
) -> None:
    caller.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream_id = await caller.ask()
    assert caller.status(stream_id) == "200"
    await asyncio.sleep(UNREAD_S + 1)
    await caller.sync()
    assert caller.reset_code(stream_id) == ErrorCodes.CANCEL


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload
