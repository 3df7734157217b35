"""`wardgate completion bash|zsh|fish`, and what the printed scripts ask back.

A script asks `wardgate __complete WORD…` at each key press: the words after `wardgate` up to the cursor, the last of them unfinished.
The answer is one candidate a line, a tab and what it does. So a script never grows stale, and only the module of the command in
question is loaded. No candidates: the shell completes file names.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final

import typer

from wardgate.cli.admin.names import names_of, noun_wanted
from wardgate.cli.command_tree import Command, command_of


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
        candidates = [
            *commands.items(),
            ("--help", "Say what there is."),
            ("--version", "Print the version."),
        ]
    elif before[0] in commands:
        candidates = [*_names(before, unfinished), *_within(command_of(before[0]), before[1:])]
    else:
        candidates = []
    wants_option = unfinished.startswith("-")
    return [
        (word, told)
        for word, told in candidates
        if word.startswith(unfinished) and word.startswith("-") is wants_option
    ]


def _names(before: Sequence[str], unfinished: str) -> list[Candidate]:
    """Return the names of the objects that may stand here; the portal is asked only where one may."""
    if before[0] not in ("admin", "explain") or unfinished.startswith("-"):
        return []
    noun = noun_wanted(before)
    return [] if noun is None else [(name, noun.singular) for name in names_of(noun)]


def _within(command: Command, before: Sequence[str]) -> list[Candidate]:
    for word in before:
        command = command.children.get(word, command)
    if command.children:
        return [(name, child.help) for name, child in command.children.items()]
    last = before[-1] if before else ""
    for one in command.parameters:
        if one.value and last in one.options:
            return [(choice, "") for choice in one.choices]
    positional = [(choice, "") for one in command.parameters if not one.options for choice in one.choices]
    options = [(option, one.help) for one in command.parameters for option in one.options]
    return [*positional, *options, ("--help", "Say what there is.")]
