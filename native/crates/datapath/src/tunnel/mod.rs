//! The tunnel engine: a client's or a gateway's whole packet path between the TUN device and the network.
//!
//! ```text
//!            ┌───────────── TunnelEngine ──────────────┐
//!   TUN ─────┤ Client or Gateway ── Links ── Node      ├───── network
//!  packets   │ (who may do what)    (tunnels) (paths)  │    datagrams
//!            └──────▲────────────────────────┬─────────┘
//!                   │ commands               ▼ events
//! ```
//!
//! It composes `wardgate-connect` (paths), `wardgate-wireguard` (one tunnel per connection) and `wardgate-packet`, and adds what
//! a role decides: on a client routes, authorizations and the packets that wait for one; on a gateway grants, filters,
//! deadlines and the translation of names' addresses. After each `handle_*` or [`TunnelEngine::apply`] everything to be sent
//! is in the caller's [`Outbox`] and [`TunSink`]; the caller then drains [`TunnelEngine::poll_event`] and arms
//! [`TunnelEngine::poll_timeout`].
//!
//! A batch costs one decision per flow: a super-packet is judged once, and consecutive datagrams of one flow share a verdict.
//!
//! Deliberately absent: DNS (Python), flow records, and flows that another client opens: it may only answer.

mod address_plan;
mod client;
mod control_budget;
mod counters;
mod event_queue;
mod filter_set;
mod flow_set;
mod gateway;
mod links;
mod nat_table;
mod packet_ring;
mod prefix_map;
mod programme;
mod route_table;
mod seeded_hash;
mod steps;
#[cfg(test)]
mod test_clock;
#[cfg(test)]
mod tests;
mod translations;
mod used_values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wardgate_connect::{Inbound, NodeEvent, PathKind};
use wardgate_packet::offload::TunRead;
use wardgate_packet::{
    ControlEvent, ControlPacket, IpPacket, Kind, MAX_INNER_PACKET, Unreachable, declared_length,
    icmp_error,
};
use wardgate_wireguard::{
    DATA_HEADER_SIZE, MessageKind, PrivateKey, TunnelEvent, Verdict as GateVerdict, classify,
    initiator_key, receiver_index,
};

use crate::command::Key;
use crate::event::{ClosedBy, Event, FailureReason};
use crate::{Outbox, TunSink, event};
use client::{Client, Verdict};
use counters::{Counter, Counters};
use event_queue::EventQueue;
use filter_set::Traffic;
use gateway::{Gateway, TowardClient, TowardNetwork};
use links::{Links, NodeId, NotSent, PeerKey, send_message};
use nat_table::Side;
use seeded_hash::SeededState;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Gateway,
}

pub struct EngineConfig {
    pub role: Role,
    pub private_key: [u8; 32],
    /// All randomness of the engine derives from it; never use one twice.
    pub seed: [u8; 32],
    /// Zero of the clock that `*_deadline_s` of commands count on.
    pub epoch: Instant,
    /// Wall time at `epoch`, since 1970.
    pub unix_at_epoch: Duration,
}

pub struct TunnelEngine {
    epoch: Instant,
    own: Option<OwnAddresses>,
    links: Links,
    side: RoleState,
    relays: RelayNames,
    events: EventQueue,
    counters: Counters,
}

#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
enum RoleState {
    Client(Client),
    Gateway(Gateway),
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

/// The public key of a private key.
pub fn public_key(private_key: &Key) -> Key {
    Key(PrivateKey::new(private_key.0).public_key().0)
}

impl TunnelEngine {
    pub fn new(config: EngineConfig) -> Self {
        let mut rng = StdRng::from_seed(config.seed);
        let hash = SeededState::new(rng.random());
        Self {
            epoch: config.epoch,
            own: None,
            links: Links::new(config.private_key, rng, config.epoch, config.unix_at_epoch),
            side: match config.role {
                Role::Client => RoleState::Client(Client::default()),
                Role::Gateway => RoleState::Gateway(Gateway::new(hash)),
            },
            relays: RelayNames::default(),
            events: EventQueue::default(),
            counters: Counters::default(),
        }
    }

