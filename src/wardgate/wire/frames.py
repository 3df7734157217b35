"""Phoenix frames (control-plane-protocol §1.8): one JSON text per frame, in one of two forms.

    OBJECT (vsn 1.0.0, what every official peer speaks)   {"topic":…,"event":…,"payload":…,"ref":7}
    ARRAY  (vsn 2.0.0)                                    [join_ref, ref, topic, event, payload]

Payloads stay raw until a `Dialect` knows their type.
"""

import re
from enum import Enum
from typing import Annotated, Any, Final, Literal

import msgspec

from wardgate.wire.errors import MalformedFrame
from wardgate.wire.json_types import ENCODER

PHOENIX: Final = "phoenix"  # the topic of heartbeats

JOIN: Final = "phx_join"
LEAVE: Final = "phx_leave"
REPLY: Final = "phx_reply"
ERROR: Final = "phx_error"
CLOSE: Final = "phx_close"
HEARTBEAT: Final = "heartbeat"

UNMATCHED_TOPIC: Final = "unmatched topic"
UNKNOWN_MESSAGE: Final = "unknown_message"
INVALID_REF: Final = "invalid_ref"
VERSION_MISMATCH: Final = "version_mismatch"

Ref = int | str | None


class Frame(msgspec.Struct, frozen=True):
    """One parsed frame; `payload` is its JSON text, b"null" when absent. `join_ref` exists in the array form only."""

    topic: str
    event: str
    payload: bytes = b"null"
    ref: Ref = None
    join_ref: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """Payload of `phx_reply`."""

    status: Literal["ok", "error"]
    response: dict[str, Any]

    @property
    def reason(self) -> str | None:
        """The reason of an error reply, if it gives one as text."""
        reason = self.response.get("reason")
        return reason if self.status == "error" and isinstance(reason, str) else None


class Framing(Enum):
    """The form in which frames are written; it stays the same for a connection."""

    OBJECT = "1.0.0"
    ARRAY = "2.0.0"

    @classmethod
    def negotiate(cls, vsn: str | None) -> "Framing | None":
        """Return the form for a `vsn` parameter (`~> 1.0.0`, the default, or `~> 2.0.0`), or None if unsupported."""
        if vsn is None:
            return cls.OBJECT
        match = _VSN.fullmatch(vsn)
        if match is None:
            return None
        return cls.OBJECT if match[1] == "1" else cls.ARRAY

    def parse(self, text: str | bytes) -> Frame:
        """Parse one text frame.

        Raises:
            MalformedFrame: not JSON, or not of this form; unknown members of an object are ignored.
        """
        try:
            if self is Framing.OBJECT:
                parsed = _OBJECT_DECODER.decode(text)
                return Frame(parsed.topic, parsed.event, bytes(parsed.payload), parsed.ref)
            join_ref, ref, topic, event, payload = _ARRAY_DECODER.decode(text)
            return Frame(topic, event, bytes(payload), ref, join_ref)
        except msgspec.ValidationError as error:
            raise MalformedFrame(str(error)) from None
        except msgspec.DecodeError as error:
            raise MalformedFrame(str(error), truncated="truncated" in str(error)) from None
        except (RecursionError, UnicodeError) as error:
            raise MalformedFrame(type(error).__name__) from None

    def encode(
        self, topic: str, event: str, payload: object, *, ref: Ref = None, join_ref: str | None = None
    ) -> str:
        """Write one text frame; `payload` is anything that the wire's encoder takes, `msgspec.Raw` included."""
        if self is Framing.OBJECT:
            return ENCODER.encode(_ObjectForm(topic, event, payload, ref)).decode()
        return ENCODER.encode((join_ref, ref, topic, event, payload)).decode()

    def reply_ok(self, to: Frame) -> str:
        """Answer a join, a heartbeat or a message; the response must be exactly the empty object."""
        return self._reply(to, {"status": "ok", "response": {}})

    def reply_error(self, to: Frame, reason: str) -> str:
        return self._reply(to, {"status": "error", "response": {"reason": reason}})

    def _reply(self, to: Frame, payload: object) -> str:
        return self.encode(to.topic, REPLY, payload, ref=to.ref, join_ref=to.join_ref)


def parse_reply(payload: bytes) -> Reply | None:
    """Parse the payload of `phx_reply`; None for a reply that no peer understands."""
    try:
        return _REPLY_DECODER.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return None


class _ObjectForm(msgspec.Struct):
    topic: str
    event: str
    payload: Any
    ref: Ref


class _ParsedObject(msgspec.Struct):
    topic: str
    event: str
    payload: msgspec.Raw = msgspec.Raw(b"null")
    ref: Ref = None


_VSN: Final = re.compile(r"([12])\.0\.[0-9]{1,6}")
_OBJECT_DECODER: Final = msgspec.json.Decoder(_ParsedObject)
_JoinRef = Annotated[str, msgspec.Meta(max_length=64)]
"""The portal repeats it in each frame that it pushes, so it is no longer than the number that it is."""
_ARRAY_DECODER: Final = msgspec.json.Decoder(tuple[_JoinRef | None, Ref, str, str, msgspec.Raw])
_REPLY_DECODER: Final = msgspec.json.Decoder(Reply)
