"""The bounds of one connection (`wardgate.portal.protocols`), on virtual time and a transport that the test plays."""

import asyncio
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from ipaddress import ip_network
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.http11 import Request

from wardgate.portal import protocols
from wardgate.portal.connection_bounds import (
    BODY_S,
    CLOSE_S,
    ENDED_AT_ONCE,
    HEAD_S,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    SLICE_BYTES,
    UNREAD_S,
)
from wardgate.portal.protocols import MAX_FRAGMENTS, MAX_QUEUED, UPGRADE_S, Inbox
from wardgate.portal.strangers import Gate
from wardgate.simulation.virtual_time import run_virtual

HEAD = b"GET / HTTP/1.1\r\nHost: portal\r\n"
POST = b"POST / HTTP/1.1\r\nHost: portal\r\nContent-Length: 100\r\n\r\n"
UPGRADE = (
    b"GET /client/v2/websocket HTTP/1.1\r\nHost: portal\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bm5ubm5ubm5ubm5ubm5ubg==\r\n\r\n"
)


class Wire(asyncio.Transport):
    """A connection whose far end is the test; what is written counts as read unless `is_read` is off."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.written = b""
        self.unread = 0
        self.is_read = True
        self.is_paused = False
        self.is_closed = self.is_closed_twice = self.is_aborted = False
        self.closed_at_s: float | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def fileno(self) -> int:
        return 7

    def getpeername(self) -> tuple[str, int]:
        return ("192.0.2.7", 4711)

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.1", 80)

    @property
    def family(self) -> int:
        return 2

    def is_closing(self) -> bool:
        return self.is_closed

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        assert not self.is_closed_twice, "asyncio's TLS has forgotten its connection"
        return self.unread

    def write(self, data: Any) -> None:
        self.written += data
        if not self.is_read:
            was = self.unread
            self.unread += len(data)
            if was <= 65_536 < self.unread:
                self.protocol.pause_writing()

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        self.is_closed_twice = self.is_closed
        if not self.is_closed:
            self.is_closed = True
            self.closed_at_s = asyncio.get_running_loop().time()
            if not self.unread:
                asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        if not self.is_aborted and (self.unread or not self.is_closed):
            self.is_aborted = self.is_closed = True
            self.closed_at_s = asyncio.get_running_loop().time()
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, ConnectionAbortedError())


class Caller:
    """One connection to an application that answers what `answer` says, once it has read the body."""

    wire_type = Wire
    turn_s = 0.0

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answer = b"ok"
        self.parts = 1
        self.reads_body = True
        self.reads_frames = True
        self.counters: Counter[str] = Counter()
        self.gate = Gate(most=10, most_of_one=5, trusted=[ip_network("10.0.0.0/8")], counters=self.counters)
        assert self.gate.admit(7, "192.0.2.7")
        http, channel = protocols.protocols(self.gate)
        config = uvicorn.Config(
            self.app,
            http=http,
            ws=channel,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            ws_per_message_deflate=False,
            ws_ping_interval=None,
        )
        config.load()
        self.wire = self.wire_type()
        self.begun_at_s = asyncio.get_running_loop().time()
        self.wire.protocol = http(config, ServerState(), {}, asyncio.get_running_loop())
        self.wire.protocol.connection_made(self.wire)

    async def say(self, data: bytes, *, turns: int = 200) -> None:
        """Hand over bytes as the network does, and give the loop its turns."""
        for start in range(0, len(data), 256 * 1024):
            while self.wire.is_paused and not self.wire.is_closed:  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(self.turn_s)
            if not self.wire.is_closed:
                self.wire.protocol.data_received(data[start : start + 256 * 1024])
        for _ in range(turns):
            await asyncio.sleep(0)

    def closed_after_s(self) -> float | None:
        return None if self.wire.closed_at_s is None else self.wire.closed_at_s - self.begun_at_s

    async def app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.started.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await self.may_answer.wait()
            await send({"type": "websocket.accept"})
            while self.reads_frames:
                self.received.append(await receive())
                if self.received[-1]["type"] == "websocket.disconnect":
                    return
            await asyncio.Event().wait()
        while self.reads_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if not message["more_body"]:
                break
        await self.may_answer.wait()
        headers = [(b"content-length", str(len(self.answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        size = len(self.answer) // self.parts
        for start in range(0, len(self.answer), size):
            has_more = start + size < len(self.answer)
            body = self.answer[start : start + size]
            await send({"type": "http.response.body", "body": body, "more_body": has_more})


def scene(play: Callable[[Caller], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of what happens on one connection."""

    async def run() -> None:
        await play(Caller())

    def test() -> None:
        run_virtual(run())

    test.__name__ = play.__name__
    return test


