"""What every connected peer's session shares: framing, join, heartbeats, limits and the way out (protocol
§1.8, §1.9).

A session is a protocol machine without a socket: text in through `handle_text`, text out of `poll_transmit`,
a close code out of `poll_close`, a deadline out of `poll_timeout`. Messages of other sessions and changes of
the account reach it from outside a frame; `on_output` is called whenever it may have something to say, and
`on_urgent_output` after it when somebody waits for just that.

    ┌──────┐ phx_join ┌────────┐ phx_leave, second phx_join: phx_close ┌──────┐
    │ open ├──────────► joined ├───────────────────────────────────────► open │
    └──┬───┘          └───┬────┘                                       └──────┘
       └── close code ────┴──────► closed: nothing goes in or out any more
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum
from typing import Final, ParamSpec

from wardgate.portal.bus import DirectedMessage
from wardgate.portal.database.row_changes import RowChange
from wardgate.portal.environment import Clock
from wardgate.portal.http.rate_limit import Allowance
from wardgate.wire import frames
from wardgate.wire import messages as wire
from wardgate.wire.dialect import Dialect, Malformed, PeerKind, Unknown
from wardgate.wire.errors import MalformedFrame
from wardgate.wire.frames import Frame, Framing

log = logging.getLogger(__name__)

P = ParamSpec("P")

MAX_FRAME_BYTES: Final = 256 * 1024
_SURELY_FITS: Final = MAX_FRAME_BYTES // 4
"""Characters: UTF-8 has no longer ones than of four bytes."""

MAX_BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""How much may wait for a peer; requests of a thousand clients to one gateway at once are 2 MiB."""

MAX_REPLY_BACKLOG_BYTES: Final = 4 * 1024 * 1024
"""How much of that may be replies to the peer's own frames, whose content the peer chooses."""

MAX_STALL_S: Final = 15.0
"""How long a frame that is being sent may make no progress."""

RECORD_S: Final = 15.0  # protocol §8, "session durability timeout"
IDLE_S: Final = {PeerKind.CLIENT: 37.0, PeerKind.GATEWAY: 37.0, PeerKind.RELAY: 41.0}  # protocol §1.1

ALLOWANCES: Final[Mapping[PeerKind, tuple[float, float]]] = {
    PeerKind.CLIENT: (2_000.0, 200.0),
    PeerKind.GATEWAY: (20_000.0, 1_000.0),
    PeerKind.RELAY: (200.0, 20.0),
}
"""How much one connection may send: frames at once, and frames per second after that.

At its start a client asks for a thousand resources and signals as many candidates; a gateway answers a
thousand clients with an acknowledgement and a dozen candidates each. A peer that sends more is read more
slowly.
"""

JOINS_AT_ONCE: Final = 10
"""A join costs this fraction of the allowance, because its answer is the peer's whole state."""


MAX_CANDIDATES_CHARS: Final = 32 * 1024
"""How much of candidates one message may have: some 250 of them, where a host has a dozen."""


class CloseCode(IntEnum):
    """RFC 6455 §7.4.1."""

    NORMAL = 1000
    GOING_AWAY = 1001
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    SERVICE_RESTART = 1012


class Record(Enum):
    """What became of a connection's record in the store (portal-domain §7.4)."""

    STORED = "stored"
    TOKEN_GONE = "token gone"  # noqa: S105 - prose
    DEVICE_GONE = "device gone"


class _State(Enum):
    OPEN = "open"
    JOINED = "joined"
    CLOSED = "closed"


class _Weight(Enum):
    """How a frame counts against the bounds of what waits for a peer."""

    PUSH = "push"
    REPLY = "reply"
    FREE = "free"


