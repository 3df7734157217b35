//! What a gateway admits: grants, translations and the checks between client and network (data-plane §5.2–5.6).
//!
//! A client's state outlives its connection, because a client that kept its own state may come back; it ends with the
//! last grant. Deadlines are checked with each packet, so that nothing passes between a deadline and the tick after it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use wardgate_packet::{IpPacket, Kind};

use super::address_plan::{is_proxy_address, is_public, is_tunnel_address};
use super::counters::Counter;
use super::engine::OwnAddresses;
use super::filter_set::{FilterSet, Traffic};
use super::flow_records::Basis;
use super::links::PeerKey;
use super::nat_table::{Incoming, NatTable, Side, ends_flow, inside_of, outside_of};
use super::route_table::{ResourceId, Route, RouteTable};
use super::seeded_hash::SeededState;
use super::sightings::Sighting;
use super::steps;
use super::translations::{GrantSerial, Pair, Replaced, Translations};
use crate::command::{GrantKind, TranslatedFlow};
use crate::event::FlowRole;
use crate::prefix::Prefix;

/// How often a client's ended flows are cleared away; they count as ended before.
const NAT_TICK: Duration = Duration::from_secs(1);
/// How long a flow of a former process waits for its client; ours, as long as an unanswered one lives.
const INHERITED_LIFETIME: Duration = Duration::from_secs(60);
/// How many flows and grants are looked at in one call; the rest follows in the next, which is due at once.
const AT_ONCE: usize = 256;

/// What becomes of a packet from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TowardNetwork {
    Pass,
    /// Send it on to this destination with this source port or echo identifier.
    Translate(Side),
    Prohibited(Counter),
    Unreachable,
    Drop(Counter),
}

/// What becomes of a packet from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TowardClient {
    Pass(PeerKey),
    /// Let it come from this proxy address, to this port or echo identifier.
    Translate(PeerKey, Side),
    /// An ICMP error whose quote is to be translated the same way.
    TranslateError(PeerKey, Side),
    Drop(Counter),
}

#[derive(Clone, Debug)]
pub struct Grant {
    pub kind: GrantKind,
    pub networks: Vec<Prefix>,
    pub filters: Arc<FilterSet>,
    pub deadline: Option<Instant>,
    pub rank: i64,
    /// The policy authorization under which its flows are recorded.
    pub record_under: Option<Arc<str>>,
}

/// Why a name was not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTranslated {
    /// The resource is not granted to the client, or no longer.
    NotGranted,
    Invalid(&'static str),
}

#[derive(Debug)]
pub struct Gateway {
    hash: SeededState,
    /// Boxed, as grants are: the nodes of a tree have room for neighbours that are not there.
    clients: BTreeMap<PeerKey, Box<Client>>,
    by_address: FxHashMap<IpAddr, PeerKey>,
    deadlines: BTreeSet<(Instant, PeerKey, ResourceId)>,
    /// When to look at which client's flows: one entry per client that has any.
    sweeps: BTreeSet<(Instant, PeerKey)>,
    inherited: Inherited,
}

/// Flows that a process before this one has translated, by client and proxy address, until their name is translated again.
#[derive(Debug, Default)]
struct Inherited {
    flows: BTreeMap<(String, IpAddr), Vec<TranslatedFlow>>,
    until: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    grants: BTreeMap<ResourceId, Box<HeldGrant>>,
    last_serial: u64,
    translations: Translations,
    nat: NatTable,
    /// Its entry in the gateway's sweeps.
    sweep_at: Option<Instant>,
    /// No sweep before this.
    swept_until: Option<Instant>,
    /// The granted networks; names are looked up in the translations.
    routes: RouteTable,
    internet: Vec<Route>,
}

#[derive(Debug)]
struct HeldGrant {
    grant: Grant,
    /// Stays when the grant is renewed, but not when it ends and comes again.
    serial: GrantSerial,
}

impl Gateway {
    /// `hash` spreads what clients choose, and must not be known to them.
    pub fn new(hash: SeededState) -> Self {
        Self {
            hash,
            clients: BTreeMap::new(),
            by_address: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            sweeps: BTreeSet::new(),
            inherited: Inherited::default(),
        }
    }

