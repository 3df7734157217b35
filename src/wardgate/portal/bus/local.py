"""The bus of exactly one node: dictionaries. Delivery is synchronous, in the order of sending."""

import itertools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from wardgate.portal.bus.interface import Mailbox, Signal
from wardgate.portal.bus.messages import DirectedMessage
from wardgate.portal.bus.presence import Address, GatewayPresence, Presence, RelayPresence

_Scope = tuple[str, UUID | None]
_Key = tuple[UUID, str]

log = logging.getLogger(__name__)

_NONE: Final[dict[Address, Presence]] = {}


class LocalBus:
    """Implements `Bus` in this process. Topics: `presence:<kind>` and whatever callers agree on."""

    def __init__(self) -> None:
        self._mailboxes: dict[Address, Mailbox] = {}
        self._presences: dict[Address, Presence] = {}
        # All connections of a kind in an account: looked up for each authorization.
        self._by_scope: dict[_Scope, dict[Address, Presence]] = {}
        self._by_key: dict[_Key, Address] = {}
        self._counts: Counter[str] = Counter()
        # By a number each, so that thousands who watch the same leave one by one without a search.
        self._watchers: dict[str, dict[int, Signal]] = {}
        self._numbers = itertools.count()

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

    def send(self, address: Address, message: DirectedMessage) -> None:
        mailbox = self._mailboxes.get(address)
        if mailbox is not None:
            mailbox(message)

    def find(self, address: Address) -> Presence | None:
        return self._presences.get(address)

    def holder_of_key(self, account_id: UUID, public_key: str) -> Presence | None:
        address = self._by_key.get((account_id, public_key))
        return None if address is None else self._presences[address]

    # The interface's overloads tell callers which type they get for which kind.
    def members(self, kind: str, account_id: UUID | None, site_id: UUID | None = None) -> list[Any]:
        members = self._by_scope.get((kind, account_id), _NONE).values()
        if site_id is None:
            return list(members)
        return [one for one in members if isinstance(one, GatewayPresence) and one.site_id == site_id]

    def count(self, kind: str) -> int:
        return self._counts[kind]

    def watch(self, topic: str, signal: Signal) -> Callable[[], None]:
        watchers, number = self._watchers.setdefault(topic, {}), next(self._numbers)
        watchers[number] = signal

        def unsubscribe() -> None:
            watchers.pop(number, None)
            if not watchers and self._watchers.get(topic) is watchers:
                del self._watchers[topic]

        return unsubscribe

    def wake(self, topic: str) -> None:
        for signal in tuple(self._watchers.get(topic, {}).values()):
            try:
                signal()
            except Exception:
                # The failure of one watcher concerns neither the sender nor the other watchers.
                log.exception("a watcher failed", extra={"topic": topic.partition(":")[0]})

    def _holds(self, presence: Presence) -> bool:
        held = self._presences.get(presence.address)
        return held is not None and held.connection_id == presence.connection_id

    def _put(self, presence: Presence) -> None:
        address = presence.address
        self._counts[_scope_of(presence)[0]] += address not in self._presences
        self._presences[address] = presence
        self._by_scope.setdefault(_scope_of(presence), {})[address] = presence
        key = _key_of(presence)
        if key is not None:
            self._by_key[key] = address

    def _remove(self, address: Address) -> None:
        presence = self._presences.pop(address, None)
        if presence is None:
            return
        del self._mailboxes[address]
        key = _key_of(presence)
        if key is not None and self._by_key.get(key) == address:
            del self._by_key[key]
        scope = _scope_of(presence)
        self._counts[scope[0]] -= 1
        del self._by_scope[scope][address]
        if not self._by_scope[scope]:
            del self._by_scope[scope]

    def _announce(self, presence: Presence) -> None:
        kind, account_id = _scope_of(presence)
        self.wake(f"presence:{kind}")
        if account_id is not None:
            self.wake(f"presence:{account_id}")


def _scope_of(presence: Presence) -> _Scope:
    account_id = None if isinstance(presence, RelayPresence) else presence.account_id
    return presence.address.kind, account_id


def _key_of(presence: Presence) -> _Key | None:
    return None if isinstance(presence, RelayPresence) else (presence.account_id, presence.public_key)
