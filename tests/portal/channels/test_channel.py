"""Framing, life cycle and limits of a channel (protocol §1.8 to §1.11), on a clock that the test moves."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from support.portal import World
from wardgate.portal.channels.session import (
    ALLOWANCES,
    JOINS_AT_ONCE,
    MAX_BACKLOG_BYTES,
    MAX_FRAME_BYTES,
    MAX_REPLY_BACKLOG_BYTES,
    MAX_STALL_S,
    CloseCode,
    Session,
)
from wardgate.portal.database.row_changes import RowChange
from wardgate.wire import messages as wire
from wardgate.wire.dialect import Dialect, Generation, PeerKind
from wardgate.wire.frames import Framing


class ManualClock:
    def __init__(self) -> None:
        self.at_s = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.at_s, UTC)

    def monotonic(self) -> float:
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a session never waits")


class Echo(Session):
    """The least session: tells that it joined, fails on demand."""

    def __init__(self, framing: Framing = Framing.OBJECT, kind: PeerKind = PeerKind.CLIENT) -> None:
        self.clock = ManualClock()
        self.counters: Counter[str] = Counter()
        self.left = 0
        super().__init__(Dialect(kind, Generation.V2), framing, clock=self.clock, counters=self.counters)

    def _on_join(self, message: wire.Message) -> None:
        self.push(wire.ResourceDeleted("joined"))  # type: ignore[arg-type]

    def _on_leave(self) -> None:
        self.left += 1

    def _on_request(self, message: wire.Message) -> str | None:
        match message:
            case wire.NoRelays():
                raise RuntimeError("a fault of ours")
            case wire.SetSnownetCapabilities():
                return ""
            case _:
                return None

    def _on_message(self, message: object) -> None: ...
    def _on_changes(self, changes: Sequence[RowChange]) -> None: ...
    def _on_timeout(self) -> None: ...
    def _next_timeout(self) -> float | None:
        return None

    def push(self, message: wire.Message) -> None:
        self._push(message)

    def stop(self, reason: str | None = None) -> None:
        self._stop(reason)

    def drain(self) -> list[Any]:
        drained = []
        while (text := self.poll_transmit()) is not None:
            self.handle_transmitted()
            drained.append(msgspec.json.decode(text))
        return drained

    def say(self, topic: str, event: str, payload: Any = None, ref: Any = 1) -> list[Any]:
        frame = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        self.handle_text(msgspec.json.encode(frame).decode())
        return self.drain()


@pytest.fixture
def session() -> Echo:
    return Echo()


def test_a_join_is_answered_with_the_empty_object_before_anything_is_pushed(session: Echo) -> None:
    reply, push = session.say("client", "phx_join", ref=0)
    assert reply == {
        "topic": "client",
        "event": "phx_reply",
        "payload": {"status": "ok", "response": {}},
        "ref": 0,
    }
    assert push["event"] == "resource_deleted"
    assert push["ref"] is None


@pytest.mark.parametrize("ref", [0, 7, "7", None])
def test_a_reply_carries_the_very_ref_of_its_request(session: Echo, ref: Any) -> None:
    (reply,) = session.say("phoenix", "heartbeat", {}, ref=ref)
    assert reply["ref"] == ref
    assert type(reply["ref"]) is type(ref)
    assert reply["topic"] == "phoenix"


def test_heartbeats_are_answered_before_the_join_too(session: Echo) -> None:
    (reply,) = session.say("phoenix", "heartbeat", {})
    assert reply["payload"] == {"status": "ok", "response": {}}


@pytest.mark.parametrize(
    ("topic", "event", "payload", "reason"),
    [
        ("gateway", "phx_join", None, "unmatched topic"),
        ("elsewhere", "anything", {}, "unmatched topic"),
        ("client", "anything", {}, "unknown_message"),
        ("client", "create_flow", {"resource_id": "b1b1b1b1-0000-4000-8000-000000000001"}, "unknown_message"),
        ("client", "request_authorization", {}, "unknown_message"),
        ("client", "request_authorization", {"resource_id": "no uuid"}, "unknown_message"),
        ("client", "request_authorization", None, "unknown_message"),
    ],
)
def test_what_is_not_understood_gets_an_error_reply(
    session: Echo, topic: str, event: str, payload: Any, reason: str
) -> None:
    session.say("client", "phx_join")
    (reply,) = session.say(topic, event, payload, ref=5)
    assert reply["payload"] == {"status": "error", "response": {"reason": reason}}
    assert reply["ref"] == 5
    assert session.poll_close() is None


def test_nothing_but_a_join_is_understood_before_the_join(session: Echo) -> None:
    (reply,) = session.say("client", "set_snownet_capabilities", {"iceless": True})
    assert reply["payload"]["response"] == {"reason": "unmatched topic"}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"topic":1}', "x" * 1000, '{"topic":"client"}'])
def test_what_is_no_frame_is_counted_and_dropped(session: Echo, text: str) -> None:
    session.handle_text(text)
    session.handle_binary()
    assert session.drain() == []
    assert session.poll_close() is None
    assert session.counters == {"frames_malformed": 1, "frames_binary": 1}


def test_a_second_join_closes_the_first_channel(session: Echo) -> None:
    session.say("client", "phx_join", ref=0)
    close, reply, _push = session.say("client", "phx_join", ref=1)
    assert close["event"] == "phx_close"
    assert reply["ref"] == 1
    assert session.left == 1


def test_a_leave_ends_the_channel_and_not_the_socket(session: Echo) -> None:
    session.say("client", "phx_join")
    reply, close = session.say("client", "phx_leave")
    assert reply["payload"]["status"] == "ok"
    assert close["event"] == "phx_close"
    assert session.left == 1
    assert session.poll_close() is None


def test_a_fault_ends_this_channel_with_a_restart_code(session: Echo) -> None:
    session.say("client", "phx_join")
    (error,) = session.say("client", "no_relays", {})
    assert error["event"] == "phx_error"
    assert session.poll_close() is CloseCode.SERVICE_RESTART
    assert session.left == 1
    assert session.counters["channel_crashes"] == 1


def test_stopping_with_a_reason_signs_the_peer_out(session: Echo) -> None:
    session.say("client", "phx_join")
    session.stop("token_expired")
    disconnect, close = session.drain()
    assert (disconnect["event"], disconnect["payload"]) == ("disconnect", {"reason": "token_expired"})
    assert close["event"] == "phx_close"
    assert session.poll_close() is CloseCode.NORMAL
    assert session.poll_timeout() is None


@pytest.mark.parametrize(
    ("kind", "idle_s"), [(PeerKind.CLIENT, 37), (PeerKind.GATEWAY, 37), (PeerKind.RELAY, 41)]
)
def test_a_silent_peer_is_closed_after_its_idle_time(kind: PeerKind, idle_s: float) -> None:
    session = Echo(kind=kind)
    assert session.poll_timeout() == session.clock.at_s + idle_s
    session.clock.at_s += idle_s - 0.1
    session.handle_timeout()
    assert session.poll_close() is None
    session.clock.at_s += 0.1
    session.handle_timeout()
    assert session.poll_close() is CloseCode.GOING_AWAY


def test_any_frame_keeps_the_connection(session: Echo) -> None:
    session.clock.at_s += 36
    session.handle_text("not json")
    session.clock.at_s += 36
    session.handle_binary()
    assert session.poll_timeout() == session.clock.at_s + 37


def test_a_frame_at_the_limit_passes_and_one_above_closes(session: Echo) -> None:
    session.handle_text("x" * MAX_FRAME_BYTES)
    assert session.poll_close() is None
    session.handle_text("x" * (MAX_FRAME_BYTES + 1))
    assert session.poll_close() is CloseCode.TOO_BIG
    assert session.counters["frames_too_big"] == 1


def test_a_frame_is_measured_in_bytes(session: Echo) -> None:
    session.handle_text("é" * (MAX_FRAME_BYTES // 2 + 1))
    assert session.poll_close() is CloseCode.TOO_BIG


def test_a_reader_is_closed_when_more_waits_for_it_than_may(session: Echo) -> None:
    session.say("client", "phx_join")
    name = "x" * 1_000_000
    for _ in range(MAX_BACKLOG_BYTES // 1_000_100):
        session.push(wire.Disconnect(name))
    assert session.poll_close() is None
    session.push(wire.Disconnect(name))
    session.push(wire.Disconnect(name))
    assert session.poll_close() is CloseCode.POLICY_VIOLATION
    assert session.poll_transmit() is None
    assert session.counters["closed_slow_reader"] == 1


def test_what_was_taken_for_the_network_waits_no_longer(session: Echo) -> None:
    session.say("client", "phx_join")
    name = "x" * 1_000_000
    for _ in range(3 * MAX_BACKLOG_BYTES // 1_000_000):
        session.push(wire.Disconnect(name))
        session.drain()
    assert session.poll_close() is None


def test_a_peer_that_does_not_read_the_answers_to_itself_is_closed_earlier(session: Echo) -> None:
    session.say("client", "phx_join")
    echo = msgspec.json.encode({"topic": "x" * 200_000, "event": "y", "payload": {}, "ref": 1}).decode()
    for _ in range(MAX_REPLY_BACKLOG_BYTES // 200_100):
        session.handle_text(echo)
    assert session.poll_close() is None
    session.handle_text(echo)
    assert session.poll_close() is CloseCode.POLICY_VIOLATION


def test_a_reader_that_takes_nothing_of_a_frame_for_fifteen_seconds_is_closed(session: Echo) -> None:
    session.say("client", "phx_join")
    session.push(wire.Disconnect("news"))
    assert session.poll_transmit() is not None
    assert session.poll_timeout() == session.clock.at_s + MAX_STALL_S == session.clock.at_s + 15
    session.clock.at_s += 14.9
    session.handle_timeout()
    assert session.poll_close() is None
    session.clock.at_s += 0.1
    session.handle_timeout()
    assert session.poll_close() is CloseCode.POLICY_VIOLATION
    assert session.counters["closed_slow_reader"] == 1


def test_a_reader_that_takes_a_little_of_a_frame_is_kept(session: Echo) -> None:
    session.say("client", "phx_join")
    session.push(wire.Disconnect("news"))
    assert session.poll_transmit() is not None
    session.clock.at_s += 10
    session.handle_progress()
    session.clock.at_s += 10
    session.handle_timeout()
    assert session.poll_close() is None


def test_a_frame_that_the_writer_has_not_come_to_is_not_the_readers_fault(session: Echo) -> None:
    session.say("client", "phx_join")
    session.push(wire.Disconnect("news"))
    session.clock.at_s += 20
    session.handle_timeout()
    assert session.poll_close() is None


def test_who_says_more_than_its_allowance_is_read_more_slowly(session: Echo) -> None:
    capacity, refill_per_s = ALLOWANCES[PeerKind.CLIENT]
    session.say("client", "phx_join")
    while session.read_delay_s() == 0:
        session.handle_binary()
    assert session.counters["frames_binary"] == pytest.approx(capacity * (1 - 1 / JOINS_AT_ONCE), abs=2)
    session.handle_text("not json")
    assert session.read_delay_s() == pytest.approx(2 / refill_per_s, rel=0.01)
    session.clock.at_s += session.read_delay_s()
    assert session.read_delay_s() == pytest.approx(0, abs=1e-9)
    assert session.poll_close() is None


def test_a_peer_that_joins_again_and_again_is_read_more_slowly(session: Echo) -> None:
    joins = 0
    while session.read_delay_s() == 0:
        session.say("client", "phx_join")
        joins += 1
    assert joins == JOINS_AT_ONCE
    capacity, refill_per_s = ALLOWANCES[PeerKind.CLIENT]
    session.clock.at_s += session.read_delay_s()
    session.say("client", "phx_join")
    assert session.read_delay_s() > 0.9 * capacity / JOINS_AT_ONCE / refill_per_s


def test_an_allowance_refills_to_its_capacity_and_no_further(session: Echo) -> None:
    capacity, _refill_per_s = ALLOWANCES[PeerKind.CLIENT]
    session.clock.at_s += 1_000_000
    for _ in range(int(capacity) - 1):
        session.handle_binary()
    assert session.read_delay_s() == 0
    session.handle_binary()
    assert session.read_delay_s() > 0


def test_the_array_form_carries_the_join_ref() -> None:
    session = Echo(Framing.ARRAY)
    session.handle_text('["1","1","client","phx_join",null]')
    reply, push = session.drain()
    assert reply == ["1", "1", "client", "phx_reply", {"status": "ok", "response": {}}]
    assert push[:3] == ["1", None, "client"]


def test_nothing_is_pushed_to_a_peer_that_has_not_joined(session: Echo) -> None:
    session.push(wire.Disconnect("news"))
    assert session.drain() == []


async def test_a_bad_frame_leaves_other_connections_alone(world: World) -> None:
    async with world.client() as bad, world.client(external_id="good") as good:
        await bad.join()
        await good.join()
        bad.send_text("x" * (MAX_FRAME_BYTES + 1))
        assert await bad.receive_close() == CloseCode.TOO_BIG
        assert await good.is_quiet()