    /// Every translated flow, with whether it was answered, in a fixed order.
    pub fn translated_flows(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (PeerKey, Side, Side, bool)> {
        self.clients.iter().flat_map(move |(key, client)| {
            let flows = client.nat.live_flows(now).into_iter();
            flows.map(|(inside, outside, is_answered)| (*key, inside, outside, is_answered))
        })
    }

    /// Remember, for a while, what another process has translated.
    pub fn inherit(&mut self, flows: Vec<TranslatedFlow>, now: Instant) {
        self.inherited = Inherited {
            flows: BTreeMap::new(),
            until: Some(now + INHERITED_LIFETIME),
        };
        for flow in flows {
            let of_name = (flow.peer_id.clone(), flow.inside.0);
            self.inherited.flows.entry(of_name).or_default().push(flow);
        }
    }

    /// The name's addresses are translated: flows go on that another process had to where the name still leads.
    pub fn revive(&mut self, key: PeerKey, peer: &str, pairs: &[Pair], now: Instant) {
        if self.inherited.until.is_none_or(|until| until <= now) {
            self.inherited = Inherited::default();
            return;
        }
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        for (proxy, _) in pairs {
            let found = self.inherited.flows.remove(&(peer.to_owned(), *proxy));
            for flow in found.unwrap_or_default() {
                let leads_there = pairs.iter().any(|(_, real)| {
                    real.is_some_and(|real| {
                        real == flow.outside.0 && real.is_ipv4() == proxy.is_ipv4()
                    })
                });
                if leads_there {
                    let side = |(address, value)| Side {
                        protocol: flow.protocol,
                        value,
                        address,
                    };
                    client
                        .nat
                        .revive(side(flow.inside), side(flow.outside), flow.is_answered, now);
                }
            }
        }
        client.schedule_sweep(key, &mut self.sweeps);
    }

    /// A client has connected, maybe again; its grants stay.
    pub fn upsert_client(&mut self, key: PeerKey, ipv4: Ipv4Addr, ipv6: Ipv6Addr) {
        let client = self.clients.entry(key).or_insert_with(|| {
            Box::new(Client {
                ipv4,
                ipv6,
                grants: BTreeMap::new(),
                last_serial: 0,
                translations: Translations::new(self.hash),
                nat: NatTable::new(self.hash),
                sweep_at: None,
                swept_until: None,
                routes: RouteTable::default(),
                internet: Vec::new(),
            })
        });
        let former = [client.ipv4.into(), client.ipv6.into()];
        (client.ipv4, client.ipv6) = (ipv4, ipv6);
        for address in former {
            if self.by_address.get(&address) == Some(&key) {
                self.by_address.remove(&address);
            }
        }
        self.by_address.insert(ipv4.into(), key);
        self.by_address.insert(ipv6.into(), key);
    }

    /// Whether this is a client's tunnel address.
    pub fn is_client(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    pub fn forget_client(&mut self, key: PeerKey) {
        if let Some(client) = self.clients.remove(&key) {
            for address in [client.ipv4.into(), client.ipv6.into()] {
                if self.by_address.get(&address) == Some(&key) {
                    self.by_address.remove(&address);
                }
            }
            if let Some(at) = client.sweep_at {
                self.sweeps.remove(&(at, key));
            }
            for (resource, held) in client.grants {
                if let Some(deadline) = held.grant.deadline {
                    self.deadlines.remove(&(deadline, key, resource));
                }
            }
        }
    }

    pub fn has_grants(&self, key: PeerKey) -> bool {
        self.clients
            .get(&key)
            .is_some_and(|client| !client.grants.is_empty())
    }

    /// Add or replace a grant; false if the client is unknown.
    pub fn grant(&mut self, key: PeerKey, resource: ResourceId, grant: Grant) -> bool {
        let Some(client) = self.clients.get_mut(&key) else {
            return false;
        };
        let former = client.grants.get(&resource);
        let serial = former.map_or(GrantSerial(client.last_serial + 1), |held| held.serial);
        client.last_serial = client.last_serial.max(serial.0);
        if let Some(former) = former.and_then(|held| held.grant.deadline) {
            self.deadlines.remove(&(former, key, resource.clone()));
        }
        if let Some(deadline) = grant.deadline {
            self.deadlines.insert((deadline, key, resource.clone()));
        }
        client.unroute(&resource);
        client.route(&resource, &grant);
        let held = Box::new(HeldGrant { grant, serial });
        client.grants.insert(resource, held);
        true
    }

    /// Remove a grant; whether it was there.
    pub fn revoke(&mut self, key: PeerKey, resource: &str) -> bool {
        let Some(client) = self.clients.get_mut(&key) else {
            return false;
        };
        client.unroute(resource);
        let Some((resource, held)) = client.grants.remove_entry(resource) else {
            return false;
        };
        if let Some(deadline) = held.grant.deadline {
            self.deadlines.remove(&(deadline, key, resource));
        }
        true
    }

    /// Every grant, in a fixed order.
    pub fn grants(&self) -> Vec<(PeerKey, ResourceId)> {
        self.clients
            .iter()
            .flat_map(|(key, client)| {
                client
                    .grants
                    .keys()
                    .map(move |resource| (*key, resource.clone()))
            })
            .collect()
    }

    pub fn set_deadline(&mut self, key: PeerKey, resource: &str, deadline: Option<Instant>) {
        let Some(client) = self.clients.get(&key) else {
            return;
        };
        if let Some((resource, held)) = client.grants.get_key_value(resource) {
            let grant = Grant {
                deadline,
                ..held.grant.clone()
            };
            let resource = resource.clone();
            self.grant(key, resource, grant);
        }
    }

    /// Replace a resource's filters for every client that holds it.
    pub fn update_filters(&mut self, resource: &str, filters: &Arc<FilterSet>) {
        for client in self.clients.values_mut() {
            let Some((resource, held)) = client.grants.get_key_value(resource) else {
                continue;
            };
            let (resource, grant) = (
                resource.clone(),
                Grant {
                    filters: filters.clone(),
                    ..held.grant.clone()
                },
            );
            client.unroute(&resource);
            client.route(&resource, &grant);
            if let Some(held) = client.grants.get_mut(&resource) {
                held.grant = grant;
            }
        }
    }

    /// Replace what a name's proxy addresses stand for (data-plane §5.4).
    pub fn translate(
        &mut self,
        key: PeerKey,
        resource: &str,
        name: &str,
        pairs: &[Pair],
    ) -> Result<(), NotTranslated> {
        let client = self
            .clients
            .get_mut(&key)
            .ok_or(NotTranslated::NotGranted)?;
        let (resource, held) = client
            .grants
            .get_key_value(resource)
            .ok_or(NotTranslated::NotGranted)?;
        if held.grant.kind != GrantKind::Dns {
            return Err(NotTranslated::Invalid("the resource has no names"));
        }
        Translations::check(name, pairs).map_err(NotTranslated::Invalid)?;
        client
            .translations
            .make_room(name, pairs, |proxy| client.nat.leads_to(proxy))
            .map_err(NotTranslated::Invalid)?;
        let is_held = |resource: &ResourceId, serial| {
            let held = client.grants.get(resource);
            held.is_some_and(|held| held.serial == serial)
        };
        let replaced = client
            .translations
            .replace(resource, held.serial, name, pairs, is_held);
        if replaced == Replaced::Renumbered {
            client.nat.clear();
        }
        Ok(())
    }

    /// Judge a packet that came out of a client's tunnel (data-plane §5.3).
    pub fn judge_outgoing<B: AsRef<[u8]>>(
        &mut self,
        key: PeerKey,
        packet: &IpPacket<B>,
        own: Option<&OwnAddresses>,
        now: Instant,
    ) -> TowardNetwork {
        let Some(client) = self.clients.get_mut(&key) else {
            return TowardNetwork::Drop(Counter::Prohibited);
        };
        let destination = packet.destination();
        if destination.is_multicast() {
            return TowardNetwork::Drop(Counter::Unroutable);
        }
        if packet.kind() == Kind::IcmpError {
            return TowardNetwork::Drop(Counter::ForgedIcmpErrors);
        }
        if !client.has_address(packet.source()) {
            return TowardNetwork::Prohibited(Counter::SpoofedSource);
        }
        if own.is_some_and(|own| own.contains(destination)) && client.has_live_grant(now) {
            return TowardNetwork::Pass;
        }
        if is_tunnel_address(destination) {
            return TowardNetwork::Prohibited(Counter::Prohibited);
        }
        match client.classify(destination, Traffic::toward(packet), now) {
            Class::Granted => {}
            Class::Prohibited => return TowardNetwork::Prohibited(Counter::Prohibited),
            Class::Unreachable => return TowardNetwork::Unreachable,
        }
        if !is_proxy_address(destination) {
            return TowardNetwork::Pass;
        }
        let real = client
            .translations
            .get(destination)
            .and_then(|translation| translation.real)
            .filter(|real| real.is_ipv4() == destination.is_ipv4());
        let (Some(real), Some(inside)) = (real, inside_of(packet)) else {
            return TowardNetwork::Unreachable;
        };
        match client.nat.outgoing(inside, real, packet.tcp_flags(), now) {
            Ok(outside) => {
                client.schedule_sweep(key, &mut self.sweeps);
                TowardNetwork::Translate(outside)
            }
            Err(_) => TowardNetwork::Drop(Counter::NatExhausted),
        }
    }

    /// What the flow of a client's packet is recorded under that has passed; `sent_to` is its destination inside the tunnel.
    pub fn granted_basis_of(&self, seen: &Sighting, sent_to: IpAddr) -> Option<Basis<'_>> {
        let client = self.clients.get(&seen.peer)?;
        client.basis_of(sent_to, seen.traffic(), seen.at)
    }

    /// Judge a packet that the network sends to a client (data-plane §5.6).
    pub fn judge_incoming<B: AsRef<[u8]>>(
        &mut self,
        packet: &IpPacket<B>,
        own: Option<&OwnAddresses>,
        now: Instant,
    ) -> TowardClient {
        let (source, destination) = (packet.source(), packet.destination());
        let Some(key) = self.by_address.get(&destination).copied() else {
            return TowardClient::Drop(Counter::Unroutable);
        };
        let Some(client) = self.clients.get_mut(&key) else {
            return TowardClient::Drop(Counter::Unroutable);
        };
        if !client.has_live_grant(now) {
            return TowardClient::Drop(Counter::Prohibited);
        }
        let is_own = own.is_some_and(|own| own.contains(source));
        // Our own kernel complains about translated flows too.
        if packet.kind() == Kind::IcmpError {
            return client.judge_icmp_error(key, packet, is_own, now);
        }
        if is_own {
            return TowardClient::Pass(key);
        }
        let flags = packet.tcp_flags();
        let (source, translated) = match outside_of(packet) {
            Some(outside) => match client.nat.incoming(outside, flags, now) {
                Incoming::Translated(inside) => {
                    if flags.is_some_and(ends_flow) {
                        client.schedule_sweep(key, &mut self.sweeps);
                    }
                    (inside.address, Some(inside))
                }
                Incoming::Expired => return TowardClient::Drop(Counter::NatExpired),
                Incoming::Unknown => (source, None),
            },
            None => (source, None),
        };
        // Only a translation makes a packet come from a name's address.
        if is_tunnel_address(source) || (translated.is_none() && is_proxy_address(source)) {
            return TowardClient::Drop(Counter::Prohibited);
        }
        match (
            client.classify(source, Traffic::from(packet), now),
            translated,
        ) {
            (Class::Granted, Some(inside)) => TowardClient::Translate(key, inside),
            (Class::Granted, None) => TowardClient::Pass(key),
            (Class::Prohibited | Class::Unreachable, _) => TowardClient::Drop(Counter::Prohibited),
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, ..)| *deadline);
        let sweep = self.sweeps.first().map(|(at, _)| *at);
        [deadline, sweep].into_iter().flatten().min()
    }

