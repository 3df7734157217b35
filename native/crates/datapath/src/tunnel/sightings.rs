//! What has been seen of flows since it was last counted in their records.
//!
//! Packets that follow each other in one flow are one sighting. All wait together to be counted, because the records of many
//! flows are far from the core, and to wait for each by itself would cost more than all else that is done for a record.
//! Each says when its packets passed, so what a record says does not depend on when they are counted, as long as that is before
//! anything changes that the record is compared with.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

/// What tells the flows of a peer apart, in the initiator's orientation. It is words, because each packet's is hashed and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    initiator: [u64; 2],
    responder: [u64; 2],
    /// Port of the initiator, port of the responder, and below these, in a byte, [`IS_UDP`] and [`IS_V6`].
    rest: u64,
}

const IS_UDP: u64 = 1;
/// Both addresses are of one family.
const IS_V6: u64 = 2;

impl Hash for Tuple {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.rest);
        let ([upper, lower], [other_upper, other_lower]) = (self.initiator, self.responder);
        if self.is_v4() {
            state.write_u64(lower << 32 | other_lower);
        } else {
            for word in [upper, lower, other_upper, other_lower] {
                state.write_u64(word);
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
        let source = (packet.source(), packet.source_value()?);
        let destination = (packet.destination(), packet.destination_value()?);
        Some(Self::between(protocol, source, destination))
    }

    fn between(
        protocol: FlowProtocol,
        (initiator, port): (IpAddr, u16),
        (responder, other_port): (IpAddr, u16),
    ) -> Self {
        let is_udp = match protocol {
            FlowProtocol::Tcp => 0,
            FlowProtocol::Udp => IS_UDP,
        };
        let is_v6 = if initiator.is_ipv6() { IS_V6 } else { 0 };
        let ports = u64::from(port) << 24 | u64::from(other_port) << 8;
        Self {
            initiator: words_of(initiator),
            responder: words_of(responder),
            rest: ports | is_udp | is_v6,
        }
    }

    fn reversed(self) -> Self {
        let (port, other_port) = self.ports();
        let ports = u64::from(other_port) << 24 | u64::from(port) << 8;
        Self {
            initiator: self.responder,
            responder: self.initiator,
            rest: ports | self.rest & (IS_UDP | IS_V6),
        }
    }

    pub fn protocol(&self) -> FlowProtocol {
        if self.rest & IS_UDP == 0 {
            FlowProtocol::Tcp
        } else {
            FlowProtocol::Udp
        }
    }

    pub fn initiator(&self) -> (IpAddr, u16) {
        (self.address(self.initiator), self.ports().0)
    }

    pub fn responder(&self) -> (IpAddr, u16) {
        (self.address(self.responder), self.ports().1)
    }

    fn ports(&self) -> (u16, u16) {
        ((self.rest >> 24) as u16, (self.rest >> 8) as u16)
    }

    fn is_v4(&self) -> bool {
        self.rest & IS_V6 == 0
    }

    fn address(&self, [upper, lower]: [u64; 2]) -> IpAddr {
        if self.is_v4() {
            Ipv4Addr::from_bits(lower as u32).into()
        } else {
            Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)).into()
        }
    }
}

fn words_of(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [0, address.to_bits().into()],
        IpAddr::V6(address) => [(address.to_bits() >> 64) as u64, address.to_bits() as u64],
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
        let (_, port) = self.tuple.responder();
        match self.tuple.protocol() {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both addresses of one family; few values, so that some flows have ends in common.
    fn flows() -> impl Strategy<Value = (FlowProtocol, (IpAddr, u16), (IpAddr, u16))> {
        let protocol = prop::sample::select(vec![FlowProtocol::Tcp, FlowProtocol::Udp]);
        let number = || prop::sample::select(vec![0, 1, u32::MAX]);
        let port = || prop::sample::select(vec![0, 1, u16::MAX]);
        let ends = [(number(), port()), (number(), port())];
        (protocol, 0..3, ends).prop_map(|(protocol, family, ends)| {
            let [initiator, responder] = ends.map(|(number, port)| {
                let v4 = Ipv4Addr::from_bits(number);
                let address = match family {
                    0 => v4.into(),
                    // The same bits in the other family: at the end, and on both halves.
                    1 => Ipv6Addr::from_bits(number.into()).into(),
                    _ => IpAddr::V6(Ipv6Addr::from_bits(
                        u128::from(number) << 64 | u128::MAX >> 64,
                    )),
                };
                (address, port)
            });
            (protocol, initiator, responder)
        })
    }

    proptest! {
        #[test]
        fn a_tuple_is_what_it_was_made_of_and_no_other(one in flows(), other in flows()) {
            let of = |(protocol, initiator, responder)| Tuple::between(protocol, initiator, responder);
            let tuple = of(one);
            prop_assert_eq!((tuple.protocol(), tuple.initiator(), tuple.responder()), one);
            prop_assert_eq!(tuple == of(other), one == other);
            let (protocol, initiator, responder) = one;
            prop_assert_eq!(tuple.reversed(), of((protocol, responder, initiator)));
        }
    }
}
