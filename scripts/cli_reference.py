"""Write the reference part of docs/cli.md from the commands themselves; a test compares the page with them."""

from collections.abc import Iterator
from pathlib import Path

from wardgate.cli.command_tree import Command, Parameter, command_of
from wardgate.cli.main import COMMANDS

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
MARK = "<!-- What follows is written by `make cli-reference`. -->\n"

COMMON_TO_ADMIN = frozenset({"--output", "--json", "--url", "--token-file", "--ca-file", "--config"})
"""Options of every `admin` verb, told once in the page's prose."""


def reference() -> str:
    return "\n".join(line for name in COMMANDS for line in _section(name, command_of(name)))


def _section(name: str, command: Command) -> Iterator[str]:
    yield from (f"### wardgate {name}", "", COMMANDS[name], "")
    if not command.children:
        yield from _parameters(command)
        return
    for child, within in command.children.items():
        if within.children:
            yield from (
                f"#### {name} {child}",
                "",
                within.help,
                "",
                "| verb | arguments | |",
                "| --- | --- | --- |",
            )
            for verb, leaf in within.children.items():
                arguments = " ".join(
                    _usage(one) for one in leaf.parameters if not COMMON_TO_ADMIN & set(one.options)
                )
                yield f"| `{verb}` | {_cell(f'`{arguments}`' if arguments else '')} | {_cell(leaf.help)} |"
            yield ""
        else:
            yield from (f"#### {name} {child}", "", within.help, "")
            yield from _parameters(within)


def _parameters(command: Command) -> Iterator[str]:
    yield from ("| argument | |", "| --- | --- |")
    for one in command.parameters:
        names = ", ".join(f"`{option}`" for option in one.options)
        value = f" `{one.value}`" if one.value else ""
        yield f"| {_cell((names + value).strip())} | {_cell(one.help)} |"
    yield ""


def _usage(one: Parameter) -> str:
    text = " ".join(part for part in ("/".join(one.options), one.value) if part)
    return text if one.is_required else f"[{text}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    prose = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(prose + MARK + "\n" + reference())