    /// Handle what one receive call gave: datagrams of `stride` bytes each, the last maybe shorter, all from `from` to
    /// our `local`, with the outer header's ECN bits. They are decrypted in place.
    #[expect(
        clippy::too_many_arguments,
        reason = "one receive call has that many facts"
    )]
    pub fn handle_network(
        &mut self,
        from: SocketAddr,
        local: SocketAddr,
        ecn: u8,
        stride: usize,
        buffer: &mut [u8],
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        let mut batch = Batch::default();
        let stride = stride.max(1);
        let mut start = 0;
        while start < buffer.len() {
            let end = buffer.len().min(start + stride);
            let datagram = Received {
                from,
                local,
                ecn,
                range: start..end,
            };
            self.handle_datagram(datagram, buffer, &mut batch, now, tun, out);
            start = end;
        }
        self.settle_batch(batch, now, tun, out);
        self.settle_node(now, tun, out);
    }

    /// Handle one read from the TUN device.
    pub fn handle_tun(
        &mut self,
        read: &TunRead<'_>,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        self.forward(read, now, tun, out);
        // Traffic wakes an idle connection, whose checks are then due.
        self.settle_node(now, tun, out);
    }

    /// Do all that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, tun: &mut impl TunSink, out: &mut impl Outbox) {
        if let RoleState::Gateway(gateway) = &mut self.side {
            let expired = gateway.handle_timeout(now);
            // First all that is to be told: a peer whose last grants end together is forgotten with the first of them.
            for (key, resource) in &expired {
                self.events.push(Event::GrantExpired {
                    peer_id: self.links.name(*key),
                    resource_id: resource.to_string(),
                });
            }
            for (key, _) in expired {
                self.close_if_useless(key, now, out);
            }
        }
        for key in self.links.take_due(now) {
            if let Some(connection) = self.links.connection(key) {
                connection.tunnel.handle_timeout(now);
            }
            self.settle_peer(key, now, tun, out);
        }
        self.links.node.handle_timeout(now);
        self.settle_node(now, tun, out);
    }

    /// When to call [`TunnelEngine::handle_timeout`]; an instant in the past means at once.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let role = match &self.side {
            RoleState::Client(_) => None,
            RoleState::Gateway(gateway) => gateway.poll_timeout(),
        };
        [role, self.links.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// Counters by name; they only grow, but for those that say how much there is now.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let connected = self.links.connections().filter(|link| link.is_established);
        let mut stats: Vec<_> = self.counters.entries().collect();
        stats.push(("events_dropped", self.events.dropped()));
        stats.push(("connections", self.links.connections().count() as u64));
        stats.push(("connections_established", connected.count() as u64));
        stats
    }

    fn handle_datagram(
        &mut self,
        received: Received,
        buffer: &mut [u8],
        batch: &mut Batch,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        let Received {
            mut from,
            mut local,
            ecn,
            mut range,
        } = received;
        let datagram = &mut buffer[range.clone()];
        // No message of STUN or TURN begins like WireGuard's data, so most datagrams need no demultiplexer.
        if classify(datagram) != Some(MessageKind::Data) {
            match self.links.node.handle_datagram(from, local, datagram, now) {
                Inbound::Consumed => return,
                Inbound::Wireguard {
                    from: peer,
                    local: own,
                    offset,
                } => {
                    (from, local) = (peer, own);
                    range.start += offset;
                }
            }
        }
        let message = &mut buffer[range.clone()];
        match classify(message) {
            Some(MessageKind::Data) => self.open(range, ecn, buffer, batch, now, tun, out),
            Some(_) => {
                if let Some(key) = self.handle_handshake(message, from, local, now, out) {
                    self.touch(key, batch, now, tun, out);
                }
            }
            None => self.counters.add(Counter::Malformed, 1),
        }
    }

    /// Handle a handshake message. Returns the peer whose tunnel took it.
    fn handle_handshake(
        &mut self,
        message: &[u8],
        from: SocketAddr,
        local: SocketAddr,
        now: Instant,
        out: &mut impl Outbox,
    ) -> Option<PeerKey> {
        match self.links.gate.check(message, from, now) {
            GateVerdict::Pass => {}
            GateVerdict::CookieReply(reply) => {
                self.counters.add(Counter::HandshakesLimited, 1);
                if let Some(path) = self.links.node.route(local, from) {
                    send_message(&path, &reply, out);
                }
                return None;
            }
            GateVerdict::Drop => {
                self.counters.add(Counter::Unauthentic, 1);
                return None;
            }
        }
        let key = if classify(message) == Some(MessageKind::Initiation) {
            let Ok(public_key) = initiator_key(self.links.keys(), message) else {
                self.counters.add(Counter::Unauthentic, 1);
                return None;
            };
            self.links.key_of_public_key(&public_key)
        } else {
            receiver_index(message).and_then(|index| self.links.key_of_index(index >> 8))
        };
        let Some((key, connection)) = key.and_then(|key| Some((key, self.links.connection(key)?)))
        else {
            self.counters.add(Counter::UnknownPeer, 1);
            return None;
        };
        if connection.tunnel.handle_handshake(message, now).is_err() {
            self.counters.add(Counter::Unauthentic, 1);
        }
        Some(key)
    }

    /// Decrypt a data message at `range` of `buffer`, judge the packet in it and write it to the TUN device.
    #[expect(clippy::too_many_arguments, reason = "the receive path's one step")]
    fn open(
        &mut self,
        range: Range<usize>,
        ecn: u8,
        buffer: &mut [u8],
        batch: &mut Batch,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        let message = &mut buffer[range.clone()];
        let key = receiver_index(message).and_then(|index| self.links.key_of_index(index >> 8));
        let Some((key, connection)) = key.and_then(|key| Some((key, self.links.connection(key)?)))
        else {
            return self.counters.add(Counter::UnknownPeer, 1);
        };
        let Ok(plaintext) = connection.tunnel.open(message, now) else {
            return self.counters.add(Counter::Unauthentic, 1);
        };
        let is_keepalive = plaintext.is_empty();
        let length = declared_length(plaintext);
        self.touch(key, batch, now, tun, out);
        if is_keepalive {
            return;
        }
        let start = range.start + DATA_HEADER_SIZE;
        let Some(range) = length.map(|length| start..start + length) else {
            return self.counters.add(Counter::Malformed, 1);
        };
        self.links.note_activity(key, false, now);
        let Ok(mut packet) = IpPacket::parse_inner(&mut buffer[range.clone()]) else {
            return self.counters.add(Counter::Malformed, 1);
        };
        if ControlPacket::is_control(packet.bytes()) {
            return self.handle_control(key, packet.bytes(), now);
        }
        let flow = Flow::of(key, &packet);
        let judgement = match &batch.judged {
            // Flags that open or end a flow are for the NAT table to see.
            Some((known, judgement)) if *known == flow && !changes_flow(&packet) => *judgement,
            _ => {
                let judgement = self.judge_inner(key, &packet, now);
                batch.judged = Some((flow, judgement));
                judgement
            }
        };
        match judgement {
            Judgement::Pass(translation) => {
                if let Some(outside) = translation {
                    // The family was compared when the translation was made.
                    let _ = packet.set_destination(outside.address);
                    packet.set_source_value(outside.value);
                }
                if ecn == CONGESTION_EXPERIENCED {
                    packet.mark_congestion();
                }
                self.counters.add(Counter::PacketsReceived, 1);
                self.counters.add(Counter::BytesReceived, range.len());
                tun.push(buffer, range);
            }
            Judgement::Refuse(reason, counter) => {
                self.counters.add(counter, 1);
                if let Some(error) = icmp_error(&packet, reason) {
                    // Without a session to answer in there is nobody to tell.
                    let _ = self
                        .links
                        .send_packet(key, &error, &mut self.counters, now, out);
                }
            }
            Judgement::Drop(counter) => self.counters.add(counter, 1),
        }
    }

    fn judge_inner<B: AsRef<[u8]>>(
        &mut self,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> Judgement {
        match &mut self.side {
            RoleState::Client(client) => {
                if !client.admits(key, packet, now) {
                    return Judgement::Drop(Counter::SpoofedSource);
                }
                // A host that forwards would pass on what a hostile gateway addresses to its neighbours.
                if !self
                    .own
                    .is_some_and(|own| own.contains(packet.destination()))
                {
                    return Judgement::Drop(Counter::Unroutable);
                }
                if let Some(resource) = prohibited_resource(client, packet, now) {
                    self.events.push(Event::AccessProhibited {
                        peer_id: self.links.name(key),
                        resource_id: resource.to_string(),
                    });
                }
                Judgement::Pass(None)
            }
            RoleState::Gateway(gateway) => {
                match gateway.judge_outgoing(key, packet, self.own.as_ref(), now) {
                    TowardNetwork::Pass => Judgement::Pass(None),
                    TowardNetwork::Translate(outside) => Judgement::Pass(Some(outside)),
                    TowardNetwork::Prohibited(counter) => {
                        Judgement::Refuse(Unreachable::Prohibited, counter)
                    }
                    TowardNetwork::Unreachable => {
                        Judgement::Refuse(Unreachable::Network, Counter::Unreachable)
                    }
                    TowardNetwork::Drop(counter) => Judgement::Drop(counter),
                }
            }
        }
    }

    fn handle_control(&mut self, key: PeerKey, packet: &[u8], now: Instant) {
        let Some(control) = ControlPacket::parse(packet) else {
            return self.counters.add(Counter::Malformed, 1);
        };
        let kind = match control.event {
            ControlEvent::Goodbye => {
                self.events.push(Event::PeerClosed {
                    peer_id: self.links.name(key),
                    by: ClosedBy::Remote,
                });
                return self.forget(key);
            }
            ControlEvent::AssignedIps => 0,
            ControlEvent::DomainStatus => 1,
            ControlEvent::Unknown(kind) => kind,
        };
        if !self.links.take_control(key, now) {
            return self.counters.add(Counter::ControlLimited, 1);
        }
        let Ok(payload) = std::str::from_utf8(control.body) else {
            return self.counters.add(Counter::Malformed, 1);
        };
        self.events.push(Event::ControlPacket {
            peer_id: self.links.name(key),
            kind,
            payload: payload.to_owned(),
        });
    }

    fn forward(
        &mut self,
        read: &TunRead<'_>,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        let Ok(packet) = IpPacket::parse(read.packet()) else {
            return self.counters.add(Counter::Malformed, 1);
        };
        if read.largest_segment() > MAX_INNER_PACKET {
            return self.counters.add(Counter::Malformed, 1);
        }
        match &self.side {
            RoleState::Client(_) => self.forward_as_client(read, &packet, now, tun, out),
            RoleState::Gateway(_) => self.forward_as_gateway(read, &packet, now, out),
        }
    }

    fn forward_as_client(
        &mut self,
        read: &TunRead<'_>,
        packet: &IpPacket<&[u8]>,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        let RoleState::Client(client) = &mut self.side else {
            return;
        };
        match client.judge_outgoing(packet, self.own.as_ref(), now) {
            Verdict::Send(key) => self.send_as_client(key, read, packet.ecn(), now, out),
            Verdict::Await { target, table, ask } => {
                for packet in finished(read, 0) {
                    let lost = client.keep_pending(target.clone(), &packet);
                    self.counters.add(Counter::BufferedLost, lost);
                    self.counters.add(Counter::PacketsBuffered, 1);
                }
                if ask {
                    self.events.push(Event::Intent {
                        resource_id: target.resource.to_string(),
                        destination: packet.destination(),
                        table,
                    });
                }
            }
            Verdict::Hold(id) => {
                for packet in finished(read, 0) {
                    let lost = client.keep_held(id, &packet);
                    self.counters.add(Counter::BufferedLost, lost);
                    self.counters.add(Counter::PacketsBuffered, 1);
                }
            }
            Verdict::Prohibited => {
                self.counters.add(Counter::Prohibited, read.segment_count());
                let first = finished(read, 0).next().unwrap_or_default();
                let error = IpPacket::parse(&first[..])
                    .ok()
                    .and_then(|first| icmp_error(&first, Unreachable::Prohibited));
                if let Some(error) = error {
                    tun.push_owned(&error);
                }
            }
            Verdict::Drop(counter) => self.counters.add(counter, read.segment_count()),
        }
    }

    /// Send to a peer, or keep what cannot be sent yet.
    fn send_as_client(
        &mut self,
        key: PeerKey,
        read: &TunRead<'_>,
        ecn: u8,
        now: Instant,
        out: &mut impl Outbox,
    ) {
        let is_established = self
            .links
            .connection(key)
            .is_some_and(|connection| connection.is_established);
        let (sent, result) = if is_established {
            self.links
                .send_segments(key, read, ecn, |_| (), &mut self.counters, now, out)
        } else {
            (0, Err(NotSent::NotStanding))
        };
        if result.is_ok() {
            return;
        }
        let Some(connection) = self.links.connection(key) else {
            return self
                .counters
                .add(Counter::NoSession, read.segment_count() - sent);
        };
        for packet in finished(read, sent) {
            let lost = connection.waiting.push(&packet);
            self.counters.add(Counter::BufferedLost, lost);
            self.counters.add(Counter::PacketsBuffered, 1);
        }
        if is_established {
            connection.tunnel.initiate(now);
            connection.transmit_messages(out);
            self.links.schedule(key);
        }
    }

    fn forward_as_gateway(
        &mut self,
        read: &TunRead<'_>,
        packet: &IpPacket<&[u8]>,
        now: Instant,
        out: &mut impl Outbox,
    ) {
        let RoleState::Gateway(gateway) = &mut self.side else {
            return;
        };
        let (key, edit) = match gateway.judge_incoming(packet, self.own.as_ref(), now) {
            TowardClient::Pass(key) => (key, Edit::None),
            TowardClient::Translate(key, inside) => (key, Edit::Addresses(inside)),
            TowardClient::TranslateError(key, inside) => (
                key,
                Edit::Quote {
                    inside,
                    client: packet.destination(),
                },
            ),
            TowardClient::Drop(counter) => {
                return self.counters.add(counter, read.segment_count());
            }
        };
        let ecn = packet.ecn();
        let counters = &mut self.counters;
        let edit = |packet: &mut [u8]| edit.apply(packet);
        let (sent, result) = self
            .links
            .send_segments(key, read, ecn, edit, counters, now, out);
        if result.is_err() {
            counters.add(Counter::NoSession, read.segment_count() - sent);
        }
    }

    /// Settle the tunnel that a batch's datagrams go to, but not after each of them.
    fn touch(
        &mut self,
        key: PeerKey,
        batch: &mut Batch,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        if let Some(former) = batch.touched.replace(key)
            && former != key
        {
            self.settle_peer(former, now, tun, out);
        }
    }

    fn settle_batch(
        &mut self,
        batch: Batch,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        if let Some(key) = batch.touched {
            self.settle_peer(key, now, tun, out);
        }
    }

    /// Carry out what a peer's tunnel wants: messages, events, its next deadline.
    fn settle_peer(
        &mut self,
        key: PeerKey,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        let Some(connection) = self.links.connection(key) else {
            return;
        };
        let mut renewed = false;
        while let Some(event) = connection.tunnel.poll_event() {
            match event {
                TunnelEvent::HandshakeDone => {
                    connection.has_session = true;
                    renewed = true;
                }
                TunnelEvent::SessionsExpired | TunnelEvent::GaveUp => {
                    return self.fail(key, FailureReason::HandshakeTimeout);
                }
            }
        }
        connection.transmit_messages(out);
        let stands = connection.has_session && connection.path.is_some();
        if stands && !connection.is_established {
            connection.is_established = true;
            renewed = true;
            let took_s = now
                .saturating_duration_since(connection.upserted_at)
                .as_secs_f64();
            self.events.push(Event::HandshakeDone {
                peer_id: self.links.name(key),
                took_s,
            });
        }
        if stands && renewed {
            self.flush_waiting(key, now, tun, out);
        }
        self.links.schedule(key);
    }

    /// Send what waited for the connection: control packets first, then packets, each judged anew.
    fn flush_waiting(
        &mut self,
        key: PeerKey,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        let Some(connection) = self.links.connection(key) else {
            return;
        };
        let control = connection.waiting_control.drain();
        let packets = connection.waiting.drain();
        for packet in control {
            self.send_control(key, &packet, now, out);
        }
        for packet in packets {
            self.forward(&TunRead::whole(&packet), now, tun, out);
        }
    }

    /// Send a control packet, or keep it until the connection stands.
    fn send_control(&mut self, key: PeerKey, packet: &[u8], now: Instant, out: &mut impl Outbox) {
        let Self {
            links, counters, ..
        } = self;
        if links.send_packet(key, packet, counters, now, out).is_err()
            && let Some(connection) = links.connection(key)
        {
            let lost = connection.waiting_control.push(packet);
            counters.add(Counter::BufferedLost, lost);
        }
    }

    /// Carry out what the node wants: datagrams and events.
    fn settle_node(&mut self, now: Instant, tun: &mut impl TunSink, out: &mut impl Outbox) {
        while let Some(event) = self.links.node.poll_event() {
            self.handle_node_event(event, now, tun, out);
        }
        while let Some(transmit) = self.links.node.poll_transmit() {
            let payload = transmit.payload;
            out.reserve(transmit.local, transmit.remote, 0, payload.len())
                .copy_from_slice(&payload);
        }
    }

    fn handle_node_event(
        &mut self,
        event: NodeEvent<NodeId>,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        match event {
            NodeEvent::CandidatesAdded { id, candidates } => {
                if let Some(key) = self.links.key_of_index(id) {
                    self.events.push(Event::LocalCandidatesAdded {
                        peer_id: self.links.name(key),
                        candidates,
                    });
                }
            }
            NodeEvent::CandidatesRemoved { id, candidates } => {
                if let Some(key) = self.links.key_of_index(id) {
                    self.events.push(Event::LocalCandidatesRemoved {
                        peer_id: self.links.name(key),
                        candidates,
                    });
                }
            }
            NodeEvent::PathSelected { id, path } => {
                let Some(key) = self.links.key_of_index(id) else {
                    return;
                };
                let Some(connection) = self.links.connection(key) else {
                    return;
                };
                if connection.path.replace(path) == Some(path) {
                    return;
                }
                connection.initiate_proactively(now);
                self.events.push(Event::PathSelected {
                    peer_id: self.links.name(key),
                    kind: path_kind(path.kind),
                    local: path
                        .local
                        .map(|local| local.to_string())
                        .unwrap_or_default(),
                    remote: path.remote,
                    relay_id: path.relay.map(|relay| self.relays.name(relay)),
                });
                self.settle_peer(key, now, tun, out);
            }
            NodeEvent::PathFailed { id, reason } => {
                if let Some(key) = self.links.key_of_index(id) {
                    self.fail(
                        key,
                        match reason {
                            wardgate_connect::FailureReason::NoCandidates => {
                                FailureReason::NoCandidates
                            }
                            wardgate_connect::FailureReason::IceTimeout => {
                                FailureReason::IceTimeout
                            }
                        },
                    );
                }
            }
            NodeEvent::RelayUp { relay, rtt } => self.events.push(Event::RelayUp {
                relay_id: self.relays.name(relay),
                rtt_ms: rtt.as_secs_f64() * 1e3,
            }),
            NodeEvent::RelayLost { relay, reason } => self.events.push(Event::RelayLost {
                relay_id: self.relays.name(relay),
                reason: loss_text(reason).to_owned(),
            }),
            NodeEvent::NoRelays => self.events.push(Event::NoRelays { peer_id: None }),
        }
    }

    /// The connection broke. A client forgets the peer, a gateway keeps its grants.
    fn fail(&mut self, key: PeerKey, reason: FailureReason) {
        self.events.push(Event::PeerFailed {
            peer_id: self.links.name(key),
            reason,
        });
        match &self.side {
            RoleState::Gateway(gateway) if gateway.has_grants(key) => {
                self.links.drop_connection(key);
            }
            _ => self.forget(key),
        }
    }

    /// Close a gateway's client that has no grant left.
    fn close_if_useless(&mut self, key: PeerKey, now: Instant, out: &mut impl Outbox) {
        let RoleState::Gateway(gateway) = &self.side else {
            return;
        };
        if !gateway.has_grants(key) {
            self.close(key, true, now, out);
        }
    }

    /// Part from a peer, with a goodbye if it can hear one.
    fn close(&mut self, key: PeerKey, goodbye: bool, now: Instant, out: &mut impl Outbox) {
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
                    .send_packet(key, &packet, &mut self.counters, now, out);
            }
        }
        self.events.push(Event::PeerClosed {
            peer_id: self.links.name(key),
            by: ClosedBy::Local,
        });
        self.forget(key);
    }

    fn forget(&mut self, key: PeerKey) {
        if let Some(mut connection) = self.links.drop_connection(key) {
            let lost = connection.waiting.drain().len();
            self.counters.add(Counter::BufferedLost, lost);
        }
        match &mut self.side {
            RoleState::Client(client) => {
                let lost = client.forget_peer(key);
                self.counters.add(Counter::BufferedLost, lost);
            }
            RoleState::Gateway(gateway) => gateway.forget_client(key),
        }
        self.links.forget_peer(key);
    }
}

