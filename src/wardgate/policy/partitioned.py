"""A mapping that never changes and whose successor is made quickly: it shares all partitions but those that differ.

An account has tens of thousands of people and devices, and one of them changes many times a second. A copy of a `dict`
of all of them costs half a millisecond at 50,000 entries; here a change copies a 256th of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, Generic, TypeVar, overload

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")

_PARTITIONS: Final = 256
_MASK: Final = _PARTITIONS - 1


class PartitionedMap(Mapping[_K, _V]):
    """Like a `dict` that nobody changes; the order of its keys means nothing.

    Attributes:
        partitions: 256, by the hash of the key; not to be changed.
    """

    __slots__ = ("partitions",)

    def __init__(self, partitions: Sequence[dict[_K, _V]] | None = None) -> None:
        """Take partitions that a draft has made, none for an empty map."""
        # One for all, as a draft copies a partition before it writes into it.
        self.partitions: Final = [{}] * _PARTITIONS if partitions is None else partitions

    def __getitem__(self, key: _K) -> _V:
        return self.partitions[hash(key) & _MASK][key]

    @overload
    def get(self, key: _K, /) -> _V | None: ...
    @overload
    def get(self, key: _K, /, default: _V | _T) -> _V | _T: ...
    def get(self, key: _K, /, default: object = None) -> object:
        return self.partitions[hash(key) & _MASK].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self.partitions[hash(key) & _MASK]

    def __iter__(self) -> Iterator[_K]:
        return chain.from_iterable(self.partitions)

    def __len__(self) -> int:
        return sum(map(len, self.partitions))

    def __repr__(self) -> str:
        return f"PartitionedMap({dict(self)!r})"

    def draft(self) -> "PartitionedDraft[_K, _V]":
        """Open what follows this map."""
        return PartitionedDraft(self)


class PartitionedDraft(Generic[_K, _V]):
    """The next map in the making; a partition is copied when it first changes."""

    def __init__(self, base: PartitionedMap[_K, _V]) -> None:
        self._base = base
        self._partitions = list(base.partitions)
        self._own: set[int] = set()

    def get(self, key: _K) -> _V | None:
        return self._partitions[hash(key) & _MASK].get(key)

    def __setitem__(self, key: _K, value: _V) -> None:
        self._opened(key)[key] = value

    def pop(self, key: _K) -> _V | None:
        """Remove a key and return what it had, None if it is not there."""
        return self._opened(key).pop(key) if key in self._partitions[hash(key) & _MASK] else None

    def finish(self) -> PartitionedMap[_K, _V]:
        """Return the next map, the base itself if nothing was changed. The draft must not be used any more."""
        return PartitionedMap(self._partitions) if self._own else self._base

    def _opened(self, key: _K) -> dict[_K, _V]:
        number = hash(key) & _MASK
        if number not in self._own:
            self._own.add(number)
            self._partitions[number] = dict(self._partitions[number])
        return self._partitions[number]
