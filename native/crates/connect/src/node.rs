//! The node: demultiplexer, relays, peers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use is::stun::StunMessage;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;
use thiserror::Error;
use wardgate_stun::{
    CHANNEL_HEADER, ChannelData, Class, Message, Method, Shape, TransactionId, channel_header,
    shape,
};

use crate::allocation::{Allocation, AllocationEvent, SILENCE};
use crate::check_book::CheckedPair;
use crate::connection::{Check, Connection};
use crate::event::NodeEvent;
use crate::pair_choice::Pair;
use crate::path::{Path, PathKind};
use crate::relay_choice;
use crate::transmit::Transmit;

/// Relays listen here and nowhere else (data-plane §1.2).
const RELAY_PORT: u16 = 3478;
const FORMER_RELAYS: usize = 64;
const TRANSACTION_MEMORY: Duration = Duration::from_secs(10);
/// Ours: room that is kept for checks in flight, however few there are.
const SPARE_TRANSACTIONS: usize = 256;
/// Ours: channels that the candidates of one peer may take while a number rests (data-plane §1.4). Four are usual; a peer
/// that announces addresses without end must not take those of all others.
const MAX_CHANNELS_OF_A_PEER: u32 = 64;
const CHANNEL_MEMORY: Duration = Duration::from_secs(900);
/// Ours: what both sides' names, joined, can be without exceeding what the agent encodes (128 bytes).
const MAX_USERNAME: usize = 63;

/// ICE credentials of one side, as the portal hands them out.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    pub username: String,
    pub password: String,
}

/// Timing of connectivity checks (data-plane §1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Notices a dead peer within seconds; for a client towards anyone.
    Client,
    /// Holds quiet peers for minutes; for a gateway.
    Server,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    pub local_ice: IceCredentials,
    pub remote_ice: IceCredentials,
    /// Whether this side nominates; given by the portal and never switched.
    pub controlling: bool,
    pub profile: Profile,
}

/// One relay with at most one address per family; further ones are ignored.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayConfig<Id> {
    pub id: Id,
    pub addresses: Vec<SocketAddr>,
    pub username: String,
    pub password: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upserted {
    /// The peer existed with this very configuration; its local candidates are announced again.
    Kept,
    /// A new connection, which replaced an older one of the same id, if any.
    New,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UpsertError {
    #[error("no relay has answered yet")]
    NoRelay,
    #[error("an ICE user name is longer than 63 bytes")]
    UsernameTooLong,
}

/// What became of a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// It was connectivity's own, or void.
    Consumed,
    /// Not connectivity's: presumably WireGuard. The message starts at `offset`, 0 or 4 (after a channel-data header; then
    /// `from` is the channel's peer and `local` our relayed address).
    Wireguard {
        from: SocketAddr,
        local: SocketAddr,
        offset: usize,
    },
}

/// All relays and peers of one process; `Id` names both.
pub struct Node<Id> {
    rng: StdRng,
    relays: BTreeMap<Id, Allocation>,
    relay_addresses: FxHashMap<SocketAddr, Id>,
    former_relays: VecDeque<IpAddr>,
    /// Own socket addresses, as relays' answers reached them.
    hosts: BTreeSet<SocketAddr>,
    connections: BTreeMap<Id, Box<Connection<Id>>>,
    /// "<our user name>:<the peer's>" → connection.
    usernames: FxHashMap<String, Id>,
    /// Checks in flight; with the order in which to forget them.
    transactions: FxHashMap<TransactionId, Asked<Id>>,
    transaction_ages: VecDeque<(Instant, TransactionId)>,
    /// Channels lately asked for by peer, with the order in which to forget them. Outlives the connection.
    channels_taken: BTreeMap<Id, u32>,
    channel_ages: VecDeque<(Instant, Id)>,
    /// Connections that something happened to in this step.
    touched: BTreeSet<Id>,
    timers: BTreeSet<(Instant, Id)>,
    /// Earliest deadline of all relays; may be too early, never too late by more than a keepalive.
    relay_deadline: Option<Instant>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<NodeEvent<Id>>,
}

