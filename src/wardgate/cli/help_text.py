"""`--help` of every command, laid out from its declaration."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from wardgate.cli.command_line import Command
from wardgate.cli.parameters import AnyParameter, Form, Setting

WIDEST: Final = 100  # columns; longer lines are hard to read, however wide the terminal
_NARROWEST: Final = 60
_LEFT: Final = 30


def help_of(command: Command, name: str, *, columns: int) -> str:
    """Return a command's help.

    Args:
        name: the words that name it.
        columns: width of the terminal.
    """
    width = max(_NARROWEST, min(columns, WIDEST))
    return "\n".join(_lines(command, name, width))


def usage_of(command: Command, name: str) -> str:
    """Return the outline of a command line: arguments and what is required by name, the rest as OPTIONS."""
    if command.children() and not command.run:
        return f"{name} COMMAND"
    required = [
        f"{one.flag} {one.placeholder}" for one in command.parameters if one.is_option and one.is_required
    ]
    arguments = [_argument(one) for one in command.parameters if one.form in (Form.ARGUMENT, Form.ARGUMENTS)]
    has_more = any(one.is_option and not one.is_required for one in command.parameters)
    return " ".join([name, *arguments, *required, *(["[OPTIONS]"] if has_more else [])])


def described(parameter: AnyParameter) -> str:
    """Return a parameter's help with its default and its variables."""
    text = parameter.help
    if parameter.is_required:
        text += " (required)"
    elif parameter.takes_value and parameter.default_text:
        text += f" (default: {parameter.default_text})"
    elif isinstance(parameter, Setting) and parameter.fallback:
        text += f" (default: {parameter.fallback})"
    if isinstance(parameter, Setting):
        text += f" [env: {', '.join(parameter.variables)}]"
    return text


def _argument(parameter: AnyParameter) -> str:
    more = "…" if parameter.form is Form.ARGUMENTS else ""
    return f"{parameter.placeholder}{more}" if parameter.is_required else f"[{parameter.placeholder}{more}]"


def _lines(command: Command, name: str, width: int) -> Iterator[str]:
    yield f"Usage: {usage_of(command, name)}"
    yield from _paragraphs((command.help, *command.details.split("\n\n")), width)
    children = [(one.name, one.help) for one in command.children()]
    arguments = [
        (one.placeholder, described(one))
        for one in command.parameters
        if one.form in (Form.ARGUMENT, Form.ARGUMENTS)
    ]
    options = [(_option(one), described(one)) for one in command.parameters if one.is_option]
    yield from _table("Commands", children, width)
    yield from _table("Arguments", arguments, width)
    yield from _table("Options", [*options, ("-h, --help", "show this")], width)
    secrets = [
        (one.variables[0], described(one))
        for one in command.parameters
        if isinstance(one, Setting) and one.form is Form.ABSENT
    ]
    yield from _table("Secrets, which are not taken from the command line", secrets, width)
    if command.examples:
        yield from ("", "Examples:", *(f"  {example}" for example in command.examples))
    yield from _paragraphs(command.notes.split("\n\n"), width)


def _paragraphs(paragraphs: Iterable[str], width: int) -> Iterator[str]:
    for paragraph in filter(None, paragraphs):
        yield ""
        yield from textwrap.wrap(paragraph, width, break_long_words=False, break_on_hyphens=False)


def _option(parameter: AnyParameter) -> str:
    short = [flag for flag in parameter.flags if not flag.startswith("--")]
    long = [flag for flag in parameter.flags if flag.startswith("--")]
    return f"{', '.join((*short, *long))} {parameter.placeholder}".strip()


def _table(heading: str, rows: list[tuple[str, str]], width: int) -> Iterator[str]:
    if not rows:
        return
    yield from ("", f"{heading}:")
    left = min(max(len(name) for name, _ in rows), _LEFT)
    for name, text in rows:
        wrapped = textwrap.wrap(text, width - left - 4, break_long_words=False, break_on_hyphens=False) or [
            ""
        ]
        if len(name) > left:
            yield f"  {name}"
            name = ""
        for line in wrapped:
            yield f"  {name:{left}}  {line}".rstrip()
            name = ""