/// ECN bits of a packet that met congestion (RFC 3168 §5).
const CONGESTION_EXPERIENCED: u8 = 3;

/// Where one datagram lies and how it came.
struct Received {
    from: SocketAddr,
    local: SocketAddr,
    ecn: u8,
    range: Range<usize>,
}

/// What the datagrams of one receive call share.
#[derive(Default)]
struct Batch {
    touched: Option<PeerKey>,
    judged: Option<(Flow, Judgement)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Flow {
    peer: PeerKey,
    source: IpAddr,
    destination: IpAddr,
    kind: Kind,
    values: (Option<u16>, Option<u16>),
}

impl Flow {
    fn of<B: AsRef<[u8]>>(peer: PeerKey, packet: &IpPacket<B>) -> Self {
        Self {
            peer,
            source: packet.source(),
            destination: packet.destination(),
            kind: packet.kind(),
            values: (packet.source_value(), packet.destination_value()),
        }
    }
}

/// Whether the packet means more than its addresses: it opens or ends a flow, or is an error.
fn changes_flow<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> bool {
    packet.kind() == Kind::IcmpError
        || packet
            .tcp_flags()
            .is_some_and(|flags| flags.syn() || flags.fin() || flags.rst())
}

/// What becomes of a decrypted packet.
#[derive(Clone, Copy)]
enum Judgement {
    Pass(Option<Side>),
    /// Answer with an ICMP error.
    Refuse(Unreachable, Counter),
    Drop(Counter),
}

/// How a packet to a client is changed before it is sealed.
#[derive(Clone, Copy)]
enum Edit {
    None,
    Addresses(Side),
    Quote { inside: Side, client: IpAddr },
}

impl Edit {
    /// The packet was parsed and the families compared when the translation was found, so nothing here fails; if it
    /// did, the client would drop the packet.
    fn apply(self, bytes: &mut [u8]) {
        if matches!(self, Self::None) {
            return;
        }
        let Ok(mut packet) = IpPacket::parse(bytes) else {
            return;
        };
        match self {
            Self::None => {}
            Self::Addresses(inside) => {
                let _ = packet.set_source(inside.address);
                packet.set_destination_value(inside.value);
            }
            Self::Quote { inside, client } => {
                let _ = packet.translate_icmp_error(inside.address, client, inside.value);
            }
        }
    }
}

/// The finished packets of a read, from the `skip`th on, to be kept.
fn finished<'a>(read: &TunRead<'a>, skip: usize) -> impl Iterator<Item = Vec<u8>> + use<'a> {
    read.segments().skip(skip).map(|segment| {
        let mut packet = vec![0; segment.len()];
        segment.write_into(&mut packet);
        packet
    })
}

