"""The peer's end against a scripted portal, on virtual seconds."""

import json
from typing import Any
from uuid import UUID

import pytest

from wardgate.model.ids import ResourceId
from wardgate.wire import messages as m
from wardgate.wire.control_channel import (
    HEARTBEAT_INTERVAL_S,
    JOIN_TIMEOUT_S,
    ControlChannel,
    Joined,
    Lost,
    LostReason,
    Received,
)
from wardgate.wire.dialect import Dialect, Generation, PeerKind
from wardgate.wire.errors import LocalProtocolError
from wardgate.wire.frames import Framing

RESOURCE = "b1b1b1b1-0000-4000-8000-000000000001"
REQUEST = m.RequestAuthorization(ResourceId(UUID(RESOURCE)))


class Portal:
    """The other end: reads what the channel sends and answers as told."""

    def __init__(self, kind: PeerKind = PeerKind.CLIENT, generation: Generation = Generation.V2) -> None:
        self.topic = kind.value
        self.channel = ControlChannel(
            Dialect(kind, generation), now=0.0, stamp_secret="ab" * 32 if kind is PeerKind.RELAY else None
        )

    def sent(self) -> list[dict[str, Any]]:
        frames = []
        while (frame := self.channel.poll_transmit()) is not None:
            frames.append(json.loads(frame))
        return frames

    def events(self) -> list[Any]:
        events = []
        while (event := self.channel.poll_event()) is not None:
            events.append(event)
        return events

    def push(
        self, event: str, payload: Any, *, topic: str | None = None, ref: Any = None, now: float = 1.0
    ) -> None:
        frame = {"topic": topic or self.topic, "event": event, "payload": payload, "ref": ref}
        self.channel.handle_frame(json.dumps(frame), now=now)

    def reply(self, ref: Any, *, topic: str | None = None, status: str = "ok", response: Any = None) -> None:
        self.push("phx_reply", {"status": status, "response": response or {}}, topic=topic, ref=ref)

    def joined(self) -> "Portal":
        (join,) = self.sent()
        self.reply(join["ref"])
        assert self.events() == [Joined()]
        return self


@pytest.fixture
def portal() -> Portal:
    return Portal()


def test_the_join_is_the_first_frame_and_has_ref_zero(portal: Portal) -> None:
    assert portal.sent() == [{"topic": "client", "event": "phx_join", "payload": None, "ref": 0}]


def test_a_relay_joins_with_its_stamp_secret() -> None:
    (join,) = Portal(PeerKind.RELAY, Generation.V1).sent()
    assert (join["topic"], join["payload"]) == ("relay", {"stamp_secret": "ab" * 32})


def test_nothing_but_a_relay_may_have_a_stamp_secret() -> None:
    with pytest.raises(LocalProtocolError):
        ControlChannel(Dialect(PeerKind.GATEWAY), now=0.0, stamp_secret="ab" * 32)
    with pytest.raises(LocalProtocolError):
        ControlChannel(Dialect(PeerKind.RELAY), now=0.0)


def test_messages_before_the_join_reply_are_dropped(portal: Portal) -> None:
    portal.channel.send(REQUEST)
    assert [frame["event"] for frame in portal.sent()] == ["phx_join"]


def test_messages_after_the_join_go_out_with_rising_refs(portal: Portal) -> None:
    portal.joined()
    portal.channel.send(m.SetSnownetCapabilities(iceless=False))
    portal.channel.send(REQUEST)
    assert [(frame["event"], frame["ref"]) for frame in portal.sent()] == [
        ("set_snownet_capabilities", 1),
        ("request_authorization", 2),
    ]


def test_a_v1_client_asks_by_the_old_name() -> None:
    portal = Portal(generation=Generation.V1).joined()
    portal.channel.send(REQUEST)
    assert portal.sent()[0]["event"] == "create_flow"


def test_an_equal_message_that_still_waits_is_dropped(portal: Portal) -> None:
    portal.joined()
    portal.channel.send(REQUEST)
    portal.channel.send(REQUEST)
    assert len(portal.sent()) == 1
    portal.channel.send(REQUEST)
    assert len(portal.sent()) == 1


def test_a_message_of_another_peer_is_our_bug(portal: Portal) -> None:
    portal.joined()
    with pytest.raises(LocalProtocolError):
        portal.channel.send(m.AuthorizationAcknowledged("x"))


@pytest.mark.parametrize("response", [{"reason": "x"}, {"a": 1}])
def test_a_join_reply_with_a_filled_response_is_no_acknowledgement(portal: Portal, response: Any) -> None:
    portal.sent()
    portal.reply(0, response=response)
    assert portal.events() == []


@pytest.mark.parametrize("ref", ["0", None, 1])
def test_a_join_reply_with_another_ref_is_no_acknowledgement(portal: Portal, ref: Any) -> None:
    portal.sent()
    portal.reply(ref)
    assert portal.events() == []


def test_no_join_reply_within_five_seconds_loses_the_channel(portal: Portal) -> None:
    assert portal.channel.poll_timeout() == JOIN_TIMEOUT_S
    portal.channel.handle_timeout(now=JOIN_TIMEOUT_S - 0.01)
    assert portal.events() == []
    portal.channel.handle_timeout(now=JOIN_TIMEOUT_S)
    assert portal.events() == [Lost(LostReason.JOIN_TIMEOUT)]
    assert portal.channel.poll_timeout() is None


