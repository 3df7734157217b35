//! The gate and the cookies that it hands out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wardgate_wireguard::{
    BURST_OF_A_SOURCE, Gate, HANDSHAKES_PER_SECOND, HANDSHAKES_PER_SECOND_OF_A_SOURCE,
    HandshakeError, MessageKind, Tunnel, Verdict, classify,
};

use crate::support::{epoch, established, keys, only_transmit, seconds, tunnel};

#[test]
fn a_message_with_another_nodes_mac1_is_dropped() {
    let now = epoch();
    let mut tunnel = tunnel(1, 2, now);
    tunnel.initiate(now);
    let mut initiation = only_transmit(&mut tunnel);
    assert_eq!(gate(2, now).check(&initiation, from(1), now), Verdict::Pass);
    assert_eq!(gate(3, now).check(&initiation, from(1), now), Verdict::Drop);
    initiation[20] ^= 1;
    assert_eq!(gate(2, now).check(&initiation, from(1), now), Verdict::Drop);
}

#[test]
fn responses_are_judged_as_initiations_are_and_cookie_replies_pass() {
    let now = epoch();
    let [mut initiator, mut responder] = [tunnel(1, 2, now), tunnel(2, 1, now)];
    initiator.initiate(now);
    responder
        .handle_handshake(&only_transmit(&mut initiator), now)
        .unwrap();
    let response = only_transmit(&mut responder);
    assert_eq!(gate(1, now).check(&response, from(1), now), Verdict::Pass);
    let mut busy = busy_gate(1, now);
    let reply = cookie_reply(busy.check(&response, from(1), now));
    assert_eq!(gate(2, now).check(&reply, from(1), now), Verdict::Pass);
    assert_eq!(responder.handle_handshake(&reply, now), Ok(()));
}

#[test]
fn what_is_no_handshake_message_is_dropped() {
    let now = epoch();
    let mut gate = gate(2, now);
    for size in [0, 3, 4, 32, 64, 92, 147, 148, 149, 1500] {
        assert_eq!(gate.check(&vec![4; size], from(1), now), Verdict::Drop);
    }
}

#[test]
fn the_101st_message_of_a_second_gets_a_cookie_and_the_next_second_is_free_again() {
    let now = epoch();
    let mut gate = gate(2, now);
    for _ in 0..HANDSHAKES_PER_SECOND {
        assert_eq!(
            gate.check(&fresh_initiation(now), from(1), now),
            Verdict::Pass
        );
    }
    cookie_reply(gate.check(&fresh_initiation(now), from(1), now));
    let later = now + Duration::from_millis(500);
    let passed = (0..100)
        .filter(|_| gate.check(&fresh_initiation(now), from(1), later) == Verdict::Pass)
        .count();
    assert_eq!(passed, 50);
}

#[test]
fn messages_with_a_wrong_mac1_do_not_use_up_the_limit() {
    let now = epoch();
    let mut gate = gate(2, now);
    let mut forged = fresh_initiation(now);
    forged[130] ^= 1;
    for _ in 0..1000 {
        assert_eq!(gate.check(&forged, from(1), now), Verdict::Drop);
    }
    assert_eq!(
        gate.check(&fresh_initiation(now), from(1), now),
        Verdict::Pass
    );
}

#[test]
fn a_cookie_opens_the_gate_for_its_address_and_port_only() {
    let now = epoch();
    let mut busy = busy_gate(2, now);
    let mut tunnel = tunnel(1, 2, now);
    tunnel.initiate(now);
    let reply = cookie_reply(busy.check(&only_transmit(&mut tunnel), from(1000), now));
    tunnel.handle_handshake(&reply, now).unwrap();
    let repeated = repeat(&mut tunnel);

    assert_eq!(busy.check(&repeated, from(1000), now), Verdict::Pass);
    cookie_reply(busy.check(&repeated, from(1001), now));
    cookie_reply(busy.check(&repeated, "198.51.100.8:1000".parse().unwrap(), now));
    cookie_reply(busy.check(&repeated, "[2001:db8::1]:1000".parse().unwrap(), now));
}

#[test]
fn a_source_that_has_a_cookie_gets_a_share_and_leaves_others_theirs() {
    let now = epoch();
    let mut busy = busy_gate(2, now);
    let passed = |gate: &mut Gate, from: &str, at| {
        let from = from.parse().unwrap();
        let mut tunnel = tunnel(1, 2, at);
        tunnel.initiate(at);
        let reply = match gate.check(&only_transmit(&mut tunnel), from, at) {
            Verdict::CookieReply(reply) => reply,
            other => panic!("{other:?}"),
        };
        tunnel.handle_handshake(&reply, at).unwrap();
        let repeated = repeat(&mut tunnel);
        let verdicts: Vec<_> = (0..100).map(|_| gate.check(&repeated, from, at)).collect();
        let passed = verdicts.iter().filter(|one| **one == Verdict::Pass).count();
        let limited = verdicts
            .iter()
            .filter(|one| **one == Verdict::Limited)
            .count();
        assert_eq!(passed + limited, 100);
        passed
    };
    let burst = BURST_OF_A_SOURCE as usize;
    assert_eq!(passed(&mut busy, "198.51.100.7:1000", now), burst);
    assert_eq!(
        passed(&mut busy, "198.51.100.7:1001", now),
        0,
        "another port of the same address"
    );
    assert_eq!(passed(&mut busy, "198.51.100.8:1000", now), burst);
    assert_eq!(passed(&mut busy, "[2001:db8::1]:1000", now), burst);
    assert_eq!(
        passed(&mut busy, "[2001:db8::ffff]:1000", now),
        0,
        "the same network"
    );
    assert_eq!(passed(&mut busy, "[2001:db8:0:1::1]:1000", now), burst);

    let later = now + Duration::from_millis(100);
    fill(&mut busy, later);
    let regained = HANDSHAKES_PER_SECOND_OF_A_SOURCE as usize / 10;
    assert_eq!(passed(&mut busy, "198.51.100.7:1000", later), regained);
}