def test_the_bounds_that_the_other_tests_go_by() -> None:
    assert (HEAD_S, BODY_S, UNREAD_S, UPGRADE_S, CLOSE_S) == (10, 40, 30, 15, 10)
    assert (MAX_HEAD_BYTES, SLICE_BYTES) == (65_536, 4096)
    assert (MAX_FIELDS, MAX_QUEUED, MAX_FRAGMENTS) == (200, 16, 1024)


def test_connections_that_are_over_together_end_a_few_at_a_time() -> None:
    async def play() -> None:
        http, _channel = protocols.protocols(
            Gate(most=1000, most_of_one=1000, trusted=[], counters=Counter())
        )
        config = uvicorn.Config(idle, http=http, lifespan="off", interface="asgi3", log_config=None)
        config.load()
        wires = [Wire() for _ in range(10 * ENDED_AT_ONCE + 1)]
        for wire in wires:
            wire.protocol = http(config, ServerState(), {}, asyncio.get_running_loop())
            wire.protocol.connection_made(wire)
        await asyncio.sleep(HEAD_S)
        ended: list[int] = []
        asked = wires[0]
        while sum(wire.is_closed for wire in wires) < len(wires) - 1:
            ended.append(sum(wire.is_closed for wire in wires))
            if len(ended) == 2:
                asked = next(wire for wire in wires if not wire.is_closed)
                asked.protocol.data_received(HEAD + b"\r\n")
            await asyncio.sleep(0)
        steps = [after - before for before, after in itertools.pairwise(ended)]
        assert max(steps) <= ENDED_AT_ONCE
        assert not asked.is_closed, "it was asked for something before its turn came"

    run_virtual(play())


async def idle(_scope: Any, _receive: Any, _send: Any) -> None:
    await asyncio.Event().wait()


@scene
async def test_a_connection_on_which_nothing_is_asked_is_closed_without_a_word(caller: Caller) -> None:
    await asyncio.sleep(HEAD_S + 1)
    assert caller.closed_after_s() == HEAD_S
    assert caller.wire.written == b""


@scene
async def test_a_head_that_is_not_whole_in_time_is_refused_however_it_trickles(caller: Caller) -> None:
    await caller.say(HEAD)
    for number in range(12):
        await asyncio.sleep(1)
        await caller.say(b"X-%d: y\r\n" % number, turns=5)
    assert caller.closed_after_s() == HEAD_S
    assert caller.wire.written.startswith(b"HTTP/1.1 408 ")
    assert caller.started == []


@scene
async def test_empty_lines_are_the_beginning_of_a_head_too(caller: Caller) -> None:
    await caller.say(HEAD + b"\r\n")
    answered_at_s = asyncio.get_running_loop().time()
    for _ in range(20):
        await caller.say(b"\r\n", turns=5)
        await asyncio.sleep(1)
    assert caller.wire.closed_at_s is not None
    assert caller.wire.closed_at_s - answered_at_s <= HEAD_S


@scene
async def test_a_head_above_the_bound_is_refused_and_not_kept(caller: Caller) -> None:
    await caller.say(HEAD + b"X: " + b"y" * (MAX_HEAD_BYTES + 2 * SLICE_BYTES))
    assert caller.wire.is_closed
    assert caller.wire.written.startswith(b"HTTP/1.1 431 ")


