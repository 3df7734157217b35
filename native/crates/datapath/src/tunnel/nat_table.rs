//! Translation of the flows to a DNS resource's addresses (data-plane §5.5).
//!
//! Inside, a client speaks to a proxy address; outside, the gateway speaks to a real one. A *value* is the client's TCP or
//! UDP port or ICMP echo identifier: it is kept when it is free outside, else the next free one is taken, because two
//! proxy addresses may stand for one real address. One table belongs to one client.
//!
//! ```text
//! (protocol, value, proxy address)  ⇄  (protocol, chosen value, real address)
//! ```
//!
//! An outside that has expired is remembered until it is used again, so that late replies are told from strangers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use wardgate_packet::{IpPacket, Kind, TcpFlags};

/// RFC 5382 §5: a little over two hours and four minutes at least.
const TCP_LIFETIME: Duration = Duration::from_secs(7440);
/// Data-plane §5.5; RFC 4787 §4.3 demands two minutes for UDP.
const DATAGRAM_LIFETIME: Duration = Duration::from_secs(120);
const UNANSWERED_LIFETIME: Duration = Duration::from_secs(60);
const CLOSED_LIFETIME: Duration = Duration::from_secs(5);
/// Flows one client may have; ours. Beyond, new flows are refused until old ones expire.
const MAX_FLOWS: usize = 65_536;
/// Expired outsides remembered; ours.
const MAX_EXPIRED: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    /// `None` for packets that cannot be translated.
    pub fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Tcp => Some(Self::Tcp),
            Kind::Udp => Some(Self::Udp),
            Kind::EchoRequest | Kind::EchoReply => Some(Self::Icmp),
            Kind::IcmpError | Kind::IcmpOther | Kind::Other => None,
        }
    }
}

/// One side of a flow: the client's value and the far address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    pub protocol: Protocol,
    pub value: u16,
    pub address: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Belongs to this inside.
    Translated(Side),
    /// Belonged to a flow that has ended: drop it.
    Expired,
    /// No business of translation.
    Unknown,
}

/// Every outside value towards one real address is taken, or the client has too many flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

#[derive(Clone, Debug, Default)]
pub struct NatTable {
    flows: FxHashMap<Side, Flow>,
    insides: FxHashMap<Side, Side>,
    expired: Expired,
}

#[derive(Clone, Debug)]
struct Flow {
    outside: Side,
    last_outgoing: Instant,
    last_incoming: Option<Instant>,
    finished_outgoing: bool,
    finished_incoming: bool,
    reset: bool,
}

impl NatTable {
    /// The outside of a packet from the client; a new flow goes to `real`, an existing one stays where it is.
    pub fn outgoing(
        &mut self,
        inside: Side,
        real: IpAddr,
        flags: Option<TcpFlags>,
        now: Instant,
    ) -> Result<Side, Exhausted> {
        if self
            .flows
            .get(&inside)
            .is_some_and(|flow| flow.has_expired(inside.protocol, now))
        {
            self.expire(inside);
        }
        if let Some(flow) = self.flows.get_mut(&inside) {
            flow.last_outgoing = now;
            flow.reset |= flags.is_some_and(TcpFlags::rst);
            flow.finished_outgoing |= flags.is_some_and(TcpFlags::fin);
            return Ok(flow.outside);
        }
        let outside = self.free_outside(inside, real, now)?;
        self.expired.forget(&outside);
        self.insides.insert(outside, inside);
        self.flows.insert(
            inside,
            Flow {
                outside,
                last_outgoing: now,
                last_incoming: None,
                finished_outgoing: flags.is_some_and(TcpFlags::fin),
                finished_incoming: false,
                reset: flags.is_some_and(TcpFlags::rst),
            },
        );
        Ok(outside)
    }

    /// The inside of a packet from the network.
    pub fn incoming(&mut self, outside: Side, flags: Option<TcpFlags>, now: Instant) -> Incoming {
        let found = self.look_up(outside, now);
        if let Incoming::Translated(inside) = found
            && let Some(flow) = self.flows.get_mut(&inside)
        {
            flow.last_incoming = Some(now);
            flow.reset |= flags.is_some_and(TcpFlags::rst);
            flow.finished_incoming |= flags.is_some_and(TcpFlags::fin);
        }
        found
    }

    /// The inside that a packet quoted by an ICMP error had; errors do not keep a flow alive.
    pub fn look_up(&self, outside: Side, now: Instant) -> Incoming {
        let Some(inside) = self.insides.get(&outside) else {
            return if self.expired.contains(&outside) {
                Incoming::Expired
            } else {
                Incoming::Unknown
            };
        };
        match self.flows.get(inside) {
            Some(flow) if !flow.has_expired(inside.protocol, now) => Incoming::Translated(*inside),
            _ => Incoming::Expired,
        }
    }

