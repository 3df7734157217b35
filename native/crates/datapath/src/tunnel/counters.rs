//! What the engine counts; the names are those of `stats()`.

/// Why a packet or datagram went no further, and how much went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    PacketsSent,
    BytesSent,
    PacketsReceived,
    BytesReceived,
    /// Waits for an authorization, a path or a name.
    PacketsBuffered,
    /// Overwritten in a ring, or given up with it.
    BufferedLost,
    Malformed,
    Unauthentic,
    NotTunnelSource,
    Unroutable,
    UnsupportedProtocol,
    SpoofedSource,
    Prohibited,
    Unreachable,
    ForgedIcmpErrors,
    NatExpired,
    NatExhausted,
    /// Flows beyond what one other client may have here.
    FlowsExhausted,
    NoSession,
    HandshakesLimited,
    /// WireGuard messages of no peer of ours.
    UnknownPeer,
    /// Control packets of a peer that sends too many.
    ControlLimited,
    /// Translations that a client asked for and may not have.
    TranslationsRefused,
    /// Peers that came with the public key of another one's session.
    KeysRefused,
}

const NAMES: [&str; 24] = [
    "packets_sent",
    "bytes_sent",
    "packets_received",
    "bytes_received",
    "packets_buffered",
    "buffered_lost",
    "dropped_malformed",
    "dropped_unauthentic",
    "dropped_not_tunnel_source",
    "dropped_unroutable",
    "dropped_unsupported_protocol",
    "dropped_spoofed_source",
    "dropped_prohibited",
    "dropped_unreachable",
    "dropped_forged_icmp_errors",
    "dropped_nat_expired",
    "dropped_nat_exhausted",
    "dropped_flows_exhausted",
    "dropped_no_session",
    "dropped_handshakes_limited",
    "dropped_unknown_peer",
    "dropped_control_limited",
    "refused_translations",
    "refused_keys",
];

#[derive(Clone, Debug, Default)]
pub struct Counters([u64; NAMES.len()]);

impl Counters {
    pub fn add(&mut self, counter: Counter, amount: usize) {
        self.0[counter as usize] += amount as u64;
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.0)
    }
}
