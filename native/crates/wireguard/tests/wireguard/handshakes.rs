//! Who may complete a handshake, and what it leaves.

use wardgate_wireguard::{
    HandshakeError, MessageKind, NoSession, OpenError, PresharedKey, Tunnel, TunnelEvent, classify,
    initiator_key, receiver_index,
};

use crate::support::{
    End, Link, config, epoch, established, handshake, keys, only_transmit, ours, packet, seconds,
};
use crate::support::{sealed, tunnel, with_room};

#[test]
fn a_handshake_lets_both_ends_seal_and_open() {
    let now = epoch();
    let [mut initiator, mut responder] = established(now);
    for size in [24, 576, 1280] {
        let mut message = sealed(&mut initiator, &packet(7, size), now);
        assert_eq!(message.len(), size + 32);
        assert_eq!(responder.open(&mut message, now).unwrap(), packet(7, size));
        let mut message = sealed(&mut responder, &packet(8, size), now);
        assert_eq!(initiator.open(&mut message, now).unwrap(), packet(8, size));
    }
}

#[test]
fn the_initiator_confirms_its_keys_at_once_and_the_responder_sends_nothing_before() {
    let now = epoch();
    let [mut initiator, mut responder] = [tunnel(1, 2, now), tunnel(2, 1, now)];
    initiator.initiate(now);
    responder
        .handle_handshake(&only_transmit(&mut initiator), now)
        .unwrap();
    let response = only_transmit(&mut responder);
    assert!(!responder.is_established(now));
    assert_eq!(responder.seal(&mut with_room(&[1]), now), Err(NoSession));
    assert_eq!(responder.poll_event(), None);

    initiator.handle_handshake(&response, now).unwrap();
    let mut confirmation = only_transmit(&mut initiator);
    assert_eq!(confirmation.len(), 32);
    assert!(responder.open(&mut confirmation, now).unwrap().is_empty());
    assert!(responder.is_established(now));
    assert_eq!(responder.poll_event(), Some(TunnelEvent::HandshakeDone));
}

#[test]
fn messages_lead_to_the_tunnel_by_key_and_by_the_upper_bits_of_their_index() {
    let now = epoch();
    let [mut initiator, mut responder] = [tunnel(1, 2, now), tunnel(2, 1, now)];
    initiator.initiate(now);
    let initiation = only_transmit(&mut initiator);
    assert_eq!(initiator_key(&keys(2), &initiation), Ok(keys(1).public));
    assert_eq!(receiver_index(&initiation), None);
    responder.handle_handshake(&initiation, now).unwrap();
    let response = only_transmit(&mut responder);
    assert_eq!(receiver_index(&response).map(|index| index >> 8), Some(1));
    initiator.handle_handshake(&response, now).unwrap();
    let confirmation = only_transmit(&mut initiator);
    assert_eq!(
        receiver_index(&confirmation).map(|index| index >> 8),
        Some(2)
    );
}

#[test]
fn a_replayed_initiation_is_refused_by_its_timestamp() {
    let now = epoch();
    let [mut initiator, mut responder] = [tunnel(1, 2, now), tunnel(2, 1, now)];
    initiator.initiate(now);
    let first = only_transmit(&mut initiator);
    let later = now + seconds(6);
    initiator.handle_timeout(later);
    let second = only_transmit(&mut initiator);
    responder.handle_handshake(&second, later).unwrap();
    assert_eq!(
        responder.handle_handshake(&second, later),
        Err(HandshakeError::Replayed)
    );
    assert_eq!(
        responder.handle_handshake(&first, later),
        Err(HandshakeError::Replayed)
    );
    only_transmit(&mut responder);
}

#[test]
fn a_replayed_response_is_refused() {
    let now = epoch();
    let [mut initiator, mut responder] = [tunnel(1, 2, now), tunnel(2, 1, now)];
    initiator.initiate(now);
    responder
        .handle_handshake(&only_transmit(&mut initiator), now)
        .unwrap();
    let response = only_transmit(&mut responder);
    initiator.handle_handshake(&response, now).unwrap();
    only_transmit(&mut initiator);
    assert_eq!(
        initiator.handle_handshake(&response, now),
        Err(HandshakeError::NotAwaited)
    );
}

#[test]
fn a_forged_response_does_not_end_the_handshake() {
    let now = epoch();
    let [mut initiator, mut responder] = [tunnel(1, 2, now), tunnel(2, 1, now)];
    initiator.initiate(now);
    responder
        .handle_handshake(&only_transmit(&mut initiator), now)
        .unwrap();
    let response = only_transmit(&mut responder);
    let mut forged = response.clone();
    forged[50] ^= 1;
    assert_eq!(
        initiator.handle_handshake(&forged, now),
        Err(HandshakeError::Unauthentic)
    );
    assert_eq!(initiator.handle_handshake(&response, now), Ok(()));
}

