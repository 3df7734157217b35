"""A relay's session (protocol §3.4): presence only. Its id follows from its stamp secret; the newest
connection of an id wins.
"""

from collections.abc import Sequence

from wardgate.model.ids import RelayId, TokenId
from wardgate.portal.bus import DirectedMessage, RelayPresence
from wardgate.portal.bus.messages import Superseded
from wardgate.portal.channels.connecting import ConnectedRelay
from wardgate.portal.channels.registration import CHECK_S, Registration, supersede
from wardgate.portal.channels.session import CloseCode, Session
from wardgate.portal.database.row_changes import Deleted, RowChange
from wardgate.portal.installation.tables import RelayToken
from wardgate.portal.services import Services
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import relay_id
from wardgate.wire.dialect import Dialect
from wardgate.wire.frames import Framing
from wardgate.wire.user_agent import announced_version


class RelaySession(Session):
    """One connected relay."""

    def __init__(
        self, dialect: Dialect, framing: Framing, *, services: Services, connected: ConnectedRelay
    ) -> None:
        super().__init__(dialect, framing, clock=services.environment.clock, counters=services.counters)
        self._environment = services.environment
        self._bus = services.environment.bus
        self._connected = connected
        self._registration: Registration[RelayPresence] | None = None
        self._check_at = 0.0

    def _on_join(self, message: wire.Message) -> None:
        assert isinstance(message, wire.RelayJoin)
        connected, parameters = self._connected, self._connected.parameters
        presence = RelayPresence(
            relay_id=RelayId(relay_id(message.stamp_secret)),
            connection_id=self._environment.new_id(),
            token_id=TokenId(connected.token.id),
            name=connected.token.name,
            stamp_secret=message.stamp_secret,
            ipv4=parameters.ipv4,
            ipv6=parameters.ipv6,
            port=parameters.port,
            user_agent=connected.origin.user_agent,
            version=announced_version(connected.origin.user_agent),
            position=connected.origin.position,
            connected_at=self._environment.clock.now(),
        )
        supersede(self._bus, presence)
        self._push(wire.RelayInit())
        self._registration = Registration(self._bus, presence, self.handle_message)
        self._check_at = self._clock.monotonic() + CHECK_S

    def _on_leave(self) -> None:
        if self._registration is not None:
            self._registration.end()
            self._registration = None

    def _on_request(self, message: wire.Message) -> str | None:
        raise AssertionError(f"a relay has no request {type(message).__name__}")

    def _on_message(self, message: DirectedMessage) -> None:
        if not isinstance(message, Superseded):
            raise TypeError(f"a relay session got {type(message).__name__}")
        if self._registration is not None and self._registration.is_superseded_by(message):
            self._stop()

    def _on_changes(self, changes: Sequence[RowChange]) -> None:
        for change in changes:
            match change:
                case Deleted(RelayToken(id=self._connected.token.id)):
                    self._close(CloseCode.GOING_AWAY)
                    return
                case _:
                    pass

    def _on_timeout(self) -> None:
        now = self._clock.monotonic()
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            if self._registration is not None and not self._registration.is_current():
                self._stop()

    def _next_timeout(self) -> float | None:
        return self._check_at
