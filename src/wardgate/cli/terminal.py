"""Where a command writes and whom it may ask: the process's own streams, or a test's."""

import shutil
import sys
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Terminal:
    """The streams of one command.

    Attributes:
        is_interactive: somebody at `stdin` can be asked.
        columns: width of `stdout` in cells; None if it is not a terminal, and then nothing is cut or
            decorated.
    """

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    is_interactive: bool
    columns: int | None

    @classmethod
    def of_this_process(cls) -> "Terminal":
        return cls(
            sys.stdin,
            sys.stdout,
            sys.stderr,
            sys.stdin.isatty() and sys.stderr.isatty(),
            shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
        )

    def note(self, line: str) -> None:
        """Tell people something that is not a result."""
        print(line, file=self.stderr, flush=True)

    def show(self, text: str) -> None:
        """Write a result."""
        print(text, file=self.stdout)

    def confirm(self, question: str) -> bool:
        """Ask on stderr; anything but y or yes means no."""
        self.stderr.write(f"{question} [y/N] ")
        self.stderr.flush()
        return self.stdin.readline().strip().lower() in ("y", "yes")


def echo(line: str) -> None:
    """Write a result to this process's standard output at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
