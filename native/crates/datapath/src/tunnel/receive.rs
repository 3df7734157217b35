//! From the network to the TUN device: datagrams are told apart, opened, judged and written.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Instant;

use wardgate_connect::Inbound;
use wardgate_packet::offload::TunRead;
use wardgate_packet::{
    ControlEvent, ControlPacket, IpPacket, Kind, Rejected, Unreachable, declared_length, icmp_error,
};
use wardgate_wireguard::{
    DATA_HEADER_SIZE, MessageKind, Verdict, classify, initiator_key, receiver_index,
};

use super::counters::Counter;
use super::engine::{Engine, RoleState};
use super::links::{PeerKey, send_message};
use super::nat_table::Side;
use super::reassembly::{Outcome, Owner};
use super::sightings::Ticket;
use super::{Arrival, Io};
use crate::event::{ClosedBy, Event};
use crate::{Outbox, TunSink};

impl<R: RoleState> Engine<R> {
    /// Handle what one receive call gave. The datagrams are decrypted in place.
    pub fn handle_network(
        &mut self,
        arrival: &Arrival,
        buffer: &mut [u8],
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let mut batch = Batch::default();
        let stride = arrival.stride.max(1);
        let mut start = 0;
        while start < buffer.len() {
            let end = buffer.len().min(start + stride);
            let datagram = Received {
                from: arrival.from,
                local: arrival.local,
                ecn: arrival.ecn,
                range: start..end,
            };
            self.handle_datagram(datagram, buffer, &mut batch, io);
            start = end;
        }
        self.settle_batch(batch, io);
        self.settle_node(io);
    }