@scene
async def test_a_head_just_below_the_bound_is_answered(caller: Caller) -> None:
    await caller.say(HEAD + b"X: " + b"y" * (MAX_HEAD_BYTES - SLICE_BYTES) + b"\r\n\r\n")
    assert caller.wire.written.startswith(b"HTTP/1.1 200 ")


@scene
async def test_too_many_fields_are_refused_even_in_a_small_head(caller: Caller) -> None:
    await caller.say(HEAD + b"a:\r\n" * MAX_FIELDS + b"\r\n")
    assert caller.wire.written.startswith(b"HTTP/1.1 431 ")
    assert caller.started == []


@scene
async def test_too_many_fields_of_an_upgrade_are_refused(caller: Caller) -> None:
    await caller.say(UPGRADE[:-2] + b"a:\r\n" * MAX_FIELDS + b"\r\n")
    assert caller.wire.written.startswith(b"HTTP/1.1 431 ")
    assert caller.started == []


@scene
async def test_a_body_that_is_not_whole_in_time_ends_the_connection(caller: Caller) -> None:
    await caller.say(POST)
    for _ in range(60):
        await asyncio.sleep(1)
        await caller.say(b"x", turns=5)
    assert caller.closed_after_s() == BODY_S


@scene
async def test_a_body_that_nobody_wants_any_more_is_bounded_too(caller: Caller) -> None:
    caller.reads_body = False
    await caller.say(POST)
    assert caller.wire.written.startswith(b"HTTP/1.1 200 ")
    for _ in range(60):
        await asyncio.sleep(1)
        await caller.say(b"x", turns=5)
    assert caller.closed_after_s() == BODY_S


@scene
async def test_the_end_of_a_body_that_nobody_wanted_begins_the_idle_time(caller: Caller) -> None:
    caller.reads_body = False
    await caller.say(POST)
    await asyncio.sleep(1)
    await caller.say(b"x" * 100)
    await asyncio.sleep(20)
    assert caller.closed_after_s() == 6


