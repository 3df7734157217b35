//! The relay: a whole STUN and TURN server over UDP, sans-IO.
//!
//! ```text
//!                  listen port                       allocation ports
//!  client ── STUN, channel data ──▶ RelayEngine ── payload from (public IP, allocation) ──▶ peer
//!         ◀── answers, channel data ─┘        └◀─────────────── payload ────────────────────
//! ```
//!
//! Credentials are derived from one secret and nonces are recomputed, so that whoever is not authenticated costs no memory.
//! A channel binding is the only permission. Two peers that hold allocations here are connected inside the engine, because
//! a relay behind 1:1 NAT never receives what it sends to its own public address.
//!
//! Deliberately absent: Send and Data indications, TCP, permissions beyond channels, 441 for a changed user (relay §3.5
//! tells why the old allocation goes instead).

mod allocation_table;
mod credentials;
mod peer_rules;
mod rate_limit;
mod request;
mod stats;
#[cfg(test)]
mod tests;

pub use peer_rules::PeerRules;
pub use stats::RelayStats;

use crate::Outbox;
use allocation_table::{Allocation, AllocationTable, BindError, Families, endpoint, family};
use credentials::{AuthFailure, Credential, Gatekeeper, REALM};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rate_limit::RateLimiter;
use request::{Allocate, Request};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};
use wardgate_stun::{
    AddressFamily, CHANNEL_HEADER, ChannelData, Class, IntegrityKey, Message, MessageBuilder,
    Shape, TRANSPORT_UDP, channel_header, shape,
};

/// Lifetime of an allocation when the client names none (RFC 8656 §3.2).
const DEFAULT_LIFETIME_S: u32 = 600;

/// Longest lifetime granted (RFC 8656 §7.2).
const MAX_LIFETIME_S: u32 = 3_600;

/// Largest UDP payload over IPv4, so that a framed datagram can be sent in either family.
const MAX_DATAGRAM: usize = 65_507;

/// Ports that the operating system may refuse before an allocation is refused.
const MAX_BIND_ATTEMPTS: usize = 16;

const SOFTWARE: &str = concat!("wardgate-relay; ", env!("CARGO_PKG_VERSION"));

/// Sockets of allocations, held by whoever drives the engine.
pub trait RelayPorts {
    /// Receive at this public address, which names the socket in later calls; false when it cannot be bound.
    ///
    /// The engine then takes another port. An allocation of both families opens both, or neither.
    fn open(&mut self, address: SocketAddr) -> bool;

    /// Stop receiving at an address that was opened.
    fn close(&mut self, address: SocketAddr);
}

#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// 64 hexadecimal digits; their text is what is hashed. Lives as long as the process.
    pub stamp_secret: String,
    /// Public addresses as announced; at least one.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Public listen port.
    pub port: u16,
    pub allocation_ports: RangeInclusive<u16>,
    pub peer_rules: PeerRules,
    pub seed: [u8; 32],
    pub epoch: Instant,
    /// Wall time at `epoch`, since the Unix epoch.
    pub unix_at_epoch: Duration,
}

/// One relay. Driven by [`handle_network`](Self::handle_network) and [`handle_timeout`](Self::handle_timeout).
pub struct RelayEngine {
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    port: u16,
    peer_rules: PeerRules,
    gatekeeper: Gatekeeper,
    limiter: RateLimiter,
    table: AllocationTable,
    rng: StdRng,
    draining: bool,
    /// Memory of the last answer, for the next.
    answer: Vec<u8>,
    stats: RelayStats,
}

/// Where a payload goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    local: SocketAddr,
    remote: SocketAddr,
    /// The receiver is a client, to be addressed by this channel.
    channel: Option<u16>,
    /// Sender and receiver are both clients here.
    hairpin: bool,
}

