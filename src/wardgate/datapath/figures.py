"""What the engine tells about single connections when it is asked; in Rust `wardgate_datapath::tunnel::figures`."""

from typing import Final, Literal

import msgspec

LEAST_FOR_LOSS: Final = 100  # ours, messages

CandidateKind = Literal["host", "srflx", "prflx", "relay"]  # RFC 8839 §5.1


class CheckFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the connectivity checks on one pair of candidates.

    Attributes:
        local: address and port that we send from, our socket's or a relayed one.
        remote: the peer's address and port.
        sent, answered: checks; the latest one may still be on its way.
        round_trip_ms: of those answered, smoothed; None if none was.
        is_used: the connection's packets take this pair.
    """

    local: str
    local_kind: CandidateKind
    remote: str
    remote_kind: CandidateKind
    sent: int
    answered: int
    round_trip_ms: float | None
    is_used: bool


class ConnectionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One connection since it was made.

    Attributes:
        peer_id: client or gateway at the other end.
        sent_packets, sent_bytes, received_packets, received_bytes: IP packets inside the tunnel, those of our own
            control among them.
        arrived_messages: WireGuard messages that arrived.
        missing_messages: those that the peer numbered below others that arrived, and that did not; a late one
            counts until it is there. The peer numbers them: this is its word.
        handshake_age_s: since the keys in use were agreed on; None without a session.
        is_idle: nothing has moved for 20 s.
        checks: at most 64 pairs.
    """

    peer_id: str
    sent_packets: int
    sent_bytes: int
    received_packets: int
    received_bytes: int
    arrived_messages: int
    missing_messages: int
    handshake_age_s: float | None
    is_idle: bool
    checks: tuple[CheckFigures, ...]

    @property
    def loss(self) -> float | None:
        """Return the share of the peer's messages that did not arrive; None while too few were sent to tell."""
        numbered = self.arrived_messages + self.missing_messages
        return self.missing_messages / numbered if numbered >= LEAST_FOR_LOSS else None
