//! Peers and the way to them: which WireGuard tunnel and which path carries a packet.
//!
//! A peer is known by its name; its *connection* (ICE agent, path, WireGuard tunnel) comes and goes. Each connection has an
//! index of its own, 24 bits wide, which names it to the node and leads WireGuard messages to it, so that a replaced
//! connection's late messages and events find nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustc_hash::FxHashMap;
use wardgate_connect::{Node, Path};
use wardgate_packet::offload::TunRead;
use wardgate_wireguard::{
    DATA_HEADER_SIZE, DATA_OVERHEAD, Gate, Keys, PresharedKey, PrivateKey, PublicKey, Timers,
    TimestampClock, Tunnel, TunnelConfig,
};

use super::control_budget::ControlBudget;
use super::counters::{Counter, Counters};
use super::packet_ring::PacketRing;
use crate::Outbox;
use crate::command::{self, IceRole};

/// WireGuard messages held until there is a path (data-plane §1.8).
const HELD_MESSAGES: usize = 128;
/// Packets that wait for the connection to stand (data-plane §4.3).
const WAITING_PACKETS: usize = 128;
/// Control packets that wait likewise.
const WAITING_CONTROL: usize = 128;
/// The controlling side starts a handshake of its own accord no more often than this (data-plane §1.8).
const PROACTIVE_HANDSHAKE_SPACING: Duration = Duration::from_secs(20);
/// How precisely the node is told of activity; its timers count tens of seconds.
const ACTIVITY_RESOLUTION: Duration = Duration::from_secs(1);
const CHANNEL_HEADER: usize = 4;
const INDEX_BITS: u32 = 24;

/// A peer, for as long as anything is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(u32);

impl PeerKey {
    pub const fn number(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
impl PeerKey {
    pub const fn numbered(number: u32) -> Self {
        Self(number)
    }
}

/// Names connections to the node, and relays to it in a space of their own.
pub type NodeId = u32;

pub struct Links {
    pub node: Node<NodeId>,
    pub gate: Gate,
    keys: Arc<Keys>,
    clock: TimestampClock,
    rng: StdRng,
    peers: BTreeMap<PeerKey, Peer>,
    by_name: BTreeMap<Arc<str>, PeerKey>,
    by_public_key: FxHashMap<PublicKey, PeerKey>,
    by_index: FxHashMap<u32, PeerKey>,
    /// One entry per connection at most; may be earlier than the tunnel's deadline, never later.
    deadlines: BTreeSet<(Instant, PeerKey)>,
    last_key: u32,
    last_index: u32,
}

pub struct Peer {
    pub name: Arc<str>,
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
    /// Apart, since the nodes of a tree have room for neighbours that are not there.
    pub connection: Option<Box<Connection>>,
    pub control_budget: ControlBudget,
}

pub struct Connection {
    pub index: u32,
    pub config: ConnectionConfig,
    pub tunnel: Tunnel,
    pub path: Option<Path<NodeId>>,
    pub upserted_at: Instant,
    pub has_session: bool,
    /// Path and session have both stood once.
    pub is_established: bool,
    pub held: VecDeque<Vec<u8>>,
    pub waiting: PacketRing,
    pub waiting_control: PacketRing,
    pub sent: Carried,
    pub received: Carried,
    last_proactive_handshake_at: Option<Instant>,
    activity_noted_at: Option<Instant>,
    scheduled_at: Option<Instant>,
}

/// Inner packets of one connection in one direction, control packets among them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    pub packets: u64,
    pub bytes: u64,
}

impl Carried {
    pub fn add(&mut self, length: usize) {
        self.packets += 1;
        self.bytes += length as u64;
    }
}

/// All that makes two connections different ones (data-plane §1.8).
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    pub public_key: PublicKey,
    pub preshared_key: PresharedKey,
    pub local_ice: command::IceCredentials,
    pub remote_ice: command::IceCredentials,
    pub role: IceRole,
    pub profile: command::IceProfile,
}

