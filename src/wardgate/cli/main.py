"""`wardgate`: one command line; each sub-command's module is imported only when it is called.

Imports are lazy because the web framework, the ORM and netlink cost a second together, and `wardgate --help`
or a client needs none of them.
"""

import importlib
import sys

import click
import typer
from typer.main import get_command

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


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"wardgate.cli.{cmd_name.replace('-', '_')}")
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cmd_name, help=None)(module.command)
        return get_command(app)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage."""
    group = _LazyGroup("wardgate", help="Zero-trust access that you run yourself.")
    group.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Print the version.",
        )
    )
    try:
        result = group.main(args=arguments, prog_name="wardgate", standalone_mode=False)
    except UserError as error:
        click.echo(f"wardgate: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    sys.exit(result if isinstance(result, int) else 0)


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        click.echo(wardgate.__version__)
        ctx.exit()


if __name__ == "__main__":
    main()
