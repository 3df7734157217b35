//! TURN client of one relay (RFC 8656 as peers of this system use it, data-plane §1.4).
//!
//! ```text
//! BINDING to both families ──first answer──► active socket ──► ALLOCATE ──401 + nonce──► ALLOCATE ──► granted
//!        │ none answers: lost                    ▲                                                     │
//!        ▼                                       └─────────────── expired, or 437: forgotten ──────────┤
//!      lost ◄── a request on the active socket goes unanswered, credentials refused, 420 ◄─────────────┘
//! ```
//!
//! While granted: REFRESH at half the lifetime, BINDING after 25 s without channel data, channels (see [`Channels`]).
//! Responses but to BINDING must be signed; unsigned ones are dropped as if they had been lost.
//!
//! Ours, beyond the published peers: channel data that nothing answers for [`SILENCE`] makes us ask the relay whether it
//! lives, so that a dead relay is noticed in seconds, not by the 25 s keepalive which traffic keeps postponing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use wardgate_stun::{
    AddressFamily, Class, Integrity, IntegrityKey, Message, MessageBuilder, Method, TRANSPORT_UDP,
    TransactionId,
};

use crate::channels::Channels;
use crate::event::LossReason;
use crate::transmit::Transmit;

/// Realm of every relay of this system (data-plane §1.4).
const REALM: &str = "firezone";
/// What peers put into SOFTWARE (data-plane §9.1).
const SOFTWARE: &str = "snownet";
const KEEPALIVE: Duration = Duration::from_secs(25);
const MAX_QUEUED_BINDS: usize = 100;
/// Ours: how long channel data may go without anything coming back before the relay is asked.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// Ours: rounds of stale nonces, or of allocation mismatches within a minute, before the relay counts as broken. Two that
/// use the same credentials would otherwise take the allocation from each other as fast as the network allows.
const MAX_ROUNDS: u32 = 4;
const MISMATCH_WINDOW: Duration = Duration::from_secs(60);

/// Gaps between transmissions of a request, and when to stop waiting.
#[derive(Debug, Clone, Copy)]
struct Ladder {
    first_gap: Duration,
    /// Each gap is this many halves of the one before.
    growth_halves: u32,
    /// Give up at the first gap that ends here or later, counted from the first transmission.
    limit: Duration,
}

/// Sends at 0, 1, 2.5 and 4.75 s, gives up at 8.125 s (data-plane §1.4).
const PATIENT: Ladder = Ladder {
    first_gap: Duration::from_secs(1),
    growth_halves: 3,
    limit: Duration::from_secs(8),
};
/// For a relay in doubt. The published budget is one transmission and 1 s; four survive some loss: 0, 0.3, 0.6, 0.9, up
/// at 1.2 s.
const IN_DOUBT: Ladder = Ladder {
    first_gap: Duration::from_millis(300),
    growth_halves: 2,
    limit: Duration::from_secs(1),
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Binding,
    Allocate,
    Refresh,
    Delete,
    ChannelBind { number: u16, peer: SocketAddr },
}

#[derive(Debug)]
struct InFlight {
    request: Request,
    remote: SocketAddr,
    local: Option<SocketAddr>,
    /// One per transmission, as authenticated requests get a new one each time; an answer to any counts.
    transactions: Vec<TransactionId>,
    ladder: Ladder,
    first_sent_at: Instant,
    next_at: Instant,
    gap: Duration,
    had_nonce: bool,
    rounds: u32,
}

/// The socket pair that talks to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

#[derive(Debug)]
struct Grant {
    relayed: Vec<SocketAddr>,
    refresh_at: Instant,
    refreshing: bool,
    expires_at: Instant,
}

/// A local address as one relay saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reflexive {
    pub(crate) base: SocketAddr,
    pub(crate) mapped: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AllocationEvent {
    /// A round trip was measured for the first time: connections may choose this relay.
    Reachable,
    /// A host and server-reflexive address that was not known from this relay.
    Discovered(Reflexive),
    Granted,
    /// These relayed addresses are void.
    Withdrawn(Vec<SocketAddr>),
    /// Over; the owner drops the allocation.
    Lost(LossReason),
}

