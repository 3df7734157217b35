//! What the engine tells people about single connections, when they ask. Nothing is computed for it while packets move,
//! beyond counting them.

use std::net::SocketAddr;
use std::time::Instant;

use serde::Serialize;

use super::engine::{Engine, RoleState};
use super::links::{Connection, Links};

/// One connection, as `wardgate.datapath.figures` explains.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct ConnectionFigures {
    pub peer_id: String,
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
    pub arrived_messages: u64,
    pub missing_messages: u64,
    pub handshake_age_s: Option<f64>,
    pub is_idle: bool,
    pub checks: Vec<CheckFigures>,
}

/// What came of the checks on one pair of candidates.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct CheckFigures {
    pub local: SocketAddr,
    pub local_kind: &'static str,
    pub remote: SocketAddr,
    pub remote_kind: &'static str,
    pub sent: u64,
    pub answered: u64,
    pub round_trip_ms: Option<f64>,
    pub is_used: bool,
}

/// Write figures as one JSON array.
pub fn encode(figures: &[ConnectionFigures]) -> Vec<u8> {
    serde_json::to_vec(figures)
        .unwrap_or_else(|_| unreachable!("no figure holds a map or a foreign type"))
}

impl<R: RoleState> Engine<R> {
    /// Figures of those of the named peers that have a connection, in the order in which they are named.
    pub fn figures(&self, peers: &[String], now: Instant) -> Vec<ConnectionFigures> {
        let found = peers.iter().filter_map(|name| {
            let peer = self.links.peer(self.links.key_of(name)?)?;
            Some(of(name, peer.connection.as_deref()?, &self.links, now))
        });
        found.collect()
    }
}

fn of(name: &str, connection: &Connection, links: &Links, now: Instant) -> ConnectionFigures {
    let tunnel = connection.tunnel.figures();
    let checked = links.node.checks(connection.index);
    ConnectionFigures {
        peer_id: name.to_owned(),
        sent_packets: connection.sent.packets,
        sent_bytes: connection.sent.bytes,
        received_packets: connection.received.packets,
        received_bytes: connection.received.bytes,
        arrived_messages: tunnel.arrived,
        missing_messages: tunnel.missing,
        handshake_age_s: tunnel
            .session_made_at
            .map(|at| now.saturating_duration_since(at).as_secs_f64()),
        is_idle: links.node.is_idle(connection.index),
        checks: checked
            .into_iter()
            .map(|pair| CheckFigures {
                local: pair.local,
                local_kind: pair.local_kind,
                remote: pair.remote,
                remote_kind: pair.remote_kind,
                sent: pair.sent,
                answered: pair.answered,
                round_trip_ms: pair.round_trip.map(|took| took.as_secs_f64() * 1e3),
                is_used: pair.is_chosen,
            })
            .collect(),
    }
}
