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
use super::seeded_hash::SeededState;
use super::translations::{GrantSerial, Pair, Replaced, Translations};
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
    clients: BTreeMap<PeerKey, Client>,
    by_address: FxHashMap<IpAddr, PeerKey>,
    deadlines: BTreeSet<(Instant, PeerKey, ResourceId)>,
    nat_tick_at: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    grants: BTreeMap<ResourceId, HeldGrant>,
    last_serial: u64,
    translations: Translations,
    nat: NatTable,
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
            nat_tick_at: None,
        }
    }

    /// A client has connected, maybe again; its grants stay.
    pub fn upsert_client(&mut self, key: PeerKey, ipv4: Ipv4Addr, ipv6: Ipv6Addr) {
        let client = self.clients.entry(key).or_insert_with(|| Client {
            ipv4,
            ipv6,
            grants: BTreeMap::new(),
            last_serial: 0,
            translations: Translations::new(self.hash),
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
        client.grants.insert(resource, HeldGrant { grant, serial });
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
        client
            .translations
            .check(name, pairs)
            .map_err(NotTranslated::Invalid)?;
        let replaced = client
            .translations
            .replace(resource, held.serial, name, pairs);
        if replaced == Replaced::Renumbered {
            client.nat = NatTable::default();
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
        let is_own = own.is_some_and(|own| own.contains(source));
        // Our own kernel complains about translated flows too.
        if packet.kind() == Kind::IcmpError {
            return client.judge_icmp_error(key, packet, is_own, now);
        }
        if is_own {
            return TowardClient::Pass(key);
        }
        let (source, translated) = match outside_of(packet) {
            Some(outside) => match client.nat.incoming(outside, packet.tcp_flags(), now) {
                Incoming::Translated(inside) => (inside.address, Some(inside)),
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
        self.grants.values().any(|held| held.grant.is_live(now))
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
            GrantKind::Cidr | GrantKind::Dns => {
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
        }
    }
}
