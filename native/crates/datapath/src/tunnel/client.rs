//! What a client wants: routes, authorizations, and the packets that wait for one (data-plane §4.2, §4.3); and what other
//! clients may send it (§4.10).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use wardgate_packet::{IpPacket, Kind, Quoted};

use super::address_plan::{is_sentinel, is_tunnel_address};
use super::counters::Counter;
use super::device_grants::{Admission, DeviceGrants};
use super::engine::OwnAddresses;
use super::filter_set::{FilterSet, Traffic};
use super::flow_records::Basis;
use super::flow_set::FlowSet;
use super::links::PeerKey;
use super::packet_ring::PacketRing;
use super::prefix_map::PrefixMap;
use super::route_table::{ResourceId, Route, RouteTable};
use super::seeded_hash::SeededState;
use super::sightings::Sighting;
use super::steps;
use crate::command::{self, Table};
use crate::event::FlowRole;
use crate::prefix::Prefix;

const TABLES: [Table; 4] = [Table::Device, Table::Dns, Table::Cidr, Table::Internet];
/// Authorization requests are repeated by traffic only, and no more often than this.
const INTENT_SPACING: Duration = Duration::from_secs(2);
const PENDING_PACKETS: usize = 128;
const HELD_PACKETS: usize = 32;
/// Ours: 4,096 names of eight addresses under 32 patterns each.
const MAX_ROUTES: usize = 1 << 20;

/// What becomes of a packet from the TUN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Send(PeerKey),
    /// Nobody has authorised it: keep it, and ask if `ask`.
    Await {
        target: Target,
        table: Table,
        ask: bool,
    },
    /// Keep it until the gateway has confirmed the name's translation.
    Hold(HoldId),
    Prohibited,
    Drop(Counter),
}

/// What an authorization is asked for: a resource, of device pools one member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub resource: ResourceId,
    pub device: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(u64);

/// What becomes of a packet that came out of a peer's tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    Pass,
    Prohibited,
    Drop(Counter),
}

#[derive(Debug)]
pub struct Client {
    hash: SeededState,
    /// In the order in which they are asked.
    tables: [RouteTable; 4],
    /// How many routes lead to each resource.
    routed: BTreeMap<ResourceId, usize>,
    route_count: usize,
    authorizations: BTreeMap<ResourceId, BTreeMap<Option<IpAddr>, PeerKey>>,
    /// The policy authorization under which flows of a target are recorded.
    recorded_under: BTreeMap<Target, Arc<str>>,
    allowed: BTreeMap<PeerKey, Allowed>,
    pending: BTreeMap<Target, Pending>,
    holds: BTreeMap<HoldId, Hold>,
    held_addresses: FxHashMap<(PeerKey, IpAddr), HoldId>,
    last_hold: u64,
    /// Flows that we opened towards devices.
    device_flows: FlowSet,
    /// What devices may do here.
    grants: DeviceGrants,
    /// Tunnel addresses of peers.
    peers: FxHashMap<IpAddr, PeerKey>,
}

/// Sources that a peer may use towards us, by the authorization that allows them.
#[derive(Debug, Default)]
struct Allowed {
    by_target: BTreeMap<Target, BTreeSet<Prefix>>,
    /// How many targets allow each prefix.
    union: PrefixMap<usize>,
}

#[derive(Debug)]
struct Pending {
    asked_at: Option<Instant>,
    packets: PacketRing,
}

#[derive(Debug)]
struct Hold {
    peer: PeerKey,
    resource: ResourceId,
    proxies: Vec<IpAddr>,
    packets: PacketRing,
}

/// The client would have more than [`MAX_ROUTES`] routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRoutes;

impl Client {
    /// `hash` spreads what peers choose, and must not be known to them.
    pub fn new(hash: SeededState) -> Self {
        Self {
            hash,
            tables: Default::default(),
            routed: BTreeMap::new(),
            route_count: 0,
            authorizations: BTreeMap::new(),
            recorded_under: BTreeMap::new(),
            allowed: BTreeMap::new(),
            pending: BTreeMap::new(),
            holds: BTreeMap::new(),
            held_addresses: FxHashMap::default(),
            last_hold: 0,
            // This host's own programs open them.
            device_flows: FlowSet::new(hash, usize::MAX),
            grants: DeviceGrants::new(hash),
            peers: FxHashMap::default(),
        }
    }