def test_an_error_reply_to_the_join_is_fatal(portal: Portal) -> None:
    portal.reply(0, status="error", response={"reason": "nope"})
    (lost,) = portal.events()
    assert (lost.reason, lost.detail, lost.is_fatal) == (LostReason.JOIN_REFUSED, "nope", True)


def test_unmatched_topic_makes_it_join_again_on_the_same_socket(portal: Portal) -> None:
    portal.joined()
    portal.reply(1, status="error", response={"reason": "unmatched topic"})
    (join,) = portal.sent()
    assert join["event"] == "phx_join"
    portal.reply(join["ref"])
    assert portal.events() == [Joined()]


def test_an_unknown_message_reply_is_ignored(portal: Portal) -> None:
    portal.joined()
    portal.reply(1, status="error", response={"reason": "unknown_message"})
    assert portal.events() == []


def test_heartbeats_go_every_ten_seconds_from_the_upgrade_on(portal: Portal) -> None:
    portal.joined()
    for beat in range(1, 8):
        assert portal.channel.poll_timeout() == beat * HEARTBEAT_INTERVAL_S
        portal.channel.handle_timeout(now=beat * HEARTBEAT_INTERVAL_S)
        (heartbeat,) = portal.sent()
        assert (heartbeat["topic"], heartbeat["event"], heartbeat["payload"]) == ("phoenix", "heartbeat", {})
        portal.reply(heartbeat["ref"], topic="phoenix")
    assert portal.events() == []


def test_four_unanswered_heartbeats_lose_the_channel(portal: Portal) -> None:
    portal.joined()
    for beat in range(1, 5):
        portal.channel.handle_timeout(now=beat * HEARTBEAT_INTERVAL_S)
        assert portal.events() == []
    portal.channel.handle_timeout(now=5 * HEARTBEAT_INTERVAL_S)
    assert portal.events() == [Lost(LostReason.HEARTBEATS_MISSED)]


def test_a_late_timer_does_not_make_heartbeats_bunch(portal: Portal) -> None:
    portal.joined()
    portal.channel.handle_timeout(now=100.0)
    assert len(portal.sent()) == 1
    assert portal.channel.poll_timeout() == 110.0


@pytest.mark.parametrize(
    ("event", "reason"), [("phx_close", LostReason.CHANNEL_CLOSED), ("phx_error", LostReason.CHANNEL_CRASHED)]
)
def test_the_end_of_the_channel_is_a_reason_to_reconnect(
    portal: Portal, event: str, reason: LostReason
) -> None:
    portal.joined().push(event, {})
    (lost,) = portal.events()
    assert lost.reason is reason
    assert not lost.is_fatal


def test_the_end_of_another_topic_means_nothing(portal: Portal) -> None:
    portal.joined().push("phx_error", {}, topic="gateway")
    assert portal.events() == []


def test_token_expired_is_fatal_and_other_reasons_are_ignored(portal: Portal) -> None:
    portal.joined().push("disconnect", {"reason": "certificate_revoked"})
    assert portal.events() == []
    portal.push("disconnect", {"reason": "token_expired"})
    (lost,) = portal.events()
    assert lost.is_fatal


def test_a_received_message_is_typed(portal: Portal) -> None:
    portal.joined().push("resource_deleted", RESOURCE)
    assert portal.events() == [Received(m.ResourceDeleted(REQUEST.resource_id))]


@pytest.mark.parametrize(
    ("event", "payload"),
    [("from_the_future", {}), ("resource_deleted", {"id": 1}), ("init", {"interface": {}})],
)
def test_what_it_cannot_read_is_skipped(portal: Portal, event: str, payload: Any) -> None:
    portal.joined().push(event, payload)
    assert portal.events() == []
    assert portal.channel.is_joined


@pytest.mark.parametrize("frame", ["[]", "nonsense", '{"topic":1,"event":2}', "null", '"x"'])
def test_a_frame_that_is_none_is_skipped(portal: Portal, frame: str) -> None:
    portal.joined().channel.handle_frame(frame, now=1.0)
    assert portal.channel.is_joined


def test_half_a_frame_is_a_reason_to_reconnect(portal: Portal) -> None:
    portal.joined().channel.handle_frame('{"topic":"client","event":', now=1.0)
    assert portal.events() == [Lost(LostReason.TRUNCATED_FRAME)]


def test_after_the_end_nothing_more_happens(portal: Portal) -> None:
    portal.joined().channel.send(REQUEST)
    portal.channel.handle_closed(detail="1012")
    portal.channel.handle_closed()
    portal.push("resource_deleted", RESOURCE)
    portal.channel.handle_timeout(now=1e6)
    assert portal.events() == [Lost(LostReason.SOCKET_CLOSED, "1012")]
    assert portal.sent() == []


def test_the_array_form_carries_refs_as_text() -> None:
    channel = ControlChannel(Dialect(PeerKind.CLIENT), now=0.0, framing=Framing.ARRAY)
    join = channel.poll_transmit()
    assert join is not None
    assert json.loads(join) == ["0", "0", "client", "phx_join", None]
    channel.handle_frame('["0","0","client","phx_reply",{"status":"ok","response":{}}]', now=0.1)
    assert channel.poll_event() == Joined()
