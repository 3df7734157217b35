//! Bytes from strangers: never a panic, never an effect.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wardgate_wireguard::{
    Gate, HandshakeError, MessageKind, OpenError, Tunnel, Verdict, classify, initiator_key,
    receiver_index,
};

use crate::support::{epoch, established, keys, only_transmit, packet, sealed, seconds, tunnel};

const HEADERS: [[u8; 4]; 6] = [
    [0, 0, 0, 0],
    [1, 0, 0, 0],
    [2, 0, 0, 0],
    [3, 0, 0, 0],
    [4, 0, 0, 0],
    [4, 0, 0, 1],
];

#[test]
fn datagrams_of_every_size_and_type_are_refused_without_panic() {
    let now = epoch();
    let [mut tunnel, _] = established(now);
    for size in (0..2000).chain([65_507, 65_535]) {
        for header in HEADERS {
            let mut datagram = vec![0xa5; size];
            let length = size.min(4);
            datagram[..length].copy_from_slice(&header[..length]);
            feed(&mut tunnel, &datagram, now);
        }
    }
}

#[test]
fn an_oversized_datagram_is_refused_and_the_session_goes_on() {
    let now = epoch();
    let [mut sender, mut receiver] = established(now);
    let mut message = sealed(&mut sender, &packet(1, 1280), now);
    let mut oversized = message.clone();
    oversized.resize(65_535, 0);
    assert_eq!(
        receiver.open(&mut oversized, now).map(|_| ()),
        Err(OpenError::Unauthentic)
    );
    assert_eq!(receiver.open(&mut message, now).unwrap(), packet(1, 1280));
}

#[test]
fn coalesced_messages_are_refused_together_and_open_apart() {
    let now = epoch();
    let [mut sender, mut receiver] = established(now);
    let [first, second] = [1, 2].map(|id| sealed(&mut sender, &packet(id, 1280), now));
    let mut coalesced = [first.clone(), second.clone()].concat();
    assert_eq!(
        receiver.open(&mut coalesced, now).map(|_| ()),
        Err(OpenError::Unauthentic)
    );
    let mut coalesced = [first, second].concat();
    for (segment, id) in coalesced.chunks_mut(1312).zip([1, 2]) {
        assert_eq!(receiver.open(segment, now).unwrap(), packet(id, 1280));
    }
}

#[test]
fn a_data_message_of_another_tunnel_or_session_belongs_to_none() {
    let now = epoch();
    let [mut sender, mut receiver] = established(now);
    let message = sealed(&mut sender, &[1], now);
    for byte in 4..8 {
        let mut changed = message.clone();
        changed[byte] ^= 0x40;
        assert_eq!(
            receiver.open(&mut changed, now).map(|_| ()),
            Err(OpenError::UnknownSession),
            "{byte}"
        );
    }
}

#[test]
fn a_data_message_opens_once() {
    let now = epoch();
    let [mut sender, mut receiver] = established(now);
    let message = sealed(&mut sender, &[1], now);
    assert!(receiver.open(&mut message.clone(), now).is_ok());
    assert_eq!(
        receiver.open(&mut message.clone(), now).map(|_| ()),
        Err(OpenError::Replayed)
    );
}

#[test]
fn packets_reordered_across_8192_places_all_open_and_one_place_more_does_not() {
    let now = epoch();
    let [mut sender, mut receiver] = established(now);
    let mut messages: Vec<_> = (0..8193)
        .map(|id| sealed(&mut sender, &packet(id, 24), now))
        .collect();
    for message in messages[1..].iter_mut().rev() {
        receiver.open(message, now).unwrap();
    }
    assert_eq!(
        receiver.open(&mut messages[0], now).map(|_| ()),
        Err(OpenError::Replayed)
    );
}

#[test]
fn a_changed_bit_anywhere_in_the_corpus_never_panics_and_is_never_accepted() {
    let now = epoch();
    for (name, message) in corpus(now) {
        for byte in 0..message.len() {
            // mac1 and mac2 are the gate's to check; a tunnel alone does not look at them.
            if matches!(name, Name::Initiation | Name::Response) && byte >= message.len() - 32 {
                continue;
            }
            // The sender's index is opaque, and covered by mac1 only.
            if matches!(name, Name::Initiation | Name::Response) && (4..8).contains(&byte) {
                continue;
            }
            let mut changed = message.clone();
            changed[byte] ^= 1 << (byte % 8);
            let mut tunnel = receiver_of(name, now);
            // Bit 255 of a Curve25519 public key is ignored (RFC 7748 §5), yet the transcript's hash covers it.
            assert!(!feed(&mut tunnel, &changed, now), "{name:?} byte {byte}");
            assert!(
                feed(&mut tunnel, &message, now),
                "{name:?} still completes after byte {byte}"
            );
        }
    }
}