impl<Id: Copy + Ord + Debug> Node<Id> {
    /// All randomness derives from `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            rng: StdRng::from_seed(seed),
            relays: BTreeMap::new(),
            relay_addresses: FxHashMap::default(),
            former_relays: VecDeque::new(),
            hosts: BTreeSet::new(),
            connections: BTreeMap::new(),
            usernames: FxHashMap::default(),
            transactions: FxHashMap::default(),
            transaction_ages: VecDeque::new(),
            channels_taken: BTreeMap::new(),
            channel_ages: VecDeque::new(),
            touched: BTreeSet::new(),
            timers: BTreeSet::new(),
            relay_deadline: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Remove relays, then add or replace others; `replace_all` also removes those not listed (data-plane §1.10).
    ///
    /// Connections of a vanished relay move to another in the same step. Relays that stay are asked whether they live if
    /// the list changed at all, because a changed list often means trouble.
    pub fn set_relays(
        &mut self,
        relays: Vec<RelayConfig<Id>>,
        removed: &[Id],
        replace_all: bool,
        now: Instant,
    ) {
        let listed: BTreeSet<Id> = relays.iter().map(|relay| relay.id).collect();
        let void: Vec<Id> = self
            .relays
            .keys()
            .copied()
            .filter(|id| removed.contains(id) || (replace_all && !listed.contains(id)))
            .collect();
        let mut changed = !void.is_empty();
        let mut stays: BTreeSet<Id> = self.relays.keys().copied().collect();
        for id in void {
            self.drop_relay(id);
            stays.remove(&id);
        }
        for relay in relays {
            let addresses = one_per_family(&relay.addresses);
            let same =
                |known: &Allocation| known.matches(&addresses, &relay.username, &relay.password);
            if addresses.is_empty() || self.relays.get(&relay.id).is_some_and(same) {
                continue;
            }
            changed = true;
            self.drop_relay(relay.id);
            stays.remove(&relay.id);
            for address in &addresses {
                self.relay_addresses.insert(*address, relay.id);
            }
            let rng = StdRng::from_rng(&mut self.rng);
            let allocation = Allocation::new(addresses, relay.username, relay.password, rng, now);
            self.relays.insert(relay.id, allocation);
        }
        if changed {
            for id in stays {
                if let Some(allocation) = self.relays.get_mut(&id) {
                    allocation.verify(now);
                }
            }
            self.assign_relays(now);
        }
        self.settle(now);
    }

    /// Connect to a peer; keep the connection if all of `config` is equal, else replace it (data-plane §1.8).
    ///
    /// A caller whose keys changed removes the peer first. On an error an older connection stays as it is.
    pub fn upsert_peer(
        &mut self,
        id: Id,
        config: PeerConfig,
        now: Instant,
    ) -> Result<Upserted, UpsertError> {
        if let Some(connection) = self.connections.get_mut(&id)
            && *connection.config() == config
        {
            connection.note_activity(now);
            connection.announce_again();
            self.touched.insert(id);
            self.settle(now);
            return Ok(Upserted::Kept);
        }
        if config
            .local_ice
            .username
            .len()
            .max(config.remote_ice.username.len())
            > MAX_USERNAME
        {
            return Err(UpsertError::UsernameTooLong);
        }
        let relay = self.choose_relay().ok_or(UpsertError::NoRelay)?;
        self.remove_peer(id);
        let mut connection = Connection::new(config, &mut self.rng, now);
        for allocation in self.relays.values() {
            for reflexive in allocation.reflexive() {
                connection.offer_reflexive(reflexive, &mut self.rng);
            }
        }
        self.usernames.insert(connection.inbound_username(), id);
        self.connections.insert(id, Box::new(connection));
        self.use_relay(id, relay, now);
        self.settle(now);
        Ok(Upserted::New)
    }