/// Why a packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// No connection at all.
    Gone,
    /// No path or no session yet, or the session has become too old.
    NotEstablished,
}

impl Links {
    pub fn new(
        private_key: [u8; 32],
        mut rng: StdRng,
        epoch: Instant,
        unix_at_epoch: Duration,
    ) -> Self {
        let keys = Arc::new(Keys::new(PrivateKey::new(private_key)));
        Self {
            node: Node::new(rng.random()),
            gate: Gate::new(&keys.public, rng.random(), epoch),
            keys,
            clock: TimestampClock::new(epoch, unix_at_epoch),
            peers: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_public_key: FxHashMap::default(),
            by_index: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            last_key: 0,
            last_index: rng.random_range(0..1 << INDEX_BITS),
            rng,
        }
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Adopt another key; only sensible without connections.
    pub fn replace_keys(&mut self, private_key: [u8; 32], now: Instant) {
        self.keys = Arc::new(Keys::new(PrivateKey::new(private_key)));
        self.gate = Gate::new(&self.keys.public, self.rng.random(), now);
    }

    pub fn key_of(&self, name: &str) -> Option<PeerKey> {
        self.by_name.get(name).copied()
    }

    pub fn key_of_index(&self, index: u32) -> Option<PeerKey> {
        self.by_index.get(&index).copied()
    }

    pub fn key_of_public_key(&self, public_key: &PublicKey) -> Option<PeerKey> {
        self.by_public_key.get(public_key).copied()
    }

    /// Who has a WireGuard session under this key, and so its private half.
    pub fn session_owner(&self, public_key: &PublicKey) -> Option<PeerKey> {
        let key = self.key_of_public_key(public_key)?;
        let connection = self.peers.get(&key)?.connection.as_deref()?;
        connection.has_session.then_some(key)
    }

    pub fn peer(&self, key: PeerKey) -> Option<&Peer> {
        self.peers.get(&key)
    }

    /// Whether Python is to hear of one more control packet of this peer.
    pub fn take_control(&mut self, key: PeerKey, now: Instant) -> bool {
        self.peers
            .get_mut(&key)
            .is_some_and(|peer| peer.control_budget.take(now))
    }

    /// Whether packets have passed of late.
    pub fn is_in_use(&self, key: PeerKey) -> bool {
        let connection = self
            .peers
            .get(&key)
            .and_then(|peer| peer.connection.as_deref());
        connection.is_some_and(|one| !self.node.is_idle(one.index))
    }

    pub fn connection(&mut self, key: PeerKey) -> Option<&mut Connection> {
        self.peers.get_mut(&key)?.connection.as_deref_mut()
    }

    pub fn name(&self, key: PeerKey) -> String {
        self.peers
            .get(&key)
            .map(|peer| peer.name.to_string())
            .unwrap_or_default()
    }

    pub fn peer_keys(&self) -> Vec<PeerKey> {
        self.peers.keys().copied().collect()
    }

    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.peers
            .values()
            .filter_map(|peer| peer.connection.as_deref())
    }

