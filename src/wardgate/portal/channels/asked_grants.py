"""What a client has asked for: grants on their way to it, and grants that it was told of.

A grant is on its way until its receiver (a gateway, or another client) has acknowledged it and its row is stored; then the client is
told. Fifteen seconds without: it is given up. A newer request for the same thing replaces the older.

    expect ─┬─ acknowledge and confirm_stored ──► the client is told ──► held ──► revoke
            ├─ give_up, or its deadline ────────► the client is denied
            └─ expect of the same key ──────────► replaced
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from wardgate.model.ids import AuthorizationId, DeviceId, ResourceId
from wardgate.portal.bus.messages import Holding
from wardgate.wire import messages as wire

Key = tuple[ResourceId, DeviceId | None]
"""What is asked for: a resource, and in a device pool which device of it."""

GiveUp = Callable[[str, str], None]
"""Deny the client after all: the wire's reason, and why, for people."""

UNACKNOWLEDGED: Final = "it did not acknowledge the grant in time"
UNSTORED: Final = "what the grant rests on is gone"


@dataclass(slots=True)
class _Pending:
    """A grant on its way; `told` is what the client is told in the end.

    `candidates`: what the receiver signalled meanwhile. A client drops candidates of a peer that it does not know yet
    (data-plane §1.5), and the receiver signals as soon as it has acknowledged.
    """

    holding: Holding
    told: wire.Message
    give_up: GiveUp
    deadline: float
    candidates: list[wire.Message] = field(default_factory=list)
    is_acknowledged: bool = False
    is_stored: bool = False


class AskedGrants:
    """One client's grants, as their initiator. `held` are those from before this connection; deadlines are monotonic seconds."""

    def __init__(self, push: Callable[[wire.Message], None], held: Iterable[tuple[Key, Holding]]) -> None:
        self._push = push
        self._pending: dict[Key, _Pending] = {}
        self._held: dict[Key, Holding] = dict(held)

    def expect(
        self, key: Key, holding: Holding, told: wire.Message, give_up: GiveUp, *, deadline: float
    ) -> None:
        """Await acknowledgement and storage of a grant; call before its receiver is told."""
        self.drop(key)
        self._pending[key] = _Pending(holding, told, give_up, deadline)

    def drop(self, key: Key) -> None:
        """Forget a grant on its way: what waited behind it goes on."""
        pending = self._pending.pop(key, None)
        if pending is not None:
            for message in pending.candidates:
                self.pass_on(pending.holding.receiver_id, message)

    def forget_pending(self) -> None:
        """The channel ends: nobody is there to be told any more."""
        self._pending.clear()

    def acknowledge(self, authorization_id: AuthorizationId) -> None:
        for key, pending in self._of(authorization_id):
            pending.is_acknowledged = True
            self._advance(key, pending)

    def confirm_stored(self, authorization_id: AuthorizationId) -> None:
        for key, pending in self._of(authorization_id):
            pending.is_stored = True
            self._advance(key, pending)

    def give_up(self, authorization_id: AuthorizationId, reason: str, why: str) -> None:
        """Deny a grant that is still on its way."""
        for key, pending in self._of(authorization_id):
            self.drop(key)
            pending.give_up(reason, why)

    def revoke(self, authorization_id: AuthorizationId, *, now_unix: int) -> Holding | None:
        """Take a deleted grant back; return it if the client still uses it."""
        self.give_up(authorization_id, "not_found", UNSTORED)
        for key, holding in self._held.items():
            if holding.authorization_id == authorization_id:
                del self._held[key]
                return holding if holding.expires_at_unix > now_unix else None
        return None

    def is_related(self, receiver_id: DeviceId) -> bool:
        """Tell whether there is any grant between the client and a receiver."""
        return any(one.holding.receiver_id == receiver_id for one in self._pending.values()) or any(
            one.receiver_id == receiver_id for one in self._held.values()
        )

    def pass_on(self, receiver_id: DeviceId, message: wire.Message) -> None:
        """Push a receiver's candidates, behind a grant of the same receiver that the client has not been told yet."""
        for pending in self._pending.values():
            if pending.holding.receiver_id == receiver_id:
                pending.candidates.append(message)
                return
        self._push(message)

    def prune(self, *, now_unix: int) -> None:
        """Forget what has expired."""
        self._held = {key: one for key, one in self._held.items() if one.expires_at_unix > now_unix}

    def handle_timeout(self, *, now: float) -> None:
        for pending in [one for one in self._pending.values() if now >= one.deadline]:
            self.give_up(pending.holding.authorization_id, "offline", UNACKNOWLEDGED)

    def poll_timeout(self) -> float | None:
        return min((pending.deadline for pending in self._pending.values()), default=None)

    def _advance(self, key: Key, pending: _Pending) -> None:
        if pending.is_acknowledged and pending.is_stored:
            self._held[key] = pending.holding
            self._push(pending.told)
            self.drop(key)

    def _of(self, authorization_id: AuthorizationId) -> list[tuple[Key, _Pending]]:
        """Return the pending grant of this id, if there is one."""
        return [
            (key, pending)
            for key, pending in self._pending.items()
            if pending.holding.authorization_id == authorization_id
        ]
