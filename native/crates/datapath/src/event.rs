//! Events: what the tunnel engine tells Python. The Python side is `wardgate.datapath.events`.

use std::net::{IpAddr, SocketAddr};

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
