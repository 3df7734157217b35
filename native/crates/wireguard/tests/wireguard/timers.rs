//! The timers of data-plane §2.3, classic column.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use wardgate_wireguard::{
    DATA_OVERHEAD, MessageKind, NoSession, OpenError, Timers, Tunnel, TunnelEvent, classify,
};

use crate::support::{
    End, Link, Ours, World, config, epoch, established, handshake, only_transmit, ours, packet,
    seconds,
};
use crate::support::{sealed, tunnel, with_room};

#[test]
fn an_unanswered_initiation_is_repeated_every_5_s_and_given_up_after_20_s() {
    let now = epoch();
    let mut tunnel = tunnel(1, 2, now);
    tunnel.initiate(now);
    let log = run_alone(&mut tunnel, now, seconds(60));
    let sent_s: Vec<u64> = log.transmits.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(sent_s, [0, 5, 10, 15]);
    assert!(
        log.transmits
            .iter()
            .all(|(_, message)| classify(message) == Some(MessageKind::Initiation))
    );
    assert_eq!(log.events, [(seconds(20), TunnelEvent::GaveUp)]);
}

#[test]
fn repetitions_are_jittered_by_up_to_333_ms() {
    let now = epoch();
    let repeat_after: BTreeSet<Duration> = (0..50)
        .map(|seed| {
            let mut tunnel = Tunnel::new(
                wardgate_wireguard::TunnelConfig {
                    seed: [seed; 32],
                    ..config(1, 2, now)
                },
                now,
            );
            tunnel.initiate(now);
            tunnel.poll_timeout().unwrap() - now
        })
        .collect();
    assert!(repeat_after.len() > 40, "each tunnel has its own");
    assert!(*repeat_after.first().unwrap() >= seconds(5));
    assert!(*repeat_after.last().unwrap() <= Duration::from_millis(5333));
    assert!(
        *repeat_after.last().unwrap() - *repeat_after.first().unwrap() > Duration::from_millis(200)
    );
}

#[test]
fn initiating_during_a_handshake_changes_nothing() {
    let now = epoch();
    let mut tunnel = tunnel(1, 2, now);
    tunnel.initiate(now);
    only_transmit(&mut tunnel);
    let deadline = tunnel.poll_timeout();
    tunnel.initiate(now + seconds(1));
    assert_eq!(tunnel.poll_transmit(), None);
    assert_eq!(tunnel.poll_timeout(), deadline);
}

#[test]
fn the_initiator_replaces_a_session_after_120_s_if_it_sent_data() {
    let mut world = ours(Link::CLEAN, 1);
    let start = world.now;
    world.a.initiate(start);
    world.run(seconds(1));
    let now = world.now;
    world.a.send(&packet(1, 64), now);
    world.b.send(&packet(2, 64), now);
    world.run(seconds(118));
    assert_eq!(world.sent_since(start, 0, MessageKind::Initiation), 1);
    world.run(seconds(2));
    assert_eq!(world.sent_since(start, 0, MessageKind::Initiation), 2);
    assert_eq!(world.sent_since(start, 1, MessageKind::Initiation), 0);
}

#[test]
fn data_sent_after_120_s_starts_the_handshake_at_once() {
    let now = epoch();
    let [mut initiator, _] = established(now);
    let late = now + seconds(130);
    assert!(
        run_alone(&mut initiator, now, seconds(130))
            .transmits
            .is_empty()
    );
    sealed(&mut initiator, &packet(1, 64), late);
    assert_eq!(initiator.poll_timeout(), Some(late));
    initiator.handle_timeout(late);
    assert_eq!(
        classify(&only_transmit(&mut initiator)),
        Some(MessageKind::Initiation)
    );
}

