//! Two ends, a relay and the network between them, in virtual time; candidates go from end to end as the portal takes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};
use wardgate_datapath::Outbox;
use wardgate_datapath::relay::{PeerRules, RelayConfig, RelayEngine, RelayPorts};

use crate::epoch;

/// Wall time where virtual time starts, since 1970.
pub const UNIX: Duration = Duration::from_secs(1_800_000_000);
pub const RELAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const RELAY_PORT: u16 = 3478;
pub const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66)), 6666);

const STAMP_SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ONE_WAY: Duration = Duration::from_millis(10);
/// Rounds that one second may take; more would be a machine that spins.
const ROUNDS_PER_SECOND: u32 = 2_000;
const DATAGRAMS_IN_FLIGHT: usize = 512;

pub fn relay_address() -> SocketAddr {
    (RELAY_V4, RELAY_PORT).into()
}

/// The host that an end runs on.
pub fn host_address(end: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1 + end as u8], 52625))
}

pub fn new_relay(now: Instant) -> RelayEngine {
    RelayEngine::new(RelayConfig {
        stamp_secret: STAMP_SECRET.to_owned(),
        ipv4: Some(RELAY_V4),
        ipv6: None,
        port: RELAY_PORT,
        allocation_ports: 50_000..=50_009,
        peer_rules: PeerRules::default(),
        seed: [9; 32],
        epoch: now,
        unix_at_epoch: UNIX,
    })
}

/// Username and password that the relay accepts for a day.
pub fn relay_credentials(salt: &str) -> (String, String) {
    let expiry = UNIX.as_secs() + 86_400;
    let digest = Sha256::digest(format!("{expiry}:{STAMP_SECRET}:{salt}"));
    (format!("{expiry}:{salt}"), STANDARD_NO_PAD.encode(digest))
}

#[derive(Clone, Debug)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub payload: Vec<u8>,
}

/// What one call sends, and the ports that a relay holds.
pub struct Wire {
    own: SocketAddr,
    pub datagrams: Vec<Datagram>,
    pub open: BTreeSet<SocketAddr>,
}

impl Wire {
    pub fn new(own: SocketAddr) -> Self {
        Self {
            own,
            datagrams: Vec::new(),
            open: BTreeSet::new(),
        }
    }

    pub fn send(&mut self, local: Option<SocketAddr>, remote: SocketAddr, payload: &[u8]) {
        self.reserve(local, remote, 0, payload.len())
            .copy_from_slice(payload);
    }
}

impl Outbox for Wire {
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        _ecn: u8,
        len: usize,
    ) -> &mut [u8] {
        assert!(len <= 65_507, "no datagram is that long");
        self.datagrams.push(Datagram {
            from: local.unwrap_or(self.own),
            to: remote,
            payload: vec![0; len],
        });
        let last = self.datagrams.len() - 1;
        &mut self.datagrams[last].payload
    }

    fn rollback(&mut self) {
        self.datagrams.pop();
    }
}

impl RelayPorts for Wire {
    fn open(&mut self, address: SocketAddr) -> bool {
        assert!(self.open.insert(address), "opened twice");
        true
    }

    fn close(&mut self, address: SocketAddr) {
        assert!(self.open.remove(&address), "closed what was not open");
    }
}

/// One of the two.
pub trait End {
    /// `stride` and `payload` as of one receive call.
    fn receive(
        &mut self,
        from: SocketAddr,
        local: SocketAddr,
        stride: usize,
        payload: &mut [u8],
        now: Instant,
        out: &mut Wire,
    );
    fn handle_timeout(&mut self, now: Instant, out: &mut Wire);
    fn poll_timeout(&self) -> Option<Instant>;
    /// Local candidates to be signalled to the other end.
    fn take_candidates(&mut self) -> Vec<String>;
    fn add_candidates(&mut self, candidates: &[String], now: Instant, out: &mut Wire);
}

pub struct World<A, B> {
    pub now: Instant,
    pub a: A,
    pub b: B,
    /// Whether datagrams pass between the two hosts themselves.
    pub direct: bool,
    relay: RelayEngine,
    relay_wire: Wire,
    in_flight: BTreeMap<(Instant, u64), Datagram>,
    delivered: Option<Datagram>,
    sent: u64,
    /// Candidates on their way through the portal: to which end.
    signals: VecDeque<(Instant, usize, Vec<String>)>,
}

