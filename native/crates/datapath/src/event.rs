//! Events: what the tunnel engine tells Python. The Python side is `wardgate.datapath.events`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::command::Table;

#[derive(Clone, Debug, Serialize, PartialEq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Intent {
        resource_id: String,
        destination: IpAddr,
        table: Table,
    },
    LocalCandidatesAdded {
        peer_id: String,
        candidates: Vec<String>,
    },
    LocalCandidatesRemoved {
        peer_id: String,
        candidates: Vec<String>,
    },
    PathSelected {
        peer_id: String,
        kind: PathKind,
        local: String,
        remote: SocketAddr,
        relay_id: Option<String>,
    },
    HandshakeDone {
        peer_id: String,
        took_s: f64,
    },
    PeerFailed {
        peer_id: String,
        reason: FailureReason,
    },
    PeerClosed {
        peer_id: String,
        by: ClosedBy,
        /// Packets have passed of late (data-plane §1.6).
        in_use: bool,
    },
    GrantExpired {
        peer_id: String,
        resource_id: String,
    },
    ControlPacket {
        peer_id: String,
        #[serde(rename = "type")]
        kind: u8,
        payload: String,
    },
    AccessProhibited {
        peer_id: String,
        resource_id: String,
        device_address: Option<IpAddr>,
    },
    RelayUp {
        relay_id: String,
        rtt_ms: f64,
    },
    RelayLost {
        relay_id: String,
        reason: String,
    },
    NoRelays {
        peer_id: Option<String>,
    },
    FlowsReported {
        reports: Vec<FlowReport>,
        /// Reports for which there was no room since the event before.
        lost: u64,
    },
}

/// A flow has begun, or ended. Times are microseconds since 1970.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct FlowReport {
    #[serde(serialize_with = "text")]
    pub authorization_id: Arc<str>,
    pub role: FlowRole,
    pub protocol: FlowProtocol,
    pub initiator: (IpAddr, u16),
    pub responder: (IpAddr, u16),
    #[serde(serialize_with = "optional_text")]
    pub domain: Option<Arc<str>>,
    /// Shared by all reports of a peer that name the same.
    #[serde(serialize_with = "list")]
    pub paths: Arc<[FlowPath]>,
    pub started_at_us: u64,
    /// Of a flow that has ended.
    pub end: Option<FlowEnd>,
}

/// An outer path, from the initiator's side to the responder's.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub struct FlowPath {
    pub source: Option<SocketAddr>,
    pub destination: SocketAddr,
    pub activated_at_us: u64,
}

impl FlowPath {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.source, self.destination) == (other.source, other.destination)
    }
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub struct FlowEnd {
    pub ended_at_us: u64,
    pub last_packet_at_us: u64,
    /// From initiator to responder.
    pub tx_packets: u64,
    pub rx_packets: u64,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FlowRole {
    Initiator,
    Responder,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FlowProtocol {
    Tcp,
    Udp,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn list<S: Serializer>(paths: &Arc<[FlowPath]>, serializer: S) -> Result<S::Ok, S::Error> {
    paths.as_ref().serialize(serializer)
}

fn optional_text<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}

/// Write events as one JSON array.
pub fn encode(events: &[Event]) -> Vec<u8> {
    serde_json::to_vec(events)
        .unwrap_or_else(|_| unreachable!("no event holds a map or a foreign type"))
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    Direct,
    LocalRelay,
    RemoteRelay,
    BothRelays,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    NoCandidates,
    IceTimeout,
    HandshakeTimeout,
    NoRelays,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    Remote,
    Local,
}
