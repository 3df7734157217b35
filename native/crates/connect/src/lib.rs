//! Connectivity between peers, sans-IO: which address pair, direct or over a relay, carries a peer's datagrams.
//!
//! [`Node`] owns one TURN client per relay and one ICE agent (crate `is`) per peer, all behind two shared UDP sockets that
//! the caller holds. Datagrams, commands and time go in; datagrams, events and the next deadline come out. After each
//! `handle_*` or mutating call the caller drains [`Node::poll_transmit`] and [`Node::poll_event`] and arms
//! [`Node::poll_timeout`].
//!
//! ```text
//! relay messages ─┐                      ┌─ allocation (one a relay): BINDING, ALLOCATE, REFRESH, CHANNEL-BIND
//! peers' checks  ─┼─ Node: demultiplexer ┼─ connection (one a peer): ICE agent, candidates, timers
//! anything else  ─┘                      └─ Inbound::Wireguard: the tunnel's business
//! ```
//!
//! Local candidates are learnt from relays only; no network interface is ever enumerated. Deliberately absent:
//! WireGuard (the tunnel engine), TURN over TCP, "iceless" paths, ICE restarts, role switching.
//! Randomness derives from the seed, so that a run replays; nothing depends on the order of a hash table.
#![forbid(unsafe_code)]

mod allocation;
mod candidate;
mod channels;
mod check_book;
mod connection;
mod event;
mod node;
mod pair_choice;
mod path;
mod relay_choice;
#[cfg(test)]
mod testing;
mod transmit;

pub use check_book::CheckedPair;
pub use event::{FailureReason, LossReason, NodeEvent};
pub use node::{
    IceCredentials, Inbound, Node, PeerConfig, Profile, RelayConfig, UpsertError, Upserted,
};
pub use path::{Path, PathKind};
pub use transmit::Transmit;
