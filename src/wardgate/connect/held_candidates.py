"""Local candidates that wait while the portal is out of reach (data-plane §1.5, signalling)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Peer = TypeVar("_Peer")


@dataclass(frozen=True, slots=True)
class Changes:
    """What to tell one peer: additions first, then removals."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class HeldCandidates(Generic[_Peer]):
    """Additions and removals per peer; the removal of a held addition cancels it, and vice versa."""

    def __init__(self) -> None:
        self._peers: dict[_Peer, _Held] = {}

    def hold_added(self, peer: _Peer, candidates: tuple[str, ...]) -> None:
        held = self._peers.setdefault(peer, _Held())
        for candidate in candidates:
            if candidate in held.removed:
                del held.removed[candidate]
            else:
                held.added[candidate] = None

    def hold_removed(self, peer: _Peer, candidates: tuple[str, ...]) -> None:
        held = self._peers.setdefault(peer, _Held())
        for candidate in candidates:
            if candidate in held.added:
                del held.added[candidate]
            else:
                held.removed[candidate] = None

    def forget(self, peer: _Peer) -> None:
        """The connection is gone."""
        self._peers.pop(peer, None)

    def clear(self) -> None:
        self._peers.clear()

    def flush(self) -> Iterator[tuple[_Peer, Changes]]:
        """Remove and yield everything, peers in the order in which they were first held."""
        peers, self._peers = self._peers, {}
        for peer, held in peers.items():
            if held.added or held.removed:
                yield peer, Changes(tuple(held.added), tuple(held.removed))


@dataclass(slots=True)
class _Held:
    added: dict[str, None] = field(default_factory=dict)  # ordered sets
    removed: dict[str, None] = field(default_factory=dict)
