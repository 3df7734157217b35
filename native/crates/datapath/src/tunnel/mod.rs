//! The tunnel engine: a client's or a gateway's whole packet path between the TUN device and the network.
//!
//! ```text
//!            ┌──────── Engine<Client | Gateway> ───────┐
//!   TUN ─────┤ Client or Gateway ── Links ── Node      ├───── network
//!  packets   │ (who may do what)    (tunnels) (paths)  │    datagrams
//!            └──────▲────────────────────────┬─────────┘
//!                   │ commands               ▼ events
//! ```
//!
//! It composes `wardgate-connect` (paths), `wardgate-wireguard` (one tunnel per connection) and `wardgate-packet`, and adds what
//! a role decides: on a client routes, authorizations and the packets that wait for one, and what other clients may send;
//! on a gateway grants, filters, deadlines and the translation of names' addresses. [`ClientEngine`] and [`GatewayEngine`] are one engine over the state
//! of its role, [`TunnelEngine`] is either. After each `handle_*` or [`Engine::apply`] everything to be sent
//! is in the caller's [`Outbox`] and [`TunSink`]; the caller then drains [`Engine::poll_event`] and arms
//! [`Engine::poll_timeout`].
//!
//! A batch costs one decision per flow: a super-packet is judged once, and consecutive datagrams of one flow share a verdict.
//!
//! Deliberately absent: DNS (Python), and any way from one peer through this host to another.

mod address_plan;
mod client;
mod client_engine;
mod control_budget;
mod counters;
mod device_grants;
mod due_wheel;
mod engine;
mod event_queue;
pub mod figures;
mod filter_set;
mod flow_records;
mod flow_reports;
mod flow_set;
mod gateway;
mod gateway_engine;
mod links;
mod nat_table;
mod packet_ring;
mod prefix_map;
mod programme;
mod reassembly;
mod receive;
mod recent_slots;
mod relay_names;
mod route_table;
mod seeded_hash;
mod settle;
mod sightings;
mod steps;
#[cfg(test)]
mod test_clock;
#[cfg(test)]
mod tests;
mod translations;
mod used_values;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wardgate_packet::offload::TunRead;
use wardgate_wireguard::PrivateKey;

use crate::command::{Command, Key, Refused, TranslatedFlow};
use crate::event::Event;
use crate::{Outbox, TunSink};
pub use client_engine::ClientEngine;
use engine::Engine;
use figures::ConnectionFigures;
pub use gateway_engine::GatewayEngine;
pub use nat_table::Protocol;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Gateway,
}

pub struct EngineConfig {
    pub private_key: [u8; 32],
    /// All randomness of the engine derives from it; never use one twice.
    pub seed: [u8; 32],
    /// Zero of the clock that `*_deadline_s` of commands count on.
    pub epoch: Instant,
    /// Wall time at `epoch`, since 1970.
    pub unix_at_epoch: Duration,
}

/// What a call of the engine works with: its time, where packets for this host go, and where datagrams for the network.
pub struct Io<'a, T, O> {
    pub now: Instant,
    pub tun: &'a mut T,
    pub out: &'a mut O,
}

/// How the datagrams of one receive call came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub from: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// The outer header's two-bit codepoint.
    pub ecn: u8,
    /// How long each datagram is; the last may be shorter.
    pub stride: usize,
}

/// The public key of a private key.
pub fn public_key(private_key: &Key) -> Key {
    Key(PrivateKey::new(private_key.0).public_key().0)
}

/// An engine whose role is known only at run time. It is asked for once a call, not once a packet.
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum TunnelEngine {
    Client(ClientEngine),
    Gateway(GatewayEngine),
}

/// The same call of either engine.
macro_rules! either {
    ($engine:expr, $own:ident => $call:expr) => {
        match $engine {
            TunnelEngine::Client($own) => $call,
            TunnelEngine::Gateway($own) => $call,
        }
    };
}

impl TunnelEngine {
    pub fn new(role: Role, config: EngineConfig) -> Self {
        match role {
            Role::Client => Self::Client(Engine::new(config)),
            Role::Gateway => Self::Gateway(Engine::new(config)),
        }
    }

    pub fn handle_network(
        &mut self,
        arrival: &Arrival,
        buffer: &mut [u8],
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        either!(self, engine => engine.handle_network(arrival, buffer, io));
    }

    pub fn handle_tun(&mut self, read: &TunRead<'_>, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        either!(self, engine => engine.handle_tun(read, io));
    }

    pub fn handle_timeout(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        either!(self, engine => engine.handle_timeout(io));
    }

    pub fn apply(
        &mut self,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        either!(self, engine => engine.apply(command, io))
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        either!(self, engine => engine.poll_timeout())
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        either!(self, engine => engine.poll_event())
    }

    /// As [`TunnelEngine::poll_event`], but leave reports of flows, which are many, for later.
    pub fn poll_urgent_event(&mut self) -> Option<Event> {
        either!(self, engine => engine.poll_urgent_event())
    }

    pub fn stats(&mut self) -> Vec<(&'static str, u64)> {
        either!(self, engine => engine.stats())
    }

    /// The flows to names that a gateway translates, for a process that takes its place; a client has none.
    pub fn translated_flows(&self, now: Instant) -> Vec<TranslatedFlow> {
        match self {
            Self::Client(_) => Vec::new(),
            Self::Gateway(engine) => engine.translated_flows(now),
        }
    }

    /// Figures of those of the named peers that have a connection.
    pub fn figures(&self, peers: &[String], now: Instant) -> Vec<ConnectionFigures> {
        either!(self, engine => engine.figures(peers, now))
    }

    /// For tests that send what the engine itself would not.
    #[cfg(test)]
    fn parts(&mut self) -> (&mut links::Links, &mut counters::Counters) {
        either!(self, engine => (&mut engine.links, &mut engine.counters))
    }
}
