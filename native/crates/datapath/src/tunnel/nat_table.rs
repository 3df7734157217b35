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
//!
//! What one packet costs does not grow with the table: a free value is found among runs of used ones, and ended flows are
//! met in the order of their deadlines, a few at a time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wardgate_packet::{IpPacket, Kind, TcpFlags};

use super::seeded_hash::SeededState;
use super::steps;
use super::used_values::UsedValues;

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
/// Ended flows that a packet for a full table clears away before it is refused.
const SWEPT_FOR_A_PACKET: usize = 8;

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    pub protocol: Protocol,
    pub value: u16,
    pub address: IpAddr,
}

/// In as few words as possible: each packet of a translated flow is looked up.
impl Hash for Side {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let port = u64::from(self.value) << 8 | self.protocol as u64;
        match self.address {
            IpAddr::V4(v4) => state.write_u64(u64::from(v4.to_bits()) << 32 | port),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                state.write_u64(port | 1 << 31);
                state.write_u64((bits >> 64) as u64);
                state.write_u64(bits as u64);
            }
        }
    }
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

#[derive(Clone, Debug)]
pub struct NatTable {
    hash: SeededState,
    flows: HashMap<Side, Flow, SeededState>,
    insides: HashMap<Side, Side, SeededState>,
    used: UsedValues,
    /// How many flows lead to each proxy address that any leads to.
    flows_to: HashMap<IpAddr, usize, SeededState>,
    /// One entry per flow; may be earlier than the flow's end, never later.
    due: BTreeSet<(Instant, Side)>,
    expired: Expired,
}

#[derive(Clone, Debug)]
struct Flow {
    outside: Side,
    last_outgoing: Instant,
    last_incoming: Option<Instant>,
    finished_outgoing: bool,
    finished_incoming: bool,
    reset_at: Option<Instant>,
    due_at: Instant,
}

impl NatTable {
    pub fn new(hash: SeededState) -> Self {
        Self {
            hash,
            flows: HashMap::with_hasher(hash),
            insides: HashMap::with_hasher(hash),
            used: UsedValues::default(),
            flows_to: HashMap::with_hasher(hash),
            due: BTreeSet::new(),
            expired: Expired::new(hash),
        }
    }

    /// Forget everything, ended flows too.
    pub fn clear(&mut self) {
        *self = Self::new(self.hash);
    }

    /// The outside of a packet from the client; a new flow goes to `real`, an existing one stays where it is.
    pub fn outgoing(
        &mut self,
        inside: Side,
        real: IpAddr,
        flags: Option<TcpFlags>,
        now: Instant,
    ) -> Result<Side, Exhausted> {
        match self.flows.get_mut(&inside) {
            Some(flow) if !flow.has_expired(inside.protocol, now) => {
                flow.last_outgoing = now;
                let outside = flow.outside;
                if flags.is_some_and(ends_flow) {
                    flow.finished_outgoing |= flags.is_some_and(TcpFlags::fin);
                    flow.note_reset(flags, now);
                    self.schedule(inside);
                }
                return Ok(outside);
            }
            Some(_) => self.expire(inside),
            None => {}
        }
        let outside = self.free_outside(inside, real, now)?;
        let mut flow = Flow {
            outside,
            last_outgoing: now,
            last_incoming: None,
            finished_outgoing: flags.is_some_and(TcpFlags::fin),
            finished_incoming: false,
            reset_at: None,
            due_at: now,
        };
        flow.note_reset(flags, now);
        self.insert(inside, flow);
        Ok(outside)
    }

    fn insert(&mut self, inside: Side, mut flow: Flow) {
        self.expired.forget(&flow.outside);
        self.used.take(flow.outside);
        self.insides.insert(flow.outside, inside);
        *self.flows_to.entry(inside.address).or_default() += 1;
        flow.due_at = flow.expires_at(inside.protocol);
        self.due.insert((flow.due_at, inside));
        self.flows.insert(inside, flow);
    }

    /// Flows that have not ended: inside, outside, and whether anything came back; in a fixed order.
    pub fn live_flows(&self, now: Instant) -> Vec<(Side, Side, bool)> {
        let live = self
            .flows
            .iter()
            .filter(|(inside, flow)| !flow.has_expired(inside.protocol, now));
        let mut found: Vec<_> = live
            .map(|(inside, flow)| (*inside, flow.outside, flow.last_incoming.is_some()))
            .collect();
        found.sort_unstable();
        found
    }