@scene
async def test_trailers_are_bounded_like_a_head(caller: Caller) -> None:
    await caller.say(b"POST / HTTP/1.1\r\nHost: portal\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    await caller.say(b"X: " + b"y" * (MAX_HEAD_BYTES + 2 * SLICE_BYTES))
    assert caller.wire.is_closed


@scene
async def test_a_large_body_in_many_chunks_passes(caller: Caller) -> None:
    await caller.say(b"POST / HTTP/1.1\r\nHost: portal\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        await caller.say(b"1\r\nx\r\n" * 10_000)
    await caller.say(b"0\r\n\r\n")
    assert caller.wire.written.startswith(b"HTTP/1.1 200 ")


@scene
async def test_an_idle_connection_is_closed(caller: Caller) -> None:
    await caller.say(HEAD + b"\r\n")
    await asyncio.sleep(10)
    assert caller.closed_after_s() == 5


@scene
async def test_few_requests_wait_behind_the_one_that_is_answered_and_all_are_answered(caller: Caller) -> None:
    caller.may_answer.clear()
    requests = 1_000
    asking = asyncio.create_task(caller.say((HEAD + b"\r\n") * requests))
    for _ in range(1_000):
        await asyncio.sleep(0)
    most_in_a_slice = SLICE_BYTES // len(HEAD) + 1
    assert len(caller.wire.protocol.pipeline) <= MAX_QUEUED + most_in_a_slice
    assert caller.wire.is_paused
    caller.may_answer.set()
    await asking
    while caller.wire.written.count(b"200 OK") < requests:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0)
    assert not caller.wire.is_paused


@scene
async def test_an_answer_of_which_nothing_is_read_ends_the_connection(caller: Caller) -> None:
    caller.answer = b"x" * 1_000_000
    caller.wire.is_read = False
    await caller.say(HEAD + b"\r\n")
    await asyncio.sleep(UNREAD_S + CLOSE_S + 1)
    assert caller.wire.is_aborted
    assert (caller.closed_after_s() or 0) <= UNREAD_S


@scene
async def test_an_answer_that_cannot_go_on_ends_the_connection(caller: Caller) -> None:
    caller.answer, caller.parts = b"x" * 1_000_000, 10
    caller.wire.is_read = False
    await caller.say(HEAD + b"\r\n")
    await asyncio.sleep(2 * UNREAD_S)
    assert caller.wire.is_aborted
    assert caller.closed_after_s() == UNREAD_S


@scene
async def test_an_answer_that_is_read_slowly_goes_on(caller: Caller) -> None:
    caller.answer, caller.parts = b"x" * 1_000_000, 10
    caller.wire.is_read = False
    await caller.say(HEAD + b"\r\n")
    for _ in range(10):
        await asyncio.sleep(UNREAD_S - 1)
        caller.wire.unread -= 10
    assert not caller.wire.is_closed


@scene
async def test_a_flood_on_one_connection_leaves_the_loop_a_turn_after_every_slice(caller: Caller) -> None:
    caller.wire.protocol.data_received(HEAD + b"a:\r\n" * 64)
    turns = 0
    caller.wire.protocol.data_received(b"b: " + b"y" * 50_000)
    while caller.wire.protocol._unfed:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 50_000 // SLICE_BYTES


# ── upgraded ─────────────────────────────────────────────────────────────────────────────────────────────────


@scene
async def test_an_upgrade_that_is_accepted_counts_against_its_address_no_longer(caller: Caller) -> None:
    for number in range(4):
        assert caller.gate.admit(100 + number, "192.0.2.7")
    assert not caller.gate.admit(200, "192.0.2.7")
    await caller.say(UPGRADE)
    assert b" 101 " in caller.wire.written
    assert caller.gate.admit(200, "192.0.2.7")


def test_the_head_of_an_upgrade_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_arguments: Any) -> Any:
        raise AssertionError("the library parses it again")

    async def play() -> None:
        caller = Caller()
        await caller.say(UPGRADE)
        assert b" 101 " in caller.wire.written
        await caller.say(_frame(0x1, b"hello"))
        assert [one["text"] for one in caller.received] == ["hello"]

    monkeypatch.setattr(Request, "parse", parse)
    run_virtual(play())


@pytest.mark.parametrize(
    ("head", "is_ours"),
    [
        (UPGRADE, True),
        (UPGRADE.replace(b"websocket\r", b"WebSocket\r").replace(b"Connection: U", b"connection: u"), True),
        (UPGRADE.replace(b"Host", b"Sec-WebSocket-Extensions: permessage-deflate\r\nHost"), True),
        (
            UPGRADE.replace(b"/client/v2", b"/%63lient/v2").replace(b"socket HTTP", b"socket?a=%C3%A9? HTTP"),
            True,
        ),
        (UPGRADE.replace(b" /client", b" http://portal/client"), True),
        (UPGRADE.replace(b"Connection: ", b"Connection: keep-alive, "), False),
        (UPGRADE.replace(b"Host", b"Connection: close\r\nHost"), False),
        (UPGRADE.replace(b"Host", b"Sec-WebSocket-Protocol: a, b\r\nHost"), False),
        (UPGRADE.replace(b": 13", b": 12"), False),
        (UPGRADE.replace(b"bg==", b"bh=="), False),
        (UPGRADE.replace(b"bg==", b"bg="), False),
        (UPGRADE.replace(b"bg==", b"-g=="), False),
        (UPGRADE.replace(b"bg==", b"bm5ubg=="), False),
        (UPGRADE.replace(b"Host", b"Sec-WebSocket-Key: bm5ubm5ubm5ubm5ubm5ubg==\r\nHost"), False),
        (UPGRADE.replace(b"Host", b"Upgrade: websocket\r\nHost"), False),
        (UPGRADE.replace(b"GET", b"PUT"), False),
    ],
)
def test_an_upgrade_is_answered_as_by_the_library(
    head: bytes, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes | None] = []
    accept_key = protocols._accept_key

    def noted(method: str, headers: Any) -> bytes | None:
        asked.append(accept_key(method, headers))
        return asked[-1]

    async def play() -> tuple[bytes, list[dict[str, Any]], list[Any]]:
        caller = Caller()
        await caller.say(head)
        await caller.say(_frame(0x1, b"hello"))
        texts = [one.get("text") for one in caller.received]
        scopes = [
            {name: value for name, value in one.items() if name != "extensions"} for one in caller.started
        ]
        # The library's answer has the date of the second in which it refuses.
        return re.sub(rb"Date: [^\r]+", b"Date: then", caller.wire.written), scopes, texts

    monkeypatch.setattr(protocols, "_accept_key", noted)
    ours = run_virtual(play())
    monkeypatch.setattr(protocols, "_accept_key", lambda _method, _headers: None)
    assert ours == run_virtual(play())
    assert [one is not None for one in asked] == [is_ours]