    /// Move all flows whose time is over to the expired ones.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over: Vec<Side> = self
            .flows
            .iter()
            .filter(|(inside, flow)| flow.has_expired(inside.protocol, now))
            .map(|(inside, _)| *inside)
            .collect();
        for inside in over {
            self.expire(inside);
        }
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    fn expire(&mut self, inside: Side) {
        if let Some(flow) = self.flows.remove(&inside) {
            self.insides.remove(&flow.outside);
            self.expired.remember(flow.outside);
        }
    }

    /// The client's own value, else the next higher free one, wrapping to 1.
    fn free_outside(
        &mut self,
        inside: Side,
        real: IpAddr,
        now: Instant,
    ) -> Result<Side, Exhausted> {
        if self.flows.len() >= MAX_FLOWS {
            return Err(Exhausted);
        }
        let mut outside = Side {
            address: real,
            ..inside
        };
        for _ in 0..=u16::MAX {
            match self.insides.get(&outside).copied() {
                None => return Ok(outside),
                Some(other) => {
                    let flow = self.flows.get(&other);
                    if flow.is_none_or(|flow| flow.has_expired(other.protocol, now)) {
                        self.expire(other);
                        return Ok(outside);
                    }
                }
            }
            outside.value = outside.value.checked_add(1).unwrap_or(1);
        }
        Err(Exhausted)
    }
}

impl Flow {
    fn has_expired(&self, protocol: Protocol, now: Instant) -> bool {
        if self.reset {
            return true;
        }
        let Some(last_incoming) = self.last_incoming else {
            return now >= self.last_outgoing + UNANSWERED_LIFETIME;
        };
        let lifetime = if self.finished_outgoing && self.finished_incoming {
            CLOSED_LIFETIME
        } else if protocol == Protocol::Tcp {
            TCP_LIFETIME
        } else {
            DATAGRAM_LIFETIME
        };
        now >= self.last_outgoing.max(last_incoming) + lifetime
    }
}

/// A bounded set that forgets its oldest members.
#[derive(Clone, Debug, Default)]
struct Expired {
    members: FxHashSet<Side>,
    order: VecDeque<Side>,
}

impl Expired {
    fn contains(&self, outside: &Side) -> bool {
        self.members.contains(outside)
    }

    fn remember(&mut self, outside: Side) {
        if self.members.insert(outside) {
            self.order.push_back(outside);
        }
        if self.order.len() > MAX_EXPIRED
            && let Some(oldest) = self.order.pop_front()
        {
            self.members.remove(&oldest);
        }
    }

    /// The order keeps a stale entry, which at worst shortens the memory of the same outside later.
    fn forget(&mut self, outside: &Side) {
        self.members.remove(outside);
    }
}

/// The side that a packet from the client has inside.
pub fn inside_of<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> Option<Side> {
    Some(Side {
        protocol: Protocol::of(packet.kind())?,
        value: packet.source_value()?,
        address: packet.destination(),
    })
}

