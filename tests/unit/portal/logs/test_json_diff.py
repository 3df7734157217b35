"""The difference of two JSON values, side by side."""

from typing import Any

import pytest

from wardgate.portal.logs.json_diff import (
    LONG_TEXT_CHARS,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_WORDS,
    Line,
    changed_names,
    compare,
)


def told(before: Any, after: Any) -> list[str]:
    """Return the lines as a person would note them down: ~ changed, + added, - removed."""
    return [_line(one) for one in compare(before, after)]


def _line(line: Line) -> str:
    sign = {"added": "+", "removed": "-", "changed": "~"}[line.state]
    sides = [
        "".join(f"[{piece.text}]" if piece.differs else piece.text for piece in side)
        for side in (line.before, line.after)
        if side is not None
    ]
    values = f": {' -> '.join(sides)}" if sides else ""
    return f"{'  ' * line.depth}{sign} {line.name}{values}"


def test_equal_values_have_no_lines() -> None:
    one = {"name": "Berlin", "filters": [{"protocol": "tcp", "ports": ["80"]}], "site": None}
    assert compare(one, {**one}) == []


def test_only_what_differs_is_told() -> None:
    assert told({"name": "Berlin", "threshold": 1, "slug": "x"}, {"name": "Potsdam", "threshold": 2, "slug": "x"}) == [
        "~ name: Berlin -> Potsdam",
        "~ threshold: 1 -> 2",
    ]  # fmt: skip


def test_a_new_row_is_all_added_and_a_deleted_one_all_removed() -> None:
    row = {"name": "Berlin", "site": None}
    assert told(None, row) == ["+ name: Berlin", "+ site: null"]
    assert told(row, None) == ["- name: Berlin", "- site: null"]


def test_null_and_nothing_are_apart() -> None:
    assert told({"address": None}, {}) == ["- address: null"]
    assert told({"address": None}, {"address": "10.0.0.1"}) == ["~ address: null -> 10.0.0.1"]


@pytest.mark.parametrize(
    ("before", "after"), [(1, True), (0, False), ("1", 1), ("null", None), ("", None), ([], {}), (1, 1.5)]
)
def test_values_of_different_types_differ_and_look_different(before: Any, after: Any) -> None:
    (line,) = compare({"x": before}, {"x": after})
    assert line.state == "changed"
    assert line.before != line.after


def test_objects_within_objects_are_compared_name_by_name() -> None:
    before = {"config": {"dns": {"type": "system", "provider": "google"}, "letter": True}}
    after = {"config": {"dns": {"type": "secure", "provider": "google"}, "letter": True}}
    assert told(before, after) == ["~ config", "  ~ dns", "    ~ type: system -> secure"]


@pytest.mark.parametrize("name", ["id", "key", "uuid", "slug", "name"])
def test_items_of_lists_are_paired_by_what_identifies_them(name: str) -> None:
    before = {"items": [{name: "a", "x": 1}, {name: "b", "x": 1}, {name: "c", "x": 1}]}
    after = {"items": [{name: "new", "x": 9}, {name: "a", "x": 1}, {name: "c", "x": 2}]}
    assert told(before, after) == [
        "~ items",
        "  + new",
        *sorted([f"    + {name}: new", "    + x: 9"], key=lambda line: line.split("+ ")[1]),
        "  - b",
        *sorted([f"    - {name}: b", "    - x: 1"], key=lambda line: line.split("- ")[1]),
        "  ~ c",
        "    ~ x: 1 -> 2",
    ]


def test_the_first_identifier_that_an_item_has_counts() -> None:
    before = {"items": [{"id": 1, "name": "a"}]}
    assert told(before, {"items": [{"id": 1, "name": "b"}]}) == ["~ items", "  ~ 1", "    ~ name: a -> b"]


def test_plain_items_are_added_and_removed_where_they_stand() -> None:
    assert told({"ports": ["80", "443"]}, {"ports": ["443", "8000"]}) == [
        "~ ports",
        "  - : 80",
        "  + : 8000",
    ]


def test_objects_without_a_name_that_took_each_others_place_are_compared() -> None:
    before = {"filters": [{"protocol": "tcp", "ports": ["80"]}, {"protocol": "icmp"}]}
    after = {"filters": [{"protocol": "tcp", "ports": ["80", "443"]}, {"protocol": "icmp"}]}
    assert told(before, after) == ["~ filters", "  ~ ", "    ~ ports", "      + : 443"]


def test_a_list_that_became_something_else_is_told_whole() -> None:
    assert told({"x": ["a"]}, {"x": {"a": 1}}) == ['~ x: ["a"] -> {"a": 1}']
    assert told({"x": ["a"]}, {"x": None}) == ['~ x: ["a"] -> null']


def test_long_texts_are_compared_by_words_and_short_ones_whole() -> None:
    long = "The gateways of this site stand in the cellar of the old building, "
    assert len(long) >= LONG_TEXT_CHARS
    assert told({"d": long + "left"}, {"d": long + "right"}) == [f"~ d: {long}[left] -> {long}[right]"]
    assert told({"d": "the left door"}, {"d": "the right door"}) == ["~ d: the left door -> the right door"]


def test_beyond_its_bounds_a_value_is_told_whole_and_nothing_is_lost() -> None:
    many = [str(number) for number in range(MAX_ITEMS + 1)]
    assert len(compare({"x": many}, {"x": [*many, "new"]})) == 1 + 2 * len(many) + 1
    words = "word " * MAX_WORDS
    (line,) = compare({"x": words + "a"}, {"x": words + "b"})
    assert [piece.differs for piece in line.before or ()] == [False]
    deep: Any = 1
    other: Any = 2
    for _ in range(MAX_DEPTH + 5):
        deep, other = {"a": deep}, {"a": other}
    lines = compare(deep, other)
    assert max(one.depth for one in lines) == MAX_DEPTH
    assert lines[-1].before != lines[-1].after


def test_changed_names_are_those_at_the_top() -> None:
    assert changed_names({"a": 1, "b": {"c": 1}, "d": 1}, {"a": 1, "b": {"c": 2}, "e": 1}) == ["b", "d", "e"]
    assert changed_names(None, {"a": 1}) == ["a"]
