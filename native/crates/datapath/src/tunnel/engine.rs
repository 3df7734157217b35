//! What both roles have and do: an engine over the state of its role.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wardgate_packet::offload::TunRead;
use wardgate_packet::{
    ControlEvent, ControlPacket, Fragment, IpPacket, MAX_INNER_PACKET, Rejected,
};

use super::counters::{Counter, Counters};
use super::event_queue::EventQueue;
use super::filter_set::FilterSet;
use super::flow_records::{Basis, FlowRecords};
use super::links::{Links, PeerKey};
use super::reassembly::{Outcome, Owner, Reassembly};
use super::receive::Judgement;
use super::relay_names::RelayNames;
use super::route_table::ResourceId;
use super::seeded_hash::SeededState;
use super::sightings::{Sighting, Ticket};
use super::{EngineConfig, Io};
use crate::command::{Command, Grant, Refused};
use crate::event::{ClosedBy, Event, FailureReason};
use crate::{Outbox, TunSink};

pub struct Engine<R> {
    pub(super) epoch: Instant,
    pub(super) own: Option<OwnAddresses>,
    pub(super) links: Links,
    pub(super) role: R,
    pub(super) relays: RelayNames,
    pub(super) events: EventQueue,
    pub(super) counters: Counters,
    pub(super) flows: FlowRecords,
    pub(super) fragments: Reassembly,
}

/// What only one role has, or does in a way of its own.
pub trait RoleState: Sized {
    fn new(hash: SeededState) -> Self;

    /// Judge a packet that came out of a peer's tunnel.
    fn judge_inner<B: AsRef<[u8]>>(
        engine: &mut Engine<Self>,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> Judgement;

    /// What the record of its flow is to count of a packet that came out of a peer's tunnel and passed. `packet` is as it leaves,
    /// `sent_to` the destination that it came with.
    fn see_inner<B: AsRef<[u8]>>(
        &self,
        key: PeerKey,
        packet: &IpPacket<B>,
        sent_to: IpAddr,
        now: Instant,
    ) -> Option<Sighting>;

    /// What the flow of what was seen is recorded under, if its initiator's packets pass.
    fn basis_of(&self, seen: &Sighting) -> Option<Basis<'_>>;

    /// Send what this host's programs sent; `packet` is the first or only one of `read`.
    fn forward(
        engine: &mut Engine<Self>,
        read: &TunRead<'_>,
        packet: &IpPacket<&[u8]>,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    );

    /// Carry out a command of this role.
    fn apply(
        engine: &mut Engine<Self>,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused>;

    fn upsert_peer(&mut self, key: PeerKey, ipv4: Ipv4Addr, ipv6: Ipv6Addr);

    /// Whether fragments for this address are worth keeping until their packet is whole. Where others than this host's own
    /// programs choose the address, only those of peers are.
    fn keeps_fragments_to(&self, destination: IpAddr) -> bool;

    /// Returns how many packets are lost.
    fn forget_peer(&mut self, key: PeerKey) -> usize;

    /// Whether the peer is to be remembered when its connection breaks.
    fn outlives_connection(&self, key: PeerKey) -> bool;

    /// Add or replace a grant to a peer.
    fn grant(
        engine: &mut Engine<Self>,
        key: PeerKey,
        command: Grant,
        deadline: Option<Instant>,
    ) -> Result<(), Refused>;

    /// Remove a grant; whether it was there.
    fn revoke(&mut self, key: PeerKey, resource: &str) -> bool;

    /// Every grant, in a fixed order.
    fn grants(&self) -> Vec<(PeerKey, ResourceId)>;

    fn set_deadline(&mut self, key: PeerKey, resource: &ResourceId, deadline: Option<Instant>);

    /// Replace a resource's filters for every peer that holds it.
    fn update_filters(&mut self, resource: &str, filters: &Arc<FilterSet>);

    /// Whether nothing is left that the connection to the peer was for.
    fn is_useless(&self, key: PeerKey) -> bool;

    /// Remove and name the grants whose deadline has come.
    fn handle_timeout(&mut self, now: Instant) -> Vec<(PeerKey, ResourceId)>;

    fn poll_timeout(&self) -> Option<Instant>;
}

/// Our tunnel addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddresses {
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
}

impl OwnAddresses {
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.ipv4,
            IpAddr::V6(v6) => v6 == self.ipv6,
        }
    }
}

impl<R: RoleState> Engine<R> {
    pub fn new(config: EngineConfig) -> Self {
        let mut rng = StdRng::from_seed(config.seed);
        let hash = SeededState::new(rng.random());
        Self {
            epoch: config.epoch,
            own: None,
            links: Links::new(config.private_key, rng, config.epoch, config.unix_at_epoch),
            role: R::new(hash),
            relays: RelayNames::default(),
            events: EventQueue::default(),
            counters: Counters::default(),
            flows: FlowRecords::new(hash, config.epoch, config.unix_at_epoch),
            fragments: Reassembly::new(hash),
        }
    }

    /// Handle one read from the TUN device.
    pub fn handle_tun(&mut self, read: &TunRead<'_>, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        self.forward(read, io);
        // Traffic wakes an idle connection, whose checks are then due.
        self.settle_node(io);
    }

