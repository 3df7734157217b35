"""Events: what the tunnel engine reports to Python, drained in batches as one JSON array.

The Rust mirror is `native/crates/datapath/src/event.rs`. Intents may be dropped under load (and are counted);
facts that Python must learn (path, peer and relay events) never are, they collapse per peer. Reports of flows come in
batches, and only those that nobody fetches are lost.
"""

from typing import Literal

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="event"):
    """Base of all events; `tag` is the snake_case name of the class."""


class Intent(Event, frozen=True, tag="intent"):
    """Client: a packet wants a resource that nobody authorised; it is buffered. At most one per target and 2 s."""

    resource_id: str
    destination: str
    table: Literal["device", "dns", "cidr", "internet"]


class LocalCandidatesAdded(Event, frozen=True, tag="local_candidates_added"):
    """Candidates to signal to the peer, in descending priority."""

    peer_id: str
    candidates: tuple[str, ...]


class LocalCandidatesRemoved(Event, frozen=True, tag="local_candidates_removed"):
    peer_id: str
    candidates: tuple[str, ...]


class PathSelected(Event, frozen=True, tag="path_selected"):
    """The path for outgoing packets; `kind` says which end, if any, goes over its relay."""

    peer_id: str
    kind: Literal["direct", "local_relay", "remote_relay", "both_relays"]
    local: str
    remote: str
    relay_id: str | None


class HandshakeDone(Event, frozen=True, tag="handshake_done"):
    """Path and WireGuard session both stand. `took_s` counts from `UpsertPeer`."""

    peer_id: str
    took_s: float


class PeerFailed(Event, frozen=True, tag="peer_failed"):
    """The connection is gone; on a gateway the peer's grants stay (data-plane §1.12), on a client they go as well."""

    peer_id: str
    reason: Literal["no_candidates", "ice_timeout", "handshake_timeout", "no_relays"]


class PeerClosed(Event, frozen=True, tag="peer_closed"):
    """Closed by a goodbye (`remote`), or by us because its last grant or resource went or it was removed.

    `in_use`: packets had passed of late.
    """

    peer_id: str
    by: Literal["remote", "local"]
    in_use: bool = False


class GrantExpired(Event, frozen=True, tag="grant_expired"):
    peer_id: str
    resource_id: str


class ControlPacket(Event, frozen=True, tag="control_packet"):
    """A p2p control packet other than goodbye."""

    peer_id: str
    type: int
    payload: str


class AccessProhibited(Event, frozen=True, tag="access_prohibited"):
    """Client: the peer answered with ICMP "administratively prohibited" for this resource.

    `device_address` is set for device pools: the address that was refused.
    """

    peer_id: str
    resource_id: str
    device_address: str | None = None


class RelayUp(Event, frozen=True, tag="relay_up"):
    relay_id: str
    rtt_ms: float


class RelayLost(Event, frozen=True, tag="relay_lost"):
    relay_id: str
    reason: Literal["no response", "timed out", "authentication failed", "protocol failure"]


class NoRelays(Event, frozen=True, tag="no_relays"):
    """No allocation is left, or a peer was wanted and none was usable: ask the portal for relays."""

    peer_id: str | None = None


class FlowPath(msgspec.Struct, frozen=True):
    """Outer addresses ("192.0.2.1:4000"), from the initiator's side; no source where it sends over its relay."""

    source: str | None
    destination: str
    activated_at_us: int


class FlowEnd(msgspec.Struct, frozen=True):
    """How a flow ended; tx is from initiator to responder, bytes are those behind the TCP or UDP header."""

    ended_at_us: int
    last_packet_at_us: int
    tx_packets: int
    rx_packets: int
    tx_bytes: int
    rx_bytes: int


class FlowReport(msgspec.Struct, frozen=True):
    """A flow has begun or, with `end`, ended. Times are microseconds since 1970."""

    authorization_id: str
    role: Literal["initiator", "responder"]
    protocol: Literal["tcp", "udp"]
    initiator: tuple[str, int]
    responder: tuple[str, int]
    domain: str | None
    paths: tuple[FlowPath, ...]
    started_at_us: int
    end: FlowEnd | None


class FlowsReported(Event, frozen=True, tag="flows_reported"):
    """Some flows, at most a second later than it happened; `lost` more were never reported for want of room."""

    reports: tuple[FlowReport, ...]
    lost: int


AnyEvent = (
    Intent
    | LocalCandidatesAdded
    | LocalCandidatesRemoved
    | PathSelected
    | HandshakeDone
    | PeerFailed
    | PeerClosed
    | GrantExpired
    | ControlPacket
    | AccessProhibited
    | RelayUp
    | RelayLost
    | NoRelays
    | FlowsReported
)