impl RelayEngine {
    pub fn new(config: RelayConfig) -> RelayEngine {
        let mut rng = StdRng::from_seed(config.seed);
        let nonce_key: [u8; 32] = rng.random();
        RelayEngine {
            ipv4: config.ipv4,
            ipv6: config.ipv6,
            port: config.port,
            peer_rules: config.peer_rules,
            gatekeeper: Gatekeeper::new(
                config.stamp_secret,
                nonce_key,
                config.epoch,
                config.unix_at_epoch,
            ),
            limiter: RateLimiter::new(rng.random(), config.epoch),
            table: AllocationTable::new(&config.allocation_ports),
            rng,
            draining: false,
            answer: Vec::new(),
            stats: RelayStats::default(),
        }
    }

    /// Datagrams of `stride` bytes each, the last maybe shorter, that arrived together in `buffer`.
    ///
    /// `to` is a public address: the listen address or that of an allocation. What is passed on carries the `ecn` bits on.
    #[expect(
        clippy::too_many_arguments,
        reason = "what the kernel says of a datagram, as the kernel says it"
    )]
    pub fn handle_network<Io: Outbox + RelayPorts>(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        ecn: u8,
        stride: usize,
        buffer: &[u8],
        now: Instant,
        io: &mut Io,
    ) {
        self.handle_timeout(now, io);
        let from = endpoint(from);
        if buffer.is_empty() || from.port() == 0 {
            self.stats.dropped_packets += 1;
            return;
        }
        let datagrams = buffer.chunks(if stride == 0 { buffer.len() } else { stride });
        if to.port() == self.port {
            self.handle_clients(from, to, ecn, datagrams, now, io);
        } else {
            self.handle_peer(from, to, ecn, datagrams, now, io);
        }
    }

    /// End what has run out. Due at [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout<Io: Outbox + RelayPorts>(&mut self, now: Instant, io: &mut Io) {
        while let Some(allocation) = self.table.expire(now) {
            self.close(&allocation, io);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.table.next_deadline()
    }

    /// Refuse new allocations (508) from now on; those that exist go on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether no allocation is left.
    pub fn is_idle(&self) -> bool {
        self.table.len() == 0
    }

    /// Say what wall time `now` is, after the clock was set. Credentials expire by it.
    pub fn set_wall_clock(&mut self, unix: Duration, now: Instant) {
        self.gatekeeper.set_wall_clock(unix, now);
    }

    pub fn stats(&self) -> RelayStats {
        RelayStats {
            allocations: self.table.len() as u64,
            channels: self.table.channels() as u64,
            ..self.stats
        }
    }

    fn handle_clients<'b, Io: Outbox + RelayPorts>(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        ecn: u8,
        datagrams: impl Iterator<Item = &'b [u8]>,
        now: Instant,
        io: &mut Io,
    ) {
        // Datagrams that arrive together are nearly always of one channel.
        let mut latest: Option<(u16, Route)> = None;
        for datagram in datagrams {
            match shape(datagram) {
                Some(Shape::Stun) => {
                    latest = None;
                    self.handle_stun(from, to, datagram, now, io);
                }
                Some(Shape::ChannelData) => {
                    let Some(frame) = ChannelData::parse(datagram) else {
                        self.stats.dropped_packets += 1;
                        continue;
                    };
                    let route = match latest {
                        Some((number, route)) if number == frame.number => Some(route),
                        _ => self.route_from_client(from, frame.number, now),
                    };
                    latest = route.map(|route| (frame.number, route));
                    self.pass_on(route, ecn, frame.payload, io);
                }
                None => self.stats.dropped_packets += 1,
            }
        }
    }

    fn handle_peer<'b, Io: Outbox + RelayPorts>(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        ecn: u8,
        datagrams: impl Iterator<Item = &'b [u8]>,
        now: Instant,
        io: &mut Io,
    ) {
        let route = self.route_from_peer(from, to.port(), now);
        for datagram in datagrams {
            self.pass_on(route, ecn, datagram, io);
        }
    }

    fn pass_on<Io: Outbox>(&mut self, route: Option<Route>, ecn: u8, payload: &[u8], io: &mut Io) {
        let Some(route) =
            route.filter(|_| !payload.is_empty() && payload.len() <= MAX_DATAGRAM - CHANNEL_HEADER)
        else {
            self.stats.dropped_packets += 1;
            return;
        };
        match route.channel {
            Some(number) => {
                let room = io.reserve(
                    Some(route.local),
                    route.remote,
                    ecn,
                    CHANNEL_HEADER + payload.len(),
                );
                room[..CHANNEL_HEADER]
                    .copy_from_slice(&channel_header(number, payload.len() as u16));
                room[CHANNEL_HEADER..].copy_from_slice(payload);
            }
            None => io
                .reserve(Some(route.local), route.remote, ecn, payload.len())
                .copy_from_slice(payload),
        }
        self.stats.relayed_packets += 1;
        self.stats.relayed_bytes += payload.len() as u64;
        self.stats.hairpinned_packets += u64::from(route.hairpin);
    }

    fn route_from_client(&self, client: SocketAddr, number: u16, now: Instant) -> Option<Route> {
        let allocation = self.table.by_client(client)?;
        let peer = allocation.peer(number, now)?;
        let local = SocketAddr::new(self.public_ip(family(peer))?, allocation.port);
        if local.ip() == peer.ip() && self.table.by_port(peer.port()).is_some() {
            return Some(Route {
                hairpin: true,
                ..self.route_from_peer(local, peer.port(), now)?
            });
        }
        Some(Route {
            local,
            remote: peer,
            channel: None,
            hairpin: false,
        })
    }

    fn route_from_peer(&self, peer: SocketAddr, port: u16, now: Instant) -> Option<Route> {
        let allocation = self.table.by_port(port)?;
        let channel = allocation.number(peer, now)?;
        let local = SocketAddr::new(self.public_ip(family(allocation.client))?, self.port);
        Some(Route {
            local,
            remote: allocation.client,
            channel: Some(channel),
            hairpin: false,
        })
    }

    fn handle_stun<Io: Outbox + RelayPorts>(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
        io: &mut Io,
    ) {
        let answer = match Message::parse(datagram) {
            Ok(message) if message.class() == Class::Request => {
                self.answer(&message, from, now, io)
            }
            _ => None,
        };
        let Some(answer) = answer else {
            self.stats.dropped_packets += 1;
            return;
        };
        io.reserve(Some(to), from, 0, answer.len())
            .copy_from_slice(&answer);
        self.answer = answer;
    }

    fn answer<Io: RelayPorts>(
        &mut self,
        message: &Message<'_>,
        from: SocketAddr,
        now: Instant,
        io: &mut Io,
    ) -> Option<Vec<u8>> {
        let request = match Request::parse(message) {
            Ok(Request::Binding) => {
                if !self.may_answer(from, now) {
                    self.stats.rate_limited += 1;
                    return None;
                }
                return Some(self.success(message, None, |answer| answer.xor_mapped_address(from)));
            }
            Ok(request) => request,
            Err(_) => return self.refuse(message, from, ErrorAnswer::BAD_REQUEST, now),
        };
        let credential = match self.gatekeeper.authenticate(message, from, now) {
            Ok(credential) => credential,
            Err(AuthFailure::Unauthorized) => {
                return self.refuse(message, from, ErrorAnswer::UNAUTHORIZED, now);
            }
            Err(AuthFailure::StaleNonce) => {
                return self.refuse(message, from, ErrorAnswer::STALE_NONCE, now);
            }
        };
        let evicted = self.evict_former_user(from, credential.username, io);
        let key = &credential.key;
        let outcome = match request {
            // Each opens sockets, which costs more than to ask for it.
            Request::Allocate(_) if !self.limiter.take_of_user(credential.username, now) => {
                self.stats.rate_limited += 1;
                return None;
            }
            Request::Allocate(allocate) => {
                return Some(match self.allocate(&allocate, &credential, from, now, io) {
                    Ok((relayed, lifetime_s)) => self.success(message, Some(key), |answer| {
                        relayed
                            .into_iter()
                            .flatten()
                            .fold(answer, MessageBuilder::xor_relayed_address)
                            .xor_mapped_address(from)
                            .lifetime(lifetime_s)
                    }),
                    Err(error) => self.error(message, Some(key), error, None),
                });
            }
            // Its own allocation is gone as it wished, or else it would ask for that for ever (relay §3.5).
            Request::Refresh {
                lifetime_s: Some(0),
            } if evicted => {
                return Some(self.success(message, Some(key), |answer| answer.lifetime(0)));
            }
            Request::Refresh { lifetime_s } => {
                return Some(match self.refresh(from, lifetime_s, now, io) {
                    Ok(lifetime_s) => {
                        self.success(message, Some(key), |answer| answer.lifetime(lifetime_s))
                    }
                    Err(error) => self.error(message, Some(key), error, None),
                });
            }
            Request::ChannelBind { number, peer } => {
                self.bind_channel(from, number, endpoint(peer), now)
            }
            // A channel is the permission; stock clients ask for this one first (relay §7).
            Request::CreatePermission | Request::Binding => Ok(()),
        };
        Some(match outcome {
            Ok(()) => self.success(message, Some(key), |answer| answer),
            Err(error) => self.error(message, Some(key), error, None),
        })
    }

    /// Free an allocation whose socket now belongs to another user: NAT reuse, or a new key of the same peer (relay §3.5).
    fn evict_former_user<Io: RelayPorts>(
        &mut self,
        client: SocketAddr,
        username: &str,
        io: &mut Io,
    ) -> bool {
        let Some(allocation) = self.table.by_client(client) else {
            return false;
        };
        if allocation.username == username {
            return false;
        }
        let port = allocation.port;
        self.free(port, io);
        true
    }

    /// The checks of relay §4 in their order; gives relayed addresses, IPv4 first, and the lifetime in seconds.
    fn allocate<Io: RelayPorts>(
        &mut self,
        request: &Allocate,
        credential: &Credential<'_>,
        client: SocketAddr,
        now: Instant,
        io: &mut Io,
    ) -> Result<([Option<SocketAddr>; 2], u32), ErrorAnswer> {
        if self.table.by_client(client).is_some() {
            return Err(ErrorAnswer::ALLOCATION_MISMATCH);
        }
        if self.draining || self.table.len() == self.table.size() {
            self.stats.allocations_refused += 1;
            return Err(ErrorAnswer::INSUFFICIENT_CAPACITY);
        }
        if request.transport != TRANSPORT_UDP {
            return Err(ErrorAnswer::BAD_REQUEST);
        }
        let families = self.resolve_families(request)?;
        if let Some(port) = self
            .table
            .by_username(credential.username)
            .map(|allocation| allocation.port)
        {
            self.free(port, io);
        }
        let Some(port) = self.open_port(families, io) else {
            self.stats.allocations_refused += 1;
            return Err(ErrorAnswer::INSUFFICIENT_CAPACITY);
        };
        let lifetime_s = granted_lifetime(request.lifetime_s);
        let expires_at = now + Duration::from_secs(lifetime_s.into());
        self.table
            .insert(client, credential.username, port, families, expires_at);
        self.stats.allocations_made += 1;
        Ok((self.relayed_addresses(families, port), lifetime_s))
    }

    fn resolve_families(&self, request: &Allocate) -> Result<Families, ErrorAnswer> {
        let available = Families {
            v4: self.ipv4.is_some(),
            v6: self.ipv6.is_some(),
        };
        let wanted = match (request.requested, request.additional) {
            (Some(_), Some(_)) | (None, Some(AddressFamily::V4)) => {
                return Err(ErrorAnswer::BAD_REQUEST);
            }
            (None, Some(AddressFamily::V6)) => return Ok(available),
            (None | Some(AddressFamily::V4), None) => Families {
                v4: true,
                v6: false,
            },
            (Some(AddressFamily::V6), None) => Families {
                v4: false,
                v6: true,
            },
        };
        if (wanted.v4 && !available.v4) || (wanted.v6 && !available.v6) {
            return Err(ErrorAnswer::FAMILY_NOT_SUPPORTED);
        }
        Ok(wanted)
    }

    /// A random free port that can be bound; the search goes upwards from there.
    fn open_port<Io: RelayPorts>(&mut self, families: Families, io: &mut Io) -> Option<u16> {
        let first = self.rng.random_range(0..self.table.size());
        let mut attempts = 0;
        for step in 0..self.table.size() {
            let port = self.table.nth_port(first + step);
            if port == self.port || self.table.by_port(port).is_some() {
                continue;
            }
            if open_all(self.relayed_addresses(families, port), io) {
                return Some(port);
            }
            attempts += 1;
            if attempts == MAX_BIND_ATTEMPTS {
                return None;
            }
        }
        None
    }

    fn refresh<Io: RelayPorts>(
        &mut self,
        client: SocketAddr,
        lifetime_s: Option<u32>,
        now: Instant,
        io: &mut Io,
    ) -> Result<u32, ErrorAnswer> {
        let port = self
            .table
            .by_client(client)
            .map(|allocation| allocation.port);
        match (port, granted_lifetime(lifetime_s)) {
            (Some(port), 0) => {
                self.free(port, io);
                Ok(0)
            }
            (Some(port), lifetime_s) => {
                self.table
                    .refresh(port, now + Duration::from_secs(lifetime_s.into()));
                Ok(lifetime_s)
            }
            (None, _) => Err(ErrorAnswer::ALLOCATION_MISMATCH),
        }
    }

    /// The checks of relay §6 in their order, with those of §11.
    fn bind_channel(
        &mut self,
        client: SocketAddr,
        number: u16,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<(), ErrorAnswer> {
        let allocation = self
            .table
            .by_client(client)
            .ok_or(ErrorAnswer::ALLOCATION_MISMATCH)?;
        if !allocation.families.contains(family(peer)) {
            return Err(ErrorAnswer::PEER_FAMILY_MISMATCH);
        }
        let own = [self.ipv4.map(IpAddr::V4), self.ipv6.map(IpAddr::V6)];
        let own: Vec<IpAddr> = own.into_iter().flatten().collect();
        if !self.peer_rules.allow(peer, &own, self.port) {
            return Err(ErrorAnswer::FORBIDDEN);
        }
        let port = allocation.port;
        self.table
            .bind(port, number, peer, now)
            .map_err(|error| match error {
                BindError::Conflict => ErrorAnswer::BAD_REQUEST,
                BindError::TooMany => {
                    self.stats.channels_refused += 1;
                    ErrorAnswer::INSUFFICIENT_CAPACITY
                }
            })
    }

    fn free<Io: RelayPorts>(&mut self, port: u16, io: &mut Io) {
        if let Some(allocation) = self.table.remove(port) {
            self.close(&allocation, io);
        }
    }

    fn close<Io: RelayPorts>(&self, allocation: &Allocation, io: &mut Io) {
        for address in self
            .relayed_addresses(allocation.families, allocation.port)
            .into_iter()
            .flatten()
        {
            io.close(address);
        }
    }

    fn relayed_addresses(&self, families: Families, port: u16) -> [Option<SocketAddr>; 2] {
        [AddressFamily::V4, AddressFamily::V6].map(|family| {
            let address = self
                .public_ip(family)
                .filter(|_| families.contains(family))?;
            Some(SocketAddr::new(address, port))
        })
    }

    fn public_ip(&self, family: AddressFamily) -> Option<IpAddr> {
        match family {
            AddressFamily::V4 => self.ipv4.map(IpAddr::V4),
            AddressFamily::V6 => self.ipv6.map(IpAddr::V6),
        }
    }

    /// Whether a source that proved nothing gets an answer. Whoever holds an allocation has a bucket of its own, which
    /// nobody empties who only shares, or forges, its IP address.
    fn may_answer(&mut self, from: SocketAddr, now: Instant) -> bool {
        let since_epoch = self.limiter.since_epoch(now);
        match self.table.bucket_of_client(from) {
            Some(bucket) => bucket.take(since_epoch),
            None => self.limiter.take_of_address(from.ip(), now),
        }
    }

    /// Whether the sender of a request that is refused has signed it as one of our users does, only with no nonce or an
    /// old one. A copy of such a request proves nothing, hence a bucket for each username.
    fn may_answer_user(&mut self, message: &Message<'_>, now: Instant) -> bool {
        match self.gatekeeper.signer(message, now) {
            Some(username) => self.limiter.take_of_user(username, now),
            None => false,
        }
    }

    /// Answer a request that was not authenticated, signed if its username allows, for peers believe nothing else.
    fn refuse(
        &mut self,
        message: &Message<'_>,
        from: SocketAddr,
        error: ErrorAnswer,
        now: Instant,
    ) -> Option<Vec<u8>> {
        if !self.may_answer(from, now) && !self.may_answer_user(message, now) {
            self.stats.rate_limited += 1;
            return None;
        }
        let key = match message.username() {
            Some(username) => Some(self.gatekeeper.answer_key(username)?),
            None => None,
        };
        let challenge = matches!(error.code, 401 | 438).then(|| self.gatekeeper.nonce(from, now));
        self.stats.auth_failures += u64::from(challenge.is_some());
        Some(self.error(message, key.as_ref(), error, challenge.as_deref()))
    }

    fn success(
        &mut self,
        message: &Message<'_>,
        key: Option<&IntegrityKey>,
        attributes: impl FnOnce(MessageBuilder) -> MessageBuilder,
    ) -> Vec<u8> {
        self.stats.successes += 1;
        signed(attributes(self.start(Class::Success, message)), key)
    }

    fn error(
        &mut self,
        message: &Message<'_>,
        key: Option<&IntegrityKey>,
        error: ErrorAnswer,
        nonce: Option<&str>,
    ) -> Vec<u8> {
        self.stats.errors += 1;
        let mut answer = self
            .start(Class::Error, message)
            .error_code(error.code, error.reason);
        if let Some(nonce) = nonce {
            answer = answer.realm(REALM).nonce(nonce);
        }
        signed(answer, key)
    }

    fn start(&mut self, class: Class, message: &Message<'_>) -> MessageBuilder {
        let memory = std::mem::take(&mut self.answer);
        MessageBuilder::reusing(memory, class, message.method(), message.transaction_id())
            .software(SOFTWARE)
    }
}

