//! Laws that hold whatever the link does.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use wardgate_wireguard::{DATA_HEADER_SIZE, TAG_SIZE, TunnelEvent};

use crate::support::{End, Link, epoch, established, ours, packet, sealed, seconds};

fn links() -> impl Strategy<Value = Link> {
    (0.0..0.3, 0.0..0.5, 0_u64..200, 0_u64..1500).prop_map(|(loss, duplication, least, width)| {
        Link {
            loss,
            duplication,
            delay_ms: (least, least + width),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_arrives_at_most_once_and_unchanged(
        link in links(),
        seed in any::<u64>(),
        sends in prop::collection::vec((0_usize..2, 0_u64..20, 24_usize..1280), 1..200),
    ) {
        let mut world = ours(link, seed);
        world.a.initiate(world.now);
        world.run(seconds(20));
        let mut sent = [BTreeSet::new(), BTreeSet::new()];
        for (id, (side, pause_s, size)) in sends.into_iter().enumerate() {
            let (now, packet) = (world.now, packet(u32::try_from(id).unwrap(), size));
            if world.end(side).send(&packet, now) {
                sent[side].insert(packet);
            }
            world.run(seconds(pause_s));
        }
        world.run(seconds(5));
        for side in [0, 1] {
            let mut seen = BTreeSet::new();
            for packet in world.end(1 - side).received() {
                prop_assert!(sent[side].contains(packet), "nobody sent that");
                prop_assert!(seen.insert(packet.clone()), "twice");
            }
        }
    }

    #[test]
    fn over_a_link_that_loses_little_a_busy_tunnel_never_stops(
        loss in 0.0..0.05,
        duplication in 0.0..0.3,
        width_ms in 0_u64..1000,
        seed in any::<u64>(),
    ) {
        let mut world = ours(Link { loss, duplication, delay_ms: (5, 5 + width_ms) }, seed);
        world.a.initiate(world.now);
        world.run(seconds(19));
        prop_assume!(world.a.tunnel.is_established(world.now) && world.b.tunnel.is_established(world.now));
        let mut refused = 0;
        for id in 0..600 {
            let (now, side) = (world.now, id as usize % 2);
            refused += usize::from(!world.end(side).send(&packet(id, 64), now));
            world.run(seconds(1));
        }
        prop_assert_eq!(refused, 0);
        prop_assert!(world.a.count(TunnelEvent::HandshakeDone) >= 4, "it was rekeyed");
        prop_assert_eq!(world.a.count(TunnelEvent::GaveUp) + world.b.count(TunnelEvent::GaveUp), 0);
    }

    #[test]
    fn the_same_seeds_give_the_same_bytes(link in links(), seed in any::<u64>()) {
        let runs = [(), ()].map(|()| {
            let mut world = ours(link, seed);
            let start = world.now;
            world.a.initiate(start);
            for id in 0..20 {
                let now = world.now;
                world.b.send(&packet(id, 64), now);
                world.run(seconds(17));
            }
            world.sent.into_iter().map(|(at, side, bytes)| (at - start, side, bytes)).collect::<Vec<_>>()
        });
        prop_assert_eq!(&runs[0], &runs[1]);
    }

    #[test]
    fn opening_inverts_sealing(plaintext in prop::collection::vec(any::<u8>(), 0..2000)) {
        let now = epoch();
        let [mut sender, mut receiver] = established(now);
        let mut message = sealed(&mut sender, &plaintext, now);
        prop_assert_eq!(message.len(), DATA_HEADER_SIZE + plaintext.len() + TAG_SIZE);
        let opened = receiver.open(&mut message, now).unwrap();
        prop_assert_eq!(opened, &plaintext[..]);
    }
}