    /// Go on with a flow of another table, unless either side is in use here.
    pub fn revive(&mut self, inside: Side, outside: Side, is_answered: bool, now: Instant) {
        if self.flows.len() >= MAX_FLOWS
            || self.flows.contains_key(&inside)
            || self.used.free_from(outside) != Some(outside)
        {
            return;
        }
        let flow = Flow {
            outside,
            last_outgoing: now,
            last_incoming: is_answered.then_some(now),
            finished_outgoing: false,
            finished_incoming: false,
            reset_at: None,
            due_at: now,
        };
        self.insert(inside, flow);
    }

    /// The inside of a packet from the network.
    pub fn incoming(&mut self, outside: Side, flags: Option<TcpFlags>, now: Instant) -> Incoming {
        let found = self.look_up(outside, now);
        if let Incoming::Translated(inside) = found
            && let Some(flow) = self.flows.get_mut(&inside)
        {
            flow.last_incoming = Some(now);
            if flags.is_some_and(ends_flow) {
                flow.finished_incoming |= flags.is_some_and(TcpFlags::fin);
                flow.note_reset(flags, now);
                self.schedule(inside);
            }
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

    /// Whether a flow leads to this proxy address. One that has ended counts until it is cleared away.
    pub fn leads_to(&self, proxy: IpAddr) -> bool {
        self.flows_to.contains_key(&proxy)
    }

    /// When a flow may have ended; earlier than it has, where packets went on.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due_at, _)| *due_at)
    }

    /// Move flows whose time is over to the expired ones, but look at no more than `budget`. Returns at how many it looked.
    pub fn handle_timeout(&mut self, now: Instant, budget: usize) -> usize {
        let mut looked_at = 0;
        while looked_at < budget
            && let Some((due_at, inside)) = self.due.first().copied()
            && due_at <= now
        {
            steps::count(1);
            looked_at += 1;
            match self.flows.get_mut(&inside) {
                Some(flow) if !flow.has_expired(inside.protocol, now) => {
                    self.due.pop_first();
                    flow.due_at = flow.expires_at(inside.protocol);
                    self.due.insert((flow.due_at, inside));
                }
                _ => self.expire(inside),
            }
        }
        looked_at
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Bring an entry forward that ends sooner than it was to.
    fn schedule(&mut self, inside: Side) {
        if let Some(flow) = self.flows.get_mut(&inside) {
            let expires_at = flow.expires_at(inside.protocol);
            if expires_at < flow.due_at {
                self.due.remove(&(flow.due_at, inside));
                self.due.insert((expires_at, inside));
                flow.due_at = expires_at;
            }
        }
    }

    fn expire(&mut self, inside: Side) {
        if let Some(flow) = self.flows.remove(&inside) {
            self.due.remove(&(flow.due_at, inside));
            self.insides.remove(&flow.outside);
            if let Entry::Occupied(mut flows) = self.flows_to.entry(inside.address) {
                *flows.get_mut() -= 1;
                if *flows.get() == 0 {
                    flows.remove();
                }
            }
            self.used.release(flow.outside);
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
            self.handle_timeout(now, SWEPT_FOR_A_PACKET);
        }
        if self.flows.len() >= MAX_FLOWS {
            return Err(Exhausted);
        }
        let wanted = Side {
            address: real,
            ..inside
        };
        if let Some(other) = self.insides.get(&wanted).copied() {
            let flow = self.flows.get(&other);
            if flow.is_none_or(|flow| flow.has_expired(other.protocol, now)) {
                self.expire(other);
            }
        }
        self.used.free_from(wanted).ok_or(Exhausted)
    }
}

pub fn ends_flow(flags: TcpFlags) -> bool {
    flags.fin() || flags.rst()
}

impl Flow {
    fn note_reset(&mut self, flags: Option<TcpFlags>, now: Instant) {
        if flags.is_some_and(TcpFlags::rst) {
            self.reset_at.get_or_insert(now);
        }
    }

    fn expires_at(&self, protocol: Protocol) -> Instant {
        if let Some(reset_at) = self.reset_at {
            return reset_at;
        }
        let Some(last_incoming) = self.last_incoming else {
            return self.last_outgoing + UNANSWERED_LIFETIME;
        };
        let lifetime = if self.finished_outgoing && self.finished_incoming {
            CLOSED_LIFETIME
        } else if protocol == Protocol::Tcp {
            TCP_LIFETIME
        } else {
            DATAGRAM_LIFETIME
        };
        self.last_outgoing.max(last_incoming) + lifetime
    }

    fn has_expired(&self, protocol: Protocol, now: Instant) -> bool {
        now >= self.expires_at(protocol)
    }
}

/// A bounded set that forgets its oldest members.
#[derive(Clone, Debug)]
struct Expired {
    members: HashSet<Side, SeededState>,
    order: VecDeque<Side>,
}

impl Expired {
    fn new(hash: SeededState) -> Self {
        Self {
            members: HashSet::with_hasher(hash),
            order: VecDeque::new(),
        }
    }

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

    fn table() -> NatTable {
        NatTable::new(SeededState::new([
            0x5ca1_ab1e_0ddb_a115,
            0xdead_10cc_cafe_f00d,
        ]))
    }

    const FIN: Option<TcpFlags> = Some(TcpFlags(0x11));
    const RST: Option<TcpFlags> = Some(TcpFlags(0x04));
    const ACK: Option<TcpFlags> = Some(TcpFlags(0x10));

    #[test]
    fn colliding_flows_get_different_outsides_and_return_to_their_own_insides() {
        let now = an_instant();
        let mut nat = table();
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
    fn a_table_tells_which_addresses_flows_lead_to_until_the_last_is_cleared_away() {
        let now = an_instant();
        let mut nat = table();
        let leads = |nat: &NatTable| [1, 2, 3].map(|last| nat.leads_to([100, 96, 0, last].into()));
        for (value, last) in [(4000, 1), (4001, 1), (4000, 2)] {
            nat.outgoing(inside(value, last), real(), ACK, now).unwrap();
        }
        nat.outgoing(inside(4000, 1), real(), ACK, now).unwrap();
        nat.outgoing(inside(4000, 1), real(), RST, now).unwrap();
        assert_eq!(leads(&nat), [true, true, false]);
        nat.handle_timeout(now, usize::MAX);
        assert_eq!(leads(&nat), [true, true, false]);
        nat.handle_timeout(now + UNANSWERED_LIFETIME, usize::MAX);
        assert_eq!(leads(&nat), [false, false, false]);
    }

    #[test]
    fn the_search_for_a_value_wraps_to_one() {
        let now = an_instant();
        let mut nat = table();
        nat.outgoing(inside(65535, 1), real(), ACK, now).unwrap();
        let second = nat.outgoing(inside(65535, 2), real(), ACK, now).unwrap();
        assert_eq!(second.value, 1);
    }

    #[test]
    fn an_existing_flow_stays_when_the_real_address_changes() {
        let now = an_instant();
        let mut nat = table();
        let first = nat.outgoing(inside(4000, 1), real(), ACK, now).unwrap();
        let moved = [10, 0, 0, 2].into();
        assert_eq!(nat.outgoing(inside(4000, 1), moved, ACK, now), Ok(first));
    }

    #[test]
    fn an_unanswered_flow_ends_after_a_minute_and_is_remembered_as_expired() {
        let now = an_instant();
        let mut nat = table();
        let outside = nat.outgoing(inside(4000, 1), real(), ACK, now).unwrap();
        let just_before = now + UNANSWERED_LIFETIME - Duration::from_millis(1);
        assert_ne!(nat.look_up(outside, just_before), Incoming::Expired);
        let over = now + UNANSWERED_LIFETIME;
        assert_eq!(nat.incoming(outside, ACK, over), Incoming::Expired);
        nat.handle_timeout(over, usize::MAX);
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
        let mut nat = table();
        let outside = nat.outgoing(inside(4000, 1), real(), ACK, now).unwrap();
        let later = now + UNANSWERED_LIFETIME;
        nat.handle_timeout(later, usize::MAX);
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
        let mut nat = table();
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
    fn one_fin_closes_no_flow() {
        let now = an_instant();
        for by_client in [true, false] {
            let mut nat = table();
            let flags = |is_closing| if is_closing { FIN } else { ACK };
            let outside = nat
                .outgoing(inside(1, 1), real(), flags(by_client), now)
                .unwrap();
            nat.incoming(outside, flags(!by_client), now);
            let later = now + TCP_LIFETIME - Duration::from_secs(1);
            nat.handle_timeout(later, usize::MAX);
            assert_eq!(
                nat.look_up(outside, later),
                Incoming::Translated(inside(1, 1))
            );
        }
    }

    #[test]
    fn a_flow_lives_from_its_latest_packet_in_whichever_direction() {
        let start = an_instant();
        let later = start + DATAGRAM_LIFETIME / 2;
        let over = later + DATAGRAM_LIFETIME;
        let just_before = over - Duration::from_millis(1);
        let udp = Side {
            protocol: Protocol::Udp,
            ..inside(1, 1)
        };
        for latest_is_incoming in [true, false] {
            let mut nat = table();
            let outside = nat.outgoing(udp, real(), None, start).unwrap();
            nat.incoming(outside, None, start);
            if latest_is_incoming {
                nat.incoming(outside, None, later);
            } else {
                nat.outgoing(udp, real(), None, later).unwrap();
            }
            nat.handle_timeout(just_before, usize::MAX);
            assert_eq!(nat.look_up(outside, just_before), Incoming::Translated(udp));
            assert_eq!(nat.look_up(outside, over), Incoming::Expired);
        }
    }

    #[test]
    fn an_error_keeps_no_flow_alive() {
        let now = an_instant();
        let mut nat = table();
        let outside = nat.outgoing(inside(1, 1), real(), ACK, now).unwrap();
        nat.look_up(outside, now + UNANSWERED_LIFETIME / 2);
        let over = now + UNANSWERED_LIFETIME;
        assert_eq!(nat.look_up(outside, over), Incoming::Expired);
    }

    #[test]
    fn ended_flows_are_met_in_the_order_of_their_ends_and_no_more_than_asked() {
        let now = an_instant();
        let mut nat = table();
        for value in 1..=10 {
            let opened_at = now + Duration::from_secs(value.into());
            nat.outgoing(inside(value, 1), real(), ACK, opened_at)
                .unwrap();
        }
        assert_eq!(
            nat.poll_timeout(),
            Some(now + Duration::from_secs(1) + UNANSWERED_LIFETIME)
        );
        let over = now + Duration::from_secs(7) + UNANSWERED_LIFETIME;
        assert_eq!(nat.handle_timeout(over, 4), 4);
        assert_eq!(nat.len(), 6);
        assert_eq!(nat.handle_timeout(over, 100), 3);
        assert_eq!(nat.len(), 3);
    }

    #[test]
    fn a_flow_that_went_on_is_looked_at_once_a_lifetime() {
        let now = an_instant();
        let mut nat = table();
        let outside = nat.outgoing(inside(1, 1), real(), ACK, now).unwrap();
        nat.incoming(outside, ACK, now);
        assert_eq!(nat.handle_timeout(now + UNANSWERED_LIFETIME, 9), 1);
        assert_eq!(nat.poll_timeout(), Some(now + TCP_LIFETIME));
    }

    #[test]
    fn closing_brings_the_end_forward() {
        let now = an_instant();
        let mut nat = table();
        let closed = nat.outgoing(inside(1, 1), real(), FIN, now).unwrap();
        nat.incoming(closed, FIN, now);
        assert_eq!(nat.poll_timeout(), Some(now + CLOSED_LIFETIME));
        let reset = nat.outgoing(inside(2, 1), real(), ACK, now).unwrap();
        nat.incoming(reset, RST, now);
        assert_eq!(nat.poll_timeout(), Some(now));
        nat.handle_timeout(now, 9);
        assert_eq!(nat.len(), 1);
    }

    #[test]
    fn a_full_table_refuses_new_flows_for_little_work_and_goes_on_with_the_old() {
        let now = an_instant();
        let mut nat = table();
        for value in 0..=u16::MAX {
            nat.outgoing(inside(value, 1), real(), ACK, now).unwrap();
        }
        let (refused, cost) = steps::of(|| nat.outgoing(inside(9, 2), real(), ACK, now));
        assert_eq!(refused, Err(Exhausted));
        assert!(cost <= 1, "{cost}");
        assert!(nat.outgoing(inside(9, 1), real(), ACK, now).is_ok());
        let over = now + UNANSWERED_LIFETIME;
        let (admitted, cost) = steps::of(|| nat.outgoing(inside(9, 2), real(), ACK, over));
        assert!(admitted.is_ok());
        assert!(cost <= 4 * SWEPT_FOR_A_PACKET, "{cost}");
    }

    #[test]
    fn every_value_towards_one_address_can_be_used_and_the_next_is_refused_for_little_work() {
        let now = an_instant();
        let mut nat = table();
        for value in 1..u16::MAX {
            nat.outgoing(inside(value, 1), real(), ACK, now).unwrap();
        }
        let last = nat.outgoing(inside(5, 2), real(), ACK, now).unwrap();
        assert_eq!(last.value, u16::MAX);
        let (refused, cost) = steps::of(|| nat.outgoing(inside(6, 2), real(), ACK, now));
        assert_eq!(refused, Err(Exhausted));
        assert!(cost <= 4, "{cost}");
        let elsewhere = [10, 0, 0, 2].into();
        assert_eq!(
            nat.outgoing(inside(6, 2), elsewhere, ACK, now)
                .unwrap()
                .value,
            6
        );
    }

    #[test]
    fn lifetimes_differ_between_tcp_and_udp() {
        let now = an_instant();
        let mut nat = table();
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
            let mut nat = table();
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