    fn handle_datagram(
        &mut self,
        received: Received,
        buffer: &mut [u8],
        batch: &mut Batch,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
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
            match self
                .links
                .node
                .handle_datagram(from, local, datagram, io.now)
            {
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
            Some(MessageKind::Data) => self.open(range, ecn, buffer, batch, io),
            Some(_) => {
                if let Some(key) = self.handle_handshake(message, from, local, io) {
                    self.touch(key, batch, io);
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
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Option<PeerKey> {
        match self.links.gate.check(message, from, io.now) {
            Verdict::Pass => {}
            Verdict::CookieReply(reply) => {
                self.counters.add(Counter::HandshakesLimited, 1);
                if let Some(path) = self.links.node.route(local, from) {
                    send_message(&path, &reply, io.out);
                }
                return None;
            }
            Verdict::Limited => {
                self.counters.add(Counter::HandshakesLimited, 1);
                return None;
            }
            Verdict::Drop => {
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
        if connection.tunnel.handle_handshake(message, io.now).is_err() {
            self.counters.add(Counter::Unauthentic, 1);
        }
        Some(key)
    }

    /// Decrypt a data message at `range` of `buffer`, judge the packet in it and write it to the TUN device.
    fn open(
        &mut self,
        range: Range<usize>,
        ecn: u8,
        buffer: &mut [u8],
        batch: &mut Batch,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let message = &mut buffer[range.clone()];
        let key = receiver_index(message).and_then(|index| self.links.key_of_index(index >> 8));
        let Some((key, connection)) = key.and_then(|key| Some((key, self.links.connection(key)?)))
        else {
            return self.counters.add(Counter::UnknownPeer, 1);
        };
        let Ok(plaintext) = connection.tunnel.open(message, io.now) else {
            return self.counters.add(Counter::Unauthentic, 1);
        };
        let is_keepalive = plaintext.is_empty();
        let length = declared_length(plaintext);
        if let Some(length) = length {
            connection.received.add(length);
        }
        self.touch(key, batch, io);
        if is_keepalive {
            return;
        }
        let start = range.start + DATA_HEADER_SIZE;
        let Some(range) = length.map(|length| start..start + length) else {
            return self.counters.add(Counter::Malformed, 1);
        };
        let parsed = IpPacket::parse_inner(&mut buffer[range.clone()]);
        if let Ok(packet) = &parsed
            && ControlPacket::is_control(packet.bytes())
        {
            return self.handle_control(key, packet.bytes(), io.now);
        }
        self.links.note_activity(key, false, io.now);
        let mut packet = match parsed {
            Ok(packet) => packet,
            Err(Rejected::Fragment) => return self.open_fragment(key, &buffer[range], ecn, io),
            Err(_) => return self.counters.add(Counter::Malformed, 1),
        };
        let flow = Flow::of(key, &packet);
        let mut is_same = true;
        let judgement = match &batch.judged {
            // Flags that open or end a flow are for the NAT table to see.
            Some((known, judgement)) if *known == flow && !changes_flow(&packet) => *judgement,
            _ => {
                is_same = false;
                let judgement = R::judge_inner(self, key, &packet, io.now);
                batch.judged = Some((flow, judgement));
                judgement
            }
        };
        match judgement {
            Judgement::Pass(translation) => {
                let sent_to = packet.destination();
                if let Some(outside) = translation {
                    // The family was compared when the translation was made.
                    let _ = packet.set_destination(outside.address);
                    packet.set_source_value(outside.value);
                }
                if ecn == CONGESTION_EXPERIENCED {
                    packet.mark_congestion();
                }
                if self.flows.is_on() {
                    let seen = &mut self.flows.seen;
                    let is_added =
                        is_same && batch.seen.is_some_and(|ticket| seen.add(ticket, &packet));
                    if !is_added {
                        let seen = self.role.see_inner(key, &packet, sent_to, io.now);
                        batch.seen = seen.and_then(|seen| self.record(seen));
                    }
                }
                self.counters.add(Counter::PacketsReceived, 1);
                self.counters.add(Counter::BytesReceived, range.len());
                io.tun.push(buffer, range);
            }
            Judgement::Refuse(reason, counter) => {
                self.counters.add(counter, 1);
                if let Some(error) = icmp_error(&packet, reason) {
                    // Without a session to answer in there is nobody to tell.
                    let _ = self
                        .links
                        .send_packet(key, &error, &mut self.counters, io.now, io.out);
                }
            }
            Judgement::Drop(counter) => self.counters.add(counter, 1),
        }
    }

    /// Judge a packet that came in fragments once it is whole, and write it to the TUN device in fragments of our own.
    fn open_fragment(
        &mut self,
        key: PeerKey,
        bytes: &[u8],
        ecn: u8,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let whole = match self.fragments.take(Owner::Peer(key), bytes, io.now) {
            Ok(whole) => whole,
            Err(Outcome::Kept) => return,
            Err(Outcome::Refused) => return self.counters.add(Counter::Malformed, 1),
        };
        let Ok(mut packet) = IpPacket::parse(whole.packet) else {
            return self.counters.add(Counter::Malformed, whole.count);
        };
        match R::judge_inner(self, key, &packet, io.now) {
            Judgement::Pass(translation) => {
                let sent_to = packet.destination();
                if let Some(outside) = translation {
                    // The family was compared when the translation was made.
                    let _ = packet.set_destination(outside.address);
                    packet.set_source_value(outside.value);
                }
                if ecn == CONGESTION_EXPERIENCED {
                    packet.mark_congestion();
                }
                if self.flows.is_on()
                    && let Some(seen) = self.role.see_inner(key, &packet, sent_to, io.now)
                {
                    self.record(seen);
                }
                for segment in TunRead::cut(packet.bytes(), whole.cut).segments() {
                    let mut fragment = vec![0; segment.len()];
                    segment.write_into(&mut fragment);
                    self.counters.add(Counter::PacketsReceived, 1);
                    self.counters.add(Counter::BytesReceived, fragment.len());
                    io.tun.push_owned(&fragment);
                }
            }
            Judgement::Refuse(reason, counter) => {
                self.counters.add(counter, whole.count);
                if let Some(error) = icmp_error(&packet, reason) {
                    // Without a session to answer in there is nobody to tell.
                    let _ = self
                        .links
                        .send_packet(key, &error, &mut self.counters, io.now, io.out);
                }
            }
            Judgement::Drop(counter) => self.counters.add(counter, whole.count),
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
                    in_use: self.links.is_in_use(key),
                });
                return self.forget(key, now);
            }
            ControlEvent::AssignedIps => 0,
            ControlEvent::DomainStatus => 1,
            ControlEvent::Unknown(kind) => kind,
        };
        // A goodbye is no use of the connection.
        self.links.note_activity(key, false, now);
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

    /// Settle the tunnel that a batch's datagrams go to, but not after each of them.
    fn touch(
        &mut self,
        key: PeerKey,
        batch: &mut Batch,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        if let Some(former) = batch.touched.replace(key)
            && former != key
        {
            self.settle_peer(former, io);
        }
    }

    fn settle_batch(&mut self, batch: Batch, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        if let Some(key) = batch.touched {
            self.settle_peer(key, io);
        }
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
    /// What packets of the same flow are counted with.
    seen: Option<Ticket>,
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
pub enum Judgement {
    Pass(Option<Side>),
    /// Answer with an ICMP error.
    Refuse(Unreachable, Counter),
    Drop(Counter),
}