    /// What other clients may do here.
    pub fn device_grants(&mut self) -> &mut DeviceGrants {
        &mut self.grants
    }

    pub fn granted(&self) -> &DeviceGrants {
        &self.grants
    }

    /// Whether nothing leads to the peer, and it may do nothing here.
    pub fn is_useless(&self, key: PeerKey) -> bool {
        !self.is_authorized(key) && !self.grants.has_grants(key)
    }

    pub fn set_peer_addresses(&mut self, key: PeerKey, addresses: [IpAddr; 2]) {
        self.peers.retain(|_, known| *known != key);
        for address in addresses {
            self.peers.insert(address, key);
        }
    }

    /// Forget everything about a peer; its resources become unauthorised. Returns how many packets are lost.
    pub fn forget_peer(&mut self, key: PeerKey) -> usize {
        self.peers.retain(|_, known| *known != key);
        self.allowed.remove(&key);
        self.grants.forget(key);
        self.authorizations.retain(|_, targets| {
            targets.retain(|_, peer| *peer != key);
            !targets.is_empty()
        });
        let authorizations = &self.authorizations;
        self.recorded_under.retain(|target, _| {
            let peers = authorizations.get(&target.resource);
            peers.is_some_and(|peers| peers.contains_key(&target.device))
        });
        self.drop_holds(|hold| hold.peer == key)
    }

    /// Record a target's flows under this policy authorization from now on.
    pub fn record_under(&mut self, target: &Target, authorization: Arc<str>) {
        self.recorded_under.insert(target.clone(), authorization);
    }