    /// Forget a peer; false if it was unknown.
    pub fn remove_peer(&mut self, id: Id) -> bool {
        let Some(connection) = self.connections.remove(&id) else {
            return false;
        };
        let username = connection.inbound_username();
        if self.usernames.get(&username) == Some(&id) {
            self.usernames.remove(&username);
        }
        if let Some(deadline) = connection.deadline {
            self.timers.remove(&(deadline, id));
        }
        self.touched.remove(&id);
        true
    }

    /// Take a candidate that the peer signalled; false if it is malformed, foreign, one too many or the peer unknown.
    pub fn add_remote_candidate(&mut self, id: Id, candidate: &str, now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let taken = connection.add_remote(candidate, &mut self.rng, now);
        if taken {
            self.bind_channels(id, now);
            self.touched.insert(id);
            self.settle(now);
        }
        taken
    }

    /// Drop a candidate that the peer declared void; false if it is malformed or the peer unknown.
    pub fn remove_remote_candidate(&mut self, id: Id, candidate: &str, now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let understood = connection.remove_remote(candidate, now);
        if understood {
            self.touched.insert(id);
            self.settle(now);
        }
        understood
    }

    /// Sort one received datagram (data-plane §1.9). `local` is the destination address that it carried.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        local: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) -> Inbound {
        let (mut from, mut local, mut offset) = (from, local, 0);
        if let Some(&relay) = self.relay_addresses.get(&from) {
            match self.handle_relayed(relay, from, local, payload, now) {
                Relayed::Consumed => return Inbound::Consumed,
                Relayed::Unwrapped { peer, relayed } => {
                    (from, local, offset) = (peer, relayed, CHANNEL_HEADER)
                }
                Relayed::Foreign => {}
            }
        } else if from.port() == RELAY_PORT && self.is_late(from, payload) {
            return Inbound::Consumed;
        }
        let payload = &payload[offset..];
        if Message::parse(payload).is_err() {
            return Inbound::Wireguard {
                from,
                local,
                offset,
            };
        }
        self.handle_check(payload, from, local, now);
        Inbound::Consumed
    }

    /// An IP packet went to or came from this peer: leave idle mode, put it off otherwise.
    pub fn note_activity(&mut self, id: Id, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let was_idle = connection.is_idle();
            connection.note_activity(now);
            if was_idle {
                self.touched.insert(id);
                self.settle(now);
            }
        }
    }

    /// Channel data was sent to this relay (once a batch is enough): watch that the relay still lives.
    pub fn note_relayed(&mut self, relay: Id, now: Instant) {
        if let Some(allocation) = self.relays.get_mut(&relay) {
            allocation.note_sent(now);
            let deadline = now + SILENCE;
            self.relay_deadline = Some(
                self.relay_deadline
                    .map_or(deadline, |known| known.min(deadline)),
            );
        }
    }

    /// What came of the checks with a peer so far: at most 64 pairs.
    pub fn checks(&self, id: Id) -> Vec<CheckedPair> {
        self.connections
            .get(&id)
            .map(|connection| connection.checks())
            .unwrap_or_default()
    }

    /// Whether nothing has moved over a connection for some time.
    pub fn is_idle(&self, id: Id) -> bool {
        self.connections
            .get(&id)
            .is_none_or(|connection| connection.is_idle())
    }

    /// The path chosen for a peer, if any.
    pub fn path(&self, id: Id) -> Option<Path<Id>> {
        self.connections.get(&id)?.path
    }

    /// How to answer a datagram that came from `from` to `local` (as [`Inbound::Wireguard`] names them).
    pub fn route(&self, local: SocketAddr, from: SocketAddr) -> Option<Path<Id>> {
        let over = self
            .relays
            .iter()
            .find(|(_, allocation)| allocation.relayed_towards(from) == Some(local));
        match over {
            Some((&relay, allocation)) => relayed_path(relay, allocation, from),
            None => Some(direct_path(local, from)),
        }
    }

    /// The network changed: forget all peers (returned), start over with all relays from new sockets (data-plane §1.11).
    pub fn reset(&mut self, now: Instant) -> Vec<Id> {
        let peers: Vec<Id> = self.connections.keys().copied().collect();
        for id in &peers {
            self.remove_peer(*id);
        }
        self.transactions.clear();
        self.transaction_ages.clear();
        self.channels_taken.clear();
        self.channel_ages.clear();
        self.hosts.clear();
        self.transmits.clear();
        self.events.clear();
        for allocation in self.relays.values_mut() {
            *allocation = allocation.restarted(StdRng::from_rng(&mut self.rng), now);
        }
        self.settle(now);
        peers
    }

    /// The process ends: forget all peers and relays, and ask these to free their allocations.
    pub fn shut_down(&mut self, now: Instant) {
        let peers: Vec<Id> = self.connections.keys().copied().collect();
        for id in peers {
            self.remove_peer(id);
        }
        let relays: Vec<Id> = self.relays.keys().copied().collect();
        for id in relays {
            if let Some(allocation) = self.relays.get_mut(&id) {
                allocation.release(now);
                while let Some(transmit) = allocation.poll_transmit() {
                    self.transmits.push_back(transmit);
                }
            }
            self.drop_relay(id);
        }
        self.settle(now);
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<NodeEvent<Id>> {
        self.events.pop_front()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for allocation in self.relays.values_mut() {
            if allocation.poll_timeout().is_some_and(|due| now >= due) {
                allocation.handle_timeout(now);
            }
        }
        while let Some(&(due, id)) = self.timers.first()
            && now >= due
        {
            self.timers.pop_first();
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.deadline = None;
            }
            self.touched.insert(id);
        }
        self.settle(now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.timers.first().map(|(due, _)| *due);
        [self.relay_deadline, peers].into_iter().flatten().min()
    }

    /// A datagram from an address of a relay in use.
    fn handle_relayed(
        &mut self,
        relay: Id,
        from: SocketAddr,
        local: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) -> Relayed {
        let Some(allocation) = self.relays.get_mut(&relay) else {
            return Relayed::Foreign;
        };
        match shape(payload) {
            Some(Shape::Stun) => {
                let Ok(message) = Message::parse(payload) else {
                    return Relayed::Foreign;
                };
                allocation.handle_message(&message, from, local, now);
                self.settle(now);
                Relayed::Consumed
            }
            Some(Shape::ChannelData) => {
                let Some(data) = ChannelData::parse_exact(payload) else {
                    return Relayed::Foreign;
                };
                let peer = allocation.handle_channel_data(data.number, now);
                let relayed = peer.and_then(|peer| allocation.relayed_towards(peer));
                if allocation.has_transmits() {
                    self.settle(now);
                }
                match (peer, relayed) {
                    (Some(peer), Some(relayed)) => Relayed::Unwrapped { peer, relayed },
                    _ => Relayed::Consumed,
                }
            }
            None => Relayed::Foreign,
        }
    }

    /// Whether this is what a relay that we no longer use still sends.
    fn is_late(&self, from: SocketAddr, payload: &[u8]) -> bool {
        let relayed = match shape(payload) {
            Some(Shape::Stun) => Message::parse(payload).is_ok(),
            Some(Shape::ChannelData) => ChannelData::parse_exact(payload).is_some(),
            None => false,
        };
        relayed && self.former_relays.contains(&from.ip())
    }

    /// Requests are found by user name, answers by transaction; all else is no business of an ICE agent (data-plane §1.6).
    fn handle_check(&mut self, payload: &[u8], from: SocketAddr, local: SocketAddr, now: Instant) {
        let Ok(message) = StunMessage::parse(payload) else {
            return;
        };
        let transaction = Message::parse(payload).map(|message| message.transaction_id());
        let (id, asked) = if message.is_binding_request() {
            let id = message
                .username()
                .and_then(|username| self.usernames.get(username));
            (id.copied(), None)
        } else if message.is_successful_binding_response() {
            let asked = transaction
                .as_ref()
                .ok()
                .and_then(|transaction| self.transactions.get(transaction));
            let took = |asked: &Asked<Id>| now.saturating_duration_since(asked.at);
            (
                asked.map(|asked| asked.id),
                asked.map(|asked| (asked.pair, took(asked))),
            )
        } else {
            (None, None)
        };
        if let Some(id) = id
            && let Some(connection) = self.connections.get_mut(&id)
        {
            let is_taken = connection.handle_check(message, from, local, asked, &mut self.rng, now);
            // Answered once, so that few are in flight; a forgery with the right number ends nothing.
            if is_taken
                && asked.is_some()
                && let Ok(transaction) = transaction
            {
                self.transactions.remove(&transaction);
            }
            self.touched.insert(id);
            self.settle(now);
        }
    }

    /// Carry through what the step has caused, until nothing is left to do but to wait.
    fn settle(&mut self, now: Instant) {
        self.drain_relays(now);
        while let Some(id) = self.touched.pop_first() {
            self.step_connection(id, now);
        }
        for allocation in self.relays.values_mut() {
            while let Some(transmit) = allocation.poll_transmit() {
                self.transmits.push_back(transmit);
            }
        }
        self.forget_transactions(now);
        self.relay_deadline = self
            .relays
            .values()
            .filter_map(Allocation::poll_timeout)
            .min();
    }

    fn drain_relays(&mut self, now: Instant) {
        let events: Vec<(Id, AllocationEvent)> = self
            .relays
            .iter_mut()
            .flat_map(|(id, allocation)| {
                std::iter::from_fn(|| allocation.poll_event()).map(|event| (*id, event))
            })
            .collect();
        for (relay, event) in events {
            self.handle_allocation_event(relay, event, now);
        }
    }

    fn handle_allocation_event(&mut self, relay: Id, event: AllocationEvent, now: Instant) {
        match event {
            AllocationEvent::Reachable => self.assign_relays(now),
            AllocationEvent::Discovered(reflexive) => {
                self.hosts.insert(reflexive.base);
                for (id, connection) in &mut self.connections {
                    connection.offer_reflexive(reflexive, &mut self.rng);
                    self.touched.insert(*id);
                }
            }
            AllocationEvent::Granted => {
                let rtt = self
                    .relays
                    .get(&relay)
                    .and_then(Allocation::rtt)
                    .unwrap_or_default();
                self.events.push_back(NodeEvent::RelayUp { relay, rtt });
                for id in self.users_of(relay) {
                    self.use_relay(id, relay, now);
                }
            }
            AllocationEvent::Withdrawn(addresses) => {
                for id in self.users_of(relay) {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        for address in &addresses {
                            connection.withdraw_relayed(Some(*address));
                        }
                    }
                    self.touched.insert(id);
                }
            }
            AllocationEvent::Lost(reason) => {
                self.drop_relay(relay);
                self.events
                    .push_back(NodeEvent::RelayLost { relay, reason });
                if self.relays.is_empty() {
                    self.events.push_back(NodeEvent::NoRelays);
                }
                self.assign_relays(now);
            }
        }
    }

    /// Forget a relay; its connections are left without one until `assign_relays`.
    fn drop_relay(&mut self, relay: Id) {
        let Some(allocation) = self.relays.remove(&relay) else {
            return;
        };
        for address in allocation.addresses() {
            if self.relay_addresses.get(address) == Some(&relay) {
                self.relay_addresses.remove(address);
            }
            self.former_relays.push_back(address.ip());
        }
        while self.former_relays.len() > FORMER_RELAYS {
            self.former_relays.pop_front();
        }
        for id in self.users_of(relay) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.withdraw_relayed(None);
                connection.relay = None;
            }
            self.touched.insert(id);
        }
    }

    fn assign_relays(&mut self, now: Instant) {
        let without: Vec<Id> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.relay.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in without {
            if let Some(relay) = self.choose_relay() {
                self.use_relay(id, relay, now);
            }
        }
    }

    fn choose_relay(&mut self) -> Option<Id> {
        let measured: Vec<(Id, Duration)> = self
            .relays
            .iter()
            .filter_map(|(id, allocation)| Some((*id, allocation.rtt()?)))
            .collect();
        relay_choice::choose(&measured, &mut self.rng)
    }

    fn users_of(&self, relay: Id) -> Vec<Id> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.relay == Some(relay))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Offer what the relay granted, now or as soon as it does, and ask it for channels.
    fn use_relay(&mut self, id: Id, relay: Id, now: Instant) {
        let (Some(connection), Some(allocation)) =
            (self.connections.get_mut(&id), self.relays.get(&relay))
        else {
            return;
        };
        connection.relay = Some(relay);
        if let Some(active) = allocation.active() {
            for relayed in allocation.relayed() {
                connection.offer_relayed(*relayed, active.local, &mut self.rng);
            }
        }
        self.touched.insert(id);
        self.bind_channels(id, now);
    }

    fn bind_channels(&mut self, id: Id, now: Instant) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let Some(relay) = connection.relay else {
            return;
        };
        for peer in connection.channel_peers() {
            self.bind_channel(id, relay, peer, now);
        }
    }

    /// Make sure that there is a channel to this address of a peer, within the peer's share.
    fn bind_channel(&mut self, id: Id, relay: Id, address: SocketAddr, now: Instant) {
        self.forget_channels(now);
        let Some(allocation) = self.relays.get_mut(&relay) else {
            return;
        };
        let taken = self.channels_taken.get(&id).copied().unwrap_or(0);
        let is_new = allocation.channel_to(address).is_none();
        if is_new && taken >= MAX_CHANNELS_OF_A_PEER {
            return;
        }
        if allocation.bind(address, now) && is_new {
            self.channels_taken.insert(id, taken + 1);
            self.channel_ages.push_back((now, id));
        }
    }

    fn forget_channels(&mut self, now: Instant) {
        while let Some(&(taken_at, id)) = self.channel_ages.front()
            && now >= taken_at + CHANNEL_MEMORY
        {
            self.channel_ages.pop_front();
            if let Some(taken) = self.channels_taken.get_mut(&id) {
                *taken -= 1;
                if *taken == 0 {
                    self.channels_taken.remove(&id);
                }
            }
        }
    }

    fn step_connection(&mut self, id: Id, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let checks = match connection.step(&mut self.rng, now) {
            Ok(checks) => checks,
            Err(reason) => {
                self.remove_peer(id);
                self.events.push_back(NodeEvent::PathFailed { id, reason });
                return;
            }
        };
        let relay = connection.relay;
        let (added, removed) = connection.take_signals();
        if !added.is_empty() {
            self.events.push_back(NodeEvent::CandidatesAdded {
                id,
                candidates: added,
            });
        }
        if !removed.is_empty() {
            self.events.push_back(NodeEvent::CandidatesRemoved {
                id,
                candidates: removed,
            });
        }
        for check in checks {
            self.send_check(id, relay, check, now);
        }
        self.select_path(id, now);
        if let Some(connection) = self.connections.get_mut(&id) {
            let deadline = connection.poll_timeout();
            if let Some(old) = std::mem::replace(&mut connection.deadline, deadline) {
                self.timers.remove(&(old, id));
            }
            if let Some(deadline) = deadline {
                self.timers.insert((deadline, id));
            }
        }
    }

    fn send_check(&mut self, id: Id, relay: Option<Id>, check: Check, now: Instant) {
        let Check {
            source,
            destination,
            payload,
        } = check;
        if let Ok(message) = Message::parse(&payload)
            && (message.class(), message.method()) == (Class::Request, Method::BINDING)
        {
            let pair = Pair {
                source,
                destination,
            };
            let asked = Asked { id, pair, at: now };
            self.transactions.insert(message.transaction_id(), asked);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.note_sent(pair, now);
            }
            self.transaction_ages
                .push_back((now, message.transaction_id()));
        }
        if self.hosts.contains(&source) {
            self.transmits.push_back(Transmit {
                local: Some(source),
                remote: destination,
                payload,
            });
            return;
        }
        let Some(path) = self.relayed_path_from(id, relay, source, destination, now) else {
            return; // The relayed address is void since a moment ago.
        };
        let Some(number) = path.channel else { return };
        let mut framed = Vec::with_capacity(CHANNEL_HEADER + payload.len());
        framed.extend_from_slice(&channel_header(number, payload.len() as u16));
        framed.extend_from_slice(&payload);
        self.transmits.push_back(Transmit {
            local: path.local,
            remote: path.send_to,
            payload: framed,
        });
        if let Some(allocation) = relay.and_then(|relay| self.relays.get_mut(&relay)) {
            allocation.note_sent(now);
        }
    }

    /// The way from a relayed address of ours; binds the channel if there is none.
    fn relayed_path_from(
        &mut self,
        id: Id,
        relay: Option<Id>,
        source: SocketAddr,
        destination: SocketAddr,
        now: Instant,
    ) -> Option<Path<Id>> {
        let relay = relay?;
        if self.relays.get(&relay)?.relayed_towards(destination) != Some(source) {
            return None;
        }
        self.bind_channel(id, relay, destination, now);
        relayed_path(relay, self.relays.get(&relay)?, destination)
    }

    /// Turn the chosen pair into a path, and report it if it is another than before.
    fn select_path(&mut self, id: Id, now: Instant) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let Some(Pair {
            source,
            destination,
        }) = connection.chosen()
        else {
            return;
        };
        let relay = connection.relay;
        let far_relay = connection.is_remote_relay(destination);
        let path = if self.hosts.contains(&source) {
            Some(direct_path(source, destination))
        } else {
            self.relayed_path_from(id, relay, source, destination, now)
        };
        let Some(mut path) = path else { return };
        path.kind = match (path.relay.is_some(), far_relay) {
            (false, false) => PathKind::Direct,
            (false, true) => PathKind::RemoteRelay,
            (true, false) => PathKind::LocalRelay,
            (true, true) => PathKind::BothRelays,
        };
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.path != Some(path)
        {
            connection.path = Some(path);
            self.events.push_back(NodeEvent::PathSelected { id, path });
        }
    }

    fn forget_transactions(&mut self, now: Instant) {
        while let Some((sent_at, transaction)) = self.transaction_ages.front()
            && now >= *sent_at + TRANSACTION_MEMORY
        {
            self.transactions.remove(transaction);
            self.transaction_ages.pop_front();
        }
        // When everybody connects at once there are many for a moment.
        if self.transactions.capacity() > SPARE_TRANSACTIONS + 4 * self.transactions.len() {
            self.transactions.shrink_to(2 * self.transactions.len());
        }
        if self.transaction_ages.capacity() > SPARE_TRANSACTIONS + 4 * self.transaction_ages.len() {
            self.transaction_ages
                .shrink_to(2 * self.transaction_ages.len());
        }
    }
}

