"""One connection's place on the bus, from its join to the end of its channel."""

from typing import Any, Final, Generic, TypeVar

from msgspec.structs import replace

from wardgate.portal.bus import Bus, Mailbox, Presence
from wardgate.portal.bus.messages import Superseded

CHECK_S: Final = 60.0
"""How often a connection makes sure of its place: of the messages that tell it of a newer connection, one may be lost."""

_Presence = TypeVar("_Presence", bound=Presence)


class Registration(Generic[_Presence]):
    """Registers `presence` at once; call `end` when the channel ends."""

    def __init__(self, bus: Bus, presence: _Presence, mailbox: Mailbox) -> None:
        self._bus = bus
        self._presence = presence
        self._mailbox = mailbox
        bus.register(presence, mailbox)

    def update(self, **facts: Any) -> None:
        """Tell what has changed of the presence."""
        self._presence = replace(self._presence, **facts)
        self._bus.update(self._presence)

    def end(self) -> None:
        self._bus.unregister(self._presence)

    def is_meant(self, message: Superseded) -> bool:
        """Tell whether it is this connection that a newer one takes the address from."""
        return message.connection_id == self._presence.connection_id

    def is_current(self) -> bool:
        """Tell whether the address is still this connection's. A bus that lost its presence is given it again."""
        holder = self._bus.find(self._presence.address)
        if holder is None:
            self._bus.register(self._presence, self._mailbox)
            return True
        return holder.connection_id == self._presence.connection_id


def supersede(bus: Bus, presence: Presence) -> None:
    """Tell the connection that holds the address of `presence`, if there is one, that a newer one takes it."""
    holder = bus.find(presence.address)
    if holder is not None:
        bus.send(presence.address, Superseded(holder.connection_id))
