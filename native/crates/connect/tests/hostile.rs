//! Arbitrary bytes from anywhere: nothing panics, nothing is believed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::nat::{Mapping, Nat};
use support::world::{PEER, World};
use support::{address, client_config, gateway_config};

fn connected() -> World {
    let mut world = World::new();
    world.relay(1, &["192.0.2.1:3478"]);
    for (seed, inner, outer) in [
        (1, "10.0.0.2:52625", "198.51.100.1"),
        (2, "10.1.0.2:52625", "198.51.100.2"),
    ] {
        let peer = world.peer(
            seed,
            &[inner],
            Some(Nat::new(outer, Mapping::AddressAndPortDependent)),
        );
        world.set_relays(peer, &[1], &[]);
    }
    world.run_for(Duration::from_secs(1));
    world.upsert(1, gateway_config());
    world.upsert(0, client_config());
    assert!(world.run_until(Duration::from_secs(5), |world| {
        world.peers.iter().all(|peer| peer.path.is_some())
    }));
    world
}

/// Bytes, raw or dressed up as STUN or channel data, so that they get past the first checks.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    let attribute = (0_u16..0x30, bytes()).prop_map(|(kind, mut value)| {
        value.truncate(60);
        let mut attribute = kind.to_be_bytes().to_vec();
        attribute.extend_from_slice(&(value.len() as u16).to_be_bytes());
        attribute.extend_from_slice(&value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    });
    let stun = (
        0_u16..0x0120,
        any::<[u8; 12]>(),
        proptest::collection::vec(attribute, 0..6),
        any::<bool>(),
    )
        .prop_map(|(kind, transaction, attributes, named)| {
            let mut body = Vec::new();
            if named {
                body.extend_from_slice(&[0, 6, 0, 9]);
                body.extend_from_slice(b"clnt:gate\0\0\0");
            }
            body.extend(attributes.concat());
            let mut message = kind.to_be_bytes().to_vec();
            message.extend_from_slice(&(body.len() as u16).to_be_bytes());
            message.extend_from_slice(&0x2112_a442_u32.to_be_bytes());
            message.extend_from_slice(&transaction);
            message.extend_from_slice(&body);
            message
        });
    let framed = |inner: Vec<u8>, number: u16| {
        let mut message = (0x4000 | (number & 0xfff)).to_be_bytes().to_vec();
        message.extend_from_slice(&(inner.len() as u16).to_be_bytes());
        message.extend_from_slice(&inner);
        message
    };
    let stun = stun.boxed();
    prop_oneof![
        bytes(),
        stun.clone(),
        (bytes(), 0_u16..6).prop_map(move |(inner, number)| framed(inner, number)),
        (stun, 0_u16..6).prop_map(move |(inner, number)| framed(inner, number)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_datagrams_neither_panic_nor_move_the_path(
        datagrams in proptest::collection::vec((datagrams(), 0..4_usize, 0..2_usize), 1..60)
    ) {
        let mut world = connected();
        let before: Vec<_> = world.peers.iter().map(|peer| peer.path).collect();
        for (payload, from, peer) in datagrams {
            let from = ["192.0.2.1:3478", "203.0.113.1:3478", "198.51.100.2:20001", "[2001:db8::9]:9"][from];
            let local = world.peers[peer].sockets[0];
            let now = world.now;
            world.peers[peer].node.handle_datagram(address(from), local, &payload, now);
            world.drain(peer);
            world.run_for(Duration::from_millis(7));
        }
        let after: Vec<_> = world.peers.iter().map(|peer| peer.node.path(PEER)).collect();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn arbitrary_candidates_never_panic(texts in proptest::collection::vec(
        prop_oneof![".{0,80}", "candidate:[0-9a-f]{1,8} [0-2] (udp|tcp) [0-9]{1,11} ([0-9]{1,3}\\.){3}[0-9]{1,3} [0-9]{1,6} typ (host|srflx|relay|prflx)( raddr 0.0.0.0 rport 0)?( ufrag (gate|evil))?"],
        1..40,
    )) {
        let mut world = connected();
        let now = world.now;
        for text in &texts {
            world.peers[0].node.add_remote_candidate(PEER, text, now);
        }
        for text in &texts {
            world.peers[0].node.remove_remote_candidate(PEER, text, now);
        }
        world.drain(0);
        world.run_for(Duration::from_secs(3));
        prop_assert!(world.peers[0].node.path(PEER).is_some());
    }
}
