//! Events: what the tunnel engine tells Python. The Python side is `wardgate.datapath.events`.

mod flow_text;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;

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
    /// Of which there are many: [`encode`] writes them by itself.
    #[serde(skip)]
    FlowsReported {
        reports: Vec<FlowReport>,
        /// Reports for which there was no room since the event before.
        lost: u64,
    },
}

/// A flow has begun, or ended. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowReport {
    pub context: Arc<FlowContext>,
    pub protocol: FlowProtocol,
    pub initiator: (IpAddr, u16),
    pub responder: (IpAddr, u16),
    pub started_at_us: u64,
    /// Of a flow that has ended.
    pub end: Option<FlowEnd>,
}

/// What flows of a peer have in common; reports share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowContext {
    pub resource_id: Arc<str>,
    /// The policy authorization.
    pub authorization_id: Arc<str>,
    pub role: FlowRole,
    pub domain: Option<Arc<str>>,
    pub paths: Vec<FlowPath>,
}

/// An outer path, from the initiator's side to the responder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnd {
    pub ended_at_us: u64,
    pub last_packet_at_us: u64,
    /// From initiator to responder.
    pub tx_packets: u64,
    pub rx_packets: u64,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowRole {
    Initiator,
    Responder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowProtocol {
    Tcp,
    Udp,
}

/// Bytes that most events take, and most reports: what has room is not moved while it is written.
const ROOM_OF_EVENT: usize = 128;
const ROOM_OF_REPORT: usize = 640;

/// Write events as one JSON array.
pub fn encode(events: &[Event]) -> Vec<u8> {
    let room = events.iter().map(|event| match event {
        Event::FlowsReported { reports, .. } => ROOM_OF_EVENT + reports.len() * ROOM_OF_REPORT,
        _ => ROOM_OF_EVENT,
    });
    let mut text = Vec::with_capacity(room.sum());
    text.push(b'[');
    for (number, event) in events.iter().enumerate() {
        if number > 0 {
            text.push(b',');
        }
        match event {
            Event::FlowsReported { reports, lost } => flow_text::write(&mut text, reports, *lost),
            other => json(&mut text, other),
        }
    }
    text.push(b']');
    text
}

fn json<T: Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) {
    if serde_json::to_writer(text, value).is_err() {
        unreachable!("no event holds a map or a foreign type");
    }
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
