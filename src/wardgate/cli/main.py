"""`wardgate`: one command line; each sub-command's module is imported only when it is called.

Imports are lazy because the web framework, the ORM and netlink cost a second together, and `wardgate --help`
or a client needs none of them.
"""

import importlib
import sys

import typer

import wardgate
from wardgate.cli.errors import UserError

_COMMANDS = {
    "init": "Make a data directory, the first account and its admin; idempotent.",
    "portal": "Run the portal: sign-in, REST API, policy engine, control channels.",
    "relay": "Run a relay (STUN/TURN server).",
    "gateway": "Run a gateway in front of private resources.",
    "client": "Run the headless client.",
    "up": "Run portal, relay and gateway on this machine.",
    "demo": "Build a small internet and show access granted, explained and revoked.",
    "explain": "Say why an actor may or may not reach a resource.",
    "sign-in-link": "Print a one-time sign-in link for an admin (needs the data directory).",
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h", "help"):
        typer.echo(_help())
    elif name == "--version":
        typer.echo(wardgate.__version__)
    elif name in _COMMANDS:
        _run(name, rest)
    else:
        typer.echo(f"wardgate: there is no command {name!r}; `wardgate --help` lists them", err=True)
        sys.exit(2)


def _run(name: str, arguments: list[str]) -> None:
    module = importlib.import_module(f"wardgate.cli.{name.replace('-', '_')}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name)(module.command)
    try:
        app(args=arguments, prog_name=f"wardgate {name}")
    except UserError as error:
        typer.echo(f"wardgate: {error}", err=True)
        sys.exit(error.exit_code)


def _help() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in _COMMANDS.items()]
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