    /// Clear away ended flows; remove and name the grants whose deadline has come.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(PeerKey, ResourceId)> {
        let mut budget = AT_ONCE;
        while budget > 0
            && let Some((at, key)) = self.sweeps.first().copied()
            && at <= now
        {
            self.sweeps.pop_first();
            budget -= 1;
            if let Some(client) = self.clients.get_mut(&key) {
                client.sweep_at = None;
                budget -= client.nat.handle_timeout(now, budget);
                client.swept_until = (budget > 0).then_some(now + NAT_TICK);
                client.schedule_sweep(key, &mut self.sweeps);
            }
        }
        let mut expired = Vec::new();
        while expired.len() < AT_ONCE
            && let Some((deadline, key, resource)) = self.deadlines.first().cloned()
            && deadline <= now
        {
            self.revoke(key, &resource);
            self.deadlines.remove(&(deadline, key, resource.clone()));
            expired.push((key, resource));
        }
        expired
    }
}

enum Class {
    Granted,
    Prohibited,
    Unreachable,
}

impl Client {
    fn schedule_sweep(&mut self, key: PeerKey, sweeps: &mut BTreeSet<(Instant, PeerKey)>) {
        let due = self.nat.poll_timeout();
        let at = due.map(|due| self.swept_until.map_or(due, |until| due.max(until)));
        if at == self.sweep_at {
            return;
        }
        if let Some(former) = self.sweep_at {
            sweeps.remove(&(former, key));
        }
        if let Some(at) = at {
            sweeps.insert((at, key));
        }
        self.sweep_at = at;
    }

