"""The grants that a client has asked for: those pending, and those it has received.

A grant is pending until its receiver (a gateway, or another client) has acknowledged it and its row is
stored; then the client is notified. After fifteen seconds it is given up. A newer request for the same thing
replaces the older.

    expect ─┬─ acknowledge and confirm_stored ──► the client is notified ──► held ──► revoke
            ├─ give_up, or its deadline ────────► the client is denied
            └─ expect of the same key ──────────► replaced
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from wardgate.model.ids import AuthorizationId, DeviceId, ResourceId
from wardgate.portal.bus.messages import Holding
from wardgate.wire import messages as wire

Key = tuple[ResourceId, DeviceId | None]
"""What was asked for: a resource and, in a device pool, which device."""

GiveUp = Callable[[str, str], None]
"""Denies the request: the reason on the wire, and an explanation for people."""

Candidates = (
    wire.GatewayIceCandidates
    | wire.InvalidateGatewayIceCandidates
    | wire.PeerIceCandidates
    | wire.InvalidatePeerIceCandidates
)

MAX_WAITING_BYTES: Final = 1024 * 1024
"""How much of candidates may wait for pending grants; a receiver signals some dozens of a hundred bytes."""

MESSAGE_BYTES: Final = 200  # what a message costs beside its texts

UNACKNOWLEDGED: Final = "it did not acknowledge the grant in time"
UNSTORED: Final = "what the grant rests on is gone"


@dataclass(slots=True)
class _Pending:
    """A pending grant; `notice` is what the client gets in the end."""

    holding: Holding
    notice: wire.Message
    give_up: GiveUp
    deadline: float
    is_acknowledged: bool = False
    is_stored: bool = False


class AskedGrants:
    """One client's grants, as their initiator. `held` are those from before this connection; deadlines are
    monotonic seconds.

    A client chooses how many grants are pending at a time, so no message iterates over them.
    """

    def __init__(self, push: Callable[[wire.Message], None], held: Iterable[tuple[Key, Holding]]) -> None:
        self._push = push
        self._pending: dict[Key, _Pending] = {}
        self._pending_index = _Index()
        self._held = _Index()
        for key, holding in held:
            self._held.put(key, holding)
        # Signalled by a receiver while a grant of it is pending. A client drops candidates of a peer that it
        # does not know yet (data-plane §1.5), and the receiver signals as soon as it has acknowledged.
        self._candidates: dict[DeviceId, list[Candidates]] = {}
        self._waiting_bytes = 0

    def expect(
        self, key: Key, holding: Holding, notice: wire.Message, give_up: GiveUp, *, deadline: float
    ) -> None:
        """Await acknowledgement and storage of a grant; call before the offer is sent.

        Args:
            deadline: no earlier than that of any previous call.
        """
        self.drop(key)
        self._pending[key] = _Pending(holding, notice, give_up, deadline)
        self._pending_index.put(key, holding)

    def drop(self, key: Key) -> None:
        """Forget a pending grant, and release the candidates that waited for it."""
        pending = self._pending.pop(key, None)
        if pending is None:
            return
        self._pending_index.remove(key)
        receiver_id = pending.holding.receiver_id
        if not self._pending_index.has_receiver(receiver_id):
            for message in self._candidates.pop(receiver_id, ()):
                self._waiting_bytes -= _size_of(message)
                self._push(message)

    def forget_pending(self) -> None:
        """The channel ends: there is nobody to notify any more."""
        self._pending.clear()
        self._pending_index = _Index()
        self._candidates.clear()
        self._waiting_bytes = 0

    def acknowledge(self, authorization_id: AuthorizationId) -> None:
        key = self._pending_index.find(authorization_id)
        if key is not None:
            pending = self._pending[key]
            pending.is_acknowledged = True
            self._advance(key, pending)

    def confirm_stored(self, authorization_id: AuthorizationId) -> None:
        key = self._pending_index.find(authorization_id)
        if key is not None:
            pending = self._pending[key]
            pending.is_stored = True
            self._advance(key, pending)

    def give_up(self, authorization_id: AuthorizationId, reason: str, why: str) -> None:
        """Deny a grant that is still pending."""
        key = self._pending_index.find(authorization_id)
        if key is not None:
            pending = self._pending[key]
            self.drop(key)
            pending.give_up(reason, why)

    def revoke(self, authorization_id: AuthorizationId, *, now_unix: int) -> Holding | None:
        """Forget a deleted grant; return it if the client may still be using it."""
        self.give_up(authorization_id, "not_found", UNSTORED)
        key = self._held.find(authorization_id)
        if key is None:
            return None
        holding = self._held.remove(key)
        return holding if holding.expires_at_unix > now_unix else None

    def is_related(self, receiver_id: DeviceId) -> bool:
        """Tell whether there is any grant between the client and a receiver."""
        return self._pending_index.has_receiver(receiver_id) or self._held.has_receiver(receiver_id)

    def pass_on(self, receiver_id: DeviceId, message: Candidates) -> None:
        """Push a receiver's candidates, or hold them until no grant of that receiver is pending.

        A receiver may never acknowledge, and signal all the while. What is beyond the bound is pushed at once: a
        client that does not know the receiver drops it, and the session bounds what waits for a slow client.
        """
        size = _size_of(message)
        is_held = self._pending_index.has_receiver(receiver_id)
        if is_held and self._waiting_bytes + size <= MAX_WAITING_BYTES:
            self._candidates.setdefault(receiver_id, []).append(message)
            self._waiting_bytes += size
        else:
            self._push(message)

    def prune(self, *, now_unix: int) -> None:
        """Forget what has expired."""
        for key in [key for key, one in self._held.items() if one.expires_at_unix <= now_unix]:
            self._held.remove(key)

    def handle_timeout(self, *, now: float) -> None:
        while (pending := self._next_due()) is not None and now >= pending.deadline:
            self.give_up(pending.holding.authorization_id, "offline", UNACKNOWLEDGED)

    def poll_timeout(self) -> float | None:
        pending = self._next_due()
        return None if pending is None else pending.deadline

    def _next_due(self) -> _Pending | None:
        """Return the first pending grant: they are in the order of their deadlines."""
        return next(iter(self._pending.values()), None)

    def _advance(self, key: Key, pending: _Pending) -> None:
        if pending.is_acknowledged and pending.is_stored:
            self._held.put(key, pending.holding)
            self._push(pending.notice)
            self.drop(key)


def _size_of(message: Candidates) -> int:
    return MESSAGE_BYTES + sum(map(len, message.candidates))


class _Index:
    """Grants by key, which can also be looked up by id and by receiver without iterating."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Holding] = {}
        self._key_of: dict[AuthorizationId, Key] = {}
        self._grants_of: dict[DeviceId, int] = {}

    def put(self, key: Key, holding: Holding) -> None:
        """Add a grant, which replaces one of the same key."""
        if key in self._by_key:
            self.remove(key)
        self._by_key[key] = holding
        self._key_of[holding.authorization_id] = key
        self._grants_of[holding.receiver_id] = self._grants_of.get(holding.receiver_id, 0) + 1

    def remove(self, key: Key) -> Holding:
        holding = self._by_key.pop(key)
        del self._key_of[holding.authorization_id]
        self._grants_of[holding.receiver_id] -= 1
        if not self._grants_of[holding.receiver_id]:
            del self._grants_of[holding.receiver_id]
        return holding

    def items(self) -> Iterable[tuple[Key, Holding]]:
        return self._by_key.items()

    def find(self, authorization_id: AuthorizationId) -> Key | None:
        return self._key_of.get(authorization_id)

    def has_receiver(self, receiver_id: DeviceId) -> bool:
        return receiver_id in self._grants_of