    /// The key of a named peer, new if there is none; only its addresses change.
    pub fn upsert_peer(&mut self, name: &str, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> PeerKey {
        if let Some(key) = self.key_of(name) {
            if let Some(peer) = self.peers.get_mut(&key) {
                (peer.ipv4, peer.ipv6) = (ipv4, ipv6);
            }
            return key;
        }
        self.last_key += 1;
        let key = PeerKey(self.last_key);
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), key);
        self.peers.insert(
            key,
            Peer {
                name,
                ipv4,
                ipv6,
                connection: None,
                control_budget: ControlBudget::default(),
            },
        );
        key
    }

    pub fn forget_peer(&mut self, key: PeerKey) {
        self.drop_connection(key);
        if let Some(peer) = self.peers.remove(&key) {
            self.by_name.remove(&peer.name);
        }
    }

    /// An index that no connection has.
    pub fn free_index(&mut self) -> u32 {
        loop {
            self.last_index = (self.last_index + 1) & ((1 << INDEX_BITS) - 1);
            if !self.by_index.contains_key(&self.last_index) {
                return self.last_index;
            }
        }
    }

    /// Give a peer a connection that the node already knows by `index`, in place of the one it may have. Packets that waited
    /// for that one wait for this one.
    pub fn connect(&mut self, key: PeerKey, index: u32, config: ConnectionConfig, now: Instant) {
        let (waiting, waiting_control) = match self.drop_connection(key) {
            Some(former) => {
                let former = *former;
                (former.waiting, former.waiting_control)
            }
            None => (
                PacketRing::new(WAITING_PACKETS),
                PacketRing::new(WAITING_CONTROL),
            ),
        };
        let tunnel = Tunnel::new(
            TunnelConfig {
                keys: self.keys.clone(),
                peer: config.public_key,
                preshared_key: config.preshared_key.clone(),
                index,
                timers: Timers::CLASSIC,
                seed: StdRng::from_rng(&mut self.rng).random(),
                clock: self.clock,
            },
            now,
        );
        self.by_index.insert(index, key);
        self.by_public_key.insert(config.public_key, key);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.connection = Some(Box::new(Connection {
                index,
                config,
                tunnel,
                path: None,
                upserted_at: now,
                has_session: false,
                is_established: false,
                held: VecDeque::new(),
                waiting,
                waiting_control,
                sent: Carried::default(),
                received: Carried::default(),
                last_proactive_handshake_at: None,
                activity_noted_at: None,
                scheduled_at: None,
            }));
        }
        self.schedule(key);
    }

    /// Forget a peer's connection, not the peer.
    pub fn drop_connection(&mut self, key: PeerKey) -> Option<Box<Connection>> {
        let connection = self.peers.get_mut(&key)?.connection.take()?;
        self.node.remove_peer(connection.index);
        self.by_index.remove(&connection.index);
        let public_key = connection.config.public_key;
        if self.by_public_key.get(&public_key) == Some(&key) {
            self.by_public_key.remove(&public_key);
        }
        if let Some(at) = connection.scheduled_at {
            self.deadlines.remove(&(at, key));
        }
        Some(connection)
    }

    /// Note when the tunnel wants its next `handle_timeout`. A deadline that moved back is left: it wakes for nothing once.
    pub fn schedule(&mut self, key: PeerKey) {
        let Some(connection) = self
            .peers
            .get_mut(&key)
            .and_then(|peer| peer.connection.as_deref_mut())
        else {
            return;
        };
        let Some(deadline) = connection.tunnel.poll_timeout() else {
            return;
        };
        if connection.scheduled_at.is_none_or(|at| deadline < at) {
            if let Some(at) = connection.scheduled_at.replace(deadline) {
                self.deadlines.remove(&(at, key));
            }
            self.deadlines.insert((deadline, key));
        }
    }

    /// Connections whose tunnels may have something to do at `now`; each is scheduled anew by [`Links::schedule`].
    pub fn take_due(&mut self, now: Instant) -> Vec<PeerKey> {
        let mut due = Vec::new();
        while let Some((deadline, key)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(connection) = self.connection(key) {
                connection.scheduled_at = None;
            }
            due.push(key);
        }
        due
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let tunnels = self.deadlines.first().map(|(deadline, _)| *deadline);
        [tunnels, self.node.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tell the node that packets move, so that it neither idles nor lets a channel lapse.
    pub fn note_activity(&mut self, key: PeerKey, sent: bool, now: Instant) {
        let Some(connection) = self
            .peers
            .get_mut(&key)
            .and_then(|peer| peer.connection.as_deref_mut())
        else {
            return;
        };
        let is_recent = connection
            .activity_noted_at
            .is_some_and(|at| now.saturating_duration_since(at) < ACTIVITY_RESOLUTION);
        if is_recent {
            return;
        }
        connection.activity_noted_at = Some(now);
        self.node.note_activity(connection.index, now);
        if sent && let Some(relay) = connection.path.and_then(|path| path.relay) {
            self.node.note_relayed(relay, now);
        }
    }

    /// Seal every segment of `read` into the outbox, each changed by `edit` before. Returns how many were sent; those behind
    /// a failure are the caller's to keep or drop.
    #[expect(clippy::too_many_arguments, reason = "the send path's one step")]
    pub fn send_segments(
        &mut self,
        key: PeerKey,
        read: &TunRead<'_>,
        ecn: u8,
        edit: impl Fn(&mut [u8]),
        counters: &mut Counters,
        now: Instant,
        out: &mut impl Outbox,
    ) -> (usize, Result<(), NotSent>) {
        let Some(connection) = self
            .peers
            .get_mut(&key)
            .and_then(|peer| peer.connection.as_deref_mut())
        else {
            return (0, Err(NotSent::Gone));
        };
        let Some(path) = connection.path else {
            return (0, Err(NotSent::NotEstablished));
        };
        let mut sent = 0;
        for segment in read.segments() {
            let length = segment.len();
            let (slot, room) = datagram(out, &path, ecn, length + DATA_OVERHEAD);
            let packet = &mut slot[room + DATA_HEADER_SIZE..][..length];
            segment.write_into(packet);
            edit(packet);
            if connection.tunnel.seal(&mut slot[room..], now).is_err() {
                out.rollback();
                return (sent, Err(NotSent::NotEstablished));
            }
            counters.add(Counter::PacketsSent, 1);
            counters.add(Counter::BytesSent, length);
            connection.sent.add(length);
            sent += 1;
        }
        self.note_activity(key, true, now);
        self.schedule(key);
        (sent, Ok(()))
    }

    /// Seal one packet.
    pub fn send_packet(
        &mut self,
        key: PeerKey,
        packet: &[u8],
        counters: &mut Counters,
        now: Instant,
        out: &mut impl Outbox,
    ) -> Result<(), NotSent> {
        self.send_segments(key, &TunRead::whole(packet), 0, |_| (), counters, now, out)
            .1
    }
}

impl Connection {
    /// Start a handshake as the controlling side, unless one was started a moment ago (data-plane §1.8).
    pub fn initiate_proactively(&mut self, now: Instant) {
        let is_spaced = self
            .last_proactive_handshake_at
            .is_none_or(|at| now.saturating_duration_since(at) >= PROACTIVE_HANDSHAKE_SPACING);
        if self.config.role == IceRole::Controlling && is_spaced {
            self.last_proactive_handshake_at = Some(now);
            self.tunnel.initiate(now);
        }
    }

    /// Send what the tunnel has to say, or hold it until there is a path.
    pub fn transmit_messages(&mut self, out: &mut impl Outbox) {
        while let Some(message) = self.tunnel.poll_transmit() {
            if self.held.len() >= HELD_MESSAGES {
                self.held.pop_front();
            }
            self.held.push_back(message);
        }
        if let Some(path) = self.path {
            for message in self.held.drain(..) {
                send_message(&path, &message, out);
            }
        }
    }
}

/// Send one finished WireGuard message on a path.
pub fn send_message(path: &Path<NodeId>, message: &[u8], out: &mut impl Outbox) {
    let (slot, room) = datagram(out, path, 0, message.len());
    slot[room..].copy_from_slice(message);
}

/// Room for a message of `length` bytes on a path, behind a channel header where the path needs one.
fn datagram<'a>(
    out: &'a mut impl Outbox,
    path: &Path<NodeId>,
    ecn: u8,
    length: usize,
) -> (&'a mut [u8], usize) {
    let Some(channel) = path.channel else {
        return (out.reserve(path.local, path.send_to, ecn, length), 0);
    };
    let slot = out.reserve(path.local, path.send_to, ecn, CHANNEL_HEADER + length);
    slot[..2].copy_from_slice(&channel.to_be_bytes());
    slot[2..CHANNEL_HEADER].copy_from_slice(&(length as u16).to_be_bytes());
    (slot, CHANNEL_HEADER)
}