    fn has_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.ipv4,
            IpAddr::V6(v6) => v6 == self.ipv6,
        }
    }

    fn has_live_grant(&self, now: Instant) -> bool {
        self.grants
            .values()
            .inspect(|_| steps::count(1))
            .any(|held| held.grant.is_live(now))
    }

    /// Which grant covers the far address, and whether it admits the packet. Explicit routes go before the
    /// Internet resource, so that it never opens what a narrower filter closes.
    fn classify(&self, far: IpAddr, traffic: Traffic, now: Instant) -> Class {
        if is_proxy_address(far) {
            return self.classify_name(far, traffic, now);
        }
        if let Some(found) = self.routes.best(far, traffic, now) {
            return if found.permitted {
                Class::Granted
            } else {
                Class::Prohibited
            };
        }
        let internet = || {
            self.internet
                .iter()
                .filter(|route| route.deadline.is_none_or(|deadline| now < deadline))
        };
        if internet().next().is_none() {
            return Class::Prohibited;
        }
        if !is_public(far) {
            return Class::Unreachable;
        }
        if internet().any(|route| route.filters.permits(traffic)) {
            Class::Granted
        } else {
            Class::Prohibited
        }
    }

    /// A name is reached by the grants that it was assigned under, and by no network that happens to cover its addresses.
    fn classify_name(&self, proxy: IpAddr, traffic: Traffic, now: Instant) -> Class {
        let grants = self.translations.get(proxy).into_iter().flat_map(|known| {
            known.granted_by.iter().filter_map(|(resource, serial)| {
                steps::count(1);
                let held = self.grants.get(resource)?;
                (held.serial == *serial && held.grant.is_live(now)).then_some(&held.grant)
            })
        });
        if grants
            .into_iter()
            .any(|grant| grant.filters.permits(traffic))
        {
            Class::Granted
        } else {
            Class::Prohibited
        }
    }

    /// What the flows of the resource that [`Client::classify`] finds granted are recorded under.
    fn basis_of(&self, far: IpAddr, traffic: Traffic, now: Instant) -> Option<Basis<'_>> {
        let (resource, record_under, domain) = if is_proxy_address(far) {
            let known = self.translations.get(far)?;
            let mut granted = known.granted_by.iter();
            let (resource, grant) = granted.find_map(|(resource, serial)| {
                let held = self.grants.get(resource)?;
                let is_granted = held.serial == *serial
                    && held.grant.is_live(now)
                    && held.grant.filters.permits(traffic);
                is_granted.then_some((resource, &held.grant))
            })?;
            (resource, &grant.record_under, Some(&known.name))
        } else {
            let mut internet = self.internet.iter();
            let route = match self.routes.best(far, traffic, now) {
                Some(found) => found.route,
                None => internet.find(|route| {
                    route.deadline.is_none_or(|deadline| now < deadline)
                        && route.filters.permits(traffic)
                })?,
            };
            (&route.resource, &route.record_under, None)
        };
        Some(Basis {
            resource,
            authorization: record_under.as_ref()?,
            role: FlowRole::Responder,
            domain,
        })
    }

    /// Errors pass regardless of filters; those about translated flows are translated with them. `is_own`: the gateway's
    /// own kernel says it.
    fn judge_icmp_error<B: AsRef<[u8]>>(
        &mut self,
        key: PeerKey,
        packet: &IpPacket<B>,
        is_own: bool,
        now: Instant,
    ) -> TowardClient {
        let outside = packet.quoted().and_then(|quoted| {
            Some(Side {
                protocol: super::nat_table::Protocol::of(quoted.kind)?,
                value: quoted.source_value,
                address: quoted.destination,
            })
        });
        match outside.map(|outside| self.nat.look_up(outside, now)) {
            Some(Incoming::Translated(inside)) => TowardClient::TranslateError(key, inside),
            Some(Incoming::Expired) => TowardClient::Drop(Counter::NatExpired),
            _ if is_own => TowardClient::Pass(key),
            _ if is_tunnel_address(packet.source()) || is_proxy_address(packet.source()) => {
                TowardClient::Drop(Counter::Prohibited)
            }
            Some(Incoming::Unknown) | None => TowardClient::Pass(key),
        }
    }

    fn route(&mut self, resource: &ResourceId, grant: &Grant) {
        let route = grant.route(resource);
        match grant.kind {
            GrantKind::Internet => self.internet.push(route),
            GrantKind::Cidr | GrantKind::Dns | GrantKind::Device => {
                for prefix in &grant.networks {
                    self.routes.insert(*prefix, route.clone());
                }
            }
        }
    }

    /// Remove what the present grant of a resource routes.
    fn unroute(&mut self, resource: &str) {
        self.internet.retain(|route| &*route.resource != resource);
        for prefix in self
            .grants
            .get(resource)
            .into_iter()
            .flat_map(|held| &held.grant.networks)
        {
            self.routes.remove(*prefix, resource);
        }
    }
}

