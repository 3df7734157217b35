"""`wardgate`: one command line; what a command needs is imported only when it is called.

Imports are lazy because the web framework, the ORM and netlink cost a second together, and `wardgate --help`
or a client needs none of them.
"""

import importlib
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import wardgate
from wardgate.cli.command_line import HELP, Call, read
from wardgate.cli.commands.tree import ROOT
from wardgate.cli.errors import UserError
from wardgate.cli.garbage import loading
from wardgate.cli.help_text import help_of
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.model.shown_text import shown_text

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as shells count."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage; more in
    `cli.errors`."""
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except UserError as error:
        code = error.exit_code
        sys.stderr.write(f"wardgate: {shown_text(str(error))}\n")
    except KeyboardInterrupt:
        code = INTERRUPTED
        sys.stderr.write("wardgate: interrupted\n")
    except BrokenPipeError:
        # Whoever read had enough, as `head` has. Python flushes once more at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _run(words: Sequence[str]) -> int:
    match list(words):
        case ["__complete", *typed]:
            from wardgate.cli.completion import suggest

            for word, meaning in suggest(typed):
                echo(f"{word}\t{meaning}")
            return 0
        case [*steps, "--version"] if not any(word.startswith("-") for word in steps):
            read(ROOT, [*steps, HELP[0]])  # else there is no such command
            echo(wardgate.__version__)
            return 0
        case _:
            return _carry_out(read(ROOT, words))


def _carry_out(call: Call) -> int:
    if call.wants_help:
        echo(help_of(call.command, call.name, columns=shutil.get_terminal_size().columns))
        return 0
    module, _, function = call.command.run.partition(":")
    settings = (
        Settings.load(call.command.section, os.environ, call.given, call.name)
        if call.command.section
        else Settings("", os.environ, {}, call.given, call.name)
    )
    with loading():
        run = getattr(importlib.import_module(module), function)
    return run(settings) or 0


if __name__ == "__main__":
    main()
