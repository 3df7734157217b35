"""The contract of the bus, which the in-process bus and a networked one both keep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

Mailbox = Callable[[object], None]
"""Takes one message; must not block and must not raise."""

Signal = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a connection is reached: the kind of peer and its device or relay id."""

    kind: Literal["client", "gateway", "relay"]
    id: UUID


@dataclass(frozen=True, slots=True)
class Presence:
    """One live connection.

    Attributes:
        account_id: none for a relay, which serves the whole installation.
        connection_id: tells two connections of one device apart.
        group: what else finds it: a gateway's site, else none.
        facts: what others need of it; key material included, so it stays inside the portal's trust boundary.
    """

    address: Address
    account_id: UUID | None
    connection_id: UUID
    token_id: UUID
    group: UUID | None
    facts: Mapping[str, Any]


class Bus(Protocol):
    """Registration, directed messages, presence look-ups and named signals."""

    def register(self, presence: Presence, mailbox: Mailbox) -> None:
        """Make the connection reachable; an older one at this address is replaced (callers decide who may)."""

    def unregister(self, presence: Presence) -> None:
        """Forget the connection, unless a newer one holds its address."""

    def update(self, presence: Presence) -> None:
        """Replace the facts of a registered connection; no effect on one that was replaced meanwhile."""

    def send(self, address: Address, message: object) -> bool:
        """Deliver to the connection at the address; false: nobody there, nothing happened."""

    def find(self, address: Address) -> Presence | None: ...

    def holder_of_key(self, account_id: UUID | None, public_key: str) -> Presence | None:
        """Return which connection of the account has this key among its facts, as `public_key`."""

    def members(self, kind: str, account_id: UUID | None, group: UUID | None = None) -> list[Presence]:
        """Return who is online, oldest first; `group` narrows to one site."""

    def holders(self, token_id: UUID) -> list[Presence]:
        """Return the connections that were made with a token."""

    def watch(self, topic: str, signal: Signal) -> Callable[[], None]:
        """Call `signal` whenever `wake(topic)` is called; returns what ends the watch."""

    def wake(self, topic: str) -> None:
        """Wake the watchers of a topic. A hint only: what there is to know stands in the store or in presence."""
