//! Against `boringtun`, an implementation by others, in both roles. It reads a clock of its own; its `mock-instant` feature
//! lets the link's virtual time drive that.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use mock_instant::MockClock;
use wardgate_wireguard::{Gate, MessageKind, TunnelEvent, Verdict, classify};

use crate::support::{
    End, Link, Ours, PRESHARED_KEY, World, epoch, keys, only_transmit, packet, seconds, tunnel,
};

const OURS: usize = 0;
const THEIRS: usize = 1;

#[test]
fn either_role_completes_a_handshake_and_carries_packets_of_every_size() {
    for initiator in [OURS, THEIRS] {
        let mut world = against_boringtun(Link::CLEAN, 1);
        connect(&mut world, initiator);
        for size in 24..1280 {
            for side in [OURS, THEIRS] {
                let now = world.now;
                assert!(world.end(side).send(&packet(size, size as usize), now));
            }
        }
        world.run(seconds(1));
        for side in [OURS, THEIRS] {
            let sizes: Vec<_> = world.end(side).received().iter().map(Vec::len).collect();
            assert_eq!(sizes, (24..1280).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_rough_link_delays_but_does_not_break_either_role() {
    for (seed, initiator) in [
        (1, OURS),
        (2, THEIRS),
        (3, OURS),
        (4, THEIRS),
        (5, OURS),
        (6, THEIRS),
    ] {
        let mut world = against_boringtun(Link::ROUGH, seed);
        connect(&mut world, initiator);
        for id in 0..300 {
            for side in [OURS, THEIRS] {
                let now = world.now;
                world.end(side).send(&packet(id, 64), now);
            }
            world.run(Duration::from_millis(100));
        }
        world.run(seconds(1));
        for side in [OURS, THEIRS] {
            let mut ids = world.end(side).received().to_vec();
            assert!(ids.len() > 200, "seed {seed}: {} of 300", ids.len());
            ids.sort();
            ids.dedup();
            assert_eq!(
                ids.len(),
                world.end(side).received().len(),
                "seed {seed}: none twice"
            );
        }
    }
}

#[test]
fn a_busy_tunnel_is_rekeyed_every_two_minutes_and_loses_nothing_on_a_clean_link() {
    for initiator in [OURS, THEIRS] {
        let mut world = against_boringtun(Link::CLEAN, 1);
        connect(&mut world, initiator);
        let start = world.now;
        for id in 0..1000 {
            for side in [OURS, THEIRS] {
                let now = world.now;
                assert!(world.end(side).send(&packet(id, 64), now), "{id} at {side}");
            }
            world.run(seconds(1));
        }
        assert_eq!(
            (world.a.received().len(), world.b.received().len()),
            (1000, 1000)
        );
        assert_eq!(
            world.sent_since(start, initiator, MessageKind::Initiation),
            8
        );
        assert_eq!(
            world.sent_since(start, 1 - initiator, MessageKind::Initiation),
            0
        );
    }
}

#[test]
fn a_one_way_flow_is_kept_alive_and_rekeyed() {
    for (initiator, sender) in [
        (OURS, OURS),
        (OURS, THEIRS),
        (THEIRS, OURS),
        (THEIRS, THEIRS),
    ] {
        let mut world = against_boringtun(Link::CLEAN, 1);
        connect(&mut world, initiator);
        for id in 0..600 {
            let now = world.now;
            assert!(
                world.end(sender).send(&packet(id, 64), now),
                "{initiator} {sender} {id}"
            );
            world.run(seconds(1));
        }
        assert_eq!(world.end(1 - sender).received().len(), 600);
        assert!(world.a.count(TunnelEvent::HandshakeDone) >= 4);
        assert_eq!(world.a.count(TunnelEvent::GaveUp), 0);
    }
}

#[test]
fn an_idle_tunnel_of_ours_stays_usable_against_it() {
    let mut world = against_boringtun(Link::CLEAN, 1);
    connect(&mut world, OURS);
    world.run(seconds(1800));
    assert_eq!(world.a.count(TunnelEvent::HandshakeDone), 11);
    let now = world.now;
    assert!(world.a.send(&packet(1, 64), now));
    world.run(seconds(1));
    assert_eq!(world.b.received().len(), 1);
}

#[test]
fn simultaneous_initiations_settle() {
    let mut world = against_boringtun(Link::CLEAN, 1);
    let now = world.now;
    world.a.initiate(now);
    world.b.initiate(now);
    world.run(seconds(1));
    for id in 0..400 {
        for side in [OURS, THEIRS] {
            let now = world.now;
            assert!(world.end(side).send(&packet(id, 64), now));
        }
        world.run(seconds(1));
    }
    assert_eq!(
        (world.a.received().len(), world.b.received().len()),
        (400, 400)
    );
}

#[test]
fn another_preshared_key_ends_in_no_session() {
    for initiator in [OURS, THEIRS] {
        let now = epoch();
        let theirs = Theirs::new([8; 32], None, now);
        let mut world = World::new(Ours::new(tunnel(1, 2, now)), theirs, Link::CLEAN, 1, now);
        world.end(initiator).initiate(now);
        world.run(seconds(19));
        assert!(!world.a.tunnel.is_established(world.now));
        assert_eq!(world.a.count(TunnelEvent::HandshakeDone), 0);
    }
}

#[test]
fn its_cookies_let_our_handshake_through() {
    let now = epoch();
    MockClock::set_time(Duration::ZERO);
    // A limit of 0: always under load.
    let limiter = Arc::new(RateLimiter::new(&PublicKey::from(keys(2).public.0), 0));
    let theirs = Theirs::new(PRESHARED_KEY, Some(limiter), now);
    let mut world = World::new(Ours::new(tunnel(1, 2, now)), theirs, Link::CLEAN, 1, now);
    world.a.initiate(now);
    world.run(seconds(4));
    assert_eq!(world.sent_since(now, THEIRS, MessageKind::CookieReply), 1);
    assert!(!world.a.tunnel.is_established(world.now));
    world.run(seconds(4));
    assert!(world.a.tunnel.is_established(world.now));
}

#[test]
fn our_cookies_let_its_handshake_through() {
    let now = epoch();
    let mut gate = Gate::new(&keys(1).public, [7; 32], now);
    let from = "198.51.100.7:1".parse().unwrap();
    let mut tunnel = tunnel(1, 2, now);
    let mut theirs = Theirs::new(PRESHARED_KEY, None, now);
    theirs.initiate(now);
    let initiation = theirs.poll_transmit().unwrap();
    let reply = loop {
        match gate.check(&initiation, from, now) {
            Verdict::Pass => {}
            Verdict::CookieReply(reply) => break reply,
            Verdict::Limited | Verdict::Drop => panic!("mac1 is right"),
        }
    };
    theirs.receive(reply, now);
    let later = now + seconds(6);
    while gate.check(&initiation, from, later) == Verdict::Pass {}
    theirs.handle_timeout(later);
    let repeated = theirs.poll_transmit().unwrap();
    assert_eq!(gate.check(&repeated, from, later), Verdict::Pass);
    tunnel.handle_handshake(&repeated, later).unwrap();
    assert_eq!(
        classify(&only_transmit(&mut tunnel)),
        Some(MessageKind::Response)
    );
}

fn against_boringtun(link: Link, seed: u64) -> World<Ours, Theirs> {
    let now = epoch();
    World::new(
        Ours::new(tunnel(1, 2, now)),
        Theirs::new(PRESHARED_KEY, None, now),
        link,
        seed,
        now,
    )
}

/// Let one side initiate and wait until both can send.
fn connect(world: &mut World<Ours, Theirs>, initiator: usize) {
    let now = world.now;
    world.end(initiator).initiate(now);
    for _ in 0..60 {
        world.run(seconds(1));
        if world.a.tunnel.is_established(world.now) && world.b.is_established() {
            return;
        }
    }
    panic!("no session after 60 s");
}

/// Node 2 as `boringtun` plays it.
struct Theirs {
    tunnel: Tunn,
    epoch: Instant,
    next_tick: Instant,
    transmits: VecDeque<Vec<u8>>,
    received: Vec<Vec<u8>>,
}

impl Theirs {
    /// How often its timers are looked at; it asks for "a few times a second".
    const TICK: Duration = Duration::from_millis(100);

    fn new(preshared_key: [u8; 32], limiter: Option<Arc<RateLimiter>>, now: Instant) -> Self {
        MockClock::set_time(Duration::ZERO);
        let private = StaticSecret::from([2; 32]);
        let peer = PublicKey::from(keys(1).public.0);
        let tunnel = Tunn::new(private, peer, Some(preshared_key), None, 77, limiter);
        Self {
            tunnel,
            epoch: now,
            next_tick: now,
            transmits: VecDeque::new(),
            received: Vec::new(),
        }
    }

    fn is_established(&self) -> bool {
        self.tunnel.time_since_last_handshake().is_some()
    }

    fn set_clock(&self, now: Instant) {
        MockClock::set_time(now - self.epoch);
    }
}

impl End for Theirs {
    fn initiate(&mut self, now: Instant) {
        self.set_clock(now);
        let mut buffer = [0; 2048];
        if let TunnResult::WriteToNetwork(message) =
            self.tunnel.format_handshake_initiation(&mut buffer, false)
        {
            self.transmits.push_back(message.to_vec());
        }
    }

    fn send(&mut self, packet: &[u8], now: Instant) -> bool {
        self.set_clock(now);
        let mut buffer = [0; 2048];
        match self.tunnel.encapsulate(packet, &mut buffer) {
            TunnResult::WriteToNetwork(message) => {
                self.transmits.push_back(message.to_vec());
                classify(message) == Some(MessageKind::Data)
            }
            _ => false,
        }
    }

    fn receive(&mut self, datagram: Vec<u8>, now: Instant) {
        self.set_clock(now);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut input = &datagram[..];
        let mut buffer = [0; 2048];
        loop {
            match self.tunnel.decapsulate(Some(address), input, &mut buffer) {
                TunnResult::WriteToNetwork(message) => self.transmits.push_back(message.to_vec()),
                TunnResult::WriteToTunnelV4(packet, _) => {
                    return self.received.push(packet.to_vec());
                }
                TunnResult::WriteToTunnelV6(..) => panic!("only IPv4 is sent here"),
                TunnResult::Done | TunnResult::Err(_) => return,
            }
            input = &[];
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.set_clock(now);
        self.next_tick = now + Self::TICK;
        let mut buffer = [0; 2048];
        match self.tunnel.update_timers(&mut buffer) {
            TunnResult::WriteToNetwork(message) => self.transmits.push_back(message.to_vec()),
            TunnResult::Done | TunnResult::Err(WireGuardError::ConnectionExpired) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.next_tick)
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    fn received(&self) -> &[Vec<u8>] {
        &self.received
    }
}
