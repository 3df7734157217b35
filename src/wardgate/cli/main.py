"""`wardgate`: one command line; each sub-command's module is imported only when it is called.

Imports are lazy because the web framework, the ORM and netlink cost a second together, and `wardgate --help`
or a client needs none of them.
"""

import importlib
import sys

import typer

import wardgate
from wardgate.cli.errors import UserError
from wardgate.cli.usage import INTERRUPTED, meant, run
from wardgate.model.shown_text import shown_text

COMMANDS = {
    "init": "Make a data directory, the first account and its admin; idempotent.",
    "portal": "Run the portal: sign-in, REST API, policy engine, control channels.",
    "relay": "Run a relay (STUN/TURN server).",
    "gateway": "Run a gateway in front of private resources.",
    "client": "Run the headless client.",
    "up": "Run portal, relay and gateway on this machine.",
    "demo": "Build a small internet and show access granted, explained and revoked.",
    "explain": "Say why an actor may or may not reach a resource.",
    "admin": "Administer the portal over its REST API: list, create, change, delete.",
    "db": "Bring a database up to date, or move an installation to another one.",
    "completion": "Print what makes a shell complete these commands.",
    "sign-in-link": "Print a one-time sign-in link for an admin (needs the data directory).",
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage; more in `cli.errors`."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h", "help"):
        typer.echo(_help())
    elif name == "--version":
        typer.echo(wardgate.__version__)
    elif name == "__complete":
        _complete(rest)
    elif name in COMMANDS:
        _run(name, rest)
    else:
        hint = meant(name, COMMANDS)
        typer.echo(f"wardgate: there is no command {shown_text(name)!r}{hint} (`wardgate --help`)", err=True)
        sys.exit(2)


def _run(name: str, arguments: list[str]) -> None:
    """Run a command's module: its `main` with the arguments as they are, or its `command` as Typer reads them."""
    try:
        module = importlib.import_module(f"wardgate.cli.{name.replace('-', '_')}")
        if hasattr(module, "main"):
            module.main(arguments)
            return
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(name)(module.command)
        run(app, arguments, f"wardgate {name}")
    except UserError as error:
        typer.echo(f"wardgate: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("wardgate: interrupted", err=True)
        sys.exit(INTERRUPTED)


def _complete(words: list[str]) -> None:
    from wardgate.cli.completion import suggest

    for word, told in suggest(words, COMMANDS):
        typer.echo(f"{word}\t{told}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: wardgate COMMAND [OPTIONS]",
            "",
            "Zero-trust access that you run yourself.",
            "",
            "Commands:",
            *lines,
            "",
            "`wardgate COMMAND --help` says more, with examples; `wardgate --version` prints the version.",
        ]
    )


if __name__ == "__main__":
    main()
