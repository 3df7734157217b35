"""Objects for people and programs: aligned tables, JSON, YAML.

Names come from users and devices, so control characters never reach the terminal as they are: in tables each
is shown as an escape. JSON and YAML escape them by themselves.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from wardgate.cli.admin.vocabulary import NAMED_MEMBERS, Output
from wardgate.cli.terminal import Terminal
from wardgate.model.shown_text import shown_text
from wardgate.wire.user_agent import software_text

_GAP = "  "


def show_objects(
    objects: Sequence[Mapping[str, Any]], columns: Sequence[str], output: Output, terminal: Terminal
) -> None:
    """Show a list; in a table, columns that no object has are left out (`a.b` is a member of a member)."""
    if output is not Output.TABLE:
        _show_document(list(objects), output, terminal)
        return
    if not objects:
        return
    present = [column for column in columns if any(_has(one, column) for one in objects)]
    rows = [[_cell(_member(one, column)) for column in present] for one in map(_for_people, objects)]
    _show_table([_heading(column) for column in present], rows, terminal)


def show_object(one: Mapping[str, Any], output: Output, terminal: Terminal) -> None:
    """Show one object, a member a line."""
    if output is not Output.TABLE:
        _show_document(one, output, terminal)
        return
    width = max((cell_len(name) for name in one), default=0)
    for name, value in _for_people(one).items():
        terminal.show(f"{name:{width}}{_GAP}{_cell(value)}".rstrip())


def one_line(text: str) -> str:
    """Return text with every control character as an escape, so that it stays one line and commands no
    terminal."""
    return shown_text(text)


def one_json_line(text: str) -> str:
    """Return JSON with what does not print escaped: it says the same, and commands no terminal."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _show_document(value: object, output: Output, terminal: Terminal) -> None:
    if output is Output.JSON:
        terminal.show(json.dumps(value, indent=2))
    else:
        text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
        terminal.show(text.rstrip("\n"))


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # PyYAML has no types
    """Quotes all text but plain words: what PyYAML writes bare, such as 1e5 or 0o17, is a number to others,
    and of control characters it writes some (U+0085) as they are."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    is_plain = _WORD.fullmatch(text) is not None and text.lower() not in _NO_TEXT
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z_]+")
_NO_TEXT: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "nan", "inf"})
"""Words that some reader of YAML takes for something else; so is all that has a digit or a sign in it, and
one letter alone."""


_Dumper.add_representer(str, _represent_text)


def _show_table(header: Sequence[str], rows: Sequence[Sequence[str]], terminal: Terminal) -> None:
    if terminal.columns is not None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in header:
            table.add_column(name, overflow="fold", no_wrap=name == "ID")
        for row in rows:
            table.add_row(*row)
        console = Console(
            file=terminal.stdout, width=terminal.columns, markup=False, highlight=False, emoji=False
        )
        console.print(table)
        return
    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    for cells in (header, *rows):
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
        terminal.show(_GAP.join(padded).rstrip())


def _heading(column: str) -> str:
    name = column.rpartition(".")[2].removeprefix("is_")
    return (name.removesuffix("_id") if name in NAMED_MEMBERS else name).upper()


def _for_people(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a device announces as its version is a level of the protocol; say so, and name the product beside
    it."""
    agent = one.get("last_seen_user_agent")
    if not isinstance(agent, str) or "last_seen_version" not in one:
        return one
    return {**one, "last_seen_version": software_text(agent)}


def _has(one: Mapping[str, Any], column: str) -> bool:
    head, _, rest = column.partition(".")
    return head in one and (not rest or isinstance(one[head], dict))


def _member(one: Mapping[str, Any], column: str) -> object:
    value: Any = one
    for name in column.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return one_line(value)
        case {"protocol": protocol, "ports": list(ports)}:
            return one_line(
                f"{protocol}:{','.join(str(port).replace(' ', '') for port in ports)}".rstrip(":")
            )
        case {"property": name, "operator": operator, "values": list(values)}:
            return one_line(" ".join(map(str, (name, operator, *values))))
        case [] | {} if not value:
            return "-"
        case list():
            return "; ".join(map(_cell, value))
        case _:
            return one_line(json.dumps(value) if isinstance(value, dict) else str(value))
