import json

import pytest

from wardgate.wire.errors import MalformedFrame
from wardgate.wire.frames import Framing, parse_reply


@pytest.mark.parametrize(
    ("vsn", "framing"),
    [
        (None, Framing.OBJECT),
        ("1.0.0", Framing.OBJECT),
        ("1.0.7", Framing.OBJECT),
        ("2.0.0", Framing.ARRAY),
        ("3.0.0", None),
        ("1.1.0", None),
        ("", None),
        ("2", None),
    ],
)
def test_two_families_of_serializers_are_spoken(vsn: str | None, framing: Framing | None) -> None:
    assert Framing.negotiate(vsn) is framing


def test_replies_echo_the_ref_as_the_json_value_it_was() -> None:
    for ref in (7, "7", None):
        frame = Framing.OBJECT.parse(json.dumps({"topic": "client", "event": "x", "payload": {}, "ref": ref}))
        assert json.loads(Framing.OBJECT.reply_ok(frame)) == {
            "topic": "client",
            "event": "phx_reply",
            "payload": {"status": "ok", "response": {}},
            "ref": ref,
        }


def test_an_error_reply_carries_its_reason_and_the_join_ref() -> None:
    frame = Framing.ARRAY.parse('["1","2","client","x",{}]')
    reply = Framing.ARRAY.reply_error(frame, "unknown_message")
    assert json.loads(reply) == [
        "1",
        "2",
        "client",
        "phx_reply",
        {"status": "error", "response": {"reason": "unknown_message"}},
    ]
    parsed = parse_reply(json.dumps({"status": "error", "response": {"reason": "unknown_message"}}).encode())
    assert parsed is not None
    assert parsed.reason == "unknown_message"


def test_what_is_repeated_in_every_frame_is_no_longer_than_a_number() -> None:
    join = json.dumps(["1" * 64, "1", "client", "phx_join", None])
    assert Framing.ARRAY.parse(join).join_ref == "1" * 64
    with pytest.raises(MalformedFrame):
        Framing.ARRAY.parse(join.replace("1" * 64, "1" * 65))


def test_a_missing_payload_and_ref_are_null_and_extra_keys_are_ignored() -> None:
    frame = Framing.OBJECT.parse('{"topic":"client","event":"phx_join","extra":[1]}')
    assert (frame.payload, frame.ref) == (b"null", None)


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "1",
        '{"topic":1}',
        '["a"]',
        '{"topic":"a","event":"b","ref":1.5}',
        "[" * 100_000,
        "\ud800",
    ],
)
def test_what_is_no_frame_raises_and_nothing_else_happens(framing: Framing, text: str) -> None:
    with pytest.raises(MalformedFrame):
        framing.parse(text)


@pytest.mark.parametrize(("text", "truncated"), [('{"topic":', True), ('{"topic":x', False)])
def test_truncated_json_is_told_apart(text: str, *, truncated: bool) -> None:
    with pytest.raises(MalformedFrame) as caught:
        Framing.OBJECT.parse(text)
    assert caught.value.truncated is truncated


@pytest.mark.parametrize(
    "payload", [b"{}", b"null", b'{"status":"fine","response":{}}', b'{"status":"ok","response":null}']
)
def test_an_unusable_reply_is_none(payload: bytes) -> None:
    assert parse_reply(payload) is None
