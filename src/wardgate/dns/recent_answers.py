"""Answers to queries that were asked in the same bytes a moment ago.

Programs ask the same thing over and over, and a resolver's answer lives for a second where it leads through the
tunnel. Parsing the query, deciding on it and encoding the answer takes ten times what finding it here does.

The key is the query as it came but for its id, so that everything that an answer may depend on is part of it:
flags, the spelling of the name, type, class, EDNS. Who changes what answers say clears the memory.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import Final

MAX_ENTRIES: Final = 2048  # ours
MAX_QUERY: Final = 512  # bytes; ours: RFC 1035 §4.2.1, longer ones are not asked often
_ID: Final = 2  # bytes


@dataclass(frozen=True, slots=True)
class Remembered:
    """`body`: the answer without its id; `name`: the resource name that it was about, if any."""

    body: bytes
    name: str | None
    until: float


class RecentAnswers:
    """At most `MAX_ENTRIES` answers, the least recently given goes first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[bytes, bool], Remembered] = OrderedDict()

    def lookup(self, query: bytes, *, is_udp: bool, now: float) -> Remembered | None:
        """The answer that would be given to this query; None if that must be worked out."""
        key = (query[_ID:], is_udp)
        found = self._entries.get(key)
        if found is None:
            return None
        if now >= found.until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return found

    def remember(
        self, query: bytes, answer: bytes, *, is_udp: bool, name: str | None = None, until: float = inf
    ) -> None:
        """`until`: when the answer would first read differently."""
        if len(query) > MAX_QUERY:
            return
        self._entries[query[_ID:], is_udp] = Remembered(answer[_ID:], name, until)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()


def with_id(query: bytes, body: bytes) -> bytes:
    """An answer to this query."""
    return query[:_ID] + body
