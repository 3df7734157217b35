"""An engine that writes down what it is told; it can be made to refuse kinds of commands."""

from typing import TypeVar

from wardgate.datapath.commands import Command
from wardgate.datapath.programmable import CommandRefused

_Command = TypeVar("_Command", bound=Command)


class RecordingEngine:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.refused: set[type[Command]] = set()

    def apply(self, command: Command) -> None:
        if type(command) in self.refused:
            raise CommandRefused("no relay")
        self.commands.append(command)

    def of(self, kind: type[_Command]) -> list[_Command]:
        return [command for command in self.commands if isinstance(command, kind)]

    def last(self, kind: type[_Command]) -> _Command:
        return self.of(kind)[-1]

    def forget(self) -> None:
        self.commands.clear()
