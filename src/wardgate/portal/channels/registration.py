"""One connection's presence on the bus, from its join to the end of its channel."""

from typing import Any, Final, Generic, TypeVar

from msgspec.structs import replace

from wardgate.portal.bus import Bus, Mailbox, Presence
from wardgate.portal.bus.messages import Superseded

CHECK_S: Final = 60.0
"""How often a connection checks that it still holds its address: a `Superseded` may be lost."""

_Presence = TypeVar("_Presence", bound=Presence)


class Registration(Generic[_Presence]):
    """Registers `presence` at once; call `end` when the channel ends."""

    def __init__(self, bus: Bus, presence: _Presence, mailbox: Mailbox) -> None:
        self._bus = bus
        self._presence = presence
        self._mailbox = mailbox
        bus.register(presence, mailbox)

    def update(self, **facts: Any) -> None:
        """Publish changed fields of the presence."""
        self._presence = replace(self._presence, **facts)
        self._bus.update(self._presence)

    def end(self) -> None:
        self._bus.unregister(self._presence)

    def is_superseded_by(self, message: Superseded) -> bool:
        """Tell whether a message is meant for this connection rather than for an earlier one at its address."""
        return message.connection_id == self._presence.connection_id

    def is_current(self) -> bool:
        """Tell whether this connection still holds its address; register again if the bus has lost it."""
        holder = self._bus.find(self._presence.address)
        if holder is None:
            self._bus.register(self._presence, self._mailbox)
            return True
        return holder.connection_id == self._presence.connection_id


def supersede(bus: Bus, presence: Presence) -> None:
    """Notify the connection that holds the address of `presence`, if any, that a newer one takes it."""
    holder = bus.find(presence.address)
    if holder is not None:
        bus.send(presence.address, Superseded(holder.connection_id))
