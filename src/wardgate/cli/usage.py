"""Wrong usage, told the same way by every command: one line that names what is wrong, what may have been meant and where help is; exit code 2.

The commands have two parsers, Typer's and argparse's (`admin.arguments` says why). Neither tells its errors by itself.
"""

import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

import typer

from wardgate.cli.errors import UsageError

_WRONG_USAGE: Final[type[Any]] = typer.BadParameter.__mro__[1]
"""The base of what Typer's own command-line library raises; it has no public name."""


INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as shells count."""


def run(app: typer.Typer, arguments: Sequence[str], prog_name: str) -> NoReturn:
    """Run a command of Typer's and end the process as it says.

    Raises:
        UsageError: the words are no such command.
    """
    try:
        code = app(args=list(arguments), prog_name=prog_name, standalone_mode=False)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not isinstance(error, _WRONG_USAGE):
            raise
        raise UsageError(_line(error, prog_name)) from error
    sys.exit(code if isinstance(code, int) else 0)


def meant(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or nothing when nothing is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _line(error: Any, prog_name: str) -> str:
    context = error.ctx
    where = prog_name if context is None else context.command_path
    message = " ".join(error.format_message().split()).rstrip(".")
    message = re.sub(r"[.;]? Did you mean", "; did you mean", message)
    commands = {} if context is None else getattr(context.command, "commands", {})
    if message.startswith("No such command") and "id you mean" not in message:
        message += meant(message.split("'")[1], commands) if "'" in message else ""
    return f"{message[:1].lower()}{message[1:]} (`{where} --help`)"
