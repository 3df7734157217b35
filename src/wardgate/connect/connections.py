"""What client and gateway have in common in handling their connections; a client has some with gateways and some
with other clients.

Candidates of both ends travel through the portal: ours wait while it is out of reach, and all are remembered
for the lifetime of the connection, to explain the path that results from them. The portal chooses the relays.
The fate of connections and relays is logged.

Deliberately absent: who may connect to whom, and what a machine does when a connection ends.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from uuid import UUID

import msgspec

from wardgate.connect import log_fields as fields
from wardgate.connect.held_candidates import HeldCandidates
from wardgate.connect.path_reasons import CandidateBook, explain
from wardgate.connect.relay_list import relays_of_init, relays_of_presence
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.figures import ConnectionFigures
from wardgate.datapath.programmable import Programmable
from wardgate.wire import messages as m

PeerEvent = (
    e.LocalCandidatesAdded
    | e.LocalCandidatesRemoved
    | e.HandshakeDone
    | e.PathSelected
    | e.PeerFailed
    | e.PeerClosed
)
RelayEvent = e.RelayUp | e.RelayLost | e.NoRelays

_Peer = TypeVar("_Peer", bound=UUID)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signalling(Generic[_Peer]):
    """How to signal to one kind of peer.

    Attributes:
        added: makes the message that tells a peer which candidates are ours.
        removed: makes the one that tells it which no longer are.
        id_field: the field of log records that holds such a peer's id.
    """

    added: Callable[[_Peer, tuple[str, ...]], m.Message]
    removed: Callable[[_Peer, tuple[str, ...]], m.Message]
    id_field: str


class Connections(Generic[_Peer]):
    """All connections of one process, by peer."""

    def __init__(
        self,
        engine: Programmable,
        *,
        send: Callable[[m.Message], None],
        signalling: Signalling[_Peer],
    ) -> None:
        """Start without connections.

        Args:
            send: queues a message to the portal.
            signalling: to peers of whom `open` does not say anything else.
        """
        self._engine: Final = engine
        self._send: Final = send
        self._signalling: Final = signalling
        self._is_joined = False
        self._open: dict[_Peer, _Connection[_Peer]] = {}
        self._relays: dict[str, float] = {}
        self._held: HeldCandidates[_Peer] = HeldCandidates()

    @property
    def is_joined(self) -> bool:
        """Connected to the portal."""
        return self._is_joined

    def handle_joined(self) -> None:
        """The control channel is open: announce our capabilities and the candidates held back so far."""
        self._is_joined = True
        self._send(m.SetSnownetCapabilities(iceless=False))
        for peer, changes in self._held.flush():
            self._signal(peer, added=changes.added, removed=changes.removed)

    def handle_portal_lost(self) -> None:
        """Candidates wait from now on."""
        self._is_joined = False

    def handle_relays_of_init(self, relays: Iterable[m.Relay]) -> None:
        try_apply(self._engine, relays_of_init(relays))

    def handle_relays_presence(self, presence: m.RelaysPresence) -> None:
        try_apply(self._engine, relays_of_presence(presence))

    def handle_remote_candidates(self, peer: _Peer, candidates: tuple[str, ...]) -> None:
        if connection := self._open.get(peer):
            connection.candidates.add_remote(candidates)
        try_apply(self._engine, c.AddRemoteCandidates(str(peer), candidates))

    def handle_invalid_candidates(self, peer: _Peer, candidates: tuple[str, ...]) -> None:
        try_apply(self._engine, c.RemoveRemoteCandidates(str(peer), candidates))

    def open(
        self, peer: _Peer, names: Mapping[str, str], signalling: Signalling[_Peer] | None = None
    ) -> None:
        """The engine was told to connect to the peer, or to keep the connection that it has.

        Args:
            names: log fields that say who the peer is, in addition to its id.
        """
        connection = self._open.setdefault(peer, self._new())
        connection.names = names
        connection.signalling = signalling or self._signalling

    def forget(self, peer: _Peer) -> None:
        """The connection is gone."""
        self._open.pop(peer, None)
        self._held.forget(peer)

    def forget_all(self) -> None:
        """The network changed: every connection is gone."""
        self._open.clear()
        self._relays.clear()
        self._held.clear()

    def handle_peer_event(self, peer: _Peer, event: PeerEvent) -> None:
        """Signal candidates; log everything else, and forget the connection when it ends."""
        connection = self._open.get(peer) or self._new()
        who = {connection.signalling.id_field: str(peer), **connection.names}
        match event:
            case e.LocalCandidatesAdded(candidates=candidates):
                self._offer(peer, added=candidates)
            case e.LocalCandidatesRemoved(candidates=candidates):
                self._offer(peer, removed=candidates)
            case e.HandshakeDone(took_s=took_s):
                connection.is_established = True
                log.info("connection established", extra={**who, fields.TOOK_S: round(took_s, 3)})
            case e.PathSelected():
                why = explain(event, connection.candidates)
                connection.path, connection.why = event, why
                log.info("path selected", extra={**who, fields.PATH: why})
            case e.PeerFailed(reason=reason):
                log.info("connection failed", extra={**who, fields.REASON: reason})
                self.forget(peer)
            case e.PeerClosed(by=by):
                log.info("connection closed", extra={**who, "by": by})
                self.forget(peer)

    def handle_relay_event(self, event: RelayEvent) -> None:
        match event:
            case e.NoRelays():
                self._send(m.NoRelays())
            case e.RelayUp(relay_id=relay_id, rtt_ms=rtt_ms):
                self._relays[relay_id] = rtt_ms
                log.info("relay reached", extra={fields.RELAY_ID: relay_id, fields.RTT_MS: round(rtt_ms, 1)})
            case e.RelayLost(relay_id=relay_id, reason=reason):
                self._relays.pop(relay_id, None)
                log.info("relay lost", extra={fields.RELAY_ID: relay_id, fields.REASON: reason})

    def shown(self) -> tuple["ConnectionView", ...]:
        """Return the state of each connection, for people."""
        return tuple(
            ConnectionView(
                peer_id=str(peer),
                names=dict(connection.names),
                is_established=connection.is_established,
                path=connection.path.kind if connection.path else None,
                why=connection.why,
                local=connection.path.local if connection.path else None,
                remote=connection.path.remote if connection.path else None,
                local_candidates=tuple(sorted(connection.candidates.local)),
                remote_candidates=tuple(sorted(connection.candidates.remote)),
            )
            for peer, connection in self._open.items()
        )

    def shown_relays(self) -> tuple["RelayView", ...]:
        """Tell which relays are reached, the nearest first."""
        nearest = sorted(self._relays.items(), key=lambda one: one[1])
        return tuple(RelayView(relay_id, round(rtt_ms, 1)) for relay_id, rtt_ms in nearest)

    def _offer(self, peer: _Peer, *, added: tuple[str, ...] = (), removed: tuple[str, ...] = ()) -> None:
        if connection := self._open.get(peer):
            connection.candidates.add_local(added)
        if self._is_joined:
            self._signal(peer, added=added, removed=removed)
        else:
            self._held.hold_added(peer, added)
            self._held.hold_removed(peer, removed)

    def _signal(self, peer: _Peer, *, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        signalling = (self._open.get(peer) or self._new()).signalling
        if added:
            self._send(signalling.added(peer, added))
        if removed:
            self._send(signalling.removed(peer, removed))

    def _new(self) -> "_Connection[_Peer]":
        return _Connection(self._signalling)


@dataclass(slots=True)
class _Connection(Generic[_Peer]):
    signalling: Signalling[_Peer]
    candidates: CandidateBook = field(default_factory=CandidateBook)
    names: Mapping[str, str] = field(default_factory=dict)
    is_established: bool = False
    path: e.PathSelected | None = None
    why: str = ""


class ConnectionView(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, as `wardgate status` shows it.

    Attributes:
        names: who the peer is, in addition to its id.
        path: `direct`, `local_relay`, `remote_relay` or `both_relays`; None while it is being sought.
        why: that in words, with the reason when a relay is needed.
        local, remote: the ends of the path.
        local_candidates, remote_candidates: what was tried, as ICE writes candidates.
        connected_s: how long the tunnel has stood; None if it does not, or nobody knows.
        figures: what the engine counted; None if it has no connection, or does not answer.
    """

    peer_id: str
    names: dict[str, str]
    is_established: bool
    path: str | None
    why: str
    local: str | None
    remote: str | None
    local_candidates: tuple[str, ...]
    remote_candidates: tuple[str, ...]
    connected_s: float | None = None
    figures: ConnectionFigures | None = None


class RelayView(msgspec.Struct, frozen=True):
    """A relay that is reached, and its round trip when it was."""

    relay_id: str
    rtt_ms: float