    /// What the flow of a packet is recorded under that we send to a peer.
    pub fn sent_basis_of(&self, seen: &Sighting) -> Option<Basis<'_>> {
        let (destination, _) = seen.tuple.responder();
        let (table, found) = TABLES
            .into_iter()
            .zip(&self.tables)
            .find_map(|(table, routes)| {
                let found = routes.best(destination, seen.traffic(), seen.at)?;
                Some((table, found))
            })?;
        let target = Target {
            resource: found.route.resource.clone(),
            device: (table == Table::Device).then_some(destination),
        };
        Some(Basis {
            authorization: self.recorded_under.get(&target)?,
            resource: &found.route.resource,
            role: FlowRole::Initiator,
            domain: None,
        })
    }

    /// What the flow of a packet is recorded under that another client has sent of its own accord.
    pub fn granted_basis_of(&self, seen: &Sighting) -> Option<Basis<'_>> {
        self.grants.basis_of(seen.peer, seen.traffic(), seen.at)
    }

    /// Whether our packet has nothing to be recorded under: it is DNS of the gateway's own, or in a flow that a device has opened.
    pub fn is_unrecorded<B: AsRef<[u8]>>(&self, packet: &IpPacket<B>, now: Instant) -> bool {
        self.peers
            .get(&packet.destination())
            .is_some_and(|key| !self.is_device(*key) || self.grants.is_answer(*key, packet, now))
    }

    /// Whether a peer's packet belongs to a flow that it, another client, has opened.
    pub fn is_opened_by<B: AsRef<[u8]>>(
        &self,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> bool {
        self.is_device(key) && !self.device_flows.is_answer(packet, now)
    }

    /// Whether our packet belongs to a flow that we have opened; all flows towards gateways are ours.
    pub fn is_opened_by_us<B: AsRef<[u8]>>(
        &self,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> bool {
        !self.is_device(key) || self.device_flows.is_opened(packet, now)
    }

    /// Replace all routes. Returns the resources that have none any more.
    pub fn set_routes(
        &mut self,
        routes: Vec<command::Route>,
    ) -> Result<Vec<ResourceId>, TooManyRoutes> {
        if routes.len() > MAX_ROUTES {
            return Err(TooManyRoutes);
        }
        self.tables = Default::default();
        self.routed.clear();
        self.route_count = 0;
        for route in routes {
            self.add_route(route);
        }
        let known = self.authorizations.keys();
        let pending = self.pending.keys().map(|target| &target.resource);
        let gone: BTreeSet<ResourceId> = known
            .chain(pending)
            .filter(|resource| !self.routed.contains_key(*resource))
            .cloned()
            .collect();
        Ok(gone.into_iter().collect())
    }

    /// Add routes, or replace filters and rank of known ones. What one costs does not depend on how many there are.
    pub fn add_routes(&mut self, routes: Vec<command::Route>) -> Result<(), TooManyRoutes> {
        let unknown = routes.iter().filter(|route| {
            !self.tables[position(route.table)].contains(route.prefix, &route.resource_id)
        });
        if self.route_count + unknown.count() > MAX_ROUTES {
            return Err(TooManyRoutes);
        }
        for route in routes {
            self.add_route(route);
        }
        Ok(())
    }

    /// Remove routes, and what their resources' peers may send from these prefixes. Returns the resources that have no
    /// route any more.
    pub fn remove_routes(&mut self, routes: Vec<command::RemovedRoute>) -> Vec<ResourceId> {
        let mut gone = Vec::new();
        for route in routes {
            steps::count(1);
            let resource = &*route.resource_id;
            if !self.tables[position(route.table)].remove(route.prefix, resource) {
                continue;
            }
            self.route_count -= 1;
            self.disallow_prefix(resource, route.prefix);
            if let Some((resource, count)) = self.routed.remove_entry(resource) {
                if count > 1 {
                    self.routed.insert(resource, count - 1);
                } else {
                    gone.push(resource);
                }
            }
        }
        gone
    }

    /// Let a target's packets go to a peer. Returns the packets that waited for it, and the peer that served the target
    /// before if nothing else is left of it.
    pub fn authorize(
        &mut self,
        target: Target,
        key: PeerKey,
        addresses: Vec<Prefix>,
    ) -> (VecDeque<Vec<u8>>, Option<PeerKey>) {
        let former = self
            .authorizations
            .entry(target.resource.clone())
            .or_default()
            .insert(target.device, key)
            .filter(|former| *former != key);
        if let Some(former) = former {
            self.disallow(former, |allowed| *allowed == target);
        }
        let allowed = self.allowed.entry(key).or_default();
        let sources = allowed.by_target.entry(target.clone()).or_default();
        for address in addresses {
            if sources.insert(address) {
                *allowed.union.entry(address) += 1;
            }
        }
        let waiting = self
            .pending
            .remove(&target)
            .map(|mut pending| pending.packets.drain())
            .unwrap_or_default();
        (waiting, former.filter(|former| self.is_useless(*former)))
    }

    /// Forget a resource's authorizations, pending and held packets. Returns the peers of which nothing is left, and how
    /// many packets are lost.
    pub fn deauthorize(&mut self, resource: &str) -> (Vec<PeerKey>, usize) {
        let peers: BTreeSet<PeerKey> = self
            .authorizations
            .remove(resource)
            .into_iter()
            .flat_map(BTreeMap::into_values)
            .collect();
        self.recorded_under
            .retain(|target, _| &*target.resource != resource);
        let mut lost = self.drop_holds(|hold| &*hold.resource == resource);
        self.pending.retain(|target, pending| {
            let stays = &*target.resource != resource;
            lost += if stays { 0 } else { pending.packets.len() };
            stays
        });
        let mut idle = Vec::new();
        for key in peers {
            self.disallow(key, |allowed| &*allowed.resource == resource);
            if self.is_useless(key) {
                idle.push(key);
            }
        }
        (idle, lost)
    }

    /// Forget the authorization of one device of a pool, and the packets that wait for it; returns the same.
    pub fn deauthorize_device(
        &mut self,
        resource: &str,
        device: IpAddr,
    ) -> (Option<PeerKey>, usize) {
        let target = Target {
            resource: resource.into(),
            device: Some(device),
        };
        let pending = self.pending.remove(&target);
        let lost = pending.map_or(0, |pending| pending.packets.len());
        let Some(targets) = self.authorizations.get_mut(resource) else {
            return (None, lost);
        };
        let former = targets.remove(&target.device);
        if targets.is_empty() {
            self.authorizations.remove(resource);
        }
        let Some(key) = former else {
            return (None, lost);
        };
        self.disallow(key, |allowed| *allowed == target);
        (self.is_useless(key).then_some(key), lost)
    }

    /// Whether any authorization leads to the peer.
    fn is_authorized(&self, key: PeerKey) -> bool {
        self.allowed.contains_key(&key)
    }

    /// Begin to hold packets to these addresses; nothing changes where they are held already.
    pub fn hold(&mut self, key: PeerKey, resource: &str, proxies: &[IpAddr]) {
        let known = proxies
            .iter()
            .find_map(|proxy| self.held_addresses.get(&(key, *proxy)).copied());
        let id = known.unwrap_or_else(|| {
            self.last_hold += 1;
            let id = HoldId(self.last_hold);
            self.holds.insert(
                id,
                Hold {
                    peer: key,
                    resource: resource.into(),
                    proxies: Vec::new(),
                    packets: PacketRing::new(HELD_PACKETS),
                },
            );
            id
        });
        let Some(hold) = self.holds.get_mut(&id) else {
            return;
        };
        for proxy in proxies {
            if self.held_addresses.insert((key, *proxy), id) != Some(id) {
                hold.proxies.push(*proxy);
            }
        }
    }

    /// End holding. Returns what was held.
    pub fn release(&mut self, key: PeerKey, proxies: &[IpAddr]) -> Vec<Vec<u8>> {
        let ids: BTreeSet<HoldId> = proxies
            .iter()
            .filter_map(|proxy| self.held_addresses.get(&(key, *proxy)).copied())
            .collect();
        ids.into_iter()
            .filter_map(|id| self.end_hold(id))
            .flat_map(|mut hold| hold.packets.drain())
            .collect()
    }

    /// Keep a packet for which [`Client::judge_outgoing`] said so. Returns how many were lost for it.
    pub fn keep_pending(&mut self, target: Target, packet: &[u8]) -> usize {
        self.pending
            .entry(target)
            .or_insert_with(Pending::new)
            .packets
            .push(packet)
    }

    pub fn keep_held(&mut self, id: HoldId, packet: &[u8]) -> usize {
        self.holds
            .get_mut(&id)
            .map_or(1, |hold| hold.packets.push(packet))
    }

    /// Judge a packet from the TUN device (data-plane §4.2).
    pub fn judge_outgoing<B: AsRef<[u8]>>(
        &mut self,
        packet: &IpPacket<B>,
        own: Option<&OwnAddresses>,
        now: Instant,
    ) -> Verdict {
        let destination = packet.destination();
        if destination.is_multicast() || is_sentinel(destination) {
            return Verdict::Drop(Counter::Unroutable);
        }
        let Some(own) = own.filter(|own| own.contains(packet.source())) else {
            return Verdict::Drop(Counter::NotTunnelSource);
        };
        if own.contains(destination) {
            return Verdict::Drop(Counter::Unroutable);
        }
        let peer = self.peers.get(&destination).copied();
        match packet.kind() {
            Kind::Tcp | Kind::Udp | Kind::EchoRequest | Kind::EchoReply => {}
            Kind::IcmpError => {
                let device = peer.filter(|key| self.is_device(*key));
                return match (device, packet.quoted()) {
                    (Some(key), Some(quoted)) if self.concerns(key, &quoted, now) => {
                        Verdict::Send(key)
                    }
                    _ => Verdict::Drop(Counter::UnsupportedProtocol),
                };
            }
            Kind::IcmpOther | Kind::Other => return Verdict::Drop(Counter::UnsupportedProtocol),
        }
        if let Some(key) = peer
            && (!self.is_device(key) || self.grants.admits_answer(key, packet, now))
        {
            return Verdict::Send(key);
        }
        let traffic = Traffic::toward(packet);
        for (table, routes) in TABLES.into_iter().zip(&self.tables) {
            if table == Table::Internet && is_tunnel_address(destination) {
                break;
            }
            let Some(found) = routes.best(destination, traffic, now) else {
                continue;
            };
            if !found.permitted {
                return Verdict::Prohibited;
            }
            let target = Target {
                resource: found.route.resource.clone(),
                device: (table == Table::Device).then_some(destination),
            };
            let verdict = self.judge_target(target, table, destination, now);
            if table == Table::Device && matches!(verdict, Verdict::Send(_)) {
                // Only those that answer are bounded.
                let _ = self.device_flows.open(packet, now);
            }
            return verdict;
        }
        Verdict::Drop(Counter::Unroutable)
    }

    /// Judge a packet that came out of a peer's tunnel: it must be for us. A gateway may send from its own tunnel addresses
    /// and what it was authorised for, another client from its own addresses what answers us or what it is granted.
    pub fn judge_incoming<B: AsRef<[u8]>>(
        &mut self,
        key: PeerKey,
        packet: &IpPacket<B>,
        own: Option<&OwnAddresses>,
        now: Instant,
    ) -> Incoming {
        let source = packet.source();
        let is_its_own = self.peers.get(&source) == Some(&key);
        let is_device = self.is_device(key);
        let is_allowed = || {
            self.allowed
                .get(&key)
                .is_some_and(|allowed| allowed.union.covers(source))
        };
        if !is_its_own && (is_device || !is_allowed()) {
            return Incoming::Drop(Counter::SpoofedSource);
        }
        // A host that forwards would pass on what a hostile peer addresses to its neighbours.
        if !own.is_some_and(|own| own.contains(packet.destination())) {
            return Incoming::Drop(Counter::Unroutable);
        }
        if is_device {
            self.judge_device(key, packet, now)
        } else {
            Incoming::Pass
        }
    }

    /// Judge a packet from another client's own address to ours (data-plane §4.10).
    fn judge_device<B: AsRef<[u8]>>(
        &mut self,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> Incoming {
        if packet.kind() == Kind::IcmpError {
            let quoted = packet.quoted();
            return match quoted {
                Some(quoted) if self.concerns(key, &quoted, now) => Incoming::Pass,
                _ => Incoming::Drop(Counter::ForgedIcmpErrors),
            };
        }
        if self.is_authorized(key) && self.device_flows.answers(packet, now) {
            return Incoming::Pass;
        }
        match self.grants.admit(key, packet, now) {
            Admission::Admitted => Incoming::Pass,
            Admission::Prohibited => Incoming::Prohibited,
            Admission::Exhausted => Incoming::Drop(Counter::FlowsExhausted),
        }
    }

    /// Whether an ICMP error between this device and us is about a flow between the two.
    fn concerns(&self, key: PeerKey, quoted: &Quoted, now: Instant) -> bool {
        let is_its_own = |address| self.peers.get(&address) == Some(&key);
        if !is_its_own(quoted.source) && !is_its_own(quoted.destination) {
            return false;
        }
        (self.is_authorized(key) && self.device_flows.concerns(quoted, now))
            || self.grants.concerns(key, quoted, now)
    }

    /// What an address and protocol lead to.
    pub fn target_at(&self, address: IpAddr, traffic: Traffic, now: Instant) -> Option<Target> {
        let found = TABLES
            .into_iter()
            .zip(&self.tables)
            .find_map(|(table, routes)| {
                let found = routes.best(address, traffic, now)?;
                Some((table, found.route.resource.clone()))
            });
        found.map(|(table, resource)| Target {
            resource,
            device: (table == Table::Device).then_some(address),
        })
    }

    /// Forget what is known of peers and wishes. Routes stay, and so do the flows that we have opened to devices: they may be
    /// answered as soon as there is access again, whoever sends first.
    pub fn reset(&mut self) {
        let tables = std::mem::take(&mut self.tables);
        let routed = std::mem::take(&mut self.routed);
        let none = FlowSet::new(self.hash, usize::MAX);
        let device_flows = std::mem::replace(&mut self.device_flows, none);
        *self = Self {
            tables,
            routed,
            device_flows,
            route_count: self.route_count,
            last_hold: self.last_hold,
            ..Self::new(self.hash)
        };
    }

    fn add_route(&mut self, route: command::Route) {
        steps::count(1);
        let resource = match self.routed.get_key_value(route.resource_id.as_str()) {
            Some((known, _)) => known.clone(),
            None => ResourceId::from(route.resource_id),
        };
        let is_new = self.tables[position(route.table)].insert(
            route.prefix,
            Route {
                resource: resource.clone(),
                filters: Arc::new(FilterSet::new(route.filters)),
                rank: route.rank,
                deadline: None,
                record_under: None,
            },
        );
        if is_new {
            self.route_count += 1;
            *self.routed.entry(resource).or_default() += 1;
        }
    }

    fn judge_target(
        &mut self,
        target: Target,
        table: Table,
        destination: IpAddr,
        now: Instant,
    ) -> Verdict {
        let authorized = self
            .authorizations
            .get(&target.resource)
            .and_then(|peers| peers.get(&target.device));
        if let Some(key) = authorized {
            if table == Table::Dns
                && let Some(id) = self.held_addresses.get(&(*key, destination))
            {
                return Verdict::Hold(*id);
            }
            return Verdict::Send(*key);
        }
        let pending = self
            .pending
            .entry(target.clone())
            .or_insert_with(Pending::new);
        let ask = pending
            .asked_at
            .is_none_or(|at| now.saturating_duration_since(at) >= INTENT_SPACING);
        if ask {
            pending.asked_at = Some(now);
        }
        Verdict::Await { target, table, ask }
    }

    /// Whether the peer is another client: no resource but pools leads to it. A device is never reached, and never heard,
    /// merely because it is a peer.
    fn is_device(&self, key: PeerKey) -> bool {
        self.allowed.get(&key).is_none_or(|allowed| {
            allowed
                .by_target
                .keys()
                .all(|target| target.device.is_some())
        })
    }

    fn disallow(&mut self, key: PeerKey, matches: impl Fn(&Target) -> bool) {
        let Some(allowed) = self.allowed.get_mut(&key) else {
            return;
        };
        let union = &mut allowed.union;
        allowed.by_target.retain(|target, sources| {
            let stays = !matches(target);
            if !stays {
                for source in &*sources {
                    release_source(union, *source);
                }
            }
            stays
        });
        if allowed.by_target.is_empty() {
            self.allowed.remove(&key);
        }
    }

    /// A resource's peer may not send from this prefix any more, unless something else allows it.
    fn disallow_prefix(&mut self, resource: &str, prefix: Prefix) {
        let peer = self
            .authorizations
            .get_key_value(resource)
            .and_then(|(resource, peers)| Some((resource, *peers.get(&None)?)));
        let Some((resource, key)) = peer else {
            return;
        };
        let target = Target {
            resource: resource.clone(),
            device: None,
        };
        if let Some(allowed) = self.allowed.get_mut(&key)
            && let Some(sources) = allowed.by_target.get_mut(&target)
            && sources.remove(&prefix)
        {
            release_source(&mut allowed.union, prefix);
        }
    }

    fn drop_holds(&mut self, matches: impl Fn(&Hold) -> bool) -> usize {
        let ids: BTreeSet<HoldId> = self
            .holds
            .iter()
            .filter(|(_, hold)| matches(hold))
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter()
            .filter_map(|id| self.end_hold(id))
            .map(|hold| hold.packets.len())
            .sum()
    }

    fn end_hold(&mut self, id: HoldId) -> Option<Hold> {
        let hold = self.holds.remove(&id)?;
        for proxy in &hold.proxies {
            steps::count(1);
            let held = (hold.peer, *proxy);
            if self.held_addresses.get(&held) == Some(&id) {
                self.held_addresses.remove(&held);
            }
        }
        Some(hold)
    }
}

fn release_source(union: &mut PrefixMap<usize>, source: Prefix) {
    if let Some(count) = union.get_mut(source) {
        *count -= 1;
        if *count == 0 {
            union.remove(source);
        }
    }
}

impl Pending {
    fn new() -> Self {
        Self {
            asked_at: None,
            packets: PacketRing::new(PENDING_PACKETS),
        }
    }
}

fn position(table: Table) -> usize {
    match table {
        Table::Device => 0,
        Table::Dns => 1,
        Table::Cidr => 2,
        Table::Internet => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn routes_are_bounded_and_refused_whole() {
        let mut client = Client::new(SeededState::new([1, 2]));
        let routes = |numbers: std::ops::Range<u32>| -> Vec<command::Route> {
            let route = |number| command::Route {
                prefix: Prefix::host(Ipv4Addr::from_bits(number).into()),
                resource_id: "r".to_owned(),
                table: Table::Dns,
                filters: Vec::new(),
                rank: 0,
            };
            numbers.map(route).collect()
        };
        let most = MAX_ROUTES as u32;
        assert!(client.set_routes(routes(0..most + 1)).is_err());
        assert_eq!(client.route_count, 0);
        client.set_routes(routes(0..most - 2)).unwrap();
        assert_eq!(
            client.add_routes(routes(most - 3..most + 1)),
            Err(TooManyRoutes)
        );
        assert_eq!(client.route_count, MAX_ROUTES - 2);
        client.add_routes(routes(most - 4..most)).unwrap();
        client.add_routes(routes(most - 4..most)).unwrap();
        assert_eq!(client.route_count, MAX_ROUTES);
        let removed = routes(0..1).into_iter().map(|route| command::RemovedRoute {
            prefix: route.prefix,
            resource_id: route.resource_id,
            table: route.table,
        });
        assert!(client.remove_routes(removed.collect()).is_empty());
        client.add_routes(routes(0..1)).unwrap();
        assert_eq!(
            client.add_routes(routes(most..most + 1)),
            Err(TooManyRoutes)
        );
    }
}
