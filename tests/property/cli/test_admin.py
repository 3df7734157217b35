"""Laws of `wardgate admin`: no words and no answer make it fail with more than one line."""

import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from support.hostile_names import HOSTILE_NAMES
from wardgate.cli.admin.arguments import parse
from wardgate.cli.admin.catalogue import NOUNS
from wardgate.cli.admin.rendering import one_json_line, one_line, show_objects
from wardgate.cli.admin.vocabulary import Output
from wardgate.cli.completion import suggest
from wardgate.cli.errors import UsageError
from wardgate.cli.rest_client import problem_text
from wardgate.cli.terminal import Terminal
from wardgate.model.shown_text import shown_text

NOW = datetime(2026, 11, 22, tzinfo=UTC)
VERBS = [(noun, verb) for noun in NOUNS for verb in noun.verbs]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw a verb with some of its options and values that may be right, and strays between them."""
    noun, verb = draw(st.sampled_from(VERBS))
    fields = (*verb.fields, *verb.filters)
    flags = [field.flag for field in fields] + [f"--{name}" for name in verb.placeholders]
    values = [choice for field in fields for choice in field.choices] + [
        "30d",
        "tcp:80",
        "2030-01-01T00:00:00Z",
    ]
    rest = st.sampled_from([*flags, *values, "--yes", "--limit", "--json"]) | st.text(max_size=12)
    return [noun.name, verb.name, *draw(st.lists(rest, max_size=8))]


@given(command_lines())
def test_any_words_are_a_request_or_wrong_usage(words: list[str]) -> None:
    if {"-h", "--help"} & set(words):
        return
    try:
        request = parse(words, now=NOW)
    except UsageError:
        return
    assert (request.noun.name, request.verb.name) == (words[0], words[1])
    json.dumps(request.given)


@given(st.lists(st.text(max_size=8), max_size=5) | command_lines())
def test_completion_offers_only_what_continues_the_word(words: list[str]) -> None:
    unfinished = words[-1] if words else ""
    assert all(word.startswith(unfinished) for word, _told in suggest(["admin", *words]))


@given(
    st.integers(400, 599), st.dictionaries(st.sampled_from(["detail", "title", "validation_errors"]), JSON)
)
def test_any_refusal_is_told_in_one_line(status: int, problem: dict[str, Any]) -> None:
    line = one_line(problem_text(status, problem, "http://portal.example"))
    assert line.isprintable()
    assert str(status) in line


@given(st.lists(st.dictionaries(st.sampled_from(["id", "name", "x"]), JSON), max_size=4))
def test_every_output_says_all_of_any_list(objects: list[dict[str, Any]]) -> None:
    assert json.loads(shown(objects, Output.JSON)) == objects
    assert yaml.safe_load(shown(objects, Output.YAML)) == objects
    table = shown(objects, Output.TABLE).removesuffix("\n").split("\n")
    assert len(table) == 1 + len(objects)
    assert all(line.isprintable() for line in table)


@pytest.mark.parametrize("columns", [None, 300])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_is_told_as_it_is_whatever_it_looks_like(name: str, columns: int | None) -> None:
    objects = [{"id": "1", "name": name, "x": None}]
    table = shown(objects, Output.TABLE, columns=columns)
    assert shown_text(name) in table
    assert all(line.isprintable() for line in table.split("\n"))


@given(st.text() | st.sampled_from(HOSTILE_NAMES))
def test_no_reader_of_yaml_takes_a_text_for_anything_else(text: str) -> None:
    line = shown([{"name": text}], Output.YAML).rstrip("\n")
    bare = line.removeprefix("- name: ")
    assert bare.startswith('"') or re.fullmatch("[A-Za-z_]{2,}", bare)
    assert yaml.safe_load(line) == [{"name": text}]


@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_exported_lines_say_the_same_and_command_no_terminal(entry: dict[str, Any]) -> None:
    line = one_json_line(json.dumps(entry, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == entry


def shown(objects: list[dict[str, Any]], output: Output, *, columns: int | None = None) -> str:
    out = io.StringIO()
    terminal = Terminal(io.StringIO(), out, io.StringIO(), is_interactive=False, columns=columns)
    show_objects(objects, ("id", "name", "x"), output, terminal)
    return out.getvalue()
