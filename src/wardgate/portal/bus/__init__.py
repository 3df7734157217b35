"""Directed messages between connections, presence, and wake-up signals.

One process is one node: `LocalBus` is the whole of it there. Every message is a value (no callbacks, no objects shared), and
the answer "nobody there" to `send` is the presence check, so that a bus over a network can take its place.
"""

from wardgate.portal.bus.interface import Address, Bus, Mailbox, Presence, Signal
from wardgate.portal.bus.local import LocalBus

__all__ = ["Address", "Bus", "LocalBus", "Mailbox", "Presence", "Signal"]