#[test]
fn a_cookie_reply_moves_nothing_and_sends_nothing() {
    // Tunnels know no addresses, so a reply can make none roam; and it must not make the sender answer at once either.
    let now = epoch();
    let mut pair = established(now);
    pair[0].initiate(now);
    let reply = cookie_reply(busy_gate(2, now).check(&only_transmit(&mut pair[0]), from(1), now));
    let deadline = pair[0].poll_timeout();
    pair[0].handle_handshake(&reply, now).unwrap();
    assert_eq!(pair[0].poll_transmit(), None);
    assert_eq!(pair[0].poll_event(), None);
    assert_eq!(pair[0].poll_timeout(), deadline);
    assert!(pair[0].is_established(now));
}

#[test]
fn a_cookie_reply_counts_once_and_only_for_the_last_message() {
    let now = epoch();
    let mut busy = busy_gate(2, now);
    let mut tunnel = tunnel(1, 2, now);
    tunnel.initiate(now);
    let first = cookie_reply(busy.check(&only_transmit(&mut tunnel), from(1), now));
    let second = cookie_reply(busy.check(&repeat(&mut tunnel), from(1), now));
    assert_eq!(
        tunnel.handle_handshake(&first, now),
        Err(HandshakeError::NotAwaited)
    );
    let mut forged = second.clone();
    forged[40] ^= 1;
    assert_eq!(
        tunnel.handle_handshake(&forged, now),
        Err(HandshakeError::Unauthentic)
    );
    assert_eq!(tunnel.handle_handshake(&second, now), Ok(()));
    assert_eq!(
        tunnel.handle_handshake(&second, now),
        Err(HandshakeError::NotAwaited)
    );
}

#[test]
fn a_cookie_is_used_for_120_s_and_the_gate_takes_it_that_long_across_a_change_of_its_secret() {
    let start = epoch();
    let mut busy = busy_gate(2, start);
    // Just before the secret changes, at 128 s.
    let now = start + seconds(127);
    fill(&mut busy, now);
    let mut tunnel = tunnel(1, 2, start);
    tunnel.initiate(now);
    let reply = cookie_reply(busy.check(&only_transmit(&mut tunnel), from(1), now));
    tunnel.handle_handshake(&reply, now).unwrap();

    for (age_s, has_mac2) in [(1, true), (119, true), (120, false)] {
        let mut again = now + seconds(age_s);
        while tunnel.is_handshaking() {
            again = again.max(tunnel.poll_timeout().unwrap());
            tunnel.handle_timeout(again);
        }
        while tunnel.poll_transmit().is_some() {}
        let again = now + seconds(age_s);
        tunnel.initiate(again);
        let message = only_transmit(&mut tunnel);
        assert_eq!(message[132..] != [0; 16], has_mac2, "{age_s}");
        fill(&mut busy, again);
        assert_eq!(
            busy.check(&message, from(1), again) == Verdict::Pass,
            has_mac2,
            "{age_s}"
        );
    }
}

#[test]
fn a_cookie_of_the_secret_before_the_last_is_refused() {
    let start = epoch();
    let mut busy = busy_gate(2, start);
    let mut tunnel = tunnel(1, 2, start);
    tunnel.initiate(start);
    let reply = cookie_reply(busy.check(&only_transmit(&mut tunnel), from(1), start));
    tunnel.handle_handshake(&reply, start).unwrap();
    let repeated = repeat(&mut tunnel);
    let later = start + seconds(256);
    fill(&mut busy, later);
    cookie_reply(busy.check(&repeated, from(1), later));
}

fn from(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], port))
}

fn gate(own: u8, now: Instant) -> Gate {
    Gate::new(&keys(own).public, [7; 32], now)
}

/// A gate that has used up its limit.
fn busy_gate(own: u8, now: Instant) -> Gate {
    let mut gate = gate(own, now);
    let mut tunnel = tunnel(3, own, now);
    tunnel.initiate(now);
    let initiation = only_transmit(&mut tunnel);
    while gate.check(&initiation, from(1), now) == Verdict::Pass {}
    gate
}

/// Use up the limit of the gate of node 2 again.
fn fill(gate: &mut Gate, now: Instant) {
    while gate.check(&fresh_initiation(now), from(9), now) == Verdict::Pass {}
}

fn fresh_initiation(now: Instant) -> Vec<u8> {
    let mut tunnel = tunnel(3, 2, now);
    tunnel.initiate(now);
    only_transmit(&mut tunnel)
}

/// The next retransmission of a running handshake.
fn repeat(tunnel: &mut Tunnel) -> Vec<u8> {
    tunnel.handle_timeout(tunnel.poll_timeout().unwrap());
    only_transmit(tunnel)
}

fn cookie_reply(verdict: Verdict) -> Vec<u8> {
    match verdict {
        Verdict::CookieReply(reply) => {
            assert_eq!(classify(&reply), Some(MessageKind::CookieReply));
            reply
        }
        other => panic!("expected a cookie reply, not {other:?}"),
    }
}
