"""The peer's end of the control channel (control-plane-protocol §1.8–§1.11), without a socket.

One object lives as long as one WebSocket. The driver makes it when the upgrade succeeded, passes frames and time in,
drains `poll_transmit` and `poll_event` after each call, and closes the socket after `Lost`.

            made (join queued)
                 │ ok reply                error reply, 5 s
              JOINING ──────────► JOINED        │
                 │                  │ close, phx_close, phx_error, 4 open heartbeats, truncated frame, disconnect
                 └──────────────────┴──────────► LOST   (final; `Lost.is_fatal`: do not come back)

`phx_error` on the own topic counts as lost: a socket whose channel crashed would stay half dead. Absent: reconnecting
(`reconnect`), and anything that outlives the socket.
"""

import logging
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from wardgate.wire import frames
from wardgate.wire.dialect import Decoded, Dialect, Malformed, PeerKind, Unknown
from wardgate.wire.errors import LocalProtocolError, MalformedFrame
from wardgate.wire.frames import Frame, Framing, parse_reply
from wardgate.wire.messages import Disconnect, Join, Message, RelayJoin

HEARTBEAT_INTERVAL_S: Final = 10.0  # §1.10: the protocol's, below the portal's idle timeout of 37 s
OPEN_HEARTBEATS_UNTIL_LOST: Final = 4
JOIN_TIMEOUT_S: Final = 5.0

TOKEN_EXPIRED: Final = "token_expired"  # noqa: S105 - the reason of a disconnect

log = logging.getLogger(__name__)


class LostReason(Enum):
    """Why the channel ended; the values are for people."""

    SOCKET_CLOSED = "the portal closed the connection"
    CHANNEL_CLOSED = "the portal closed the channel"
    CHANNEL_CRASHED = "the channel crashed at the portal"
    JOIN_TIMEOUT = "the portal did not answer the join"
    HEARTBEATS_MISSED = "the portal no longer answers heartbeats"
    TRUNCATED_FRAME = "the portal sent half a message"
    JOIN_REFUSED = "the portal refused the join"
    TOKEN_EXPIRED = "the token expired or was revoked"  # noqa: S105 - prose


_FATAL: Final = frozenset({LostReason.JOIN_REFUSED, LostReason.TOKEN_EXPIRED})


@dataclass(frozen=True, slots=True)
class Joined:
    """The portal acknowledged the join; messages may be sent."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the portal; messages that this version does not know are skipped."""

    message: Message


@dataclass(frozen=True, slots=True)
class Lost:
    """The channel is over; nothing more comes. `detail` is what the portal said, if anything."""

    reason: LostReason
    detail: str = ""

    @property
    def is_fatal(self) -> bool:
        """Reconnecting with the same token is pointless."""
        return self.reason in _FATAL


ChannelEvent = Joined | Received | Lost


class _State(Enum):
    JOINING = auto()
    JOINED = auto()
    LOST = auto()


