//! What has been seen of flows since it was last counted in their records.
//!
//! Packets that follow each other in one flow are one sighting. All wait together to be counted, because the records of many
//! flows are far from the core, and to wait for each by itself would cost more than all else that is done for a record.
//! Each says when its packets passed, so what a record says does not depend on when they are counted, as long as that is before
//! anything changes that the record is compared with.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use wardgate_packet::{IpPacket, Kind, TcpFlags};

use super::filter_set::Traffic;
use super::links::PeerKey;
use crate::event::FlowProtocol;

/// Sightings counted together; ours, about what one turn of the I/O thread brings.
pub const AT_ONCE: usize = 64;
/// How long they wait where nobody asks for events; ours.
const PATIENCE: Duration = Duration::from_secs(1);

/// Packets of one flow that passed together in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    pub peer: PeerKey,
    pub tuple: Tuple,
    /// From who asked for access to who is reached.
    pub from_initiator: bool,
    pub right: Right,
    pub at: Instant,
    pub packets: usize,
    /// Behind the TCP or UDP header.
    pub payload_bytes: usize,
    /// Of TCP.
    pub flags: Option<TcpFlags>,
}

/// By what a packet passed, and so what its flow is recorded under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// It answers, or is nothing to record.
    None,
    /// This host's, to send.
    Sent,
    /// The peer's, to reach this destination; the packet may have been translated since.
    Received(IpAddr),
}

/// What tells the flows of a peer apart, in the initiator's orientation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub protocol: FlowProtocol,
    pub initiator: (IpAddr, u16),
    pub responder: (IpAddr, u16),
}

/// In as few words as possible: each packet of a recorded flow is looked up.
impl Hash for Tuple {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u64::from(self.initiator.1) << 16 | u64::from(self.responder.1);
        state.write_u64(ports << 8 | self.protocol as u64);
        match (self.initiator.0, self.responder.0) {
            (IpAddr::V4(one), IpAddr::V4(other)) => {
                state.write_u64(u64::from(one.to_bits()) << 32 | u64::from(other.to_bits()));
            }
            (one, other) => {
                one.hash(state);
                other.hash(state);
            }
        }
    }
}

impl Tuple {
    /// The flow of a packet from source to destination; none but TCP and UDP are recorded.
    fn of<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> Option<Self> {
        let protocol = match packet.kind() {
            Kind::Tcp => FlowProtocol::Tcp,
            Kind::Udp => FlowProtocol::Udp,
            _ => return None,
        };
        Some(Self {
            protocol,
            initiator: (packet.source(), packet.source_value()?),
            responder: (packet.destination(), packet.destination_value()?),
        })
    }

    fn reversed(self) -> Self {
        Self {
            initiator: self.responder,
            responder: self.initiator,
            ..self
        }
    }
}

impl Sighting {
    /// One packet, or a super-packet of `packets`; none but TCP and UDP are recorded.
    pub fn of<B: AsRef<[u8]>>(
        peer: PeerKey,
        packet: &IpPacket<B>,
        from_initiator: bool,
        right: Right,
        packets: usize,
        at: Instant,
    ) -> Option<Self> {
        let tuple = Tuple::of(packet)?;
        Some(Self {
            peer,
            tuple: if from_initiator {
                tuple
            } else {
                tuple.reversed()
            },
            from_initiator,
            right,
            at,
            packets,
            payload_bytes: packet.payload().len(),
            flags: packet.tcp_flags(),
        })
    }

    /// As filters see the initiator's packets.
    pub fn traffic(&self) -> Traffic {
        let port = self.tuple.responder.1;
        match self.tuple.protocol {
            FlowProtocol::Tcp => Traffic::Tcp(port),
            FlowProtocol::Udp => Traffic::Udp(port),
        }
    }

    /// Whether a record may begin with it: not with what ends a flow, nor with a bare acknowledgement.
    pub fn opens(&self) -> bool {
        self.from_initiator
            && match self.flags {
                None => true,
                Some(flags) => {
                    !flags.fin() && !flags.rst() && (flags.syn() || self.payload_bytes > 0)
                }
            }
    }

    /// Whether it makes no difference to a record that more packets in the middle of the flow are counted with it.
    fn takes_more(&self) -> bool {
        self.is_in_the_middle() && (self.opens() || !self.from_initiator)
    }

    fn is_in_the_middle(&self) -> bool {
        self.flags
            .is_none_or(|flags| !flags.syn() && !flags.fin() && !flags.rst())
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        self.tuple == next.tuple
            && self.peer == next.peer
            && self.from_initiator == next.from_initiator
            && self.right == next.right
            && self.at == next.at
            && next.is_in_the_middle()
            && self.takes_more()
    }
}

/// What waits to be counted.
#[derive(Default)]
pub struct Sightings {
    waiting: Vec<Sighting>,
    /// How many there have been, those included that have been counted.
    begun: u64,
}

/// Names a sighting that takes more packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Sightings {
    /// To be counted before anything else is seen.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= AT_ONCE
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When they are to be counted at the latest. Whoever drives the engine asks for events after each call, which counts them: a
    /// deadline that is due at once would have everything else looked at that may be due, after each packet.
    pub fn due_at(&self) -> Option<Instant> {
        self.waiting.first().map(|seen| seen.at + PATIENCE)
    }

    /// Returns what more packets of the same flow and direction may be added to.
    pub fn push(&mut self, seen: Sighting) -> Option<Ticket> {
        match self.waiting.last_mut() {
            Some(last) if last.is_followed_by(&seen) => {
                last.packets += seen.packets;
                last.payload_bytes += seen.payload_bytes;
            }
            _ => {
                self.waiting.push(seen);
                self.begun += 1;
            }
        }
        let takes_more = self.waiting.last().is_some_and(Sighting::takes_more);
        takes_more.then_some(Ticket(self.begun))
    }

    /// Add a packet in the middle of the flow; false if others have been seen since, or all have been counted.
    pub fn add<B: AsRef<[u8]>>(&mut self, ticket: Ticket, packet: &IpPacket<B>) -> bool {
        match self.waiting.last_mut() {
            Some(last) if ticket.0 == self.begun => {
                last.packets += 1;
                last.payload_bytes += packet.payload().len();
                true
            }
            _ => false,
        }
    }

    /// Everything that waits; the room is to be given back.
    pub fn take(&mut self) -> Vec<Sighting> {
        std::mem::take(&mut self.waiting)
    }

    pub fn reuse(&mut self, mut room: Vec<Sighting>) {
        room.clear();
        self.waiting = room;
    }
}
