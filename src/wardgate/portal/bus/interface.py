"""The contract of the bus: the in-process bus keeps it, and one over a network can (docs/control-plane.md)."""

from collections.abc import Callable
from typing import Literal, Protocol, overload
from uuid import UUID

from wardgate.portal.bus.messages import DirectedMessage
from wardgate.portal.bus.presence import Address, ClientPresence, GatewayPresence, Presence, RelayPresence

Mailbox = Callable[[DirectedMessage], None]
"""Takes one message; must not block and must not raise."""

Signal = Callable[[], None]


class Bus(Protocol):
    """Registration, directed messages, presence look-ups and named signals."""

    def register(self, presence: Presence, mailbox: Mailbox) -> None:
        """Make the connection reachable, replacing an older one at its address (callers decide whether to)."""

    def unregister(self, presence: Presence) -> None:
        """Forget the connection, unless a newer one holds its address."""

    def update(self, presence: Presence) -> None:
        """Replace the presence of a registered connection; no effect if a newer one holds its address."""

    def send(self, address: Address, message: DirectedMessage) -> None:
        """Deliver to the connection at the address, at most once, after what was sent there before.

        The sender does not learn whether it arrived. Callers that need to know ask `find`, or wait for an
        answer with a deadline. The message, and even its answer, may have been delivered by the time this
        returns.
        """

    def find(self, address: Address) -> Presence | None: ...

    def holder_of_key(self, account_id: UUID, public_key: str) -> Presence | None:
        """Return the connection of the account that has this public key."""

    @overload
    def members(self, kind: Literal["client"], account_id: UUID) -> list[ClientPresence]: ...
    @overload
    def members(
        self, kind: Literal["gateway"], account_id: UUID, site_id: UUID | None = None
    ) -> list[GatewayPresence]: ...
    @overload
    def members(self, kind: Literal["relay"], account_id: None) -> list[RelayPresence]: ...
    def members(
        self, kind: str, account_id: UUID | None, site_id: UUID | None = None
    ) -> list[ClientPresence] | list[GatewayPresence] | list[RelayPresence]:
        """Return who is online, oldest first; `site_id` narrows gateways to one site. Relays belong to no
        account.
        """

    def count(self, kind: Literal["client", "gateway", "relay"]) -> int:
        """Return how many of a kind are online in all accounts."""

    def watch(self, topic: str, signal: Signal) -> Callable[[], None]:
        """Call `signal` whenever `wake(topic)` is called; returns a function that unsubscribes."""

    def wake(self, topic: str) -> None:
        """Call the watchers of a topic. Only a hint: the state itself is in the store or in presence."""