#[derive(Debug)]
pub(crate) struct Allocation {
    addresses: Vec<SocketAddr>,
    username: String,
    password: String,
    key: IntegrityKey,
    nonce: Option<String>,
    active: Option<Active>,
    /// Latest per family, IPv4 first.
    reflexive: [Option<Reflexive>; 2],
    grant: Option<Grant>,
    mismatches: u32,
    mismatches_since: Instant,
    in_flight: Vec<InFlight>,
    channels: Channels,
    queued_binds: VecDeque<SocketAddr>,
    rtt: Option<Duration>,
    sent_at: Instant,
    /// When channel data was first sent after the last sign of life.
    unanswered_since: Option<Instant>,
    lost: bool,
    rng: StdRng,
    transmits: VecDeque<Transmit>,
    events: VecDeque<AllocationEvent>,
}

impl Allocation {
    /// Start by asking every address who we are; `addresses` has one per family at most.
    pub(crate) fn new(
        addresses: Vec<SocketAddr>,
        username: String,
        password: String,
        rng: StdRng,
        now: Instant,
    ) -> Self {
        let key = IntegrityKey::long_term(&username, REALM, &password);
        let mut allocation = Self {
            addresses,
            username,
            password,
            key,
            nonce: None,
            active: None,
            reflexive: [None; 2],
            grant: None,
            mismatches: 0,
            mismatches_since: now,
            in_flight: Vec::new(),
            channels: Channels::new(),
            queued_binds: VecDeque::new(),
            rtt: None,
            sent_at: now,
            unanswered_since: None,
            lost: false,
            rng,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        allocation.bring_up(now);
        allocation
    }

    /// The same relay, as if met for the first time.
    pub(crate) fn restarted(&self, rng: StdRng, now: Instant) -> Self {
        Self::new(
            self.addresses.clone(),
            self.username.clone(),
            self.password.clone(),
            rng,
            now,
        )
    }

    pub(crate) fn matches(&self, addresses: &[SocketAddr], username: &str, password: &str) -> bool {
        self.addresses == addresses && self.username == username && self.password == password
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn active(&self) -> Option<Active> {
        self.active
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(crate) fn reflexive(&self) -> impl Iterator<Item = Reflexive> + '_ {
        self.reflexive.iter().flatten().copied()
    }

    /// Granted addresses, at most one per family.
    pub(crate) fn relayed(&self) -> &[SocketAddr] {
        self.grant.as_ref().map_or(&[], |grant| &grant.relayed)
    }

    /// Our relayed address that a peer of this family sees.
    pub(crate) fn relayed_towards(&self, peer: SocketAddr) -> Option<SocketAddr> {
        self.relayed()
            .iter()
            .copied()
            .find(|relayed| relayed.is_ipv4() == peer.is_ipv4())
    }

    /// The number to send to `peer` with, once its binding has at least been requested.
    pub(crate) fn channel_to(&self, peer: SocketAddr) -> Option<u16> {
        self.channels.number(peer)
    }

    /// Who sent what came in on channel `number`; none if it is unknown.
    pub(crate) fn handle_channel_data(&mut self, number: u16, now: Instant) -> Option<SocketAddr> {
        self.unanswered_since = None;
        let peer = self.channels.peer(number)?;
        if let Some((number, peer)) = self.channels.note_received(number, now) {
            self.start(Request::ChannelBind { number, peer }, PATIENT, now);
        }
        Some(peer)
    }

    /// Make sure that a channel to `peer` is bound or on its way; returns whether one had to be asked for now.
    pub(crate) fn bind(&mut self, peer: SocketAddr, now: Instant) -> bool {
        if self.grant.is_none() {
            if self.queued_binds.len() < MAX_QUEUED_BINDS && !self.queued_binds.contains(&peer) {
                self.queued_binds.push_back(peer);
            }
            return false;
        }
        if self.relayed_towards(peer).is_none() {
            return false; // The relay would answer 443: no address of this family.
        }
        let Some(number) = self.channels.bind(peer, now) else {
            return false;
        };
        self.start(Request::ChannelBind { number, peer }, PATIENT, now);
        true
    }

    /// Channel data went out.
    pub(crate) fn note_sent(&mut self, now: Instant) {
        self.sent_at = now;
        self.unanswered_since.get_or_insert(now);
    }

    /// Find out at once whether the relay still serves us.
    pub(crate) fn verify(&mut self, now: Instant) {
        if self.active.is_none() {
            return; // The bring-up in flight tells.
        }
        let request = if self.grant.is_some() {
            Request::Refresh
        } else {
            Request::Allocate
        };
        self.in_flight
            .retain(|flight| !matches!(flight.request, Request::Refresh | Request::Allocate));
        self.start(request, IN_DOUBT, now);
    }

    /// A datagram from one of our addresses that parsed as STUN.
    pub(crate) fn handle_message(
        &mut self,
        message: &Message<'_>,
        from: SocketAddr,
        local: SocketAddr,
        now: Instant,
    ) {
        let success = match message.class() {
            Class::Success => true,
            Class::Error => false,
            Class::Request | Class::Indication => return,
        };
        let method = message.method();
        if method != Method::BINDING && message.integrity(&self.key) != Integrity::Valid {
            return;
        }
        let transaction = message.transaction_id();
        let Some(index) = self.in_flight.iter().position(|flight| {
            flight.remote == from
                && flight.request.method() == method
                && flight.transactions.contains(&transaction)
        }) else {
            return;
        };
        let flight = self.in_flight.remove(index);
        self.unanswered_since = None;
        self.measure(now.saturating_duration_since(flight.first_sent_at));
        if success {
            self.handle_success(&flight, message, local, now);
        } else if let Some(error) = message.error_code() {
            self.handle_error(flight, error.code, message, now);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.retransmit(now);
        if self.lost {
            return;
        }
        if let Some(grant) = &mut self.grant {
            if now >= grant.expires_at {
                self.forget_grant();
                self.start(Request::Allocate, PATIENT, now);
            } else if now >= grant.refresh_at && !grant.refreshing {
                grant.refreshing = true;
                self.start(Request::Refresh, PATIENT, now);
            }
        }
        for (number, peer) in self.channels.take_due(now) {
            self.start(Request::ChannelBind { number, peer }, PATIENT, now);
        }
        if self.grant.is_some() && now >= self.sent_at + KEEPALIVE {
            self.sent_at = now;
            self.start(Request::Binding, PATIENT, now);
        }
        if self
            .unanswered_since
            .is_some_and(|since| now >= since + SILENCE)
        {
            self.unanswered_since = None;
            self.verify(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let grant = self.grant.as_ref();
        self.in_flight
            .iter()
            .map(|flight| flight.next_at)
            .chain(grant.map(|grant| {
                if grant.refreshing {
                    grant.expires_at
                } else {
                    grant.refresh_at
                }
            }))
            .chain(grant.map(|_| self.sent_at + KEEPALIVE))
            .chain(self.channels.poll_timeout())
            .chain(self.unanswered_since.map(|since| since + SILENCE))
            .min()
    }

    pub(crate) fn has_transmits(&self) -> bool {
        !self.transmits.is_empty()
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<AllocationEvent> {
        self.events.pop_front()
    }

    fn bring_up(&mut self, now: Instant) {
        for remote in self.addresses.clone() {
            self.start_to(Request::Binding, remote, None, PATIENT, now);
        }
    }

    fn handle_success(
        &mut self,
        flight: &InFlight,
        message: &Message<'_>,
        local: SocketAddr,
        now: Instant,
    ) {
        match flight.request {
            Request::Binding => {
                if let Some(mapped) = message.xor_mapped_address() {
                    self.discover(Reflexive {
                        base: local,
                        mapped,
                    });
                }
                if self.active.is_none() {
                    self.active = Some(Active {
                        remote: flight.remote,
                        local,
                    });
                    self.events.push_back(AllocationEvent::Reachable);
                    let request = if self.grant.is_some() {
                        Request::Refresh
                    } else {
                        Request::Allocate
                    };
                    self.start(request, PATIENT, now);
                }
            }
            Request::Allocate => {
                let mut relayed: Vec<SocketAddr> = Vec::new();
                for address in message.xor_relayed_addresses() {
                    if relayed
                        .iter()
                        .all(|known| known.is_ipv4() != address.is_ipv4())
                    {
                        relayed.push(address);
                    }
                }
                self.grant = Some(Grant {
                    relayed,
                    refresh_at: now,
                    refreshing: false,
                    expires_at: now,
                });
                self.extend_grant(message, now);
                self.events.push_back(AllocationEvent::Granted);
                for peer in std::mem::take(&mut self.queued_binds) {
                    self.bind(peer, now);
                }
            }
            Request::Refresh => self.extend_grant(message, now),
            Request::Delete => self.start(Request::Allocate, PATIENT, now),
            Request::ChannelBind { number, .. } => self.channels.confirm(number, now),
        }
    }

    fn handle_error(&mut self, flight: InFlight, code: u16, message: &Message<'_>, now: Instant) {
        match (code, flight.request) {
            (401, _) if flight.had_nonce => self.lose(LossReason::AuthenticationFailed),
            (401 | 438, _) => {
                // A foreign realm would have us sign with a key for somebody else's server.
                let Some(nonce) = message.nonce().filter(|_| message.realm() == Some(REALM)) else {
                    return;
                };
                self.nonce = Some(nonce.to_owned());
                if flight.rounds >= MAX_ROUNDS {
                    return self.lose(LossReason::ProtocolFailure);
                }
                self.start_to(
                    flight.request,
                    flight.remote,
                    flight.local,
                    flight.ladder,
                    now,
                );
                if let Some(again) = self.in_flight.last_mut() {
                    again.rounds = flight.rounds + 1;
                }
            }
            (420, _) => self.lose(LossReason::ProtocolFailure),
            (437, request) => {
                if now >= self.mismatches_since + MISMATCH_WINDOW {
                    self.mismatches = 0;
                    self.mismatches_since = now;
                }
                self.mismatches += 1;
                if self.mismatches > MAX_ROUNDS {
                    return self.lose(LossReason::ProtocolFailure);
                }
                match request {
                    Request::Allocate => self.start(Request::Delete, PATIENT, now),
                    Request::Delete => self.start(Request::Allocate, PATIENT, now),
                    Request::Refresh => self.allocate_anew(now),
                    Request::ChannelBind { peer, .. } => {
                        self.allocate_anew(now);
                        self.bind(peer, now);
                    }
                    Request::Binding => {}
                }
            }
            (_, Request::Allocate) => self.queued_binds.clear(),
            (_, Request::ChannelBind { number, .. }) => self.channels.refuse(number, now),
            (_, Request::Binding | Request::Refresh | Request::Delete) => {}
        }
    }

    /// Ask the relay to free the allocation. Who does not wait for the answer leaves the rest to its lifetime.
    pub fn release(&mut self, now: Instant) {
        if self.grant.is_some() {
            self.start(Request::Delete, PATIENT, now);
        }
    }

    fn allocate_anew(&mut self, now: Instant) {
        self.forget_grant();
        self.start(Request::Allocate, PATIENT, now);
    }

    fn extend_grant(&mut self, message: &Message<'_>, now: Instant) {
        // RFC 8656 §3.2: 10 minutes is the default lifetime. A shorter one than 2 s would have us refresh without pause.
        let lifetime = Duration::from_secs(u64::from(message.lifetime().unwrap_or(600).max(2)));
        if let Some(grant) = &mut self.grant {
            grant.refreshing = false;
            grant.refresh_at = now + lifetime / 2;
            grant.expires_at = now + lifetime;
        }
    }

    /// The relay knows nothing of the allocation any more: relayed addresses, channels and requests on it are void.
    fn forget_grant(&mut self) {
        self.channels.clear();
        self.in_flight
            .retain(|flight| flight.request == Request::Binding);
        self.unanswered_since = None;
        if let Some(grant) = self.grant.take() {
            self.events
                .push_back(AllocationEvent::Withdrawn(grant.relayed));
        }
    }

    fn lose(&mut self, reason: LossReason) {
        self.lost = true;
        self.active = None;
        self.forget_grant();
        self.in_flight.clear();
        self.events.push_back(AllocationEvent::Lost(reason));
    }

    fn discover(&mut self, reflexive: Reflexive) {
        let slot = &mut self.reflexive[usize::from(reflexive.mapped.is_ipv6())];
        if *slot != Some(reflexive) {
            *slot = Some(reflexive);
            self.events
                .push_back(AllocationEvent::Discovered(reflexive));
        }
    }

    fn measure(&mut self, sample: Duration) {
        // data-plane §1.4: 7/8 old + 1/8 new.
        self.rtt = Some(self.rtt.map_or(sample, |old| (old * 7 + sample) / 8));
    }

    fn start(&mut self, request: Request, ladder: Ladder, now: Instant) {
        if let Some(active) = self.active {
            self.start_to(request, active.remote, Some(active.local), ladder, now);
        }
    }

    fn start_to(
        &mut self,
        request: Request,
        remote: SocketAddr,
        local: Option<SocketAddr>,
        ladder: Ladder,
        now: Instant,
    ) {
        let transaction = TransactionId(self.rng.random());
        let flight = InFlight {
            request,
            remote,
            local,
            transactions: vec![transaction],
            ladder,
            first_sent_at: now,
            next_at: now + ladder.first_gap,
            gap: ladder.first_gap,
            had_nonce: self.nonce.is_some(),
            rounds: 0,
        };
        self.in_flight.push(flight);
        self.transmit(request, transaction, remote, local);
    }

    fn retransmit(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(flight) = self.in_flight.get_mut(index) {
            if now < flight.next_at {
                index += 1;
                continue;
            }
            if flight.next_at >= flight.first_sent_at + flight.ladder.limit {
                let flight = self.in_flight.remove(index);
                self.give_up(&flight);
                if self.lost {
                    return;
                }
                continue;
            }
            flight.gap = flight.gap * flight.ladder.growth_halves / 2;
            flight.next_at += flight.gap;
            // A BINDING is repeated byte by byte; a signed request may need the newest nonce.
            let transaction = if flight.request == Request::Binding {
                flight.transactions[0]
            } else {
                let fresh = TransactionId(self.rng.random());
                flight.transactions.push(fresh);
                flight.had_nonce = self.nonce.is_some();
                fresh
            };
            let (request, remote, local) = (flight.request, flight.remote, flight.local);
            self.transmit(request, transaction, remote, local);
            index += 1;
        }
    }

    fn give_up(&mut self, flight: &InFlight) {
        match self.active {
            Some(active) if active.remote == flight.remote => self.lose(LossReason::TimedOut),
            // The other family is silent; the one in use serves.
            Some(_) => {}
            None if self.in_flight.is_empty() => self.lose(LossReason::NoResponse),
            None => {}
        }
    }

    fn transmit(
        &mut self,
        request: Request,
        transaction: TransactionId,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) {
        let builder = MessageBuilder::new(Class::Request, request.method(), transaction);
        let payload = match request {
            Request::Binding => builder.software(SOFTWARE).finish(),
            Request::Allocate | Request::Refresh => {
                self.sign(described(builder).software(SOFTWARE))
            }
            Request::Delete => self.sign(described(builder).software(SOFTWARE).lifetime(0)),
            Request::ChannelBind { number, peer } => self.sign(
                builder
                    .xor_peer_address(peer)
                    .channel_number(number)
                    .software(SOFTWARE),
            ),
        };
        self.transmits.push_back(Transmit {
            local,
            remote,
            payload,
        });
    }

    fn sign(&self, builder: MessageBuilder) -> Vec<u8> {
        let builder = builder.username(&self.username).realm(REALM);
        let builder = match &self.nonce {
            Some(nonce) => builder.nonce(nonce),
            None => builder,
        };
        builder.sign(&self.key).finish()
    }
}

impl Request {
    fn method(self) -> Method {
        match self {
            Request::Binding => Method::BINDING,
            Request::Allocate => Method::ALLOCATE,
            Request::Refresh | Request::Delete => Method::REFRESH,
            Request::ChannelBind { .. } => Method::CHANNEL_BIND,
        }
    }
}

/// What ALLOCATE and REFRESH alike ask for: UDP, and IPv6 beside IPv4.
fn described(builder: MessageBuilder) -> MessageBuilder {
    builder
        .requested_transport(TRANSPORT_UDP)
        .additional_address_family(AddressFamily::V6)
}
