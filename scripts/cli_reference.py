"""Write what docs/cli.md and docs/settings.md list from the commands' declarations; tests compare them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from wardgate.cli.admin.arguments import COMMON
from wardgate.cli.command_line import Command
from wardgate.cli.commands import (
    bench,
    client,
    client_sign_in,
    gateway,
    installation,
    portal,
    relay,
    rest,
    up,
)
from wardgate.cli.commands.tree import ROOT
from wardgate.cli.help_text import described
from wardgate.cli.parameters import AnyParameter, Form, Setting

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "cli.md"
MARK = "<!-- What follows is written by `make cli-reference`. -->\n"

SETTINGS_PAGE = DOCS / "settings.md"
_UP = tuple(one for one in up.SETTINGS if one.name not in {setting.name for setting in portal.SETTINGS})
TABLES: dict[str, tuple[Setting[object], ...]] = {
    "Portal": portal.SETTINGS,
    "Gateway": gateway.SETTINGS,
    "Client": client.SETTINGS,
    "`wardgate client sign-in`": client_sign_in.SETTINGS,
    "Relay": relay.SETTINGS,
    "`wardgate up` and `wardgate init`": (*_UP, installation.SEARCH_DOMAIN),
    "Commands that call the portal": rest.SETTINGS,
    "`wardgate bench control`": (bench.CLIENT_TOKEN, bench.GATEWAY_TOKEN),
}
"""Heading of docs/settings.md → the settings in its table."""


def reference() -> str:
    return "\n".join(line for command in ROOT.children() for line in _section(command))


def settings_page(page: str) -> str:
    """Return the page with the table under each heading written anew; the prose stays."""
    for heading, settings in TABLES.items():
        place = re.compile(rf"(\n## {re.escape(heading)}\n(?:(?!\n## )[^|])*?)(?:^\|.*\n)+", re.MULTILINE)
        table = "".join(f"{line}\n" for line in _settings_table(settings))
        page, count = place.subn(lambda found, table=table: found[1] + table, page)
        assert count == 1, f"docs/settings.md has no table under {heading!r}"
    return page


def _section(command: Command) -> Iterator[str]:
    yield from (f"### wardgate {command.name}", "", command.help, "")
    if command.run:
        yield from _parameters(command)
    for child in command.children():
        yield from (f"#### {command.name} {child.name}", "", child.help, "")
        if child.children():
            yield from ("| verb | arguments | |", "| --- | --- | --- |")
            for verb in child.children():
                own = [one for one in verb.parameters if one not in COMMON]
                arguments = " ".join(map(_usage, own))
                shown = _cell(f"`{arguments}`" if arguments else "")
                yield f"| `{verb.name}` | {shown} | {_cell(verb.help)} |"
            yield ""
        else:
            yield from _parameters(child)


def _parameters(command: Command) -> Iterator[str]:
    yield from ("| argument | |", "| --- | --- |")
    for one in command.parameters:
        if one.form is not Form.ABSENT:
            names = ", ".join(f"`{flag}`" for flag in one.flags)
            value = f" `{one.placeholder}`" if one.placeholder else ""
            yield f"| {_cell((names + value).strip())} | {_cell(described(one))} |"
    yield ""


def _usage(one: AnyParameter) -> str:
    text = " ".join(part for part in ("/".join(one.flags), one.placeholder) if part)
    return text if one.is_required else f"[{text}]"


def _settings_table(settings: Iterable[Setting[object]]) -> Iterator[str]:
    yield from ("| variable | option | also | default | meaning |", "| --- | --- | --- | --- | --- |")
    for one in settings:
        ours, *foreign = one.variables
        option = "" if one.form is Form.ABSENT else f"`{one.flag}`"
        also = ", ".join(f"`{name}`" for name in foreign)
        default = f"`{one.default_text}`" if one.default_text else _as_code(one.fallback) or "–"
        choices = ", ".join(f"`{choice}`" for choice in one.choices)
        listed = ": ".join(filter(None, (_as_code(one.help), choices)))
        meaning = ". ".join(filter(None, (listed, one.notes)))
        cells = (f"`{ours}`", option, also, default, _cell(meaning))
        yield "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def _as_code(text: str) -> str:
    """Mark what help writes plain: variables, URLs, headers, paths."""
    return re.sub(
        r"WARDGATE_\w+|\w+://[^\s;,]+|X-[\w-]+…|~?/[a-z][\w./-]*\w|Wardgate <\S+>", r"`\g<0>`", text
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    prose = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(prose + MARK + "\n" + reference())
    SETTINGS_PAGE.write_text(settings_page(SETTINGS_PAGE.read_text()))
