"""Every command with its parameters, whichever library parses it: what shells complete and what the page on the command line lists.

A command's module has `command` (one Typer function), or `main` with `APP` (Typer, sub-commands), or is `admin` (argparse).
"""

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, EnumType
from functools import cache
from typing import Any

import typer

from wardgate.cli.admin.arguments import parser


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option, or without `options` a positional argument.

    Attributes:
        value: what stands for its value in help; empty for a switch.
    """

    options: tuple[str, ...]
    help: str
    value: str
    choices: tuple[str, ...] = ()
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command; with `children` it is only a step on the way to one."""

    help: str
    parameters: tuple[Parameter, ...] = ()
    children: Mapping[str, "Command"] = field(default_factory=dict)


@cache
def command_of(name: str) -> Command:
    """Load one command of `wardgate` and describe it."""
    if name == "admin":
        return _of_parser(parser(None), "")
    module = importlib.import_module(f"wardgate.cli.{name.replace('-', '_')}")
    if hasattr(module, "APP"):
        return _of_typer(typer.main.get_command(module.APP))
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(module.command)
    return _of_typer(typer.main.get_command(app))


def _of_parser(described: argparse.ArgumentParser, help_: str) -> Command:
    # argparse has no public way to ask a parser for its arguments.
    actions = described._actions  # noqa: SLF001
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            told = {one.dest: one.help or "" for one in action._get_subactions()}  # noqa: SLF001
            children = {name: _of_parser(child, told[name]) for name, child in action.choices.items()}
            return Command(help_, children=children)
    return Command(help_, tuple(_of_action(one) for one in actions if one.dest != "help"))


def _of_action(action: argparse.Action) -> Parameter:
    choices = tuple(map(str, action.choices or ()))
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(choices))
    return Parameter(
        tuple(action.option_strings), (action.help or "").replace("%%", "%"), value, choices, action.required
    )


def _of_typer(command: Any) -> Command:
    """Describe a command of Typer's, whose own command-line library has no public types."""
    help_ = (command.help or "").strip().partition("\n")[0]
    children = {name: _of_typer(child) for name, child in getattr(command, "commands", {}).items()}
    return Command(help_, () if children else tuple(map(_of_typer_parameter, command.params)), children)


def _of_typer_parameter(parameter: Any) -> Parameter:
    annotation = parameter.type_descriptor.annotation
    members: list[Enum] = list(annotation) if isinstance(annotation, EnumType) else []
    choices = tuple(str(one.value) for one in members)
    is_argument = parameter.param_type_name == "argument"
    is_switch = not is_argument and parameter.is_flag
    return Parameter(
        () if is_argument else (*parameter.opts, *parameter.secondary_opts),
        parameter.help or "",
        "" if is_switch else "|".join(choices) or (parameter.metavar or parameter.name or "").upper(),
        choices,
        parameter.required,
    )