#[test]
fn an_initiator_that_only_receives_replaces_the_session_after_165_s() {
    let mut world = ours(Link::CLEAN, 1);
    let start = world.now;
    world.a.initiate(start);
    world.run(seconds(1));
    for _ in 0..16 {
        let now = world.now;
        assert!(world.b.send(&packet(1, 64), now));
        world.run(seconds(10));
    }
    assert_eq!(world.sent_since(start, 0, MessageKind::Initiation), 1);
    world.run(seconds(5));
    assert_eq!(world.sent_since(start, 0, MessageKind::Initiation), 2);
    assert_eq!(world.sent_since(start, 1, MessageKind::Initiation), 0);
}

#[test]
fn the_initiator_stops_sealing_at_170_s_then_starts_a_handshake_when_asked_to_send() {
    let now = epoch();
    let [mut initiator, _] = established(now);
    let at = |s| now + seconds(s);
    assert!(initiator.is_established(at(169)));
    assert!(!initiator.is_established(at(170)));
    assert_eq!(
        initiator.seal(&mut with_room(&[1]), at(170)),
        Err(NoSession)
    );
    initiator.handle_timeout(at(170));
    assert_eq!(
        classify(&only_transmit(&mut initiator)),
        Some(MessageKind::Initiation)
    );
}

#[test]
fn a_responder_whose_session_is_dead_starts_a_handshake_when_asked_to_send() {
    let now = epoch();
    let [_, mut responder] = established(now);
    assert!(
        run_alone(&mut responder, now, seconds(200))
            .transmits
            .is_empty()
    );
    assert_eq!(
        responder.seal(&mut with_room(&[1]), now + seconds(200)),
        Err(NoSession)
    );
    responder.handle_timeout(now + seconds(200));
    assert_eq!(
        classify(&only_transmit(&mut responder)),
        Some(MessageKind::Initiation)
    );
}

#[test]
fn a_refused_packet_is_unchanged() {
    let now = epoch();
    let mut tunnel = tunnel(1, 2, now);
    let mut message = with_room(&[1, 2, 3]);
    assert_eq!(tunnel.seal(&mut message, now), Err(NoSession));
    assert_eq!(message, with_room(&[1, 2, 3]));
    assert!(
        !tunnel.is_handshaking(),
        "who starts the first handshake is decided above"
    );
}

#[test]
fn the_responder_seals_and_both_open_until_180_s() {
    let now = epoch();
    let [mut initiator, mut responder] = established(now);
    let at = |ms| now + Duration::from_millis(ms);
    let mut in_time = sealed(&mut responder, &[1], at(179_999));
    let mut too_late = sealed(&mut responder, &[2], at(179_999));
    assert_eq!(initiator.open(&mut in_time, at(179_999)).unwrap(), [1]);
    assert_eq!(
        initiator.open(&mut too_late, at(180_000)).map(|_| ()),
        Err(OpenError::Expired)
    );
    assert_eq!(
        responder.seal(&mut with_room(&[3]), at(180_000)),
        Err(NoSession)
    );
}

#[test]
fn an_idle_tunnel_makes_a_new_session_every_180_s_and_nothing_else() {
    let mut world = ours(Link::CLEAN, 1);
    let start = world.now;
    world.a.initiate(start);
    world.run(seconds(1850));
    assert_eq!(world.a.count(TunnelEvent::HandshakeDone), 11);
    assert_eq!(world.b.count(TunnelEvent::HandshakeDone), 11);
    assert_eq!(world.sent_since(start, 1, MessageKind::Initiation), 0);
    assert_eq!(
        world.sent_since(start, 0, MessageKind::Data),
        11,
        "one key confirmation each"
    );
    assert_eq!(world.sent_since(start, 1, MessageKind::Data), 0);
}

#[test]
fn data_is_answered_by_a_keepalive_10_s_after_it_even_after_a_long_silence() {
    let now = epoch();
    let [mut initiator, mut responder] = established(now);
    // Counted from the last send, 60 s ago, the keepalive would be due at once.
    let late = now + seconds(60);
    responder
        .open(&mut sealed(&mut initiator, &packet(1, 64), late), late)
        .unwrap();
    let log = run_alone(&mut responder, late, seconds(50));
    assert_eq!(log.kinds(), [(seconds(10), MessageKind::Data)]);
    assert_eq!(log.transmits[0].1.len(), DATA_OVERHEAD);
}