#[test]
fn timestamps_rise_for_a_new_tunnel_whatever_the_wall_clock_does_meanwhile() {
    // The wall clock is read once, into the clock that all tunnels share; a step can no longer be seen.
    let now = epoch();
    let mut peer = tunnel(2, 1, now);
    let mut before = tunnel(1, 2, now);
    before.initiate(now + seconds(1));
    peer.handle_handshake(&only_transmit(&mut before), now + seconds(1))
        .unwrap();
    let mut after = Tunnel::new(config(1, 2, now), now + seconds(2));
    after.initiate(now + seconds(2));
    assert_eq!(
        peer.handle_handshake(&only_transmit(&mut after), now + seconds(2)),
        Ok(())
    );
}

#[test]
fn two_initiations_of_one_instant_are_both_accepted() {
    let now = epoch();
    let mut pair = established(now);
    handshake(&mut pair, now);
}

#[test]
fn an_initiation_of_another_peer_is_refused() {
    let now = epoch();
    let mut stranger = tunnel(3, 2, now);
    let mut responder = tunnel(2, 1, now);
    stranger.initiate(now);
    let initiation = only_transmit(&mut stranger);
    assert_eq!(
        responder.handle_handshake(&initiation, now),
        Err(HandshakeError::WrongPeer)
    );
    assert_eq!(responder.poll_transmit(), None);
}

#[test]
fn a_changed_preshared_key_reaches_the_next_handshake() {
    let now = epoch();
    let mut pair = established(now);
    pair[0].set_preshared_key(PresharedKey::new([4; 32]));
    pair[0].initiate(now);
    let initiation = only_transmit(&mut pair[0]);
    pair[1].handle_handshake(&initiation, now).unwrap();
    let response = only_transmit(&mut pair[1]);
    assert_eq!(
        pair[0].handle_handshake(&response, now),
        Err(HandshakeError::Unauthentic)
    );

    // And the running one: the key that counts is that of the response.
    pair[0].set_preshared_key(PresharedKey::new(crate::support::PRESHARED_KEY));
    assert_eq!(pair[0].handle_handshake(&response, now), Ok(()));
}

#[test]
fn packets_of_the_session_before_still_open_after_a_rekey() {
    let now = epoch();
    let mut pair = established(now);
    let mut late = [
        sealed(&mut pair[0], &[1], now),
        sealed(&mut pair[0], &[2], now),
    ];
    let mut late_back = sealed(&mut pair[1], &[3], now);
    handshake(&mut pair, now + seconds(1));
    assert_eq!(pair[1].open(&mut late[1], now + seconds(2)).unwrap(), [2]);
    assert_eq!(pair[1].open(&mut late[0], now + seconds(2)).unwrap(), [1]);
    assert_eq!(pair[0].open(&mut late_back, now + seconds(2)).unwrap(), [3]);
}

#[test]
fn a_late_packet_of_an_older_session_does_not_make_it_current_again() {
    let now = epoch();
    let mut pair = established(now);
    let mut late = sealed(&mut pair[0], &[1], now);
    handshake(&mut pair, now);
    let before = receiver_index(&sealed(&mut pair[1], &[2], now));
    pair[1].open(&mut late, now).unwrap();
    assert_eq!(receiver_index(&sealed(&mut pair[1], &[2], now)), before);
}

#[test]
fn the_session_before_the_last_eight_is_forgotten() {
    let now = epoch();
    let mut pair = established(now);
    let mut oldest = sealed(&mut pair[0], &[1], now);
    for _ in 0..8 {
        handshake(&mut pair, now);
    }
    assert_eq!(
        pair[1].open(&mut oldest, now).map(|_| ()),
        Err(OpenError::UnknownSession)
    );
}

#[test]
fn simultaneous_initiations_leave_both_ends_able_to_talk() {
    let mut world = ours(Link::CLEAN, 1);
    let now = world.now;
    world.a.initiate(now);
    world.b.initiate(now);
    world.run(seconds(1));
    for side in [0, 1] {
        let now = world.now;
        assert!(world.end(side).send(&packet(1, 64), now));
    }
    world.run(seconds(1));
    assert_eq!((world.a.received().len(), world.b.received().len()), (1, 1));
    // And neither gives up, or falls silent, over the sessions that follow.
    world.run(seconds(2000));
    assert!(world.a.tunnel.is_established(world.now) && world.b.tunnel.is_established(world.now));
    assert_eq!(
        world.a.count(TunnelEvent::GaveUp) + world.b.count(TunnelEvent::GaveUp),
        0
    );
}

#[test]
fn a_lost_response_costs_one_retransmission() {
    let mut world = ours(Link::CLEAN, 1);
    let start = world.now;
    world.a.initiate(start);
    let initiation = world.a.poll_transmit().unwrap();
    world.b.receive(initiation, start);
    world.b.poll_transmit().unwrap();
    world.run(seconds(6));
    assert!(world.a.tunnel.is_established(world.now) && world.b.tunnel.is_established(world.now));
    assert_eq!(world.sent_since(start, 0, MessageKind::Initiation), 1);
}

#[test]
fn a_padded_packet_is_given_with_its_padding() {
    let now = epoch();
    let [mut initiator, mut responder] = established(now);
    let mut padded = packet(1, 30);
    padded.resize(32, 0);
    let mut message = sealed(&mut initiator, &padded, now);
    assert_eq!(classify(&message), Some(MessageKind::Data));
    assert_eq!(responder.open(&mut message, now).unwrap(), padded);
}
