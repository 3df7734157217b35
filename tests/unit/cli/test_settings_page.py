"""docs/settings.md lists exactly the settings that the commands look up, with their foreign names and defaults."""

import ast
import importlib
import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import wardgate
from wardgate.cli.settings import Settings, parse_duration_s

PAGE = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
CLI = Path(wardgate.__file__).parent / "cli"
SECTIONS = {
    "Portal": ("portal", "portal_settings"),
    "Gateway": ("gateway", "peer"),
    "Client": ("client", "peer"),
    "Relay": ("relay", "peer"),
    "`wardgate up` and `wardgate init`": ("up", "init"),
    "Commands that call the portal": ("rest_client", "admin.execution"),
}
# Looked up by a module that several commands share, shown where a reader looks for it.
SHOWN_WITH = {"data_dir": "Portal", "profile": "Commands that call the portal"}
KINDS = {name for name, value in vars(Settings).items() if callable(value) and not name.startswith("_")}
UNKNOWN = object()


class LookUp(NamedTuple):
    module: str
    name: str
    kind: str
    also: tuple[str, ...]
    default: Any


class Row(NamedTuple):
    also: tuple[str, ...]
    default: str
    meaning: str


def documented(section: str) -> dict[str, Row]:
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `WARDGATE_(\w+)` \| (.*?) ?\| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    return {
        name.lower(): Row(tuple(re.findall(r"`(\w+)`", also)), default, meaning)
        for name, also, default, meaning in rows
    }


@cache
def look_ups() -> tuple[LookUp, ...]:
    return tuple(_look_ups())


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_lists_what_the_commands_look_up(section: str) -> None:
    expected: dict[str, tuple[str, ...]] = {}
    own = {name for name, shown in SHOWN_WITH.items() if shown == section}
    shared = set(documented("Portal")) if section.startswith("`wardgate up`") else set()
    for one in look_ups():
        if (one.module in SECTIONS[section] and one.name not in shared) or one.name in own:
            expected[one.name] = one.also
    assert {name: row.also for name, row in documented(section).items()} == expected


def test_no_look_up_is_left_out() -> None:
    listed = {name for section in SECTIONS for name in documented(section)}
    assert {(one.module, one.name) for one in look_ups() if one.name not in listed} == set()


@pytest.mark.parametrize("section", SECTIONS)
def test_the_defaults_are_those_of_the_code(section: str) -> None:
    rows, compared = documented(section), 0
    for one in look_ups():
        if one.module in (*SECTIONS[section][:1], "portal_settings") and one.name in rows:
            shown = rows[one.name].default
            if one.default is not UNKNOWN and not (section.startswith("`") and one.module == "init"):
                assert _agrees(one, shown), (one, shown)
                compared += 1
    assert compared > 0


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_means(section: str) -> None:
    for name, row in documented(section).items():
        assert len(row.meaning) > 5, name


def _look_ups() -> Iterator[LookUp]:
    for path in sorted(CLI.rglob("*.py")):
        name = ".".join(path.relative_to(CLI).with_suffix("").parts)
        module = importlib.import_module(f"wardgate.cli.{name}")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield from _look_up(name, vars(module), node)


def _look_up(module: str, names: dict[str, Any], call: ast.Call) -> Iterator[LookUp]:
    arguments = call.args
    match call.func:
        case ast.Attribute(ast.Name("settings"), kind) if kind in KINDS and len(arguments) == 3:
            if isinstance(arguments[0], ast.Constant):
                also: tuple[str, ...] = ()
                for keyword in call.keywords:
                    if keyword.arg == "env":
                        also = ast.literal_eval(keyword.value)
                yield LookUp(module, str(arguments[0].value), kind, also, _evaluated(arguments[2], names))
        case ast.Name():
            # A function of the module that is given the name: `_host(settings, "rest_host")`.
            match arguments:
                case [ast.Name("settings"), ast.Constant(str(name))]:
                    yield LookUp(module, name, "text", (), None)


def _evaluated(node: ast.expr, names: dict[str, Any]) -> Any:
    try:
        return eval(compile(ast.Expression(node), "<default>", "eval"), dict(names))
    except NameError:
        return UNKNOWN  # it is found out by the caller: the page says it in words


def _agrees(one: LookUp, shown: str) -> bool:
    if one.default is None or one.default == []:
        return shown == "–" or not shown.startswith("`")
    text = shown.strip("`")
    match one.kind, one.default:
        case "duration_s", seconds:
            return bool(parse_duration_s(text) == seconds)
        case "boolean", is_on:
            return text == ("true" if is_on else "false")
        case _, Enum() as value:
            return bool(text == value.value)
        case _, value:
            return text == str(value)
