//! The node: demultiplexer, relays, peers.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use thiserror::Error;

use crate::event::NodeEvent;
use crate::path::Path;

/// ICE credentials of one side, as the portal hands them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    pub username: String,
    pub password: String,
}

/// Timing of connectivity checks (data-plane §1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Notices a dead peer within seconds; for a client towards anyone.
    Client,
    /// Holds quiet peers for minutes; for a gateway.
    Server,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    pub local_ice: IceCredentials,
    pub remote_ice: IceCredentials,
    /// Whether this side nominates; given by the portal and never switched.
    pub controlling: bool,
    pub profile: Profile,
}

/// One relay with at most one address per family; further ones are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig<Id> {
    pub id: Id,
    pub addresses: Vec<SocketAddr>,
    pub username: String,
    pub password: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upserted {
    /// The peer existed with this very configuration; its local candidates are announced again.
    Kept,
    /// A new connection, which replaced an older one of the same id, if any.
    New,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UpsertError {
    #[error("no relay has answered yet")]
    NoRelay,
    #[error("an ICE user name is longer than 32 bytes")]
    UsernameTooLong,
}

/// What became of a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// It was connectivity's own, or void.
    Consumed,
    /// Not connectivity's: presumably WireGuard. The message starts at `offset`, 0 or 4 (after a channel-data header; then
    /// `from` is the channel's peer and `local` our relayed address).
    Wireguard {
        from: SocketAddr,
        local: SocketAddr,
        offset: usize,
    },
}

/// One datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Own address to send from; `None` leaves the choice to the socket of the family.
    pub local: Option<SocketAddr>,
    pub remote: SocketAddr,
    pub payload: Vec<u8>,
}

/// All relays and peers of one process; `Id` names both.
pub struct Node<Id> {
    _rng: StdRng,
    transmits: VecDeque<Transmit>,
    events: VecDeque<NodeEvent<Id>>,
}

impl<Id: Copy + Ord + Debug> Node<Id> {
    /// All randomness derives from `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            _rng: StdRng::from_seed(seed),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Remove relays, then add or replace others; `replace_all` also removes those not listed (data-plane §1.10).
    pub fn set_relays(
        &mut self,
        _relays: Vec<RelayConfig<Id>>,
        _removed: &[Id],
        _replace_all: bool,
        _now: Instant,
    ) {
    }

    /// Connect to a peer; keep the connection if all of `config` is equal, else replace it (data-plane §1.8).
    ///
    /// A caller whose keys changed removes the peer first.
    pub fn upsert_peer(
        &mut self,
        _id: Id,
        _config: PeerConfig,
        _now: Instant,
    ) -> Result<Upserted, UpsertError> {
        Err(UpsertError::NoRelay)
    }

    /// Forget a peer; false if it was unknown.
    pub fn remove_peer(&mut self, _id: Id) -> bool {
        false
    }

    /// Take a candidate that the peer signalled; false if it is malformed, foreign, one too many or the peer unknown.
    pub fn add_remote_candidate(&mut self, _id: Id, _candidate: &str, _now: Instant) -> bool {
        false
    }

    /// Drop a candidate that the peer declared void; false if it is malformed or the peer unknown.
    pub fn remove_remote_candidate(&mut self, _id: Id, _candidate: &str, _now: Instant) -> bool {
        false
    }

    /// Sort one received datagram (data-plane §1.9). `local` is the destination address that it carried.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        local: SocketAddr,
        _payload: &[u8],
        _now: Instant,
    ) -> Inbound {
        Inbound::Wireguard {
            from,
            local,
            offset: 0,
        }
    }

    /// An IP packet went to or came from this peer: leave idle mode, put it off otherwise.
    pub fn note_activity(&mut self, _id: Id, _now: Instant) {}

    /// Channel data was sent to this relay (once a batch is enough): watch that the relay still lives.
    pub fn note_relayed(&mut self, _relay: Id, _now: Instant) {}

    /// The path chosen for a peer, if any.
    pub fn path(&self, _id: Id) -> Option<Path<Id>> {
        None
    }

    /// How to answer a datagram that came from `from` to `local` (as [`Inbound::Wireguard`] names them).
    pub fn route(&self, _local: SocketAddr, _from: SocketAddr) -> Option<Path<Id>> {
        None
    }

    /// The network changed: forget all peers (returned), start over with all relays from new sockets (data-plane §1.11).
    pub fn reset(&mut self, _now: Instant) -> Vec<Id> {
        Vec::new()
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<NodeEvent<Id>> {
        self.events.pop_front()
    }

    pub fn handle_timeout(&mut self, _now: Instant) {}

    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
