"""A relay's session (protocol §3.4): presence only. Its id follows from its stamp secret; the newest connection of an id wins."""

from uuid import UUID

from wardgate.portal.bus import Address, Presence
from wardgate.portal.channels.connecting import ConnectedRelay
from wardgate.portal.channels.directed import Superseded
from wardgate.portal.channels.relay_selection import RelayFacts
from wardgate.portal.channels.session import CloseCode, Session
from wardgate.portal.services import Services
from wardgate.portal.store.rows import Change
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import relay_id
from wardgate.wire.dialect import Dialect
from wardgate.wire.frames import Framing


class RelaySession(Session):
    """One connected relay."""

    def __init__(
        self, dialect: Dialect, framing: Framing, *, services: Services, connected: ConnectedRelay
    ) -> None:
        super().__init__(dialect, framing, clock=services.environment.clock, counters=services.counters)
        self._environment = services.environment
        self._bus = services.environment.bus
        self._connected = connected
        self._presence: Presence | None = None

    def _on_join(self, message: wire.Message) -> None:
        assert isinstance(message, wire.RelayJoin)
        parameters, address = self._connected.parameters, Address("relay", relay_id(message.stamp_secret))
        self._bus.send(address, Superseded())
        facts = RelayFacts(
            message.stamp_secret,
            parameters.ipv4,
            parameters.ipv6,
            parameters.port,
            self._connected.origin.position,
            self._environment.clock.now().isoformat(),
            self._connected.token.name,
        )
        self._presence = Presence(
            address=address,
            account_id=None,
            connection_id=self._environment.new_id(),
            token_id=self._connected.token.id,
            group=None,
            facts=facts.as_facts(),
        )
        self._push(wire.RelayInit())
        self._bus.register(self._presence, self.handle_message)

    def _on_leave(self) -> None:
        if self._presence is not None:
            self._bus.unregister(self._presence)
            self._presence = None

    def _on_request(self, message: wire.Message) -> str | None:
        raise AssertionError(f"a relay has no request {type(message).__name__}")

    def _on_message(self, message: object) -> None:
        if not isinstance(message, Superseded):
            raise TypeError(f"a relay session got {type(message).__name__}")
        self._stop()

    def _on_changes(self, changes: list[Change]) -> None:
        for change in changes:
            if (
                change.object == "relay_tokens"
                and change.operation == "delete"
                and change.before is not None
                and UUID(change.before["id"]) == self._connected.token.id
            ):
                self._close(CloseCode.GOING_AWAY)
                return

    def _on_timeout(self) -> None:
        """Nothing but the limits of every session is ever due."""

    def _next_timeout(self) -> float | None:
        return None