/// A check in flight.
struct Asked<Id> {
    id: Id,
    pair: Pair,
    at: Instant,
}

enum Relayed {
    Consumed,
    Unwrapped {
        peer: SocketAddr,
        relayed: SocketAddr,
    },
    /// Not what a relay sends: a peer may share its address.
    Foreign,
}

impl Debug for IceCredentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("IceCredentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl<Id: Debug> Debug for RelayConfig<Id> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RelayConfig")
            .field("id", &self.id)
            .field("addresses", &self.addresses)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

fn direct_path<Id>(local: SocketAddr, remote: SocketAddr) -> Path<Id> {
    Path {
        kind: PathKind::Direct,
        local: Some(local),
        send_to: remote,
        remote,
        channel: None,
        relayed: None,
        relay: None,
    }
}

fn relayed_path<Id>(relay: Id, allocation: &Allocation, remote: SocketAddr) -> Option<Path<Id>> {
    let active = allocation.active()?;
    Some(Path {
        kind: PathKind::LocalRelay,
        local: Some(active.local),
        send_to: active.remote,
        remote,
        channel: Some(allocation.channel_to(remote)?),
        relayed: allocation.relayed_towards(remote),
        relay: Some(relay),
    })
}

/// The first IPv4 and the first IPv6 address.
fn one_per_family(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let v6 = addresses.iter().find(|address| address.is_ipv6());
    v4.into_iter().chain(v6).copied().collect()
}
