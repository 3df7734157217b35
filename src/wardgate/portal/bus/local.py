"""The bus of exactly one node: dictionaries. Delivery is synchronous, in the order of sending."""

from collections.abc import Callable
from uuid import UUID

from wardgate.portal.bus.interface import Address, Mailbox, Presence, Signal


class LocalBus:
    """Implements `Bus` in this process. Topics: `presence:<kind>` and whatever callers agree on."""

    def __init__(self) -> None:
        self._connections: dict[Address, tuple[Presence, Mailbox]] = {}
        self._watchers: dict[str, list[Signal]] = {}

    def register(self, presence: Presence, mailbox: Mailbox) -> None:
        self._connections.pop(presence.address, None)
        self._connections[presence.address] = (presence, mailbox)
        self._announce(presence)

    def unregister(self, presence: Presence) -> None:
        held = self._connections.get(presence.address)
        if held is not None and held[0].connection_id == presence.connection_id:
            del self._connections[presence.address]
            self._announce(presence)

    def update(self, presence: Presence) -> None:
        held = self._connections.get(presence.address)
        if held is not None and held[0].connection_id == presence.connection_id:
            self._connections[presence.address] = (presence, held[1])

    def send(self, address: Address, message: object) -> bool:
        held = self._connections.get(address)
        if held is None:
            return False
        held[1](message)
        return True

    def find(self, address: Address) -> Presence | None:
        held = self._connections.get(address)
        return None if held is None else held[0]

    def members(self, kind: str, account_id: UUID | None, group: UUID | None = None) -> list[Presence]:
        return [
            presence
            for presence, _mailbox in self._connections.values()
            if presence.address.kind == kind
            and presence.account_id == account_id
            and (group is None or presence.group == group)
        ]

    def holders(self, token_id: UUID) -> list[Presence]:
        return [
            presence for presence, _mailbox in self._connections.values() if presence.token_id == token_id
        ]

    def watch(self, topic: str, signal: Signal) -> Callable[[], None]:
        watchers = self._watchers.setdefault(topic, [])
        watchers.append(signal)

        def unwatch() -> None:
            if signal in watchers:
                watchers.remove(signal)
            if not watchers and self._watchers.get(topic) is watchers:
                del self._watchers[topic]

        return unwatch

    def wake(self, topic: str) -> None:
        for signal in tuple(self._watchers.get(topic, ())):
            signal()

    def _announce(self, presence: Presence) -> None:
        self.wake(f"presence:{presence.address.kind}")
        if presence.account_id is not None:
            self.wake(f"presence:{presence.account_id}")