/// The resource about which a gateway says "administratively prohibited" (data-plane §4.9).
fn prohibited_resource<B: AsRef<[u8]>>(
    client: &Client,
    packet: &IpPacket<B>,
    now: Instant,
) -> Option<route_table::ResourceId> {
    if packet.kind() != Kind::IcmpError {
        return None;
    }
    let is_ipv4 = packet.source().is_ipv4();
    match (is_ipv4, packet.icmp_type()?) {
        (true, (3, 13)) | (false, (1, 1)) => {}
        _ => return None,
    }
    let quoted = packet.quoted()?;
    let traffic = match quoted.kind {
        Kind::Tcp => Traffic::Tcp(quoted.destination_value),
        Kind::Udp => Traffic::Udp(quoted.destination_value),
        _ => Traffic::Icmp,
    };
    client.resource_at(quoted.destination, traffic, now)
}

fn path_kind(kind: PathKind) -> event::PathKind {
    match kind {
        PathKind::Direct => event::PathKind::Direct,
        PathKind::LocalRelay => event::PathKind::LocalRelay,
        PathKind::RemoteRelay => event::PathKind::RemoteRelay,
        PathKind::BothRelays => event::PathKind::BothRelays,
    }
}

fn loss_text(reason: wardgate_connect::LossReason) -> &'static str {
    use wardgate_connect::LossReason;
    match reason {
        LossReason::NoResponse => "no response",
        LossReason::TimedOut => "timed out",
        LossReason::AuthenticationFailed => "authentication failed",
        LossReason::ProtocolFailure => "protocol failure",
    }
}

/// Relays by their number in the node.
#[derive(Debug, Default)]
struct RelayNames {
    numbers: BTreeMap<String, NodeId>,
    names: BTreeMap<NodeId, String>,
    last: NodeId,
}

impl RelayNames {
    fn number(&mut self, name: &str) -> NodeId {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(name.to_owned(), self.last);
        self.names.insert(self.last, name.to_owned());
        self.last
    }

    fn forget(&mut self, is_gone: impl Fn(&String) -> bool) {
        self.numbers.retain(|name, _| !is_gone(name));
        self.names.retain(|_, name| !is_gone(name));
    }

    fn find(&self, name: &str) -> Option<NodeId> {
        self.numbers.get(name).copied()
    }

    fn name(&self, number: NodeId) -> String {
        self.names.get(&number).cloned().unwrap_or_default()
    }
}
