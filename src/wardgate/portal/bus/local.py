"""The bus of exactly one node: dictionaries. Delivery is synchronous, in the order of sending."""

import logging
from collections.abc import Callable
from typing import Final
from uuid import UUID

from wardgate.portal.bus.interface import Address, Mailbox, Presence, Signal

_Scope = tuple[str, UUID | None]

log = logging.getLogger(__name__)

_NOBODY: Final[dict[Address, Presence]] = {}


class LocalBus:
    """Implements `Bus` in this process. Topics: `presence:<kind>` and whatever callers agree on."""

    def __init__(self) -> None:
        self._mailboxes: dict[Address, Mailbox] = {}
        self._presences: dict[Address, Presence] = {}
        # Everybody of a kind in an account, and everybody of a token: looked up for each authorization and revocation.
        self._by_scope: dict[_Scope, dict[Address, Presence]] = {}
        self._by_token: dict[UUID, dict[Address, Presence]] = {}
        self._by_key: dict[tuple[UUID | None, str], Address] = {}
        self._watchers: dict[str, list[Signal]] = {}

    def register(self, presence: Presence, mailbox: Mailbox) -> None:
        self._remove(presence.address)
        self._mailboxes[presence.address] = mailbox
        self._put(presence)
        self._announce(presence)

    def unregister(self, presence: Presence) -> None:
        if self._holds(presence):
            self._remove(presence.address)
            self._announce(presence)

    def update(self, presence: Presence) -> None:
        if self._holds(presence):
            self._put(presence)

    def send(self, address: Address, message: object) -> bool:
        mailbox = self._mailboxes.get(address)
        if mailbox is None:
            return False
        mailbox(message)
        return True

    def find(self, address: Address) -> Presence | None:
        return self._presences.get(address)

    def holder_of_key(self, account_id: UUID | None, public_key: str) -> Presence | None:
        address = self._by_key.get((account_id, public_key))
        return None if address is None else self._presences[address]

    def members(self, kind: str, account_id: UUID | None, group: UUID | None = None) -> list[Presence]:
        everybody = self._by_scope.get((kind, account_id), _NOBODY)
        return [presence for presence in everybody.values() if group is None or presence.group == group]

    def holders(self, token_id: UUID) -> list[Presence]:
        return list(self._by_token.get(token_id, _NOBODY).values())

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
            try:
                signal()
            except Exception:
                # Of many watchers one has a fault: it is neither the sender's nor the others'.
                log.exception("a watcher failed", extra={"topic": topic.partition(":")[0]})

    def _holds(self, presence: Presence) -> bool:
        held = self._presences.get(presence.address)
        return held is not None and held.connection_id == presence.connection_id

    def _put(self, presence: Presence) -> None:
        self._presences[presence.address] = presence
        scope = (presence.address.kind, presence.account_id)
        self._by_scope.setdefault(scope, {})[presence.address] = presence
        self._by_token.setdefault(presence.token_id, {})[presence.address] = presence
        public_key = presence.facts.get("public_key")
        if public_key is not None:
            self._by_key[presence.account_id, public_key] = presence.address

    def _remove(self, address: Address) -> None:
        presence = self._presences.pop(address, None)
        if presence is None:
            return
        del self._mailboxes[address]
        key = (presence.account_id, presence.facts.get("public_key", ""))
        if self._by_key.get(key) == address:
            del self._by_key[key]
        scope = (address.kind, presence.account_id)
        del self._by_scope[scope][address]
        if not self._by_scope[scope]:
            del self._by_scope[scope]
        del self._by_token[presence.token_id][address]
        if not self._by_token[presence.token_id]:
            del self._by_token[presence.token_id]

    def _announce(self, presence: Presence) -> None:
        self.wake(f"presence:{presence.address.kind}")
        if presence.account_id is not None:
            self.wake(f"presence:{presence.account_id}")