#[test]
fn changed_handshake_messages_do_not_pass_the_gate() {
    let now = epoch();
    for (name, own) in [(Name::Initiation, 2), (Name::Response, 1)] {
        let (_, message) = corpus(now)
            .into_iter()
            .find(|(found, _)| *found == name)
            .unwrap();
        let mut gate = Gate::new(&keys(own).public, [7; 32], now);
        let from = "198.51.100.7:1".parse().unwrap();
        for byte in 0..message.len() - 16 {
            let mut changed = message.clone();
            changed[byte] ^= 1 << (byte % 8);
            assert_eq!(
                gate.check(&changed, from, now),
                Verdict::Drop,
                "{name:?} byte {byte}"
            );
        }
        assert_eq!(gate.check(&message, from, now), Verdict::Pass);
    }
}

#[test]
fn mutations_of_the_corpus_never_panic() {
    let now = epoch();
    let corpus: Vec<_> = corpus(now)
        .into_iter()
        .map(|(_, message)| message)
        .collect();
    let mut rng = StdRng::seed_from_u64(1);
    let mut gate = Gate::new(&keys(2).public, [7; 32], now);
    let [mut tunnel, _] = established(now);
    for _ in 0..20_000 {
        let mut message = corpus[rng.random_range(0..corpus.len())].clone();
        match rng.random_range(0..4) {
            0 => message.truncate(rng.random_range(0..=message.len())),
            1 => message.resize(rng.random_range(0..2000), rng.random()),
            2 => message.extend_from_slice(&corpus[rng.random_range(0..corpus.len())]),
            _ => message[..4].copy_from_slice(&HEADERS[rng.random_range(0..HEADERS.len())]),
        }
        for _ in 0..rng.random_range(0..4) {
            if !message.is_empty() {
                let position = rng.random_range(0..message.len());
                message[position] = rng.random();
            }
        }
        gate.check(&message, "198.51.100.7:1".parse().unwrap(), now);
        feed(&mut tunnel, &message, now);
    }
}

#[test]
fn a_data_message_is_no_handshake_message() {
    let now = epoch();
    let [mut sender, mut receiver] = established(now);
    let message = sealed(&mut sender, &[1], now);
    assert_eq!(
        receiver.handle_handshake(&message, now),
        Err(HandshakeError::Malformed)
    );
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Initiation,
    Response,
    CookieReply,
    Data,
}

/// One valid message of each type, for the tunnels of [`receiver_of`]. Seeds make every run the same.
fn corpus(now: Instant) -> Vec<(Name, Vec<u8>)> {
    let [mut initiator, mut responder] = [tunnel(1, 2, now), tunnel(2, 1, now)];
    initiator.initiate(now);
    let initiation = only_transmit(&mut initiator);
    responder.handle_handshake(&initiation, now).unwrap();
    let response = only_transmit(&mut responder);
    initiator.handle_handshake(&response, now).unwrap();
    let data = sealed(&mut initiator, &packet(1, 64), now);
    let mut gate = Gate::new(&keys(2).public, [7; 32], now);
    let reply = loop {
        if let Verdict::CookieReply(reply) =
            gate.check(&initiation, "198.51.100.7:1".parse().unwrap(), now)
        {
            break reply;
        }
    };
    vec![
        (Name::Initiation, initiation),
        (Name::Response, response),
        (Name::CookieReply, reply),
        (Name::Data, data),
    ]
}

/// The tunnel that the message of this name in the corpus is for, in the state in which it is valid.
fn receiver_of(name: Name, now: Instant) -> Tunnel {
    let [mut initiator, mut responder] = [tunnel(1, 2, now), tunnel(2, 1, now)];
    initiator.initiate(now);
    match name {
        Name::Initiation => responder,
        Name::Response | Name::CookieReply => initiator,
        Name::Data => {
            responder
                .handle_handshake(&only_transmit(&mut initiator), now)
                .unwrap();
            responder
        }
    }
}

/// Give a datagram to everything that could meet it; say whether it was accepted.
fn feed(tunnel: &mut Tunnel, datagram: &[u8], now: Instant) -> bool {
    let _ = receiver_index(datagram);
    let _ = initiator_key(&keys(2), datagram);
    let accepted = match classify(datagram) {
        Some(MessageKind::Data) => tunnel.open(&mut datagram.to_vec(), now).is_ok(),
        Some(_) => tunnel.handle_handshake(datagram, now).is_ok(),
        None => {
            let opened = tunnel.open(&mut datagram.to_vec(), now).is_ok();
            tunnel.handle_handshake(datagram, now).is_ok() || opened
        }
    };
    tunnel.handle_timeout(now + seconds(0));
    accepted
}
