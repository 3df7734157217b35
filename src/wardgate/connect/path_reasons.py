"""Explains in words why a path is direct or relayed, from the candidates that both ends signalled.

A path is relayed when no check between direct candidates succeeded. The usual causes show in the candidates:
one public address with a different port per relay means a NAT with a new mapping for each destination (RFC
4787 §4.1); no server-reflexive candidate means that no relay could tell an end its address.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from wardgate.datapath.events import PathSelected

_WHERE: Final = {
    "direct": "direct",
    "local_relay": "through our relay",
    "remote_relay": "through the peer's relay",
    "both_relays": "through both ends' relays",
}


MAX_CANDIDATES: Final = 64  # ours, of each end; the engine accepts no more from a peer either
MAX_CANDIDATE_LENGTH: Final = 512  # characters; nothing longer is a candidate


@dataclass(slots=True)
class CandidateBook:
    """What the ends of a connection have signalled so far; bounded, since the peer chooses its candidates."""

    local: set[str] = field(default_factory=set)
    remote: set[str] = field(default_factory=set)

    def add_local(self, candidates: Iterable[str]) -> None:
        _add(self.local, candidates)

    def add_remote(self, candidates: Iterable[str]) -> None:
        _add(self.remote, candidates)


def explain(path: PathSelected, candidates: CandidateBook) -> str:
    """Explain a path in one line, for logs."""
    where = _WHERE[path.kind]
    if path.kind == "direct":
        return f"{where}: {_why_direct(path.remote, candidates.remote)}"
    ours, theirs = _facts(candidates.local), _facts(candidates.remote)
    if ours.maps_per_destination and theirs.maps_per_destination:
        why = "the NATs of both ends use a new port for each destination"
    elif ours.maps_per_destination or theirs.maps_per_destination:
        end = "our" if ours.maps_per_destination else "the peer's"
        why = f"{end} NAT uses a new port for each destination and the other end admits known addresses only"
    elif not candidates.remote:
        why = "the peer has signalled no direct candidate yet"
    elif not ours.families & theirs.families:
        why = "the ends share no address family outside their relays"
    else:
        why = "no direct check came through in time"
    return f"{where}: {why}"


def _why_direct(remote: str, candidates: Iterable[str]) -> str:
    address, _, port = remote.rpartition(":")
    end = [address.strip("[]"), port]
    kinds = {fields[7] for text in candidates if (fields := text.split())[4:6] == end and len(fields) > 7}
    if "host" in kinds:
        return "the peer's own address answers"
    if "srflx" in kinds:
        return "the peer answers at the address that its relay sees it at"
    return "the peer answers from an address that it did not signal"


def _add(known: set[str], candidates: Iterable[str]) -> None:
    for candidate in candidates:
        if len(known) < MAX_CANDIDATES and len(candidate) <= MAX_CANDIDATE_LENGTH:
            known.add(candidate)


@dataclass(frozen=True, slots=True)
class _Facts:
    maps_per_destination: bool
    families: frozenset[int]


def _facts(candidates: set[str]) -> _Facts:
    direct = [
        fields for candidate in candidates if (fields := candidate.split())[7:8] in (["host"], ["srflx"])
    ]
    mapped = {(fields[4], fields[5]) for fields in direct if fields[7] == "srflx"}
    addresses = {address for address, _ in mapped}
    return _Facts(
        maps_per_destination=len(mapped) > len(addresses),
        families=frozenset(6 if ":" in fields[4] else 4 for fields in direct),
    )