impl Grant {
    fn is_live(&self, now: Instant) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }

    fn route(&self, resource: &ResourceId) -> Route {
        Route {
            resource: resource.clone(),
            filters: self.filters.clone(),
            rank: self.rank,
            deadline: self.deadline,
            record_under: self.record_under.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Filter, FilterProtocol};
    use crate::tunnel::test_clock::an_instant;
    use proptest::prelude::*;
    use wardgate_packet::build;

    /// What one packet or one call may cost, however much a client has put into its tables.
    const STEPS: usize = 64;
    const CLIENT: &str = "100.64.0.1";

    fn key() -> PeerKey {
        PeerKey::numbered(1)
    }

    fn grant(kind: GrantKind, networks: Vec<Prefix>, deadline: Option<Instant>) -> Grant {
        let filter = Filter {
            protocol: FilterProtocol::Udp,
            first_port: 0,
            last_port: u16::MAX,
        };
        Grant {
            kind,
            networks,
            filters: Arc::new(FilterSet::new(vec![filter])),
            deadline,
            rank: 0,
            record_under: None,
        }
    }

    fn packet(from: &str, to: &str) -> IpPacket<Vec<u8>> {
        let packet = build::udp(from.parse().unwrap(), to.parse().unwrap(), b"x").unwrap();
        IpPacket::parse(packet).unwrap()
    }

    fn eight(index: u32) -> Vec<Pair> {
        let first = u32::from_be_bytes([100, 101, 0, 0]) + 8 * index;
        (first..first + 8)
            .map(|bits| (Ipv4Addr::from_bits(bits).into(), Some([10, 3, 0, 1].into())))
            .collect()
    }

    fn gateway_with_a_client() -> Gateway {
        let mut gateway = Gateway::new(SeededState::new([
            0x5ca1_ab1e_0ddb_a115,
            0xdead_10cc_cafe_f00d,
        ]));
        let ipv6 = "fd00:2021:1111::1".parse().unwrap();
        gateway.upsert_client(key(), CLIENT.parse().unwrap(), ipv6);
        gateway
    }

    /// Give the client a resource of names, and as many of them as it can have.
    fn fill_names(gateway: &mut Gateway, deadline: Option<Instant>) {
        gateway.grant(key(), "app".into(), grant(GrantKind::Dns, vec![], deadline));
        for index in 0..8192 {
            let name = format!("n{index}.example");
            gateway
                .translate(key(), "app", &name, &eight(index))
                .unwrap();
        }
    }

    /// A client with many grants and as many names and flows as it can have.
    fn full(now: Instant) -> Gateway {
        let mut gateway = gateway_with_a_client();
        let deadline = Some(now + Duration::from_secs(3600));
        for index in 0..3000u32 {
            let network = Ipv4Addr::from_bits(u32::from_be_bytes([10, 128, 0, 0]) + index);
            let networks = vec![Prefix::host(network.into())];
            let resource = format!("net-{index:04}").into();
            gateway.grant(key(), resource, grant(GrantKind::Cidr, networks, deadline));
        }
        fill_names(&mut gateway, deadline);
        for port in 0..=u16::MAX {
            let request = packet(&format!("{CLIENT}:{port}"), "100.101.0.0:53");
            let judged = gateway.judge_outgoing(key(), &request, None, now);
            assert!(matches!(judged, TowardNetwork::Translate(_)), "{port}");
        }
        gateway
    }

    #[test]
    fn full_tables_make_no_packet_dearer() {
        let now = an_instant();
        let mut gateway = full(now);
        let refused = TowardNetwork::Drop(Counter::NatExhausted);
        let prohibited = TowardNetwork::Prohibited(Counter::Prohibited);
        for (from, to, expected) in [
            (
                "100.64.0.1:7",
                "100.101.0.0:53",
                TowardNetwork::Translate(Side {
                    protocol: super::super::nat_table::Protocol::Udp,
                    value: 7,
                    address: [10, 3, 0, 1].into(),
                }),
            ),
            ("100.64.0.1:7", "100.101.0.1:53", refused),
            ("100.64.0.1:7", "100.101.9.9:53", refused),
            ("100.64.0.1:7", "100.127.0.1:53", prohibited),
            ("100.64.0.1:7", "10.3.0.1:53", prohibited),
            ("100.64.0.1:7", "10.128.0.9:53", TowardNetwork::Pass),
            (
                "100.64.0.2:7",
                "10.128.0.9:53",
                TowardNetwork::Prohibited(Counter::SpoofedSource),
            ),
        ] {
            let packet = packet(from, to);
            let (judged, cost) = steps::of(|| gateway.judge_outgoing(key(), &packet, None, now));
            assert_eq!(judged, expected, "{from} to {to}");
            assert!(cost <= STEPS, "{from} to {to}: {cost}");
        }
        for from in [
            "10.3.0.1:53",
            "10.3.0.9:53",
            "10.128.0.9:53",
            "100.101.0.0:53",
        ] {
            let reply = packet(from, "100.64.0.1:9");
            let (_, cost) = steps::of(|| gateway.judge_incoming(&reply, None, now));
            assert!(cost <= STEPS, "from {from}: {cost}");
            let request = packet("100.64.0.1:9", from);
            let error =
                wardgate_packet::icmp_error(&request, wardgate_packet::Unreachable::Network);
            let error = IpPacket::parse(error.unwrap()).unwrap();
            let (_, cost) = steps::of(|| gateway.judge_incoming(&error, None, now));
            assert!(cost <= STEPS, "error about {from}: {cost}");
        }
    }

    #[test]
    fn full_tables_make_no_command_that_a_client_causes_dearer() {
        let now = an_instant();
        let mut gateway = full(now);
        let (one_more, cost) =
            steps::of(|| gateway.translate(key(), "app", "one.more", &eight(9000)));
        assert_eq!(one_more, Ok(()));
        assert!(cost <= STEPS, "{cost}");
        let (known, cost) = steps::of(|| gateway.translate(key(), "app", "n7.example", &eight(7)));
        assert_eq!(known, Ok(()));
        assert!(cost <= STEPS, "{cost}");
        let renewed = grant(GrantKind::Dns, vec![], None);
        let (granted, cost) = steps::of(|| gateway.grant(key(), "app".into(), renewed));
        assert!(granted);
        assert!(cost <= STEPS, "{cost}");
        let (revoked, cost) = steps::of(|| gateway.revoke(key(), "net-0007"));
        assert!(revoked);
        assert!(cost <= STEPS, "{cost}");
    }

    #[test]
    fn a_name_whose_flow_goes_on_is_translated_however_many_names_come_after_it() {
        let now = an_instant();
        let mut gateway = gateway_with_a_client();
        gateway.grant(key(), "app".into(), grant(GrantKind::Dns, vec![], None));
        let request = packet("100.64.0.1:7", "100.101.0.0:53");
        let translates = |gateway: &mut Gateway, now| {
            let judged = gateway.judge_outgoing(key(), &request, None, now);
            matches!(judged, TowardNetwork::Translate(_))
        };
        let announce = |gateway: &mut Gateway, indexes: std::ops::Range<u32>| {
            for index in indexes {
                let name = format!("n{index}.example");
                let announced = gateway.translate(key(), "app", &name, &eight(index));
                assert_eq!(announced, Ok(()), "{index}");
            }
        };
        announce(&mut gateway, 0..1);
        assert!(translates(&mut gateway, now));
        announce(&mut gateway, 1..20_000);
        assert!(translates(&mut gateway, now));
        let later = now + Duration::from_secs(60);
        gateway.handle_timeout(later);
        announce(&mut gateway, 20_000..30_000);
        assert!(
            !translates(&mut gateway, later),
            "forgotten once its flow has ended"
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Announce(u32),
        Send { port: u16, index: u32 },
        Wait(u64),
        Regrant,
    }

    fn step() -> impl Strategy<Value = Step> {
        let index = prop_oneof![0..40u32, 0..20_000u32];
        prop_oneof![
            8 => index.clone().prop_map(Step::Announce),
            4 => (any::<u16>(), index).prop_map(|(port, index)| Step::Send { port, index }),
            1 => (0..70u64).prop_map(Step::Wait),
            1 => Just(Step::Regrant),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        /// No flow is carried on under another name, and no name is refused while others are out of use.
        #[test]
        fn names_make_room_but_none_that_a_flow_leads_to(
            steps in prop::collection::vec(step(), 1..400),
        ) {
            let mut now = an_instant();
            let mut gateway = gateway_with_a_client();
            fill_names(&mut gateway, None);
            let mut leads_to = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Announce(index) => {
                        let name = format!("n{index}.example");
                        let announced = gateway.translate(key(), "app", &name, &eight(index));
                        prop_assert_eq!(announced, Ok(()));
                    }
                    Step::Send { port, index } => {
                        let to = eight(index)[0].0;
                        let request = packet(&format!("{CLIENT}:{port}"), &format!("{to}:53"));
                        if let TowardNetwork::Translate(_) = gateway.judge_outgoing(key(), &request, None, now) {
                            leads_to.insert(to);
                        }
                    }
                    Step::Wait(seconds) => {
                        now += Duration::from_secs(seconds);
                        while gateway.poll_timeout().is_some_and(|at| at <= now) {
                            gateway.handle_timeout(now);
                        }
                    }
                    Step::Regrant => {
                        gateway.revoke(key(), "app");
                        gateway.grant(key(), "app".into(), grant(GrantKind::Dns, vec![], None));
                    }
                }
                let client = &gateway.clients[&key()];
                leads_to.retain(|address| client.nat.leads_to(*address));
                for address in &leads_to {
                    prop_assert!(client.translations.get(*address).is_some(), "{}", address);
                }
            }
        }
    }

    #[test]
    fn ended_flows_and_grants_are_cleared_away_in_small_pieces_until_all_are_gone() {
        let now = an_instant();
        let mut gateway = full(now);
        assert_eq!(
            gateway.poll_timeout(),
            Some(now + Duration::from_secs(60)),
            "nothing to do before the first flow ends"
        );
        let over = now + Duration::from_secs(3600);
        let mut expired = Vec::new();
        let mut calls = 0;
        while gateway.poll_timeout().is_some_and(|at| at <= over) {
            let (some, cost) = steps::of(|| gateway.handle_timeout(over));
            assert!(cost <= 4 * AT_ONCE, "{cost}");
            assert!(some.len() <= AT_ONCE);
            expired.extend(some);
            calls += 1;
        }
        assert!(calls >= 65_536 / AT_ONCE, "{calls}");
        assert_eq!(expired.len(), 3001);
        assert!(!gateway.has_grants(key()));
        assert_eq!(gateway.poll_timeout(), None);
    }

    #[test]
    fn flows_that_end_one_after_the_other_wake_the_gateway_once_a_second() {
        let now = an_instant();
        let mut gateway = gateway_with_a_client();
        gateway.grant(key(), "app".into(), grant(GrantKind::Dns, vec![], None));
        gateway
            .translate(key(), "app", "n.example", &eight(0))
            .unwrap();
        for port in 0..1000u16 {
            let request = packet(&format!("{CLIENT}:{port}"), "100.101.0.0:53");
            let at = now + Duration::from_millis(u64::from(port) * 10);
            gateway.judge_outgoing(key(), &request, None, at);
        }
        let mut calls = 0;
        while let Some(at) = gateway.poll_timeout() {
            gateway.handle_timeout(at);
            calls += 1;
        }
        assert!((10..=12).contains(&calls), "{calls}");
    }

    #[test]
    fn a_flow_that_both_ends_closed_is_cleared_away_after_seconds() {
        let now = an_instant();
        let mut gateway = gateway_with_a_client();
        let tcp = |from: &str, to: &str, flags| {
            let bytes = build::tcp(from.parse().unwrap(), to.parse().unwrap(), 1, 1, flags, b"");
            IpPacket::parse(bytes.unwrap()).unwrap()
        };
        let any = Grant {
            filters: Arc::default(),
            ..grant(GrantKind::Dns, vec![], None)
        };
        gateway.grant(key(), "app".into(), any);
        gateway
            .translate(key(), "app", "n.example", &eight(0))
            .unwrap();
        let (inside, outside) = ("100.64.0.1:4000", "10.3.0.1:80");
        for flags in [0x10, 0x11] {
            gateway.judge_outgoing(key(), &tcp(inside, "100.101.0.0:80", flags), None, now);
            gateway.judge_incoming(&tcp(outside, inside, flags), None, now);
        }
        assert_eq!(gateway.poll_timeout(), Some(now + Duration::from_secs(5)));
    }
}
