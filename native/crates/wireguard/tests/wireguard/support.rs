//! Two ends and the link between them, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wardgate_wireguard::{
    DATA_HEADER_SIZE, DATA_OVERHEAD, Keys, MessageKind, PresharedKey, PrivateKey, Timers,
    TimestampClock, Tunnel, TunnelConfig, TunnelEvent, classify,
};

pub const PRESHARED_KEY: [u8; 32] = [9; 32];

/// Where virtual time starts.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only come from the clock; tests count from it"
)]
pub fn epoch() -> Instant {
    Instant::now()
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub fn keys(byte: u8) -> Arc<Keys> {
    Arc::new(Keys::new(PrivateKey::new([byte; 32])))
}

pub fn tunnel(own: u8, peer: u8, now: Instant) -> Tunnel {
    Tunnel::new(config(own, peer, now), now)
}

pub fn config(own: u8, peer: u8, now: Instant) -> TunnelConfig {
    TunnelConfig {
        keys: keys(own),
        peer: keys(peer).public,
        preshared_key: PresharedKey::new(PRESHARED_KEY),
        index: u32::from(own),
        timers: Timers::CLASSIC,
        seed: [own; 32],
        clock: TimestampClock::new(now, seconds(1_000_000)),
    }
}

/// An IPv4 packet of `size` bytes, at least 24, that carries `id`.
pub fn packet(id: u32, size: usize) -> Vec<u8> {
    let mut packet = vec![0; size];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(size).unwrap().to_be_bytes());
    packet[20..24].copy_from_slice(&id.to_be_bytes());
    packet
}

/// `plaintext` between the room that sealing needs.
pub fn with_room(plaintext: &[u8]) -> Vec<u8> {
    let mut room = vec![0; DATA_OVERHEAD + plaintext.len()];
    room[DATA_HEADER_SIZE..][..plaintext.len()].copy_from_slice(plaintext);
    room
}

/// Seal `plaintext`, which must be possible.
pub fn sealed(tunnel: &mut Tunnel, plaintext: &[u8], now: Instant) -> Vec<u8> {
    let mut message = with_room(plaintext);
    tunnel.seal(&mut message, now).unwrap();
    message
}

/// Take the one message that waits to be sent.
pub fn only_transmit(tunnel: &mut Tunnel) -> Vec<u8> {
    let message = tunnel.poll_transmit().expect("a message waits");
    assert_eq!(tunnel.poll_transmit(), None);
    message
}

/// Two ends with a confirmed session that the first one initiated; nothing waits at either.
pub fn established(now: Instant) -> [Tunnel; 2] {
    let mut pair = [tunnel(1, 2, now), tunnel(2, 1, now)];
    handshake(&mut pair, now);
    pair
}

/// Let the first end initiate and complete a handshake with the second.
pub fn handshake([initiator, responder]: &mut [Tunnel; 2], now: Instant) {
    initiator.initiate(now);
    responder
        .handle_handshake(&only_transmit(initiator), now)
        .unwrap();
    initiator
        .handle_handshake(&only_transmit(responder), now)
        .unwrap();
    assert!(
        responder
            .open(&mut only_transmit(initiator), now)
            .unwrap()
            .is_empty()
    );
    for tunnel in [initiator, responder] {
        assert_eq!(tunnel.poll_event(), Some(TunnelEvent::HandshakeDone));
        assert_eq!(tunnel.poll_event(), None);
    }
}

/// One end of the simulated link.
pub trait End {
    fn initiate(&mut self, now: Instant);
    /// Seal and queue an IP packet; false: there was no session, it is lost.
    fn send(&mut self, packet: &[u8], now: Instant) -> bool;
    fn receive(&mut self, datagram: Vec<u8>, now: Instant);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_transmit(&mut self) -> Option<Vec<u8>>;
    /// The packets that arrived, in order.
    fn received(&self) -> &[Vec<u8>];
}

/// Our end: a tunnel and what became of its traffic.
pub struct Ours {
    pub tunnel: Tunnel,
    pub events: Vec<(Instant, TunnelEvent)>,
    received: Vec<Vec<u8>>,
    sealed: VecDeque<Vec<u8>>,
}

impl Ours {
    pub fn new(tunnel: Tunnel) -> Self {
        Self {
            tunnel,
            events: Vec::new(),
            received: Vec::new(),
            sealed: VecDeque::new(),
        }
    }

    pub fn count(&self, event: TunnelEvent) -> usize {
        self.events
            .iter()
            .filter(|(_, seen)| *seen == event)
            .count()
    }

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.tunnel.poll_event() {
            self.events.push((now, event));
        }
    }
}