#[test]
fn a_steady_one_way_flow_is_answered_every_10_s() {
    let mut world = ours(Link::CLEAN, 1);
    world.a.initiate(world.now);
    world.run(seconds(1));
    let start = world.now;
    for id in 0..100 {
        let now = world.now;
        world.a.send(&packet(id, 64), now);
        world.run(seconds(1));
    }
    assert_eq!(world.sent_since(start, 1, MessageKind::Data), 9);
    assert_eq!(
        world.sent_since(start, 0, MessageKind::Initiation),
        0,
        "so the sender sees no silence"
    );
}

#[test]
fn a_packet_sent_in_time_replaces_the_keepalive() {
    let now = epoch();
    let [mut initiator, mut responder] = established(now);
    responder
        .open(&mut sealed(&mut initiator, &packet(1, 64), now), now)
        .unwrap();
    sealed(&mut responder, &packet(2, 64), now + seconds(9));
    assert!(
        run_alone(&mut responder, now + seconds(9), seconds(14))
            .transmits
            .is_empty()
    );
}

#[test]
fn a_keepalive_due_in_a_session_too_old_to_seal_starts_a_handshake_in_the_same_step() {
    let now = epoch();
    let [mut initiator, mut responder] = established(now);
    initiator.initiate(now + seconds(150));
    let data = &mut sealed(&mut responder, &packet(1, 64), now + seconds(162));
    initiator.open(data, now + seconds(162)).unwrap();
    let log = run_alone(&mut initiator, now + seconds(162), seconds(11));
    assert_eq!(
        log.kinds().last(),
        Some(&(seconds(10), MessageKind::Initiation))
    );
}

#[test]
fn keepalives_do_not_answer_keepalives() {
    let mut world = ours(Link::CLEAN, 1);
    world.a.initiate(world.now);
    world.run(seconds(1));
    let start = world.now;
    world.a.send(&packet(1, 64), start);
    world.run(seconds(100));
    assert_eq!(world.sent_since(start, 0, MessageKind::Data), 1);
    assert_eq!(world.sent_since(start, 1, MessageKind::Data), 1);
}

#[test]
fn silence_after_data_starts_a_handshake_between_15_and_15_333_s_from_either_end() {
    for side in [0, 1] {
        let now = epoch();
        let mut pair = established(now);
        let tunnel = &mut pair[side];
        sealed(tunnel, &packet(1, 64), now + seconds(1));
        // Counted from the first packet without an answer: later ones do not postpone it.
        sealed(tunnel, &packet(2, 64), now + seconds(10));
        let log = run_alone(tunnel, now + seconds(10), seconds(8));
        let (after, kind) = log.kinds()[0];
        assert_eq!(kind, MessageKind::Initiation);
        assert!(
            (seconds(6)..=Duration::from_millis(6333)).contains(&after),
            "{after:?}"
        );
    }
}

#[test]
fn anything_authentic_ends_the_silence() {
    let now = epoch();
    let [mut initiator, mut responder] = established(now);
    sealed(&mut initiator, &packet(1, 64), now);
    let mut keepalive = with_room(&[]);
    responder.seal(&mut keepalive, now).unwrap();
    initiator.open(&mut keepalive, now + seconds(14)).unwrap();
    assert!(
        run_alone(&mut initiator, now + seconds(14), seconds(90))
            .transmits
            .is_empty()
    );
}

#[test]
fn without_a_new_session_for_540_s_everything_is_forgotten() {
    let now = epoch();
    let [_, mut responder] = established(now);
    let log = run_alone(&mut responder, now, seconds(2000));
    assert!(log.transmits.is_empty());
    assert_eq!(log.events, [(seconds(540), TunnelEvent::SessionsExpired)]);
    assert_eq!(responder.poll_timeout(), None);
}

#[test]
fn a_tunnel_that_never_had_a_session_expires_after_540_s() {
    let now = epoch();
    let mut tunnel = tunnel(1, 2, now);
    assert_eq!(
        run_alone(&mut tunnel, now, seconds(600)).events,
        [(seconds(540), TunnelEvent::SessionsExpired)]
    );
    tunnel.initiate(now + seconds(600));
    assert!(tunnel.is_handshaking(), "and can still be used");
}

