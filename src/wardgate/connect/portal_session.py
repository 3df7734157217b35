"""A peer's session with the portal across connections: the current channel, and the pacing of reconnects."""

from wardgate.wire.control_channel import ControlChannel, Lost, LostReason
from wardgate.wire.dialect import Dialect
from wardgate.wire.messages import Message
from wardgate.wire.reconnect import GiveUp, Reconnect


class SessionEnded(Exception):
    """The portal ended the session for good; reconnecting with the same token is pointless."""

    def __init__(self, reason: LostReason, detail: str) -> None:
        super().__init__(f"{reason.value}{f': {detail}' if detail else ''}")
        self.reason = reason


class PortalSession:
    """Opens a channel per connection and keeps the current one."""

    def __init__(self, dialect: Dialect, *, reconnect: Reconnect, stamp_secret: str | None = None) -> None:
        """`stamp_secret` is for relays only."""
        self._dialect = dialect
        self._reconnect = reconnect
        self._stamp_secret = stamp_secret
        self._channel: ControlChannel | None = None

    def open_channel(self, now: float) -> ControlChannel:
        """Open the channel of a new connection; `now` is from the clock that drives it."""
        self._channel = ControlChannel(self._dialect, now=now, stamp_secret=self._stamp_secret)
        return self._channel

    def send(self, message: Message) -> None:
        """Queue a message. Without an open channel it is dropped: nothing is kept across connections."""
        if self._channel is not None:
            self._channel.send(message)

    def handle_joined(self) -> None:
        self._reconnect.handle_joined()

    def handle_lost(self, lost: Lost) -> None:
        """Raises:
        SessionEnded: the loss is final.
        """
        self._channel = None
        if lost.is_fatal:
            raise SessionEnded(lost.reason, lost.detail)

    def reset_pacing(self) -> None:
        """The network changed: the next attempt need not wait."""
        self._reconnect.reset()

    def next_delay_s(self, retry_after_s: float | None) -> float | None:
        """Return the seconds until the next attempt, or None once the budget is used up."""
        decision = self._reconnect.next_attempt(retry_after_s=retry_after_s)
        return None if isinstance(decision, GiveUp) else decision.delay_s
