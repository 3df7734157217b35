"""What it would cost to parse a message, found without parsing it.

A name that points at an earlier one takes two bytes and stands for up to 127 labels, and pointers may lead to pointers.
So one message of 64 KB holds names of a million labels, over which the library takes seconds; the process does nothing
else meanwhile. Who sends such a message is a name server of a stranger's zone, or a client that asks its gateway.
"""

from typing import Final

MAX_RECORDS: Final = 512  # questions and records; ours, an answer of one KB has a dozen
MAX_LABELS: Final = 2_000  # of all names, steps along pointers included; ours: some milliseconds

_MAX_LABELS_OF_NAME: Final = 128  # RFC 1035 §3.1: 255 bytes, the root's included
# Where names stand in the data of a type, by its number.
_NAMES: Final = {
    2: (0,), 5: (0,), 6: (0, 0), 12: (0,), 15: (2,), 33: (6,), 39: (0,), 46: (18,), 47: (0,), 64: (2,), 65: (2,),
}  # fmt: skip
_WITHOUT_NAMES: Final = frozenset({1, 16, 28, 41, 43, 44, 48, 50, 51, 52, 257})
_HEADER: Final = 12  # bytes
_POINTER: Final = 0xC0  # the upper bits of a length that is none (RFC 1035 §4.1.4)


class TooCostly(Exception):
    """More records or longer names than are parsed."""


def check_cost(message: bytes) -> None:
    """Walk over a message's names and records until the end, or until they are too many.

    What is no message passes: that is for the parser to tell, which has no more to do until then.

    Raises:
        TooCostly: it is not to be parsed.
    """
    try:
        _Walk(message).run()
    except IndexError:
        return


class _Walk:
    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = _HEADER
        self._labels = 0

    def run(self) -> None:
        questions, *counts = (self._number(at) for at in (4, 6, 8, 10))
        if questions + sum(counts) > MAX_RECORDS:
            raise TooCostly(f"more than {MAX_RECORDS} records")
        for _ in range(questions):
            self._at = self._name(self._at) + 4
        for _ in range(sum(counts)):
            self._record()

    def _record(self) -> None:
        fixed = self._name(self._at)
        kind, data = self._number(fixed), fixed + 10
        self._at = data + self._number(fixed + 8)
        if kind in _WITHOUT_NAMES or self._at == data:
            return
        if kind not in _NAMES:
            self._count(_MAX_LABELS_OF_NAME)
            return
        at = data
        for offset in _NAMES[kind]:
            at = self._name(at + offset)

    def _name(self, at: int) -> int:
        """Count the labels of a name; returns where what follows it begins."""
        end, earlier = None, at
        while (length := self._message[at]) != 0:
            self._count(1)
            if length < _POINTER:
                at += 1 + length
                continue
            end = at + 2 if end is None else end
            at = self._number(at) & 0x3FFF
            if at >= earlier:
                raise IndexError("a pointer that leads to no earlier name")
            earlier = at
        return at + 1 if end is None else end

    def _count(self, labels: int) -> None:
        self._labels += labels
        if self._labels > MAX_LABELS:
            raise TooCostly(f"names of more than {MAX_LABELS} labels")

    def _number(self, at: int) -> int:
        return self._message[at] << 8 | self._message[at + 1]