/// The side that a packet from the network has outside.
pub fn outside_of<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> Option<Side> {
    Some(Side {
        protocol: Protocol::of(packet.kind())?,
        value: packet.destination_value()?,
        address: packet.source(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::test_clock::an_instant;
    use proptest::prelude::*;

    fn inside(value: u16, last: u8) -> Side {
        Side {
            protocol: Protocol::Tcp,
            value,
            address: [100, 96, 0, last].into(),
        }
    }

    fn real() -> IpAddr {
        [10, 0, 0, 1].into()
    }

    const FIN: Option<TcpFlags> = Some(TcpFlags(0x11));
    const RST: Option<TcpFlags> = Some(TcpFlags(0x04));
    const ACK: Option<TcpFlags> = Some(TcpFlags(0x10));

    #[test]
    fn colliding_flows_get_different_outsides_and_return_to_their_own_insides() {
        let now = an_instant();
        let mut nat = NatTable::default();
        let first = nat.outgoing(inside(4000, 1), real(), ACK, now).unwrap();
        let second = nat.outgoing(inside(4000, 2), real(), ACK, now).unwrap();
        assert_eq!((first.value, second.value), (4000, 4001));
        assert_eq!(
            nat.incoming(first, ACK, now),
            Incoming::Translated(inside(4000, 1))
        );
        assert_eq!(
            nat.incoming(second, ACK, now),
            Incoming::Translated(inside(4000, 2))
        );
    }

    #[test]
    fn the_search_for_a_value_wraps_to_one() {
        let now = an_instant();
        let mut nat = NatTable::default();
        nat.outgoing(inside(65535, 1), real(), ACK, now).unwrap();
        let second = nat.outgoing(inside(65535, 2), real(), ACK, now).unwrap();
        assert_eq!(second.value, 1);
    }

    #[test]
    fn an_existing_flow_stays_when_the_real_address_changes() {
        let now = an_instant();
        let mut nat = NatTable::default();
        let first = nat.outgoing(inside(4000, 1), real(), ACK, now).unwrap();
        let moved = [10, 0, 0, 2].into();
        assert_eq!(nat.outgoing(inside(4000, 1), moved, ACK, now), Ok(first));
    }

    #[test]
    fn an_unanswered_flow_ends_after_a_minute_and_is_remembered_as_expired() {
        let now = an_instant();
        let mut nat = NatTable::default();
        let outside = nat.outgoing(inside(4000, 1), real(), ACK, now).unwrap();
        let just_before = now + UNANSWERED_LIFETIME - Duration::from_millis(1);
        assert_ne!(nat.look_up(outside, just_before), Incoming::Expired);
        let over = now + UNANSWERED_LIFETIME;
        assert_eq!(nat.incoming(outside, ACK, over), Incoming::Expired);
        nat.handle_timeout(over);
        assert_eq!(nat.len(), 0);
        assert_eq!(nat.incoming(outside, ACK, over), Incoming::Expired);
        let stranger = Side {
            value: 9,
            ..outside
        };
        assert_eq!(nat.incoming(stranger, ACK, over), Incoming::Unknown);
    }

    #[test]
    fn an_expired_outside_that_is_used_again_works_again() {
        let now = an_instant();
        let mut nat = NatTable::default();
        let outside = nat.outgoing(inside(4000, 1), real(), ACK, now).unwrap();
        let later = now + UNANSWERED_LIFETIME;
        nat.handle_timeout(later);
        let again = nat.outgoing(inside(4000, 2), real(), ACK, later).unwrap();
        assert_eq!(again, outside);
        assert_eq!(
            nat.incoming(again, ACK, later),
            Incoming::Translated(inside(4000, 2))
        );
    }

    #[test]
    fn a_flow_closed_by_both_ends_after_five_seconds_and_a_reset_one_at_once() {
        let now = an_instant();
        let mut nat = NatTable::default();
        let closed = nat.outgoing(inside(1, 1), real(), FIN, now).unwrap();
        nat.incoming(closed, FIN, now);
        let reset = nat.outgoing(inside(2, 1), real(), ACK, now).unwrap();
        nat.incoming(reset, RST, now);
        assert_eq!(nat.look_up(reset, now), Incoming::Expired);
        assert_ne!(nat.look_up(closed, now), Incoming::Expired);
        assert_eq!(
            nat.look_up(closed, now + CLOSED_LIFETIME),
            Incoming::Expired
        );
    }

    #[test]
    fn lifetimes_differ_between_tcp_and_udp() {
        let now = an_instant();
        let mut nat = NatTable::default();
        let tcp = nat.outgoing(inside(1, 1), real(), ACK, now).unwrap();
        let udp = Side {
            protocol: Protocol::Udp,
            ..inside(1, 1)
        };
        let udp = nat.outgoing(udp, real(), None, now).unwrap();
        nat.incoming(tcp, ACK, now);
        nat.incoming(udp, None, now);
        let later = now + DATAGRAM_LIFETIME;
        assert_eq!(nat.look_up(udp, later), Incoming::Expired);
        assert_ne!(nat.look_up(tcp, later), Incoming::Expired);
        assert_eq!(nat.look_up(tcp, now + TCP_LIFETIME), Incoming::Expired);
    }

    proptest! {
        #[test]
        fn what_goes_out_comes_back_to_where_it_came_from(
            flows in proptest::collection::vec((1u16..20, 1u8..4, 0u8..3), 1..60),
        ) {
            let now = an_instant();
            let mut nat = NatTable::default();
            for (value, proxy, real) in &flows {
                let inside = inside(*value, *proxy);
                let outside = nat.outgoing(inside, [10, 0, 0, *real].into(), ACK, now).unwrap();
                prop_assert_eq!(nat.incoming(outside, ACK, now), Incoming::Translated(inside));
            }
            for (value, proxy, _) in &flows {
                let inside = inside(*value, *proxy);
                let outside = nat.outgoing(inside, real(), ACK, now).unwrap();
                prop_assert_eq!(nat.look_up(outside, now), Incoming::Translated(inside));
            }
        }
    }
}