class Session(ABC):
    """Base of the three kinds. Subclasses push with `_push` and end with `_stop`; they never see a frame."""

    def __init__(self, dialect: Dialect, framing: Framing, *, clock: Clock, counters: "Counter[str]") -> None:
        self._dialect = dialect
        self._framing = framing
        self._clock = clock
        self._counters = counters
        self._state = _State.OPEN
        self._last_frame_at = clock.monotonic()
        self._idle_s = IDLE_S[dialect.kind]
        capacity, refill_per_s = ALLOWANCES[dialect.kind]
        self._allowance = Allowance(capacity=capacity, refill_per_s=refill_per_s, now=self._last_frame_at)
        self._join_cost = capacity / JOINS_AT_ONCE
        self._outbox: deque[tuple[str, _Weight, int]] = deque()
        self._outbox_bytes = 0
        self._reply_bytes = 0
        self._has_free_init = False
        self._sending_since: float | None = None
        self._close_code: CloseCode | None = None
        self._join_ref: str | None = None
        self._recorded_by: float | None = None
        self.on_output: Callable[[], None] = _ignore
        self.on_urgent_output: Callable[[], None] = _ignore

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────

    def handle_text(self, text: str) -> None:
        """Take one text frame of the peer; call `read_delay_s` before the next."""
        self._last_frame_at = self._clock.monotonic()
        self._allowance.charge(1, now=self._last_frame_at)
        if len(text) > _SURELY_FITS and len(text.encode(errors="replace")) > MAX_FRAME_BYTES:
            self._counters["frames_too_big"] += 1
            self._abort(CloseCode.TOO_BIG)
        self._guarded(self._handle_text, text)

    def handle_binary(self) -> None:
        """Take one binary frame: counted and ignored, as peers do with ours."""
        self._last_frame_at = self._clock.monotonic()
        self._allowance.charge(1, now=self._last_frame_at)
        self._counters["frames_binary"] += 1

    def handle_timeout(self) -> None:
        """Do what is due; call at `poll_timeout`."""
        now = self._clock.monotonic()
        if now >= self._last_frame_at + self._idle_s:
            self._counters["closed_idle"] += 1
            self._abort(CloseCode.GOING_AWAY)
        if self._sending_since is not None and now >= self._sending_since + MAX_STALL_S:
            self._slow_reader()
        if self._recorded_by is not None and now >= self._recorded_by:
            # The peer comes back and tries again.
            self._counters["closed_unrecorded"] += 1
            self._stop()
        if self._state is _State.JOINED:
            self._guarded(self._on_timeout)

    def expect_record(self) -> None:
        """From now on, end the connection unless `handle_record` confirms it in time."""
        self._recorded_by = self._clock.monotonic() + RECORD_S

    def handle_record(self, record: Record) -> None:
        """Take in what became of the connection's record."""
        self._recorded_by = None
        match record:
            case Record.STORED:
                pass
            case Record.TOKEN_GONE:
                self._guarded(self._stop, "token_expired")
            case Record.DEVICE_GONE:
                self._guarded(self._stop)

    def handle_message(self, message: DirectedMessage) -> None:
        """Take a message of another session; the bus's mailbox."""
        self._guarded(self._on_message, message)

    def handle_changes(self, changes: Sequence[RowChange]) -> None:
        """Take a batch of the account's changes; the view already shows the state after it."""
        self._guarded(self._on_changes, changes)

    def handle_view_lost(self) -> None:
        """The account's view can no longer be kept current: close, so that the peer connects again on one
        that can.
        """
        if self._state is not _State.CLOSED:
            self._counters["closed_view_lost"] += 1
            self._close(CloseCode.SERVICE_RESTART)

    def handle_drain(self) -> None:
        """The process stops: close, so that the peer connects to the next one; what it holds goes on."""
        if self._state is not _State.CLOSED:
            self._counters["closed_drained"] += 1
            self._close(CloseCode.SERVICE_RESTART)

    def handle_disconnect(self) -> None:
        """The transport is gone: leave the bus."""
        self._forget_unsent()
        self._leave()
        self._state = _State.CLOSED

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────

    def poll_transmit(self) -> str | None:
        """Return the next text frame for the peer. Call `handle_transmitted` when it has been handed to the
        network.
        """
        if not self._outbox:
            return None
        text, weight, size = self._outbox.popleft()
        match weight:
            case _Weight.FREE:
                self._has_free_init = False
            case _Weight.REPLY:
                self._outbox_bytes -= size
                self._reply_bytes -= size
            case _Weight.PUSH:
                self._outbox_bytes -= size
        self._sending_since = self._clock.monotonic()
        return text

    def handle_transmitted(self) -> None:
        self._sending_since = None

    @property
    def is_sending(self) -> bool:
        """Whether a frame has been taken and not been handed to the network."""
        return self._sending_since is not None

    def handle_progress(self) -> None:
        """The network took some of the frame that is being sent."""
        if self._sending_since is not None:
            self._sending_since = self._clock.monotonic()

    def read_delay_s(self) -> float:
        """Return how long to leave the peer's next frame unread because it has exceeded its allowance."""
        return self._allowance.delay_s(now=self._clock.monotonic())

    def poll_close(self) -> CloseCode | None:
        """Return the code to close with once `poll_transmit` is drained; None to stay open."""
        return self._close_code

    def poll_timeout(self) -> float | None:
        """Return when `handle_timeout` has something to do, on the clock's monotonic scale."""
        if self._state is _State.CLOSED:
            return None
        # Asked for each frame.
        due = self._last_frame_at + self._idle_s
        if self._sending_since is not None:
            due = min(due, self._sending_since + MAX_STALL_S)
        if self._recorded_by is not None:
            due = min(due, self._recorded_by)
        if self._state is _State.JOINED:
            own = self._next_timeout()
            if own is not None and own < due:
                return own
        return due

    # ── for subclasses ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_joined(self) -> bool:
        return self._state is _State.JOINED

    @abstractmethod
    def _on_join(self, message: wire.Message) -> None:
        """The join was answered ok: register and push `init`."""

    @abstractmethod
    def _on_leave(self) -> None:
        """The channel ends: unregister. Called once for each join."""

    @abstractmethod
    def _on_request(self, message: wire.Message) -> str | None:
        """Act on a message of the peer; return the reason of an error reply, "" for an ok reply, None for no
        reply.
        """

    @abstractmethod
    def _on_message(self, message: DirectedMessage) -> None: ...

    @abstractmethod
    def _on_changes(self, changes: Sequence[RowChange]) -> None: ...

    @abstractmethod
    def _on_timeout(self) -> None: ...

    @abstractmethod
    def _next_timeout(self) -> float | None: ...

    def _push(self, message: wire.Message) -> None:
        """Queue a message for a joined peer; before the join nothing is sent, since `init` will contain it."""
        if self._state is not _State.JOINED:
            return
        event, payload = self._dialect.encode_to_peer(message)
        text = self._framing.encode(self._dialect.topic, event, payload, join_ref=self._join_ref)
        # A peer must be able to receive its whole state, however large; but only one copy at a time, not one
        # for each join.
        is_free = isinstance(message, wire.ClientInit | wire.GatewayInit) and not self._has_free_init
        self._send(text, _Weight.FREE if is_free else _Weight.PUSH)

    def _may_forward(self, candidates: Sequence[str]) -> bool:
        """Tell whether candidates are few enough to go to others, whose sockets and memory they take."""
        if _chars_of(candidates) <= MAX_CANDIDATES_CHARS:
            return True
        self._counters["candidates_too_many"] += 1
        return False

    def _charge_copies(self, candidates: Sequence[str], copies: int) -> None:
        """Charge what was forwarded: a copy costs as much as a frame, and each KiB of it too. The frame that it came in
        has paid for one.
        """
        self._charge(max(0, copies * (1 + _chars_of(candidates) // 1024) - 1))

    def _charge(self, frames: float) -> None:
        """Charge the peer's allowance, beyond the frame that it has sent."""
        self._allowance.charge(frames, now=self._clock.monotonic())

    def _stop(self, reason: str | None = None) -> None:
        """End the channel: `disconnect` when there is a reason, `phx_close`, then the socket.

        `token_expired` makes the peer forget its token; give it only when the token is dead or the device
        superseded.
        """
        if self._state is _State.CLOSED:
            return
        if self._state is _State.JOINED and reason is not None:
            self._push(wire.Disconnect(reason))
        self._close_channel()
        self._close(CloseCode.NORMAL)

    def _close(self, code: CloseCode) -> None:
        if self._close_code is None:
            self._close_code = code
        self._leave()
        self._state = _State.CLOSED
        self.on_output()

    # ── internals ────────────────────────────────────────────────────────────────────────────────────────────

    def _handle_text(self, text: str) -> None:
        try:
            frame = self._framing.parse(text)
        except MalformedFrame:
            # There is no reference to answer to; the connection itself is sound.
            self._counters["frames_malformed"] += 1
            return
        if frame.topic == frames.PHOENIX and frame.event == frames.HEARTBEAT:
            self._reply(self._framing.reply_ok(frame))
        elif frame.topic != self._dialect.topic:
            self._refuse(frame, frames.UNMATCHED_TOPIC)
        elif frame.event == frames.JOIN:
            self._join(frame)
        elif self._state is not _State.JOINED:
            self._refuse(frame, frames.UNMATCHED_TOPIC)
        elif frame.event == frames.LEAVE:
            self._reply(self._framing.reply_ok(frame))
            self._close_channel()
        else:
            self._request(frame)

    def _join(self, frame: Frame) -> None:
        self._charge(self._join_cost)
        message = self._dialect.decode_from_peer(frame.event, frame.payload)
        if isinstance(message, Unknown | Malformed):
            self._refuse(frame, frames.UNKNOWN_MESSAGE)
            return
        if self._state is _State.JOINED:
            self._close_channel()
        self._join_ref = frame.join_ref
        self._reply(self._framing.reply_ok(frame))
        self._state = _State.JOINED
        self._on_join(message)

    def _request(self, frame: Frame) -> None:
        message = self._dialect.decode_from_peer(frame.event, frame.payload)
        if isinstance(message, Unknown | Malformed):
            self._refuse(frame, frames.UNKNOWN_MESSAGE)
            return
        answer = self._on_request(message)
        if answer == "":
            self._reply(self._framing.reply_ok(frame))
        elif answer is not None:
            self._refuse(frame, answer)

    def _refuse(self, frame: Frame, reason: str) -> None:
        self._counters[f"replies_{reason.replace(' ', '_')}"] += 1
        self._reply(self._framing.reply_error(frame, reason))

    def _close_channel(self) -> None:
        if self._state is _State.JOINED:
            self._send(
                self._framing.encode(
                    self._dialect.topic, frames.CLOSE, {}, ref=self._join_ref, join_ref=self._join_ref
                )
            )
            self._leave()
            self._state = _State.OPEN

    def _leave(self) -> None:
        if self._state is _State.JOINED:
            self._state = _State.OPEN
            self._on_leave()

    def _reply(self, text: str) -> None:
        self._send(text, _Weight.REPLY)

    def _send(self, text: str, weight: _Weight = _Weight.PUSH) -> None:
        if self._state is _State.CLOSED:
            return
        size = _bytes_of(text)
        self._outbox.append((text, weight, size))
        match weight:
            case _Weight.FREE:
                self._has_free_init = True
            case _Weight.REPLY:
                self._outbox_bytes += size
                self._reply_bytes += size
            case _Weight.PUSH:
                self._outbox_bytes += size
        if self._outbox_bytes > MAX_BACKLOG_BYTES or self._reply_bytes > MAX_REPLY_BACKLOG_BYTES:
            self._slow_reader()
        self.on_output()

    def _forget_unsent(self) -> None:
        self._outbox.clear()
        self._outbox_bytes = self._reply_bytes = 0
        self._has_free_init = False

    def _slow_reader(self) -> None:
        if self._state is not _State.CLOSED:
            self._counters["closed_slow_reader"] += 1
            self._abort(CloseCode.POLICY_VIOLATION)

    def _abort(self, code: CloseCode) -> None:
        self._forget_unsent()
        self._close(code)

    def _guarded(self, action: Callable[P, None], *arguments: P.args, **options: P.kwargs) -> None:
        """Run one step; a failure ends only this connection, and the peer connects again (protocol §1.9,
        point 9).
        """
        if self._state is _State.CLOSED:
            return
        try:
            action(*arguments, **options)
        except Exception:
            log.exception("a control channel crashed", extra={"peer": self._dialect.kind.value})
            self._counters["channel_crashes"] += 1
            self._send(self._framing.encode(self._dialect.topic, frames.ERROR, {}, join_ref=self._join_ref))
            self._close(CloseCode.SERVICE_RESTART)


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _chars_of(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


def _ignore() -> None:
    """The default `on_output`, until the pump sets its own."""