/// Code and reason phrase of an error (relay §9, RFC 8656 §19).
#[derive(Clone, Copy, Debug)]
struct ErrorAnswer {
    code: u16,
    reason: &'static str,
}

impl ErrorAnswer {
    const BAD_REQUEST: Self = Self {
        code: 400,
        reason: "Bad Request",
    };
    const UNAUTHORIZED: Self = Self {
        code: 401,
        reason: "Unauthorized",
    };
    const FORBIDDEN: Self = Self {
        code: 403,
        reason: "Forbidden",
    };
    const ALLOCATION_MISMATCH: Self = Self {
        code: 437,
        reason: "Allocation Mismatch",
    };
    const STALE_NONCE: Self = Self {
        code: 438,
        reason: "Stale Nonce",
    };
    const FAMILY_NOT_SUPPORTED: Self = Self {
        code: 440,
        reason: "Address Family not Supported",
    };
    const PEER_FAMILY_MISMATCH: Self = Self {
        code: 443,
        reason: "Peer Address Family Mismatch",
    };
    const INSUFFICIENT_CAPACITY: Self = Self {
        code: 508,
        reason: "Insufficient Capacity",
    };
}

fn granted_lifetime(requested_s: Option<u32>) -> u32 {
    requested_s
        .unwrap_or(DEFAULT_LIFETIME_S)
        .min(MAX_LIFETIME_S)
}

fn open_all<Io: RelayPorts>(addresses: [Option<SocketAddr>; 2], io: &mut Io) -> bool {
    let mut opened = None;
    for address in addresses.into_iter().flatten() {
        if !io.open(address) {
            if let Some(opened) = opened {
                io.close(opened);
            }
            return false;
        }
        opened = Some(address);
    }
    true
}

fn signed(answer: MessageBuilder, key: Option<&IntegrityKey>) -> Vec<u8> {
    match key {
        Some(key) => answer.sign(key).finish(),
        None => answer.finish(),
    }
}
