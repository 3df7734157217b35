"""What differs between two JSON values, as lines that can stand side by side. Pure.

Objects are compared name by name, and lists by their longest common subsequence: objects in a list that have an id
(or another name) are the same item while that stays, whatever else changes in them. What is equal is left out. A
long text that changed is compared word by word.

Every comparison has a bound: lists, texts and depths beyond it are shown whole.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, Literal

State = Literal["added", "removed", "changed"]

IDENTIFIERS: Final = ("id", "key", "uuid", "slug", "name")
"""What distinguishes an object in a list from others; the first that it has counts."""

LONG_TEXT_CHARS: Final = 60  # from here on, words are compared
MAX_WORDS: Final = 400
MAX_ITEMS: Final = 200
MAX_DEPTH: Final = 12

_WORDS: Final = re.compile(r"(\s+)")


class _Absent:
    """No value at all, in contrast to null."""


_ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a text; `differs` marks the words that the other side does not have."""

    text: str
    differs: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One value, or the heading of those within it, which stand one level deeper; then both sides are None.

    A side that has no such value is None too.
    """

    depth: int
    name: str
    state: State
    before: tuple[Piece, ...] | None = None
    after: tuple[Piece, ...] | None = None


def compare(before: Any, after: Any) -> list[Line]:
    """Return what differs between two values; None on one side: everything was added, or removed."""
    given = (_ABSENT if before is None else before, _ABSENT if after is None else after)
    return list(_children(*given, depth=0))


def changed_names(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[str]:
    """Return the names of an object whose values differ, in order."""
    one, other = before or {}, after or {}
    return [
        name for name in _names(one, other) if not _equal(one.get(name, _ABSENT), other.get(name, _ABSENT))
    ]


def _children(before: Any, after: Any, *, depth: int) -> Iterator[Line]:
    """Yield the lines of what is within two values, either of which may be absent."""
    if isinstance(before, list) or isinstance(after, list):
        for name, one, other in _paired(_as_list(before), _as_list(after)):
            yield from _lines(name, one, other, depth=depth)
        return
    old, new = _as_object(before), _as_object(after)
    for name in _names(old, new):
        yield from _lines(name, old.get(name, _ABSENT), new.get(name, _ABSENT), depth=depth)


def _lines(name: str, before: Any, after: Any, *, depth: int) -> Iterator[Line]:
    if _equal(before, after):
        return
    state: State = (
        "added" if isinstance(before, _Absent) else "removed" if isinstance(after, _Absent) else "changed"
    )
    if depth < MAX_DEPTH and _is_nested(before, after):
        yield Line(depth, name, state)
        yield from _children(before, after, depth=depth + 1)
        return
    old, new = _text(before), _text(after)
    if old == new:  # such as the number 1 and the text "1"
        old, new = _canonical(before), _canonical(after)
    if old is not None and new is not None:
        old_pieces, new_pieces = _compared(old, new)
        yield Line(depth, name, state, old_pieces, new_pieces)
        return
    yield Line(
        depth, name, state, None if old is None else (Piece(old),), None if new is None else (Piece(new),)
    )


def _is_nested(before: Any, after: Any) -> bool:
    """Tell whether both are objects, or both lists, as far as they are there, and one of them holds something."""
    there = [one for one in (before, after) if not isinstance(one, _Absent)]
    return any(there) and (
        all(isinstance(one, dict) for one in there) or all(isinstance(one, list) for one in there)
    )


def _paired(before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the items of two lists, those that are the same item together, each with what it is called."""
    if max(len(before), len(after)) > MAX_ITEMS:
        yield from _in_order(before, after)
        return
    matcher = SequenceMatcher(
        None, [_key(one) for one in before], [_key(one) for one in after], autojunk=False
    )
    for tag, first, last, other_first, other_last in matcher.get_opcodes():
        if tag == "equal":
            for one, other in zip(before[first:last], after[other_first:other_last], strict=True):
                yield _called(one, other), one, other
            continue
        yield from _in_order(before[first:last], after[other_first:other_last])


def _in_order(before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield items that are not known to be the same: nameless objects by their place, all others apart."""
    old, new = list(before), list(after)
    while old and new and _is_nameless(old[0]) and _is_nameless(new[0]):
        yield "", old.pop(0), new.pop(0)
    for one in old:
        yield _called(one, one), one, _ABSENT
    for one in new:
        yield _called(one, one), _ABSENT, one


def _key(item: Any) -> str:
    name = _identifier(item)
    return _canonical(item) if name is None else f"{name}={_canonical(item[name])}"


def _identifier(item: Any) -> str | None:
    if not isinstance(item, dict):
        return None
    return next((name for name in IDENTIFIERS if item.get(name) is not None), None)


def _is_nameless(item: Any) -> bool:
    return isinstance(item, dict) and _identifier(item) is None


def _called(before: Any, after: Any) -> str:
    name = _identifier(after) or _identifier(before)
    return "" if name is None else str(after.get(name, before.get(name)))


def _compared(before: str, after: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    old, new = _WORDS.split(before), _WORDS.split(after)
    if min(len(before), len(after)) < LONG_TEXT_CHARS or max(len(old), len(new)) > MAX_WORDS:
        return (Piece(before),), (Piece(after),)
    old_pieces, new_pieces = [], []
    for tag, first, last, other_first, other_last in SequenceMatcher(
        None, old, new, autojunk=False
    ).get_opcodes():
        differs = tag != "equal"
        old_pieces.append(Piece("".join(old[first:last]), differs))
        new_pieces.append(Piece("".join(new[other_first:other_last]), differs))
    return _filled(old_pieces), _filled(new_pieces)


def _filled(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    return tuple(one for one in pieces if one.text)


def _text(value: Any) -> str | None:
    """Return what stands for a value: a text as it is, if there is something to see."""
    if isinstance(value, _Absent):
        return None
    return value if isinstance(value, str) and value.strip() else _canonical(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, _Absent) or isinstance(after, _Absent):
        return before is after
    # Not by ==, to which 1 and true are the same.
    return _canonical(before) == _canonical(after)


def _names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return sorted({*before, *after})


def _as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