impl End for Ours {
    fn initiate(&mut self, now: Instant) {
        self.tunnel.initiate(now);
    }

    fn send(&mut self, packet: &[u8], now: Instant) -> bool {
        let mut message = with_room(packet);
        let sent = self.tunnel.seal(&mut message, now).is_ok();
        if sent {
            self.sealed.push_back(message);
        }
        sent
    }

    fn receive(&mut self, mut datagram: Vec<u8>, now: Instant) {
        match classify(&datagram).expect("only WireGuard runs over this link") {
            MessageKind::Data => {
                if let Ok(plaintext) = self.tunnel.open(&mut datagram, now)
                    && !plaintext.is_empty()
                {
                    self.received.push(plaintext.to_vec());
                }
            }
            // A duplicate or late one is refused; that is no failure of the test.
            _ => drop(self.tunnel.handle_handshake(&datagram, now)),
        }
        self.drain_events(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.tunnel.handle_timeout(now);
        assert!(
            self.tunnel.poll_timeout().is_none_or(|at| at > now),
            "what was due is done"
        );
        self.drain_events(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.tunnel.poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.tunnel
            .poll_transmit()
            .or_else(|| self.sealed.pop_front())
    }

    fn received(&self) -> &[Vec<u8>] {
        &self.received
    }
}

/// What a link does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub loss: f64,
    pub duplication: f64,
    /// Uniform in this range, so that its width reorders.
    pub delay_ms: (u64, u64),
}

impl Link {
    pub const CLEAN: Self = Self {
        loss: 0.0,
        duplication: 0.0,
        delay_ms: (10, 10),
    };
    pub const ROUGH: Self = Self {
        loss: 0.2,
        duplication: 0.2,
        delay_ms: (5, 400),
    };
    pub const DEAD: Self = Self {
        loss: 1.0,
        duplication: 0.0,
        delay_ms: (10, 10),
    };
}

/// Two ends, the link between them, and the time.
pub struct World<A, B> {
    pub a: A,
    pub b: B,
    pub now: Instant,
    pub link: Link,
    /// Every datagram sent: when, by whom (0 or 1), what.
    pub sent: Vec<(Instant, usize, Vec<u8>)>,
    in_flight: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    departures: u64,
    rng: StdRng,
}

impl<A: End, B: End> World<A, B> {
    pub fn new(a: A, b: B, link: Link, seed: u64, now: Instant) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            a,
            b,
            now,
            link,
            sent: Vec::new(),
            in_flight: BTreeMap::new(),
            departures: 0,
            rng,
        }
    }

    /// Let `duration` pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.depart();
            let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
            let deadlines = [arrival, self.a.poll_timeout(), self.b.poll_timeout()];
            let Some(next) = deadlines
                .into_iter()
                .flatten()
                .min()
                .filter(|at| *at <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            self.arrive();
            self.expire();
        }
        self.now = end;
    }

    /// Both ends in one, for symmetric actions.
    pub fn end(&mut self, side: usize) -> &mut dyn End {
        if side == 0 { &mut self.a } else { &mut self.b }
    }

    /// How many messages of `kind` a side has sent since `since`.
    pub fn sent_since(&self, since: Instant, side: usize, kind: MessageKind) -> usize {
        self.sent
            .iter()
            .filter(|(at, by, bytes)| *at >= since && *by == side && classify(bytes) == Some(kind))
            .count()
    }

    fn depart(&mut self) {
        for side in [0, 1] {
            while let Some(datagram) = self.end(side).poll_transmit() {
                self.sent.push((self.now, side, datagram.clone()));
                if self.rng.random_bool(self.link.loss) {
                    continue;
                }
                let copies = if self.rng.random_bool(self.link.duplication) {
                    2
                } else {
                    1
                };
                for _ in 0..copies {
                    let (least, most) = self.link.delay_ms;
                    let at = self.now + Duration::from_millis(self.rng.random_range(least..=most));
                    self.departures += 1;
                    self.in_flight
                        .insert((at, self.departures), (1 - side, datagram.clone()));
                }
            }
        }
    }

    fn arrive(&mut self) {
        while let Some(entry) = self
            .in_flight
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let (side, datagram) = entry.remove();
            let now = self.now;
            self.end(side).receive(datagram, now);
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        for side in [0, 1] {
            let end = self.end(side);
            if end.poll_timeout().is_some_and(|at| at <= now) {
                end.handle_timeout(now);
            }
        }
    }
}

/// Two of ours over a link.
pub fn ours(link: Link, seed: u64) -> World<Ours, Ours> {
    let now = epoch();
    World::new(
        Ours::new(tunnel(1, 2, now)),
        Ours::new(tunnel(2, 1, now)),
        link,
        seed,
        now,
    )
}
