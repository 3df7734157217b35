"""The one parser of `wardgate`: commands are declared as a tree, and the words that a person wrote lead to
one of its leaves.

    wardgate ─ client …            a leaf: its parameters, and the function that carries it out
             └ admin ─ sites ─ list …

The tree itself finds the command, offers help at each level and says what may have been meant; argparse only
splits a leaf's words into options and their values. Wrong usage is one line everywhere, ending in where help
is, with exit code 2. Nothing here imports what a command does, so that help, completion and mistakes cost no
web framework.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from wardgate.cli.errors import UsageError
from wardgate.cli.parameters import AnyParameter, Form
from wardgate.cli.values import did_you_mean

HELP: Final = ("--help", "-h")
_MANY: Final = 15
"""A message lists the commands that there are only up to this number; help lists them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, or a step on the way to one.

    Attributes:
        help: one sentence, as the list of commands shows it.
        details: paragraphs that its own help adds.
        examples: whole command lines.
        notes: paragraphs after everything else, such as exit codes.
        section: its table in the settings file; empty if it has no settings.
        run: what carries it out: `module:function`, called with the settings; it may return an exit code.
        children: the commands below; asked for when needed, so that the tree need not be built whole. A command
            with `run` and children is carried out when no word follows it.
        is_entrance: by itself it shows its help; any other step on the way needs a command after it.
        same: words that may follow its name and change nothing: `wardgate client run` is `wardgate client`.
    """

    name: str
    help: str
    details: str = ""
    parameters: tuple[AnyParameter, ...] = ()
    examples: tuple[str, ...] = ()
    notes: str = ""
    section: str = ""
    run: str = ""
    children: Callable[[], Sequence["Command"]] = tuple
    is_entrance: bool = False
    same: tuple[str, ...] = ()

    def child(self, name: str) -> "Command | None":
        return next((one for one in self.children() if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Call:
    """What the words say: a command, its name in full, and what was given.

    Attributes:
        given: by the parameters' names; only what the words have.
        wants_help: the command's help was asked for, and nothing else was looked at.
    """

    command: Command
    path: tuple[str, ...]
    given: Mapping[str, Any] = field(default_factory=dict)
    wants_help: bool = False

    @property
    def name(self) -> str:
        return " ".join(self.path)


def read(root: Command, words: Sequence[str]) -> Call:
    """Find the command that the words name, and read the rest of them as its parameters.

    `wardgate help admin sites` asks for help as `wardgate admin sites --help` does.

    Raises:
        UsageError: with what is wrong and what may have been meant, in one line.
    """
    rest = [*words[1:], HELP[0]] if words[:1] == ["help"] else list(words)
    command: Command = root
    path: tuple[str, ...] = (root.name,)
    while True:
        if rest and rest[0] in command.same:
            del rest[0]
            break
        if not (children := command.children()):
            break
        if command.run and (not rest or rest[0].startswith("-")):
            break
        if not rest and not command.is_entrance:
            raise UsageError(_missing_command(children, path))
        word = rest.pop(0) if rest else HELP[0]
        if word in HELP:
            return Call(command, path, wants_help=True)
        child = command.child(word)
        if child is None:
            raise UsageError(_unknown_command(word, children, path))
        command, path = child, (*path, child.name)
    if any(word in HELP for word in rest[: rest.index("--") if "--" in rest else None]):
        return Call(command, path, wants_help=True)
    return Call(command, path, _given(command, " ".join(path), rest))


def _given(command: Command, name: str, words: Sequence[str]) -> Mapping[str, Any]:
    found, left = _parser(command, name).parse_known_args(words)
    hint = f" (`{name} --help`)"
    if left:
        stray = next((word for word in left if word.startswith("-") and len(word) > 1), None)
        if stray is None:
            raise UsageError(f"unexpected argument {left[0]!r}{hint}")
        option = stray.partition("=")[0]
        known = [flag for one in command.parameters for flag in one.flags]
        raise UsageError(f"there is no option {option!r}{did_you_mean(option, known)}{hint}")
    texts = vars(found)
    texts = {one.name: texts[one.name] for one in command.parameters if texts.get(one.name) not in (None, [])}
    missing = [one for one in command.parameters if one.is_required and one.name not in texts]
    if missing:
        needed = ", ".join(f"{one.flag} {one.placeholder}" if one.is_option else one.flag for one in missing)
        raise UsageError(f"missing: {needed}{hint}")
    try:
        return {one.name: _value(one, texts[one.name]) for one in command.parameters if one.name in texts}
    except _WrongValue as error:
        raise UsageError(f"{error}{hint}") from error


class _WrongValue(ValueError):
    """A value that its reader refused, with the parameter in front."""


def _value(parameter: AnyParameter, given: Any) -> Any:
    if isinstance(given, bool):
        return given
    try:
        return [parameter.read(text) for text in given] if isinstance(given, list) else parameter.read(given)
    except ValueError as error:
        raise _WrongValue(f"{parameter.flag}: {error}") from error


def _parser(command: Command, name: str) -> argparse.ArgumentParser:
    """Return what splits the words of a command; nothing is required, for what is missing is told after what
    is wrong."""
    parser = _Parser(prog=name, add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for one in command.parameters:
        match one.form:
            case Form.OPTION:
                parser.add_argument(*one.flags, dest=one.name)
            case Form.REPEATED:
                parser.add_argument(*one.flags, dest=one.name, action="append")
            case Form.SWITCH:
                parser.add_argument(*one.flags, dest=one.name, action="store_true")
            case Form.TOGGLE:
                *positive, negative = one.flags
                parser.add_argument(*positive, dest=one.name, action="store_true")
                parser.add_argument(negative, dest=one.name, action="store_false")
            case Form.ARGUMENT:
                parser.add_argument(one.name, nargs="?")
            case Form.ARGUMENTS:
                parser.add_argument(one.name, nargs="*")
            case Form.ABSENT:
                pass
    return parser


class _Parser(argparse.ArgumentParser):
    """Raises what the others print."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')} (`{self.prog} --help`)")


def _missing_command(children: Sequence[Command], path: Sequence[str]) -> str:
    where = " ".join(path)
    return f"{where} needs a command: {', '.join(one.name for one in children)} (`{where} --help`)"


def _unknown_command(word: str, children: Sequence[Command], path: Sequence[str]) -> str:
    names = [one.name for one in children]
    where = " ".join(path)
    if word.startswith("-"):
        return f"there is no option {word!r} here; a command comes first (`{where} --help`)"
    listed = f"; there are {', '.join(names)}" if len(names) <= _MANY else ""
    return f"there is no command {word!r}{did_you_mean(word, names) or listed} (`{where} --help`)"
