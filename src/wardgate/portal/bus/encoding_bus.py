"""A bus of one node that passes every value through the codec, as one over a network must."""

from typing import TypeVar

from wardgate.portal.bus.codec import Encodable, decode, encode
from wardgate.portal.bus.interface import Mailbox
from wardgate.portal.bus.local import LocalBus
from wardgate.portal.bus.messages import DirectedMessage
from wardgate.portal.bus.presence import Address, Presence

_Value = TypeVar("_Value", bound=Encodable)


class EncodingBus(LocalBus):
    """For tests and the simulation: a value that shares objects with its sender, or does not survive the
    codec, fails here.
    """

    def register(self, presence: Presence, mailbox: Mailbox) -> None:
        super().register(_copied(presence), mailbox)

    def update(self, presence: Presence) -> None:
        super().update(_copied(presence))

    def send(self, address: Address, message: DirectedMessage) -> None:
        super().send(address, _copied(message))


def _copied(value: _Value) -> _Value:
    copy = decode(encode(value))
    assert isinstance(copy, type(value))
    return copy
