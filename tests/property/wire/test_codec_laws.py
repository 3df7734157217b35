"""Laws of the codec: writing and reading is identity, and no input raises anything but the documented error."""

import json
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from wardgate.model.ids import AccountId, TokenId
from wardgate.wire import messages as m
from wardgate.wire.control_channel import ControlChannel, Lost
from wardgate.wire.dialect import Dialect, Generation, Malformed, PeerKind, Unknown
from wardgate.wire.errors import MalformedFrame
from wardgate.wire.frames import Framing
from wardgate.wire.tokens import InvalidToken, TokenKind, mint_fragment, parse_token
from wardgate.wire.user_agent import announced_version, client_software, device_os

dialects = st.builds(Dialect, st.sampled_from(PeerKind), st.sampled_from(Generation))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
EVENTS = [
    "init", "phx_join", "phx_reply", "phx_close", "phx_error", "disconnect", "request_authorization", "create_flow",
    "authorization_created", "relays_presence", "resource_deleted", "resource_created_or_updated", "reject_access",
    "ice_candidates", "set_snownet_capabilities", "no_relays", "create_authorization", "heartbeat",
]  # fmt: skip
KEYS = [
    "interface",
    "ipv4",
    "ipv6",
    "resources",
    "relays",
    "type",
    "id",
    "status",
    "response",
    "reason",
    "ref",
]
shaped = st.recursive(
    st.none()
    | st.integers()
    | st.sampled_from(["dns", "cidr", "turn", "ok", "100.64.0.1", "::1", str(UUID(int=1))]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)
frames = st.fixed_dictionaries(
    {
        "topic": st.sampled_from(["client", "gateway", "relay", "phoenix"]) | st.text(max_size=5),
        "event": st.sampled_from(EVENTS) | st.text(max_size=5),
        "payload": shaped | plain,
        "ref": st.none() | st.integers(0, 5) | st.text(max_size=3),
    }
)


@given(st.text() | plain.map(json.dumps), st.sampled_from(Framing))
def test_any_text_is_a_frame_or_malformed(text: str, framing: Framing) -> None:
    try:
        framing.parse(text)
    except MalformedFrame:
        return


@given(frames, st.sampled_from(Framing))
def test_a_frame_survives_writing_and_reading(frame: dict[str, Any], framing: Framing) -> None:
    parsed = framing.parse(framing.encode(frame["topic"], frame["event"], frame["payload"], ref=frame["ref"]))
    assert (parsed.topic, parsed.event, parsed.ref) == (frame["topic"], frame["event"], frame["ref"])
    assert json.loads(parsed.payload) == frame["payload"]


@given(dialects, st.sampled_from(EVENTS), shaped | plain)
def test_any_payload_decodes_to_a_message_that_survives_writing(
    dialect: Dialect, event: str, payload: Any
) -> None:
    for decode, encode in (
        (dialect.decode_from_peer, dialect.encode_to_portal),
        (dialect.decode_from_portal, dialect.encode_to_peer),
    ):
        decoded = decode(event, json.dumps(payload).encode())
        if isinstance(decoded, Unknown | Malformed):
            continue
        assert isinstance(decoded, m.Message)
        name, value = encode(decoded)
        again = Framing.OBJECT.parse(Framing.OBJECT.encode("t", name, value))
        assert decode(again.event, again.payload) == decoded


@given(st.lists(frames.map(json.dumps) | st.text(max_size=20), max_size=30), st.sampled_from(PeerKind))
def test_a_channel_survives_any_portal(received: list[str], kind: PeerKind) -> None:
    channel = ControlChannel(
        Dialect(kind), now=0.0, stamp_secret="ab" * 32 if kind is PeerKind.RELAY else None
    )
    lost = 0
    for number, frame in enumerate(received):
        channel.handle_frame(frame, now=float(number))
        channel.handle_timeout(now=float(number))
        while channel.poll_transmit() is not None:
            pass
        while (event := channel.poll_event()) is not None:
            lost += isinstance(event, Lost)
        deadline = channel.poll_timeout()
        assert (deadline is None) == (lost > 0)
        assert deadline is None or deadline > number - 1
    assert lost <= 1


@given(
    st.sampled_from(TokenKind),
    st.none() | st.uuids(version=4),
    st.uuids(version=4),
    st.binary(min_size=32, max_size=32),
    st.text(alphabet="0123456789abcdef", max_size=128),
)
def test_a_token_survives_minting_and_parsing(
    kind: TokenKind, account_id: UUID | None, token_id: UUID, secret: bytes, nonce: str
) -> None:
    account = None if account_id is None else AccountId(account_id)
    text = nonce + mint_fragment(
        kind, account_id=account, token_id=TokenId(token_id), secret=secret, key=b"k" * 32
    )
    parsed = parse_token(text, expected=kind, key=b"k" * 32)
    assert (parsed.account_id, parsed.token_id, parsed.secret, parsed.nonce) == (
        account,
        token_id,
        secret,
        nonce,
    )


@given(
    st.text()
    | st.builds(lambda prefix, rest: f".{prefix}{rest}", st.sampled_from(list(TokenKind)), st.text())
)
def test_any_other_text_is_an_invalid_token(text: str) -> None:
    try:
        parse_token(text, expected=TokenKind.CLIENT, key=b"k" * 32)
    except InvalidToken:
        return
    raise AssertionError(text)


@given(st.text())
def test_any_user_agent_can_be_read(text: str) -> None:
    announced_version(text)
    client_software(text)
    device_os(text)
