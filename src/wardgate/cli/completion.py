"""`wardgate completion bash|zsh|fish`, and what the printed scripts ask back.

A script asks `wardgate __complete WORD…` at each key press: the words after `wardgate` up to the cursor, the
last of them unfinished. The answer is one candidate a line, a tab and what it means. So a script never goes
stale. No candidates: the shell completes file names.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

from wardgate.cli.command_line import Command
from wardgate.cli.commands.tree import ROOT, SHELL
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import AnyParameter, Form
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo

Candidate = tuple[str, str]
"""A word and what it means."""

_HELP: Final = ("--help", "show help")

_SCRIPTS: Final[Mapping[str, str]] = {
    "bash": """\
_wardgate() {
    local word words=() unfinished="${COMP_WORDS[COMP_CWORD]}"
    # Words stand as they were typed: without quotes and backslashes the program knows them.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        word=${word//\\\\/} word=${word#[\\"\\']}
        word=${word%[\\"\\']}
        words+=("$word")
    done
    COMPREPLY=()
    while IFS=$'\\t' read -r word _; do
        # Within quotes of the user's own, a name is inserted as it is.
        [[ $unfinished == [\\"\\']* ]] || printf -v word %q "$word"
        COMPREPLY+=("$word")
    done < <(wardgate __complete "${words[@]}" 2>/dev/null)
}
complete -o default -F _wardgate wardgate""",
    "zsh": """\
#compdef wardgate
_wardgate() {
    local -a lines candidates
    lines=("${(@f)$(wardgate __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    candidates=("${(@)${(@)lines//:/\\\\:}//$'\\t'/:}")
    if [[ -n "$lines" ]]; then _describe wardgate candidates; else _files; fi
}
compdef _wardgate wardgate""",
    "fish": """\
function __wardgate_complete
    set -l words (commandline -opc) (commandline -ct)
    wardgate __complete $words[2..-1] 2>/dev/null
end
complete -c wardgate -n 'count (__wardgate_complete)' -f -a '(__wardgate_complete)'""",
}


def run(settings: Settings) -> None:
    """Print a script that makes the shell complete `wardgate` commands."""
    echo(_SCRIPTS[settings[SHELL]])


def suggest(words: Sequence[str]) -> list[Candidate]:
    """Return what the last word may become.

    Args:
        words: all words after `wardgate`; the last one is unfinished, and may be empty.
    """
    *before, unfinished = words or [""]
    wants_option = unfinished.startswith("-")
    return [
        (word, meaning)
        for word, meaning in _candidates(before, wants_option=wants_option)
        if word.startswith(unfinished) and word.startswith("-") is wants_option
    ]


def _candidates(before: Sequence[str], *, wants_option: bool) -> list[Candidate]:
    command, rest = ROOT, list(before[1:] if before[:1] == ["help"] else before)
    while children := command.children():
        if command.run and rest and rest[0].startswith("-"):
            break
        if not rest:
            return [*((one.name, one.help) for one in children), *_options(command)]
        child = command.child(rest.pop(0))
        if child is None:
            return []
        command = child
    wanted = _wanted(command, rest)
    if wanted is not None and (wanted.is_option or not wants_option):
        return _values(wanted, command, rest)
    return _options(command)


def _options(command: Command) -> list[Candidate]:
    return [*((flag, one.help) for one in command.parameters for flag in one.flags), _HELP]


def _wanted(command: Command, given: Sequence[str]) -> AnyParameter | None:
    """Return the parameter whose value comes next, or None if an option does."""
    taking = _taking(command)
    if given and given[-1] in taking:
        return taking[given[-1]]
    arguments = [word for place, word in enumerate(given) if not _is_of_option(given, place, taking)]
    positional = [one for one in command.parameters if one.form in (Form.ARGUMENT, Form.ARGUMENTS)]
    if len(arguments) < len(positional):
        return positional[len(arguments)]
    return positional[-1] if positional and positional[-1].form is Form.ARGUMENTS else None


def _taking(command: Command) -> dict[str, AnyParameter]:
    """Return which option takes the next word, by its spellings."""
    return {flag: one for one in command.parameters if one.takes_value for flag in one.flags}


def _is_of_option(given: Sequence[str], place: int, taking: Mapping[str, AnyParameter]) -> bool:
    return given[place].startswith("-") or (place > 0 and given[place - 1] in taking)


def _values(parameter: AnyParameter, command: Command, words: Sequence[str]) -> list[Candidate]:
    if not parameter.noun:
        return [(choice, "") for choice in parameter.choices]
    from wardgate.cli.admin.names import names_of

    taking = _taking(command)
    given: dict[str, Any] = {}
    for option, text in pairwise(words):
        if option in taking:
            with suppress(ValueError, UserError):
                given[taking[option].name] = taking[option].read(text)
    return names_of(parameter.noun, given)
