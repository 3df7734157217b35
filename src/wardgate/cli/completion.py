"""`wardgate completion bash|zsh|fish`, and what the printed scripts ask back.

A script asks `wardgate __complete WORD…` at each key press: the words after `wardgate` up to the cursor, the last of them unfinished.
The answer is one candidate a line, a tab and what it does. So a script never grows stale, and only the module of the command in
question is loaded. No candidates: the shell completes file names.
"""

import argparse
import importlib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, EnumType, StrEnum
from typing import Annotated, Any, Final

import typer

from wardgate.cli.admin.arguments import parser as admin_parser
from wardgate.cli.admin.catalogue import noun_named


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


Candidate = tuple[str, str]
"""A word and what it does."""

_SCRIPTS: Final[Mapping[Shell, str]] = {
    Shell.BASH: """\
_wardgate() {
    local IFS=$'\\n'
    COMPREPLY=($(wardgate __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
}
complete -o default -F _wardgate wardgate""",
    Shell.ZSH: """\
#compdef wardgate
_wardgate() {
    local -a lines candidates
    lines=("${(@f)$(wardgate __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    candidates=("${(@)${(@)lines//:/\\\\:}//$'\\t'/:}")
    if [[ -n "$lines" ]]; then _describe wardgate candidates; else _files; fi
}
compdef _wardgate wardgate""",
    Shell.FISH: """\
function __wardgate_complete
    set -l words (commandline -opc) (commandline -ct)
    wardgate __complete $words[2..-1] 2>/dev/null
end
complete -c wardgate -n 'count (__wardgate_complete)' -f -a '(__wardgate_complete)'""",
}


def command(
    shell: Annotated[Shell, typer.Argument(help="Which shell.")],
) -> None:
    """Print a script that makes the shell complete `wardgate` commands.

    Example: wardgate completion bash > /etc/bash_completion.d/wardgate
    """
    typer.echo(_SCRIPTS[shell])


def suggest(words: Sequence[str], commands: Mapping[str, str]) -> list[Candidate]:
    """Return what the last word may become.

    Args:
        words: all words after `wardgate`; the last one is unfinished, and may be empty.
        commands: every command and what it does.
    """
    *before, unfinished = words or [""]
    if not before:
        candidates: Iterable[Candidate] = [*commands.items(), ("--help", ""), ("--version", "")]
    elif before[0] == "admin":
        candidates = _of_admin(before[1:])
    elif before[0] in commands:
        candidates = _of_typer(before[0], before[1:])
    else:
        candidates = ()
    return [
        (word, told)
        for word, told in candidates
        if word.startswith(unfinished)
        and (unfinished.startswith("-") or not word.startswith("-") or not before)
    ]


def _of_admin(before: Sequence[str]) -> list[Candidate]:
    noun = next((found for word in before if (found := noun_named(word))), None)
    parser: argparse.ArgumentParser = admin_parser(noun)
    for word in before:
        within = _subcommands(parser)
        if within is None:
            break
        parser = within.choices.get(word, parser)
    within = _subcommands(parser)
    if within is not None:
        return [(one.dest, one.help or "") for one in within._get_subactions()]  # noqa: SLF001 - argparse keeps help there only
    options = [action for action in parser._actions if action.option_strings]  # noqa: SLF001 - argparse has no public list
    taking = next(
        (one for one in options if before and before[-1] in one.option_strings and one.nargs != 0), None
    )
    if taking is not None:
        return [(str(choice), "") for choice in taking.choices or ()]
    return [(string, one.help or "") for one in options for string in one.option_strings if string != "-h"]


def _subcommands(
    parser: argparse.ArgumentParser,
) -> "argparse._SubParsersAction[argparse.ArgumentParser] | None":
    return next(
        (one for one in parser._actions if isinstance(one, argparse._SubParsersAction)),  # noqa: SLF001 - as above
        None,
    )


def _of_typer(name: str, before: Sequence[str]) -> list[Candidate]:
    module = importlib.import_module(f"wardgate.cli.{name.replace('-', '_')}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(module.command)
    found: list[Candidate] = [("--help", "")]
    parameters: list[Any] = list(typer.main.get_command(app).params)  # Typer's own click has no public types
    for one in parameters:
        choices = [str(member.value) for member in _members(one.type_descriptor.annotation)]
        options = [*one.opts, *one.secondary_opts]
        if one.param_type_name == "argument":
            found += [(choice, "") for choice in choices]
        elif before and before[-1] in options and not getattr(one, "is_flag", False):
            return [(choice, "") for choice in choices]
        else:
            found += [(option, getattr(one, "help", None) or "") for option in options]
    return found


def _members(annotation: object) -> list[Enum]:
    return list(annotation) if isinstance(annotation, EnumType) else []
