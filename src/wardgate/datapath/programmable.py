"""What gateway and client see of an engine; free of the extension module, so that they can be tested where it
is not built.
"""

from typing import Protocol

from wardgate.datapath.commands import Command


class CommandRefused(Exception):
    """A command was malformed, named what does not exist, or cannot be carried out now; nothing was changed."""


class Programmable(Protocol):
    """An engine that takes commands."""

    def apply(self, command: Command) -> None:
        """Apply one command; it is in force when this returns.

        Raises:
            CommandRefused: nothing was changed.
        """
