"""Every command line that help or the documents show can be read, and every command has help of one kind."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from wardgate.cli.command_line import Call, Command, read
from wardgate.cli.commands.tree import ROOT
from wardgate.cli.help_text import WIDEST, help_of
from wardgate.cli.parameters import Form

REPOSITORY = Path(__file__).parents[3]
_START = re.compile(r"^(?:[#$] )?(?:time )?(?:sudo )?(?:[A-Z_]+=\S+ )*wardgate ")
_FENCE = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def commands(
    command: Command = ROOT, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Command]]:
    yield path, command
    for child in command.children():
        yield from commands(child, (*path, child.name))


COMMANDS = [pytest.param(path, one, id=" ".join(path) or "wardgate") for path, one in commands()]


def documented() -> Iterator[str]:
    for file in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        if "spec" not in file.parts:
            for block in _FENCE.findall(file.read_text()):
                for line in block.replace("\\\n", " ").splitlines():
                    if _START.match(line.strip()):
                        yield line.strip()


def read_line(line: str) -> Call:
    words = shlex.split(re.split(r" (?:\||>|2>|&&|#) ?", line)[0], comments=True)
    return read(ROOT, words[words.index("wardgate") + 1 :])


@pytest.mark.parametrize("line", sorted({line for line in documented() if "…" not in line}))
def test_a_documented_command_line_can_be_read(line: str) -> None:
    read_line(line)


def test_there_are_documented_command_lines() -> None:
    assert len(set(documented())) > 15


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_examples_are_of_the_command_whose_help_shows_them(path: tuple[str, ...], command: Command) -> None:
    assert command.examples
    for example in command.examples:
        assert read_line(example).path[: len(path) + 1] == ("wardgate", *path)


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_has_help_that_names_all_it_takes(path: tuple[str, ...], command: Command) -> None:
    name = " ".join(("wardgate", *path))
    text = help_of(command, name, columns=500)
    assert text.startswith(f"Usage: {name}")
    for one in command.parameters:
        assert one.help in " ".join(text.split()), one.name
        assert all(flag in text for flag in one.flags)
    for child in command.children():
        assert child.name in text
    assert "-h, --help" in text
    assert read(ROOT, [*path, "--help"]).wants_help
    assert read(ROOT, ["help", *path]).command.name == command.name


@pytest.mark.parametrize("columns", [20, 60, 80, 400])
def test_help_keeps_to_the_width_but_for_examples(columns: int) -> None:
    for path, command in commands():
        text = help_of(command, " ".join(("wardgate", *path)), columns=columns)
        prose, _, _ = text.partition("\nExamples:")
        for line in prose.splitlines()[1:]:
            is_one_word = len(line.split()) == 1 or line.lstrip().startswith("-")
            assert is_one_word or len(line) <= max(60, min(columns, WIDEST)), line


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_words_of_a_command_mean_one_thing_each(path: tuple[str, ...], command: Command) -> None:
    names = [one.name for one in command.parameters]
    flags = [flag for one in command.parameters for flag in one.flags] + ["-h", "--help"]
    arguments = [one for one in command.parameters if one.form in (Form.ARGUMENT, Form.ARGUMENTS)]
    assert len(set(names)) == len(names)
    assert len(set(flags)) == len(flags)
    assert all(one.form is Form.ARGUMENT for one in arguments[:-1])
    assert not (command.children() and arguments)
    assert command.run or command.children()
