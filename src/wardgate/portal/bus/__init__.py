"""Directed messages between connections, presence, and wake-up signals.

presence      a value for each live connection
messages      from one connection to another
codec         both as bytes
interface     what every bus does
local         the bus of a portal that is one process
encoding_bus  the same, with every value passed through the codec: for tests and the simulation

A bus over a network can take the place of `LocalBus`: everything that crosses it is a value, and no caller
depends on learning immediately whether a message was delivered.
"""

from wardgate.portal.bus.encoding_bus import EncodingBus
from wardgate.portal.bus.interface import Bus, Mailbox, Signal
from wardgate.portal.bus.local import LocalBus
from wardgate.portal.bus.messages import DirectedMessage
from wardgate.portal.bus.presence import (
    Address,
    ClientPresence,
    GatewayPresence,
    Kind,
    Presence,
    RelayPresence,
)

__all__ = [
    "Address",
    "Bus",
    "ClientPresence",
    "DirectedMessage",
    "EncodingBus",
    "GatewayPresence",
    "Kind",
    "LocalBus",
    "Mailbox",
    "Presence",
    "RelayPresence",
    "Signal",
]