impl<A: End, B: End> World<A, B> {
    pub fn new(direct: bool, make: impl FnOnce(Instant) -> (A, B)) -> Self {
        let now = epoch();
        let (a, b) = make(now);
        Self {
            now,
            a,
            b,
            direct,
            relay: new_relay(now),
            relay_wire: Wire::new(relay_address()),
            in_flight: BTreeMap::new(),
            delivered: None,
            sent: 0,
            signals: VecDeque::new(),
        }
    }

    /// Let end a, the one under test, do something.
    pub fn drive_a<T>(&mut self, call: impl FnOnce(&mut A, Instant, &mut Wire) -> T) -> T {
        let mut wire = Wire::new(host_address(0));
        let result = call(&mut self.a, self.now, &mut wire);
        self.settle(wire);
        result
    }

    /// Let end b, the genuine peer, do something.
    pub fn drive_b<T>(&mut self, call: impl FnOnce(&mut B, Instant, &mut Wire) -> T) -> T {
        let mut wire = Wire::new(host_address(1));
        let result = call(&mut self.b, self.now, &mut wire);
        self.settle(wire);
        result
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut rounds = ROUNDS_PER_SECOND * (duration.as_secs() as u32 + 1);
        while let Some(at) = self.next_step().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
            rounds -= 1;
            assert!(rounds > 0, "deadlines without end");
        }
        self.now = end;
    }

    /// Flip bits of the oldest datagram in flight.
    pub fn alter(&mut self, at: u16, change: u8) {
        if let Some(mut flight) = self.in_flight.first_entry()
            && !flight.get().payload.is_empty()
        {
            let payload = &mut flight.get_mut().payload;
            let at = usize::from(at) % payload.len();
            payload[at] ^= change;
        }
    }

    /// Deliver the latest datagram once more.
    pub fn repeat(&mut self) {
        if let Some(datagram) = self.delivered.clone() {
            self.post(datagram);
        }
    }

    fn next_step(&self) -> Option<Instant> {
        let flight = self.in_flight.first_key_value().map(|((at, _), _)| *at);
        let signal = self.signals.front().map(|(at, ..)| *at);
        [
            flight,
            signal,
            self.relay.poll_timeout(),
            self.a.poll_timeout(),
            self.b.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(flight) = self.in_flight.first_entry()
            && flight.key().0 <= now
        {
            let datagram = flight.remove();
            self.deliver(datagram);
        }
        while self.signals.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, end, candidates)) = self.signals.pop_front()
        {
            match end {
                0 => self.drive_a(|end, now, wire| end.add_candidates(&candidates, now, wire)),
                _ => self.drive_b(|end, now, wire| end.add_candidates(&candidates, now, wire)),
            }
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.a.poll_timeout()) {
            self.drive_a(|end, now, wire| end.handle_timeout(now, wire));
        }
        if is_due(self.b.poll_timeout()) {
            self.drive_b(|end, now, wire| end.handle_timeout(now, wire));
        }
        self.relay.handle_timeout(now, &mut self.relay_wire);
        self.settle_relay();
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram {
            from,
            to,
            mut payload,
        } = datagram.clone();
        self.delivered = Some(datagram);
        let stride = payload.len();
        if to == host_address(0) {
            self.drive_a(|end, now, wire| end.receive(from, to, stride, &mut payload, now, wire));
        } else if to == host_address(1) {
            self.drive_b(|end, now, wire| end.receive(from, to, stride, &mut payload, now, wire));
        } else if to.ip() == RELAY_V4 {
            let wire = &mut self.relay_wire;
            self.relay
                .handle_network(from, to, 0, stride, &payload, self.now, wire);
            self.settle_relay();
        }
    }

    fn settle_relay(&mut self) {
        for datagram in std::mem::take(&mut self.relay_wire.datagrams) {
            self.post(datagram);
        }
    }

    fn settle(&mut self, wire: Wire) {
        for datagram in wire.datagrams {
            self.post(datagram);
        }
        let candidates = [self.a.take_candidates(), self.b.take_candidates()];
        for (end, candidates) in candidates.into_iter().enumerate() {
            if !candidates.is_empty() {
                self.signals
                    .push_back((self.now + 2 * ONE_WAY, 1 - end, candidates));
            }
        }
    }

    fn post(&mut self, datagram: Datagram) {
        let is_between_hosts = [datagram.from, datagram.to]
            .iter()
            .all(|address| (0..2).any(|end| address.ip() == host_address(end).ip()));
        if (self.direct || !is_between_hosts) && self.in_flight.len() < DATAGRAMS_IN_FLIGHT {
            self.sent += 1;
            self.in_flight
                .insert((self.now + ONE_WAY, self.sent), datagram);
        }
    }
}