    /// Do all that is due by now.
    pub fn handle_timeout(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        self.count_seen();
        self.expire_grants(io);
        self.flows.handle_timeout(io.now);
        self.fragments.handle_timeout(io.now);
        for key in self.links.take_due(io.now) {
            if let Some(connection) = self.links.connection(key) {
                connection.tunnel.handle_timeout(io.now);
            }
            self.settle_peer(key, io);
        }
        self.links.node.handle_timeout(io.now);
        self.settle_node(io);
    }

    /// When to call [`Engine::handle_timeout`]; an instant in the past means at once. Poll events before: that counts packets in the
    /// records of their flows, which may be due then.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.role.poll_timeout(),
            self.links.poll_timeout(),
            self.flows.poll_timeout(),
            self.fragments.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.poll_urgent_event()
            .or_else(|| self.flows.reports.pop())
    }

    /// As [`Engine::poll_event`], without reports of flows.
    pub fn poll_urgent_event(&mut self) -> Option<Event> {
        self.count_seen();
        self.events.pop()
    }

    /// Count, in the record of its flow, what has passed.
    pub(super) fn record(&mut self, seen: Sighting) -> Option<Ticket> {
        if self.flows.seen.is_full() {
            self.count_seen();
        }
        self.flows.seen.push(seen)
    }

    /// Bring the records up to date. This comes before anything else that changes or reads them, or what they are compared with:
    /// grants, paths, peers.
    pub(super) fn count_seen(&mut self) {
        let role = &self.role;
        self.flows.count_seen(|seen| role.basis_of(seen));
    }

    /// Counters by name; they only grow, but for those that say how much there is now.
    pub fn stats(&mut self) -> Vec<(&'static str, u64)> {
        self.count_seen();
        let connected = self.links.connections().filter(|link| link.is_established);
        let mut stats: Vec<_> = self.counters.entries().collect();
        stats.push(("events_dropped", self.events.dropped()));
        stats.extend(self.flows.stats());
        stats.push(("dropped_fragmented", self.fragments.given_up()));
        stats.push(("connections", self.links.connections().count() as u64));
        stats.push(("connections_established", connected.count() as u64));
        stats
    }

    /// Send what this host's programs sent.
    pub(super) fn forward(
        &mut self,
        read: &TunRead<'_>,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let packet = match IpPacket::parse(read.packet()) {
            Ok(packet) => packet,
            Err(Rejected::Fragment) => return self.forward_fragment(read.packet(), io),
            Err(_) => return self.counters.add(Counter::Malformed, 1),
        };
        if read.largest_segment() > MAX_INNER_PACKET {
            return self.counters.add(Counter::Malformed, 1);
        }
        R::forward(self, read, &packet, io);
    }

    /// Send a packet that this host's programs, or the network, sent in fragments, once it is whole.
    fn forward_fragment(&mut self, bytes: &[u8], io: &mut Io<'_, impl TunSink, impl Outbox>) {
        let Some(fragment) = Fragment::parse(bytes) else {
            return self.counters.add(Counter::Malformed, 1);
        };
        if !self.role.keeps_fragments_to(fragment.id.destination) {
            return self.counters.add(Counter::Unroutable, 1);
        }
        let owner = Owner::Host(fragment.id.destination);
        match self.fragments.take(owner, bytes, io.now) {
            Ok(whole) => match IpPacket::parse(&whole.packet[..]) {
                Ok(packet) => {
                    R::forward(self, &TunRead::cut(&whole.packet, whole.cut), &packet, io)
                }
                Err(_) => self.counters.add(Counter::Malformed, whole.count),
            },
            Err(Outcome::Kept) => {}
            Err(Outcome::Refused) => self.counters.add(Counter::Malformed, 1),
        }
    }

    /// The connection broke. A client forgets the peer, a gateway keeps its grants.
    pub(super) fn fail(&mut self, key: PeerKey, reason: FailureReason, now: Instant) {
        self.events.push(Event::PeerFailed {
            peer_id: self.links.name(key),
            reason,
        });
        if self.role.outlives_connection(key) {
            self.links.drop_connection(key);
        } else {
            self.forget(key, now);
        }
    }

    /// Part from a peer, with a goodbye if it can hear one.
    pub(super) fn close(
        &mut self,
        key: PeerKey,
        goodbye: bool,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        if self.links.peer(key).is_none() {
            return;
        }
        if goodbye {
            let packet = ControlPacket {
                event: ControlEvent::Goodbye,
                body: b"",
            };
            if let Ok(packet) = packet.encode() {
                // A peer that cannot be reached finds out by itself.
                let _ = self
                    .links
                    .send_packet(key, &packet, &mut self.counters, io.now, io.out);
            }
        }
        self.events.push(Event::PeerClosed {
            peer_id: self.links.name(key),
            by: ClosedBy::Local,
            in_use: self.links.is_in_use(key),
        });
        self.forget(key, io.now);
    }

    pub(super) fn forget(&mut self, key: PeerKey, now: Instant) {
        self.count_seen();
        self.flows.forget_peer(key, now);
        if let Some(mut connection) = self.links.drop_connection(key) {
            let lost = connection.waiting.drain().len();
            self.counters.add(Counter::BufferedLost, lost);
        }
        let lost = self.role.forget_peer(key);
        self.counters.add(Counter::BufferedLost, lost);
        self.links.forget_peer(key);
    }
}
