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

use super::OwnAddresses;
use super::address_plan::{is_proxy_address, is_public, is_tunnel_address};
use super::counters::Counter;
use super::filter_set::{FilterSet, Traffic};
use super::links::PeerKey;
use super::nat_table::{Incoming, NatTable, Side, inside_of, outside_of};
use super::route_table::{ResourceId, Route, RouteTable};
use crate::command::GrantKind;
use crate::prefix::Prefix;

/// How often ended flows are cleared away.
const NAT_TICK: Duration = Duration::from_secs(1);

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
}

#[derive(Debug, Default)]
pub struct Gateway {
    clients: BTreeMap<PeerKey, Client>,
    by_address: FxHashMap<IpAddr, PeerKey>,
    deadlines: BTreeSet<(Instant, PeerKey, ResourceId)>,
    nat_tick_at: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    grants: BTreeMap<ResourceId, Grant>,
    translations: FxHashMap<IpAddr, Translation>,
    nat: NatTable,
    /// Follows from grants and translations.
    routes: RouteTable,
    internet: Vec<Route>,
}

#[derive(Clone, Debug)]
struct Translation {
    name: Arc<str>,
    real: Option<IpAddr>,
    resources: BTreeSet<ResourceId>,
}

impl Gateway {
    /// A client has connected, maybe again; its grants stay.
    pub fn upsert_client(&mut self, key: PeerKey, ipv4: Ipv4Addr, ipv6: Ipv6Addr) {
        let client = self.clients.entry(key).or_insert_with(|| Client {
            ipv4,
            ipv6,
            grants: BTreeMap::new(),
            translations: FxHashMap::default(),
            nat: NatTable::default(),
            routes: RouteTable::default(),
            internet: Vec::new(),
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

    pub fn forget_client(&mut self, key: PeerKey) {
        if let Some(client) = self.clients.remove(&key) {
            for address in [client.ipv4.into(), client.ipv6.into()] {
                if self.by_address.get(&address) == Some(&key) {
                    self.by_address.remove(&address);
                }
            }
            for (resource, grant) in client.grants {
                if let Some(deadline) = grant.deadline {
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
        if let Some(deadline) = grant.deadline {
            self.deadlines.insert((deadline, key, resource.clone()));
        }
        let new_deadline = grant.deadline;
        if let Some(former) = client.grants.insert(resource.clone(), grant)
            && let Some(deadline) = former.deadline
            && Some(deadline) != new_deadline
        {
            self.deadlines.remove(&(deadline, key, resource));
        }
        client.rebuild_routes();
        true
    }

    /// Remove a grant; whether it was there.
    pub fn revoke(&mut self, key: PeerKey, resource: &str) -> bool {
        let Some(client) = self.clients.get_mut(&key) else {
            return false;
        };
        let Some((resource, grant)) = client.grants.remove_entry(resource) else {
            return false;
        };
        for translation in client.translations.values_mut() {
            translation.resources.remove(&resource);
        }
        client
            .translations
            .retain(|_, translation| !translation.resources.is_empty());
        client.rebuild_routes();
        if let Some(deadline) = grant.deadline {
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
        if let Some((resource, grant)) = client.grants.get_key_value(resource) {
            let grant = Grant {
                deadline,
                ..grant.clone()
            };
            let resource = resource.clone();
            self.grant(key, resource, grant);
        }
    }

    /// Replace a resource's filters for every client that holds it.
    pub fn update_filters(&mut self, resource: &str, filters: &Arc<FilterSet>) {
        for client in self.clients.values_mut() {
            if let Some(grant) = client.grants.get_mut(resource) {
                grant.filters = filters.clone();
                client.rebuild_routes();
            }
        }
    }

    /// Replace what a name's proxy addresses stand for (data-plane §5.4); false if the resource is not granted.
    pub fn translate(
        &mut self,
        key: PeerKey,
        resource: &str,
        name: &str,
        addresses: &[(IpAddr, Option<IpAddr>)],
    ) -> bool {
        let Some(client) = self.clients.get_mut(&key) else {
            return false;
        };
        let Some((resource, _)) = client.grants.get_key_value(resource) else {
            return false;
        };
        let resource = resource.clone();
        let was_renumbered = addresses.iter().any(|(proxy, _)| {
            client
                .translations
                .get(proxy)
                .is_some_and(|known| &*known.name != name)
        });
        if was_renumbered {
            client.translations.clear();
            client.nat = NatTable::default();
        }
        let name: Arc<str> = name.into();
        let mut is_new = was_renumbered;
        for (proxy, real) in addresses {
            let translation = client
                .translations
                .entry(*proxy)
                .or_insert_with(|| Translation {
                    name: name.clone(),
                    real: None,
                    resources: BTreeSet::new(),
                });
            translation.real = *real;
            is_new |= translation.resources.insert(resource.clone());
        }
        if is_new {
            client.rebuild_routes();
        }
        true
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
            .get(&destination)
            .and_then(|translation| translation.real)
            .filter(|real| real.is_ipv4() == destination.is_ipv4());
        let (Some(real), Some(inside)) = (real, inside_of(packet)) else {
            return TowardNetwork::Unreachable;
        };
        match client.nat.outgoing(inside, real, packet.tcp_flags(), now) {
            Ok(outside) => {
                self.nat_tick_at.get_or_insert(now + NAT_TICK);
                TowardNetwork::Translate(outside)
            }
            Err(_) => TowardNetwork::Drop(Counter::NatExhausted),
        }
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
        if own.is_some_and(|own| own.contains(source)) {
            return TowardClient::Pass(key);
        }
        if packet.kind() == Kind::IcmpError {
            return client.judge_icmp_error(key, packet, now);
        }
        let (source, translated) = match outside_of(packet) {
            Some(outside) => match client.nat.incoming(outside, packet.tcp_flags(), now) {
                Incoming::Translated(inside) => (inside.address, Some(inside)),
                Incoming::Expired => return TowardClient::Drop(Counter::NatExpired),
                Incoming::Unknown => (source, None),
            },
            None => (source, None),
        };
        if is_tunnel_address(source) {
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
        [deadline, self.nat_tick_at].into_iter().flatten().min()
    }

    /// Clear away ended flows; remove and name the grants whose deadline has come.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(PeerKey, ResourceId)> {
        if self.nat_tick_at.is_some_and(|at| at <= now) {
            let mut flows = 0;
            for client in self.clients.values_mut() {
                client.nat.handle_timeout(now);
                flows += client.nat.len();
            }
            self.nat_tick_at = (flows > 0).then_some(now + NAT_TICK);
        }
        let mut expired = Vec::new();
        while let Some((deadline, key, resource)) = self.deadlines.first().cloned() {
            if deadline > now {
                break;
            }
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
    fn has_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.ipv4,
            IpAddr::V6(v6) => v6 == self.ipv6,
        }
    }

    fn has_live_grant(&self, now: Instant) -> bool {
        self.grants
            .values()
            .any(|grant| grant.deadline.is_none_or(|deadline| now < deadline))
    }

    /// Which grant covers the far address, and whether it admits the packet. Explicit routes go before the
    /// Internet resource, so that it never opens what a narrower filter closes.
    fn classify(&self, far: IpAddr, traffic: Traffic, now: Instant) -> Class {
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
        if is_proxy_address(far) || internet().next().is_none() {
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

    /// Errors pass regardless of filters; those about translated flows are translated with them.
    fn judge_icmp_error<B: AsRef<[u8]>>(
        &mut self,
        key: PeerKey,
        packet: &IpPacket<B>,
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
            _ if is_tunnel_address(packet.source()) => TowardClient::Drop(Counter::Prohibited),
            Some(Incoming::Unknown) | None => TowardClient::Pass(key),
        }
    }

    fn rebuild_routes(&mut self) {
        self.routes = RouteTable::default();
        self.internet.clear();
        for (resource, grant) in &self.grants {
            let route = grant.route(resource);
            match grant.kind {
                GrantKind::Internet => self.internet.push(route),
                GrantKind::Cidr | GrantKind::Dns => {
                    for prefix in &grant.networks {
                        self.routes.insert(*prefix, route.clone());
                    }
                }
            }
        }
        for (proxy, translation) in &self.translations {
            for resource in &translation.resources {
                if let Some(grant) = self.grants.get(resource) {
                    self.routes
                        .insert(Prefix::host(*proxy), grant.route(resource));
                }
            }
        }
    }
}

impl Grant {
    fn route(&self, resource: &ResourceId) -> Route {
        Route {
            resource: resource.clone(),
            filters: self.filters.clone(),
            rank: self.rank,
            deadline: self.deadline,
        }
    }
}