@scene
async def test_what_an_upgrade_says_reaches_the_application_as_it_was_said(caller: Caller) -> None:
    caller.may_answer.clear()
    await caller.say(
        UPGRADE.replace(b"socket HTTP", b"socket?name=%C3%A9&a=b HTTP").replace(
            b"Host: portal", b"Host: portal\r\nX-Place: K\xf6ln\r\nX-Place: Bonn"
        )
    )
    (scope,) = caller.started
    assert (scope["path"], scope["query_string"]) == ("/client/v2/websocket", b"name=%C3%A9&a=b")
    assert scope["headers"][:3] == [(b"host", b"portal"), (b"x-place", b"K\xf6ln"), (b"x-place", b"Bonn")]


@scene
async def test_of_an_upgrade_that_is_accepted_the_head_is_kept_nowhere(caller: Caller) -> None:
    await caller.say(UPGRADE.replace(b"Host", b"X-Long: " + b"y" * 500 + b"\r\nHost"))
    protocol = caller.wire.protocol
    assert (protocol.request, protocol.response, protocol.scope["headers"]) == (None, None, [])


def test_an_inbox_hands_out_in_order_and_survives_a_reader_that_leaves() -> None:
    async def scene() -> None:
        inbox = Inbox()
        reading = asyncio.ensure_future(inbox.get())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait((reading,))
        for number in range(3):
            inbox.put_nowait(number)
        assert [await inbox.get() for _ in range(2)] == [0, 1]
        assert (inbox.qsize(), inbox.empty()) == (1, False)
        assert await inbox.get() == 2
        reading = asyncio.ensure_future(inbox.get())
        await asyncio.sleep(0)
        inbox.put_nowait(3)
        inbox.put_nowait(4)
        assert (await reading, await inbox.get(), inbox.empty()) == (3, 4, True)

    run_virtual(scene())


@scene
async def test_an_upgrade_that_gets_no_answer_is_ended(caller: Caller) -> None:
    caller.may_answer.clear()
    await caller.say(UPGRADE)
    await asyncio.sleep(UPGRADE_S + 1)
    assert caller.closed_after_s() == UPGRADE_S


@scene
async def test_an_accepted_upgrade_is_not_ended_by_the_time_for_upgrades(caller: Caller) -> None:
    await caller.say(UPGRADE)
    await asyncio.sleep(10 * UPGRADE_S)
    assert not caller.wire.is_closed