#[test]
fn after_giving_up_only_new_traffic_or_the_next_expiry_tries_again() {
    let now = epoch();
    let [mut initiator, _] = established(now);
    initiator.initiate(now);
    let log = run_alone(&mut initiator, now, seconds(170));
    assert_eq!(log.transmits.len(), 4);
    assert_eq!(log.events, [(seconds(20), TunnelEvent::GaveUp)]);
    let log = run_alone(&mut initiator, now + seconds(170), seconds(11));
    assert_eq!(log.kinds(), [(seconds(10), MessageKind::Initiation)]);
}

#[test]
fn an_attempt_that_fails_beside_one_of_the_peer_that_succeeds_is_not_given_up_aloud() {
    let now = epoch();
    let mut pair = established(now);
    pair[1].initiate(now);
    only_transmit(&mut pair[1]);
    handshake(&mut pair, now + seconds(1));
    assert!(pair[1].is_handshaking(), "its response may still come");
    assert!(
        run_alone(&mut pair[1], now + seconds(1), seconds(100))
            .events
            .is_empty()
    );
    assert!(!pair[1].is_handshaking());
}

#[test]
fn a_dead_link_is_noticed_in_15_s_and_given_up_20_s_later() {
    let mut world = ours(Link::CLEAN, 1);
    world.a.initiate(world.now);
    world.run(seconds(1));
    world.link = Link::DEAD;
    let start = world.now;
    world.a.send(&packet(1, 64), start);
    world.run(seconds(40));
    let gave_up_at = gave_up_at(&world);
    assert!(
        (seconds(35)..Duration::from_millis(35_334)).contains(&(gave_up_at - start)),
        "{:?}",
        gave_up_at - start
    );
}

#[test]
fn timers_are_parameters() {
    let now = epoch();
    let timers = Timers {
        rekey_timeout: seconds(2),
        rekey_attempt: seconds(90),
        ..Timers::CLASSIC
    };
    let mut tunnel = Tunnel::new(
        wardgate_wireguard::TunnelConfig {
            timers,
            ..config(1, 2, now)
        },
        now,
    );
    tunnel.initiate(now);
    let log = run_alone(&mut tunnel, now, seconds(100));
    assert!((39..=45).contains(&log.transmits.len()));
    assert_eq!(log.events, [(seconds(90), TunnelEvent::GaveUp)]);
}

fn gave_up_at(world: &World<Ours, Ours>) -> Instant {
    let seen = world
        .a
        .events
        .iter()
        .find(|(_, event)| *event == TunnelEvent::GaveUp);
    seen.expect("it gave up").0
}

/// What a tunnel did, with the time since the start.
struct Log {
    transmits: Vec<(Duration, Vec<u8>)>,
    events: Vec<(Duration, TunnelEvent)>,
}

impl Log {
    fn kinds(&self) -> Vec<(Duration, MessageKind)> {
        self.transmits
            .iter()
            .map(|(at, bytes)| (*at, classify(bytes).unwrap()))
            .collect()
    }
}

/// Let `duration` pass for a tunnel whose messages are all lost.
fn run_alone(tunnel: &mut Tunnel, start: Instant, duration: Duration) -> Log {
    let mut log = Log {
        transmits: Vec::new(),
        events: Vec::new(),
    };
    let mut now = start;
    loop {
        while let Some(message) = tunnel.poll_transmit() {
            log.transmits.push((now - start, message));
        }
        while let Some(event) = tunnel.poll_event() {
            log.events.push((now - start, event));
        }
        match tunnel.poll_timeout().filter(|at| *at <= start + duration) {
            Some(at) => now = at.max(now),
            None => return log,
        }
        tunnel.handle_timeout(now);
        assert!(
            tunnel.poll_timeout().is_none_or(|at| at > now),
            "what was due is done"
        );
    }
}