class ControlChannel:
    """One end of the control channel: the peer's."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        now: float,
        stamp_secret: str | None = None,
        framing: Framing = Framing.OBJECT,
    ) -> None:
        """Start with the join queued.

        Args:
            dialect: what we are and which generation the path named.
            now: monotonic seconds; all later times are of the same clock.
            stamp_secret: a relay's, 64 hex characters; nobody else has one.
            framing: the form of frames that the upgrade asked for.
        """
        if (stamp_secret is not None) != (dialect.kind is PeerKind.RELAY):
            raise LocalProtocolError("a relay, and nobody else, joins with a stamp secret")
        self._dialect = dialect
        self._framing = framing
        self._join: Message = Join() if stamp_secret is None else RelayJoin(stamp_secret)
        self._state = _State.JOINING
        self._next_ref = 0
        self._join_ref: int | None = None
        self._join_deadline = now + JOIN_TIMEOUT_S
        self._heartbeat_at = now + HEARTBEAT_INTERVAL_S
        self._open_heartbeats: set[int] = set()
        self._outbox: deque[str] = deque()
        self._waiting: deque[Message] = deque()
        self._events: deque[ChannelEvent] = deque()
        self._send_join(now=now)

    @property
    def is_joined(self) -> bool:
        return self._state is _State.JOINED

    def send(self, message: Message) -> None:
        """Queue a message.

        Dropped while not joined, and when an equal one still waits: what must survive a reconnect the sender keeps.

        Raises:
            LocalProtocolError: this kind of peer and generation does not send the message.
        """
        self._dialect.encode_to_portal(message)
        if self._state is not _State.JOINED:
            log.debug("message dropped: not joined", extra={"message_type": type(message).__name__})
        elif message not in self._waiting:
            self._waiting.append(message)

    def handle_frame(self, frame: str, *, now: float) -> None:
        """Handle one text frame from the portal; frames that make no sense are skipped."""
        if self._state is _State.LOST:
            return
        try:
            parsed = self._framing.parse(frame)
        except MalformedFrame as error:
            if error.truncated:
                self._lose(LostReason.TRUNCATED_FRAME)
            else:
                log.debug("frame skipped", extra={"reason": str(error)})
            return
        if parsed.event == frames.REPLY:
            self._handle_reply(parsed, now=now)
        elif parsed.topic != self._dialect.topic:
            log.debug("frame skipped", extra={"reason": "foreign topic"})
        elif parsed.event == frames.CLOSE:
            self._lose(LostReason.CHANNEL_CLOSED)
        elif parsed.event == frames.ERROR:
            self._lose(LostReason.CHANNEL_CRASHED)
        else:
            self._handle_message(self._dialect.decode_from_portal(parsed.event, parsed.payload))

    def handle_closed(self, *, detail: str = "") -> None:
        """The socket was closed or failed."""
        self._lose(LostReason.SOCKET_CLOSED, detail)

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due at `now`; early and late calls are harmless."""
        if self._state is _State.JOINING and now >= self._join_deadline:
            self._lose(LostReason.JOIN_TIMEOUT)
        if self._state is not _State.LOST and now >= self._heartbeat_at:
            self._heartbeat(now=now)

    def poll_transmit(self) -> str | None:
        """Return the next text frame to send, or None when there is none left."""
        if not self._outbox and self._waiting:
            self._outbox.append(self._encode(self._waiting.popleft()))
        return self._outbox.popleft() if self._outbox else None

    def poll_event(self) -> ChannelEvent | None:
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> float | None:
        """Return when `handle_timeout` is due, on the clock of `now`; None if never again."""
        match self._state:
            case _State.LOST:
                return None
            case _State.JOINING:
                return min(self._join_deadline, self._heartbeat_at)
            case _State.JOINED:
                return self._heartbeat_at

    def _handle_reply(self, frame: Frame, *, now: float) -> None:
        reply = parse_reply(frame.payload)
        ref = _as_ref(frame.ref, self._framing)
        if reply is None or ref is None:
            log.debug("reply skipped")
            return
        if frame.topic == frames.PHOENIX:
            if reply.status == "ok":
                self._open_heartbeats.discard(ref)
            return
        if frame.topic != self._dialect.topic:
            return
        if reply.reason == frames.UNMATCHED_TOPIC:
            self._state = _State.JOINING
            self._send_join(now=now)
        elif ref != self._join_ref or self._state is not _State.JOINING:
            log.debug("reply ignored", extra={"reason": reply.reason})
        elif reply.status == "error":
            self._lose(LostReason.JOIN_REFUSED, reply.reason or "")
        elif reply.response:
            log.debug("join reply ignored: its response is not empty")
        else:
            self._state = _State.JOINED
            self._events.append(Joined())

    def _handle_message(self, decoded: Decoded) -> None:
        match decoded:
            case Unknown(event=event):
                log.debug("message skipped", extra={"event_name": event, "reason": "unknown"})
            case Malformed(event=event, reason=reason):
                log.warning(
                    "message of the portal cannot be read", extra={"event_name": event, "reason": reason}
                )
            case Disconnect(reason=reason):
                if reason == TOKEN_EXPIRED:
                    self._lose(LostReason.TOKEN_EXPIRED)
                else:
                    log.info("disconnect with an unknown reason ignored", extra={"reason": reason})
            case _:
                self._events.append(Received(decoded))

    def _heartbeat(self, *, now: float) -> None:
        if len(self._open_heartbeats) >= OPEN_HEARTBEATS_UNTIL_LOST:
            self._lose(LostReason.HEARTBEATS_MISSED)
            return
        ref = self._take_ref()
        self._open_heartbeats.add(ref)
        self._outbox.append(
            self._framing.encode(frames.PHOENIX, frames.HEARTBEAT, {}, ref=_ref_form(ref, self._framing))
        )
        self._heartbeat_at += HEARTBEAT_INTERVAL_S
        if self._heartbeat_at <= now:  # a late timer: do not make up for the beats that were missed
            self._heartbeat_at = now + HEARTBEAT_INTERVAL_S

    def _send_join(self, *, now: float) -> None:
        self._join_deadline = now + JOIN_TIMEOUT_S
        self._join_ref = self._next_ref
        self._outbox.append(self._encode(self._join))

    def _encode(self, message: Message) -> str:
        event, payload = self._dialect.encode_to_portal(message)
        return self._framing.encode(
            self._dialect.topic,
            event,
            payload,
            ref=_ref_form(self._take_ref(), self._framing),
            join_ref=str(self._join_ref) if self._framing is Framing.ARRAY else None,
        )

    def _take_ref(self) -> int:
        ref = self._next_ref
        self._next_ref += 1
        return ref

    def _lose(self, reason: LostReason, detail: str = "") -> None:
        if self._state is _State.LOST:
            return
        self._state = _State.LOST
        self._outbox.clear()
        self._waiting.clear()
        self._events.append(Lost(reason, detail))


def _ref_form(ref: int, framing: Framing) -> int | str:
    return ref if framing is Framing.OBJECT else str(ref)


def _as_ref(ref: int | str | None, framing: Framing) -> int | None:
    if framing is Framing.ARRAY:
        return int(ref) if isinstance(ref, str) and ref.isascii() and ref.isdecimal() else None
    return ref if isinstance(ref, int) else None