@pytest.mark.parametrize(
    "head",
    [
        UPGRADE.replace(b"Host", b"Content-Length: 5\r\nHost"),
        UPGRADE.replace(b"Host", b"X: " + b"y" * 9_000 + b"\r\nHost"),
        UPGRADE.replace(b"Host", b"a: b\r\n" * 150 + b"Host"),
        UPGRADE.replace(b"/client", b"/cli\xc3\xa9nt"),
        UPGRADE.replace(b"socket HTTP", b"socket?name=\xc3\xa9 HTTP"),
        UPGRADE.replace(b"Sec-WebSocket-Key: bm5ubm5ubm5ubm5ubm5ubg==\r\n", b""),
    ],
    ids=["a body", "a long field", "many fields", "bytes in the path", "bytes in the query", "no key"],
)
def test_an_upgrade_that_is_none_is_ended_without_a_traceback(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        caller = Caller()
        await caller.say(head)
        await asyncio.sleep(CLOSE_S + 1)
        assert caller.wire.is_closed
        assert caller.wire.written.startswith(b"HTTP/1.1 4")
        assert caller.started == []

    run_virtual(play())
    assert [one for one in caplog.records if one.exc_info] == []


@scene
async def test_frames_are_not_looked_at_before_the_upgrade_is_accepted(caller: Caller) -> None:
    caller.may_answer.clear()
    await caller.say(UPGRADE)
    await caller.say(_frame(0x1, b"early"))
    assert caller.wire.is_paused
    caller.may_answer.set()
    await caller.say(b"")
    assert [one["text"] for one in caller.received] == ["early"]
    assert not caller.wire.is_paused


@scene
async def test_a_head_of_several_slices_is_upgraded_and_read_on(caller: Caller) -> None:
    await caller.say(UPGRADE.replace(b"Host", b"X: " + b"y" * 7_000 + b"\r\nHost"))
    assert not caller.wire.is_paused
    await caller.say(_frame(0x1, b"hello"))
    assert [one["text"] for one in caller.received] == ["hello"]


@scene
async def test_a_frame_that_is_taken_never_holds_the_reading(caller: Caller) -> None:
    await caller.say(UPGRADE)
    held: list[bool] = []
    caller.wire.pause_reading = lambda: held.append(True)  # type: ignore[method-assign]
    for number in range(3):
        await caller.say(_frame(0x1, b"%d" % number))
    assert ([one["text"] for one in caller.received], held) == (["0", "1", "2"], [])


@scene
async def test_the_first_frame_of_a_turn_is_handed_over_and_the_others_are_received(caller: Caller) -> None:
    taken: list[str] = []

    def take(text: str) -> bool:
        taken.append(text)
        return True

    await caller.say(UPGRADE)
    caller.wire.protocol.hand_over(take)
    caller.wire.protocol.data_received(_frame(0x1, b"a") + _frame(0x1, b"b") + _frame(0x1, b"c"))
    assert (taken, caller.received) == (["a"], [])
    await caller.say(b"")
    await caller.say(_frame(0x2, b"d"))  # no text
    await caller.say(_frame(0x1, b"e"))
    assert [one.get("text") for one in caller.received] == ["b", "c", None]
    assert (taken, caller.wire.is_paused) == (["a", "e"], False)


@scene
async def test_a_frame_is_handed_over_only_to_whom_waits_and_received_if_it_is_not_taken(
    caller: Caller,
) -> None:
    offered: list[str] = []

    def decline(text: str) -> bool:
        offered.append(text)
        return False

    await caller.say(UPGRADE)
    caller.wire.protocol.hand_over(decline)
    caller.wire.protocol.data_received(_frame(0x1, b"a"))
    caller.wire.protocol.data_received(_frame(0x1, b"b"))  # nobody waits: the first has not been received
    assert offered == ["a"]
    await caller.say(b"")
    assert (offered, [one["text"] for one in caller.received]) == (["a", "b"], ["a", "b"])


@scene
async def test_many_frames_of_which_some_are_handed_over_keep_their_order(caller: Caller) -> None:
    seen: list[str] = []

    def take(text: str) -> bool:
        seen.append(text)
        return True

    caller.received = _Texts(seen)
    await caller.say(UPGRADE)
    caller.wire.protocol.hand_over(take)
    await caller.say(b"".join(_frame(0x1, b"%d" % number) for number in range(2_000)), turns=5_000)
    assert seen == [str(number) for number in range(2_000)]


class _Texts(list[Any]):
    """What is received, noted where it is also noted what is handed over."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self._seen = seen

    def append(self, message: Any) -> None:
        super().append(message)
        self._seen.append(message["text"])


@scene
async def test_frames_written_together_arrive_one_by_one(caller: Caller) -> None:
    await caller.say(UPGRADE)
    channel, before = caller.wire.protocol, len(caller.wire.written)
    assert (channel.is_writable(), channel.has_unread()) == (True, False)
    channel.write(["one", "zwölf"])
    assert caller.wire.written[before:] == b"\x81\x03one" + b"\x81\x06" + "zwölf".encode()


@scene
async def test_a_channel_is_not_writable_while_its_peer_does_not_read_nor_when_it_ends(
    caller: Caller,
) -> None:
    caller.may_answer.clear()
    await caller.say(UPGRADE)
    channel = caller.wire.protocol
    assert not channel.is_writable()  # not yet accepted
    caller.may_answer.set()
    await caller.say(b"")
    caller.wire.is_read = False
    channel.write(["x" * 70_000])
    assert not channel.is_writable()
    channel.resume_writing()
    assert channel.is_writable()
    await channel.send({"type": "websocket.close", "code": 1000})
    assert not channel.is_writable()


@scene
async def test_frames_that_are_not_taken_hold_the_reading(caller: Caller) -> None:
    caller.reads_frames = False
    await caller.say(UPGRADE)
    caller.wire.protocol.data_received(_frame(0x1, b"x") * 20_000)
    for _ in range(100):
        await asyncio.sleep(0)
    assert caller.wire.is_paused
    assert caller.wire.protocol.queue.qsize() <= SLICE_BYTES // len(_frame(0x1, b"x")) + 1


@scene
async def test_all_of_many_frames_arrive_in_order(caller: Caller) -> None:
    await caller.say(UPGRADE)
    await caller.say(b"".join(_frame(0x1, b"%d" % number) for number in range(5_000)), turns=10_000)
    assert [one["text"] for one in caller.received] == [str(number) for number in range(5_000)]


def test_a_frame_that_is_no_text_closes_with_1007_and_one_line_for_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play() -> None:
        caller = Caller()
        await caller.say(UPGRADE)
        await caller.say(_frame(0x1, b"\xff\xfe"))
        assert caller.wire.written.endswith(b"\x88\x02" + (1007).to_bytes(2, "big"))
        assert caller.received[-1]["type"] == "websocket.disconnect"
        assert caller.wire.is_closed

    from wardgate.portal.server import _is_relevant

    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(_is_relevant)
    try:
        with caplog.at_level(logging.DEBUG):
            run_virtual(play())
    finally:
        logger.removeFilter(_is_relevant)
    (line,) = [one for one in caplog.records if one.name.startswith("wardgate") or one.levelno > logging.INFO]
    assert line.levelno == logging.DEBUG


@scene
async def test_a_message_of_too_many_fragments_closes(caller: Caller) -> None:
    await caller.say(UPGRADE)
    await caller.say(_frame(0x1, b"", is_last=False) + _frame(0x0, b"", is_last=False) * (MAX_FRAGMENTS - 2))
    assert not caller.wire.is_closed
    await caller.say(_frame(0x0, b"", is_last=False) * 2)
    assert caller.wire.is_closed
    assert (1009).to_bytes(2, "big") in caller.wire.written[-30:]


@scene
async def test_pings_of_a_peer_that_reads_no_answers_pile_up_nothing(caller: Caller) -> None:
    await caller.say(UPGRADE)
    caller.wire.is_read = False
    await caller.say(_frame(0x9, b"p" * 125) * 10_000, turns=5_000)
    assert caller.wire.unread < 200_000
    assert not caller.wire.is_closed


def _frame(opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
    """Frame as a client does, with a mask of zeros (RFC 6455 §5.3)."""
    assert len(payload) < 126
    return bytes([opcode | (0x80 if is_last else 0), 0x80 | len(payload)]) + bytes(4) + payload
