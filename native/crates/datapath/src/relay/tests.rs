//! The relay as its clients and their peers see it: two sockets, one engine, time by hand.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use wardgate_stun::{AttributeType, Integrity, Method, TransactionId};

const SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const USER: &str = "2145916800:c2FsdA";
const OTHER_CLIENT: &str = "198.51.100.7:40002";
/// As long as the other: nothing but the text tells them apart.
const OTHER_USER: &str = "2145916800:b3RoZQ";
/// Wall time at the epoch of every test: 2026-01-01.
const UNIX_AT_EPOCH: u64 = 1_767_225_600;

#[test]
fn binding_is_answered_with_the_senders_address_to_anybody() {
    let mut world = World::new();
    let id = TransactionId([4; 12]);
    let answers = world.send(
        CLIENT,
        &MessageBuilder::new(Class::Request, Method::BINDING, id).finish(),
    );
    let [answer] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(
        (answer.local, answer.remote),
        (Some(listen_v4()), addr(CLIENT))
    );
    let message = Message::parse(&answer.payload).unwrap();
    assert_eq!(
        (message.class(), message.transaction_id()),
        (Class::Success, id)
    );
    assert_eq!(message.xor_mapped_address(), Some(addr(CLIENT)));
    assert!(!message.has_integrity());
}

#[test]
fn source_port_zero_is_ignored() {
    let mut world = World::new();
    assert!(world.send("198.51.100.7:0", &binding()).is_empty());
}

#[test]
fn the_first_allocate_is_challenged_with_a_signed_401_and_the_second_succeeds() {
    let mut world = World::new();
    let challenge = world.request(CLIENT, USER, None, allocate_dual());
    assert_eq!(challenge.error, Some(401));
    assert_eq!(challenge.integrity, Integrity::Valid);
    assert_eq!(challenge.realm.as_deref(), Some("firezone"));
    let nonce = challenge.nonce.unwrap();

    let granted = world.request(CLIENT, USER, Some(&nonce), allocate_dual());
    assert_eq!((granted.error, granted.integrity), (None, Integrity::Valid));
    let [v4, v6] = granted.relayed[..] else {
        panic!("{granted:?}")
    };
    assert_eq!((v4.ip(), v6.ip()), (listen_v4().ip(), listen_v6().ip()));
    assert_eq!(v4.port(), v6.port());
    assert!((50_000..=50_009).contains(&v4.port()));
    assert_eq!(
        (granted.lifetime_s, granted.mapped),
        (Some(600), Some(addr(CLIENT)))
    );
    assert_eq!(world.open, BTreeSet::from([v4, v6]));
}

#[test]
fn an_allocate_success_has_its_attributes_in_the_specified_order() {
    let mut world = World::new();
    let nonce = world.nonce(CLIENT, USER);
    let answers = world.send(CLIENT, &signed_request(USER, Some(&nonce), allocate_dual()));
    let message = Message::parse(&answers[0].payload).unwrap();
    let kinds: Vec<u16> = message.attributes().map(|(kind, _)| kind.0).collect();
    assert_eq!(kinds, [0x8022, 0x0016, 0x0016, 0x0020, 0x000d, 0x0008]);
}

#[test]
fn a_request_without_username_gets_an_unsigned_401() {
    let mut world = World::new();
    let bare =
        MessageBuilder::new(Class::Request, Method::REFRESH, TransactionId([1; 12])).finish();
    let answer = Answer::read(&world.send(CLIENT, &bare)[0].payload, USER);
    assert_eq!(
        (answer.error, answer.integrity),
        (Some(401), Integrity::Missing)
    );
    assert!(answer.nonce.is_some());
}

#[test]
fn a_username_that_is_not_a_stamp_gets_no_answer() {
    let mut world = World::new();
    let nonce = world.nonce(CLIENT, USER);
    assert!(
        world
            .send(
                CLIENT,
                &signed_request("nobody", Some(&nonce), allocate_dual())
            )
            .is_empty()
    );
    assert!(
        world
            .send(CLIENT, &signed_request("nobody", None, allocate_dual()))
            .is_empty()
    );
}

#[test]
fn a_wrong_password_or_an_expired_credential_is_unauthorized() {
    let mut world = World::new();
    let nonce = world.nonce(CLIENT, USER);
    let forged = Ask {
        password: Some("wrong"),
        ..allocate_dual()
    };
    assert_eq!(
        world.request(CLIENT, USER, Some(&nonce), forged).error,
        Some(401)
    );
    let expired = format!("{}:c2FsdA", UNIX_AT_EPOCH - 1);
    assert_eq!(
        world
            .request(CLIENT, &expired, Some(&nonce), allocate_dual())
            .error,
        Some(401)
    );
    let lasting = format!("{}:c2FsdA", UNIX_AT_EPOCH + 10);
    assert_eq!(
        world
            .request(CLIENT, &lasting, Some(&nonce), allocate_dual())
            .error,
        None
    );
    assert_eq!(
        world.engine.stats().auth_failures,
        3,
        "the challenge and two refusals"
    );
}

#[test]
fn a_credential_expires_by_wall_time_even_after_the_clock_was_set() {
    let mut world = World::new();
    let nonce = world.nonce(CLIENT, USER);
    let user = format!("{}:c2FsdA", UNIX_AT_EPOCH + 1_000);
    world
        .engine
        .set_wall_clock(Duration::from_secs(UNIX_AT_EPOCH + 1_001), world.now);
    assert_eq!(
        world
            .request(CLIENT, &user, Some(&nonce), allocate_dual())
            .error,
        Some(401)
    );
}

#[test]
fn a_nonce_of_another_socket_is_stale_and_the_answer_brings_a_fresh_one() {
    let mut world = World::new();
    let nonce = world.nonce(CLIENT, USER);
    let stale = world.request("198.51.100.7:40002", USER, Some(&nonce), allocate_dual());
    assert_eq!(
        (stale.error, stale.integrity),
        (Some(438), Integrity::Valid)
    );
    let fresh = stale.nonce.unwrap();
    assert_eq!(
        world
            .request("198.51.100.7:40002", USER, Some(&fresh), allocate_dual())
            .error,
        None
    );
}

#[test]
fn an_allocation_ends_when_its_lifetime_does_and_its_port_closes() {
    let mut world = World::new();
    world.allocate(CLIENT, USER);
    assert_eq!(world.engine.poll_timeout(), Some(world.now + secs(600)));
    world.advance(599);
    assert_eq!(world.open.len(), 2);
    world.advance(1);
    assert!(world.open.is_empty() && world.engine.is_idle());
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn a_refresh_replaces_the_lifetime_and_zero_ends_the_allocation() {
    let mut world = World::new();
    let nonce = world.allocate(CLIENT, USER).nonce;
    world.advance(300);
    let refreshed = world.request(CLIENT, USER, Some(&nonce), refresh(None));
    assert_eq!((refreshed.error, refreshed.lifetime_s), (None, Some(600)));
    assert_eq!(world.engine.poll_timeout(), Some(world.now + secs(600)));
    let longest = world.request(CLIENT, USER, Some(&nonce), refresh(Some(100_000)));
    assert_eq!(longest.lifetime_s, Some(3_600));
    let ended = world.request(CLIENT, USER, Some(&nonce), refresh(Some(0)));
    assert_eq!((ended.error, ended.lifetime_s), (None, Some(0)));
    assert!(world.open.is_empty());
    assert_eq!(
        world
            .request(CLIENT, USER, Some(&nonce), refresh(None))
            .error,
        Some(437)
    );
}

#[test]
fn a_second_allocate_from_one_socket_is_a_mismatch() {
    let mut world = World::new();
    let nonce = world.allocate(CLIENT, USER).nonce;
    assert_eq!(
        world
            .request(CLIENT, USER, Some(&nonce), allocate_dual())
            .error,
        Some(437)
    );
}

#[test]
fn a_user_who_comes_from_another_socket_takes_the_allocation_along() {
    let mut world = World::new();
    world.allocate(CLIENT, USER);
    let first = world.open.clone();
    world.allocate("198.51.100.7:40999", USER);
    assert_eq!((world.open.len(), world.engine.stats().allocations), (2, 1));
    assert_eq!(world.closed, first);
}

#[test]
fn a_socket_that_changes_hands_loses_the_former_users_allocation() {
    let mut world = World::new();
    let nonce = world.allocate(CLIENT, USER).nonce;
    assert_eq!(
        world
            .request(CLIENT, OTHER_USER, Some(&nonce), refresh(None))
            .error,
        Some(437)
    );
    assert!(world.engine.is_idle());
    world.allocate(CLIENT, USER);
    assert_eq!(
        world
            .request(CLIENT, OTHER_USER, Some(&nonce), refresh(Some(0)))
            .error,
        None
    );
    assert!(world.engine.is_idle());
    world.allocate(CLIENT, USER);
    assert_eq!(
        world
            .request(CLIENT, OTHER_USER, Some(&nonce), allocate_dual())
            .error,
        None
    );
    assert_eq!(world.engine.stats().allocations, 1);
}

#[test]
fn a_forged_request_does_not_end_anybodys_allocation() {
    let mut world = World::new();
    let nonce = world.allocate(CLIENT, USER).nonce;
    let forged = Ask {
        password: Some("wrong"),
        ..refresh(Some(0))
    };
    assert_eq!(
        world
            .request(CLIENT, OTHER_USER, Some(&nonce), forged)
            .error,
        Some(401)
    );
    assert_eq!(world.engine.stats().allocations, 1);
}

#[test]
fn address_families_are_granted_as_the_relay_has_them() {
    use AddressFamily::{V4, V6};
    let (v4, v6) = (
        Some(Ipv4Addr::new(203, 0, 113, 101)),
        Some("2001:db8::101".parse().unwrap()),
    );
    for (ipv4, ipv6, requested, additional, outcome) in [
        (v4, v6, None, None, Ok(vec![V4])),
        (v4, v6, Some(V4), None, Ok(vec![V4])),
        (v4, v6, Some(V6), None, Ok(vec![V6])),
        (v4, v6, None, Some(V6), Ok(vec![V4, V6])),
        (v4, None, None, Some(V6), Ok(vec![V4])),
        (None, v6, None, Some(V6), Ok(vec![V6])),
        (v4, None, Some(V6), None, Err(440)),
        (None, v6, None, None, Err(440)),
        (None, v6, Some(V4), None, Err(440)),
        (v4, v6, Some(V4), Some(V6), Err(400)),
        (v4, v6, None, Some(V4), Err(400)),
    ] {
        let mut world = World::with(|config| RelayConfig {
            ipv4,
            ipv6,
            ..config
        });
        let nonce = world.nonce(CLIENT, USER);
        let ask = Ask {
            requested,
            additional,
            ..allocate_dual()
        };
        let answer = world.request(CLIENT, USER, Some(&nonce), ask);
        let families: Vec<_> = answer
            .relayed
            .iter()
            .map(|address| AddressFamily::of(address.ip()))
            .collect();
        assert_eq!(
            answer.error.map_or(Ok(families), Err),
            outcome,
            "{requested:?} {additional:?}"
        );
    }
}

#[test]
fn only_udp_is_relayed() {
    let mut world = World::new();
    let nonce = world.nonce(CLIENT, USER);
    let tcp = Ask {
        transport: Some(6),
        ..allocate_dual()
    };
    assert_eq!(
        world.request(CLIENT, USER, Some(&nonce), tcp).error,
        Some(400)
    );
    let unnamed = Ask {
        transport: None,
        ..allocate_dual()
    };
    assert_eq!(
        world.request(CLIENT, USER, Some(&nonce), unnamed).error,
        Some(400)
    );
}

#[test]
fn ports_that_cannot_be_bound_are_passed_over_and_half_open_pairs_closed() {
    let mut world = World::new();
    world.unbindable = (50_000..=50_009)
        .filter(|port| *port != 50_006)
        .map(v6_port)
        .collect();
    world.allocate(CLIENT, USER);
    assert_eq!(
        world.open,
        BTreeSet::from([SocketAddr::new(listen_v4().ip(), 50_006), v6_port(50_006)])
    );
}

#[test]
fn without_a_free_port_the_answer_is_508() {
    let mut world = World::new();
    world.unbindable = (50_000..=50_009).map(v6_port).collect();
    let nonce = world.nonce(CLIENT, USER);
    assert_eq!(
        world
            .request(CLIENT, USER, Some(&nonce), allocate_dual())
            .error,
        Some(508)
    );
    assert!(world.open.is_empty());
    world.unbindable.clear();
    for n in 0..10 {
        world.allocate(
            &format!("198.51.100.8:{}", 1_000 + n),
            &format!("2145916800:user{n}"),
        );
    }
    assert_eq!(
        world
            .request(CLIENT, USER, Some(&nonce), allocate_dual())
            .error,
        Some(508)
    );
    assert_eq!(world.engine.stats().allocations_refused, 2);
}

#[test]
fn a_draining_relay_refuses_new_allocations_and_keeps_the_old() {
    let mut world = World::new();
    let nonce = world.allocate(CLIENT, USER).nonce;
    world.engine.drain();
    assert_eq!(
        world
            .request(CLIENT, USER, Some(&nonce), refresh(None))
            .error,
        None
    );
    let other = world.nonce(PEER, OTHER_USER);
    assert_eq!(
        world
            .request(PEER, OTHER_USER, Some(&other), allocate_dual())
            .error,
        Some(508)
    );
    world.advance(600);
    assert!(world.engine.is_idle());
}

#[test]
fn a_channel_carries_payload_both_ways_in_either_family() {
    for peer in [PEER, "[2001:db8::9]:52625"] {
        let mut world = World::new();
        let held = world.allocate(CLIENT, USER);
        assert_eq!(
            world.bind(CLIENT, USER, &held.nonce, 0x4000, peer).error,
            None
        );
        let relayed = held.address(addr(peer));

        let out = world.send(CLIENT, &frame(0x4000, b"hello"));
        assert_eq!(out, [sent(relayed, addr(peer), b"hello")]);
        let back = world.deliver(peer, relayed, b"answer");
        assert_eq!(
            back,
            [sent(listen_v4(), addr(CLIENT), &frame(0x4000, b"answer"))]
        );
        assert_eq!(world.engine.stats().relayed_bytes, 11);
    }
}

#[test]
fn payload_without_a_channel_is_dropped() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
    let relayed = held.address(addr(PEER));
    assert!(
        world.send(CLIENT, &frame(0x4001, b"x")).is_empty(),
        "number never bound"
    );
    assert!(
        world
            .send("198.51.100.7:40002", &frame(0x4000, b"x"))
            .is_empty(),
        "another socket's channel"
    );
    assert!(
        world.deliver("192.0.2.9:52626", relayed, b"x").is_empty(),
        "another port of the peer"
    );
    assert!(
        world.deliver("192.0.2.10:52625", relayed, b"x").is_empty(),
        "another peer"
    );
    assert!(
        world
            .deliver(
                PEER,
                SocketAddr::new(relayed.ip(), relayed.port() ^ 1),
                b"x"
            )
            .is_empty()
    );
    assert_eq!(world.engine.stats().relayed_packets, 0);
}

#[test]
fn surplus_bytes_behind_channel_data_are_not_relayed() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
    let mut padded = frame(0x4000, b"hello");
    padded.extend_from_slice(&[0; 3]);
    assert_eq!(
        world.send(CLIENT, &padded),
        [sent(held.address(addr(PEER)), addr(PEER), b"hello")]
    );
    assert!(
        world.send(CLIENT, &frame(0x4000, b"hello")[..6]).is_empty(),
        "cut short"
    );
}

#[test]
fn datagrams_that_arrived_together_are_relayed_one_by_one_in_order() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
    world.bind(CLIENT, USER, &held.nonce, 0x4001, "192.0.2.10:1");
    let relayed = held.address(addr(PEER));
    let parts = [
        frame(0x4000, b"one!"),
        frame(0x4001, b"two!"),
        frame(0x4000, b"3"),
    ];
    let out = world.handle(addr(CLIENT), listen_v4(), 8, &parts.concat());
    let payloads: Vec<_> = out
        .iter()
        .map(|sent| (sent.remote, &sent.payload[..]))
        .collect();
    let other = addr("192.0.2.10:1");
    assert_eq!(
        payloads,
        [
            (addr(PEER), &b"one!"[..]),
            (other, b"two!"),
            (addr(PEER), b"3")
        ]
    );
    let back = world.handle(addr(PEER), relayed, 3, b"aaabbbc");
    let payloads: Vec<_> = back.iter().map(|sent| sent.payload.clone()).collect();
    assert_eq!(
        payloads,
        [
            frame(0x4000, b"aaa"),
            frame(0x4000, b"bbb"),
            frame(0x4000, b"c")
        ]
    );
}

#[test]
fn congestion_bits_are_carried_across() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
    let mut io = Io::of(&mut world.open, &mut world.closed, &world.unbindable);
    world.engine.handle_network(
        addr(CLIENT),
        listen_v4(),
        3,
        0,
        &frame(0x4000, b"x"),
        world.now,
        &mut io,
    );
    assert_eq!(io.sent[0].ecn, 3);
}

#[test]
fn a_channel_stops_after_its_lifetime_and_may_come_back_only_as_it_was() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
    let hold = |world: &mut World| {
        assert_eq!(
            world
                .request(CLIENT, USER, Some(&held.nonce), refresh(Some(3_600)))
                .error,
            None
        )
    };
    hold(&mut world);
    world.advance(599);
    assert_eq!(world.send(CLIENT, &frame(0x4000, b"x")).len(), 1);
    world.advance(1);
    assert!(world.send(CLIENT, &frame(0x4000, b"x")).is_empty());
    assert!(
        world
            .deliver(PEER, held.address(addr(PEER)), b"x")
            .is_empty()
    );
    assert_eq!(
        world.bind(CLIENT, USER, &held.nonce, 0x4001, PEER).error,
        Some(400)
    );
    assert_eq!(
        world
            .bind(CLIENT, USER, &held.nonce, 0x4000, "192.0.2.10:1")
            .error,
        Some(400)
    );
    assert_eq!(
        world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER).error,
        None
    );
    assert_eq!(world.send(CLIENT, &frame(0x4000, b"x")).len(), 1);
    assert_eq!(world.deliver(PEER, held.address(addr(PEER)), b"x").len(), 1);

    world.advance(899);
    assert_eq!(
        world.bind(CLIENT, USER, &held.nonce, 0x4001, PEER).error,
        Some(400)
    );
    world.advance(1);
    assert_eq!(world.engine.stats().channels, 0);
    assert_eq!(
        world.bind(CLIENT, USER, &held.nonce, 0x4001, PEER).error,
        None
    );
}

#[test]
fn refreshing_a_channel_keeps_it_open() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
    world.advance(300);
    assert_eq!(
        world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER).error,
        None
    );
    world.request(CLIENT, USER, Some(&held.nonce), refresh(None));
    world.advance(599);
    assert_eq!(world.send(CLIENT, &frame(0x4000, b"x")).len(), 1);
}

#[test]
fn ending_an_allocation_ends_its_channels() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
    world.request(CLIENT, USER, Some(&held.nonce), refresh(Some(0)));
    assert!(world.send(CLIENT, &frame(0x4000, b"x")).is_empty());
    assert_eq!(
        (world.engine.stats().channels, world.engine.poll_timeout()),
        (0, None)
    );
    let again = world.allocate(CLIENT, USER);
    assert!(world.send(CLIENT, &frame(0x4000, b"x")).is_empty());
    assert_eq!(
        world
            .bind(CLIENT, USER, &again.nonce, 0x4000, "192.0.2.10:1")
            .error,
        None
    );
}

#[test]
fn channel_binds_that_cannot_be_are_refused_with_their_code() {
    let mut world = World::with(|config| RelayConfig {
        ipv6: None,
        ..config
    });
    let nonce = world.nonce(CLIENT, USER);
    assert_eq!(
        world.bind(CLIENT, USER, &nonce, 0x4000, PEER).error,
        Some(437)
    );
    world.allocate(CLIENT, USER);
    assert_eq!(
        world
            .bind(CLIENT, USER, &nonce, 0x4000, "[2001:db8::9]:1")
            .error,
        Some(443)
    );
    assert_eq!(
        world
            .bind(CLIENT, USER, &nonce, 0x4000, "127.0.0.1:53")
            .error,
        Some(403)
    );
    assert_eq!(
        world
            .bind(CLIENT, USER, &nonce, 0x4000, "203.0.113.101:3478")
            .error,
        Some(403)
    );
    assert_eq!(
        world.bind(CLIENT, USER, &nonce, 0x3fff, PEER).error,
        Some(400)
    );
    let unnamed = Ask {
        peer: None,
        ..bind(0x4000, PEER)
    };
    assert_eq!(
        world.request(CLIENT, USER, Some(&nonce), unnamed).error,
        Some(400)
    );
}

/// One channel for the address of each family behind each client's NAT, and for each of its relayed addresses.
#[test]
fn a_gateway_gets_channels_to_a_thousand_clients() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    for client in 0..1_000_u16 {
        let (high, low) = (client >> 8, client & 255);
        let peers = [
            format!("10.1.{high}.{low}:52625"),
            format!("[2001:db8:1::{client:x}]:52625"),
            format!("203.0.113.102:{}", 50_000 + client),
            format!("[2001:db8::102]:{}", 50_000 + client),
        ];
        for (at, peer) in peers.iter().enumerate() {
            let number = 0x4000 + client * 4 + at as u16;
            let answer = world.bind(CLIENT, USER, &held.nonce, number, peer);
            assert_eq!(answer.error, None, "client {client}, {peer}");
        }
    }
    assert_eq!(world.engine.stats().channels, 4_000);
    assert_eq!(world.engine.stats().channels_refused, 0);
}

#[test]
fn whoever_binds_all_channels_that_the_relay_shares_leaves_the_others_theirs() {
    let mut world = World::new();
    world.engine.table.limit_shared_channels(200);
    let greedy = world.allocate(CLIENT, USER);
    let bound = |world: &mut World, from: &str, user: &str, nonce: &str| {
        (0..1_000_u16)
            .take_while(|n| {
                let peer = format!("192.0.2.9:{}", 1_000 + n);
                let answer = world.bind(from, user, nonce, 0x4000 + n, &peer);
                assert!(matches!(answer.error, None | Some(508)), "{answer:?}");
                answer.error.is_none()
            })
            .count()
    };
    assert_eq!(bound(&mut world, CLIENT, USER, &greedy.nonce), 200);
    let late = world.allocate(OTHER_CLIENT, OTHER_USER);
    assert_eq!(
        bound(&mut world, OTHER_CLIENT, OTHER_USER, &late.nonce),
        allocation_table::GUARANTEED_CHANNELS
    );
    assert_eq!(world.engine.stats().channels_refused, 2);
    // What is bound is refreshed as ever.
    let again = world.bind(CLIENT, USER, &greedy.nonce, 0x4000, "192.0.2.9:1000");
    assert_eq!(again.error, None);
}

/// 5,000 clients, all of whom come at once from behind a few NATs after the relay has started.
#[test]
fn five_thousand_clients_hold_allocations() {
    let mut world = World::with(|config| RelayConfig {
        allocation_ports: 49_152..=65_535,
        ..config
    });
    for client in 0..5_000_u32 {
        let from = format!("198.51.100.{}:{}", client % 20, 10_000 + client);
        let user = format!("2145916800:user{client}");
        world.allocate(&from, &user);
        world.now += Duration::from_millis(1);
    }
    let stats = world.engine.stats();
    assert_eq!((stats.allocations, stats.allocations_refused), (5_000, 0));
    assert_eq!(stats.rate_limited, 0);
    assert_eq!(world.open.len(), 10_000);
}

#[test]
fn a_permission_is_granted_without_effect() {
    let mut world = World::new();
    let nonce = world.nonce(CLIENT, USER);
    let ask = Ask {
        method: Method::CREATE_PERMISSION,
        peer: Some(addr(PEER)),
        ..Ask::default()
    };
    let answer = world.request(CLIENT, USER, Some(&nonce), ask);
    assert_eq!((answer.error, answer.integrity), (None, Integrity::Valid));
}

#[test]
fn two_clients_of_one_relay_reach_each_other_without_the_network() {
    for family_of in ["192.0.2.1:1", "[2001:db8::1]:1"] {
        let mut world = World::new();
        let (one, two) = (
            world.allocate(CLIENT, USER),
            world.allocate(PEER, OTHER_USER),
        );
        let (at_one, at_two) = (one.address(addr(family_of)), two.address(addr(family_of)));
        world.bind(CLIENT, USER, &one.nonce, 0x4000, &at_two.to_string());
        assert!(
            world.send(CLIENT, &frame(0x4000, b"early")).is_empty(),
            "the other side has no channel yet"
        );
        world.bind(PEER, OTHER_USER, &two.nonce, 0x4007, &at_one.to_string());
        let out = world.send(CLIENT, &frame(0x4000, b"ping"));
        assert_eq!(
            out,
            [sent(listen_v4(), addr(PEER), &frame(0x4007, b"ping"))]
        );
        let back = world.send(PEER, &frame(0x4007, b"pong"));
        assert_eq!(
            back,
            [sent(listen_v4(), addr(CLIENT), &frame(0x4000, b"pong"))]
        );
        assert_eq!(world.engine.stats().hairpinned_packets, 2);
    }
}

#[test]
fn a_peer_on_the_relays_host_outside_any_allocation_is_reached_over_the_network() {
    let mut world = World::new();
    let held = world.allocate(CLIENT, USER);
    let peer = "203.0.113.101:52625";
    world.bind(CLIENT, USER, &held.nonce, 0x4000, peer);
    assert_eq!(
        world.send(CLIENT, &frame(0x4000, b"x")),
        [sent(held.address(addr(peer)), addr(peer), b"x")]
    );
}

#[test]
fn what_is_no_request_is_answered_by_silence() {
    let mut world = World::new();
    for class in [Class::Indication, Class::Success, Class::Error] {
        let message = MessageBuilder::new(class, Method::BINDING, TransactionId([1; 12]))
            .channel_number(0x1234)
            .finish();
        assert!(world.send(CLIENT, &message).is_empty(), "{class:?}");
    }
    assert!(world.send(CLIENT, &binding()[..19]).is_empty());
    assert!(
        world
            .send(CLIENT, b"\x00\x01\x00\x00no cookie here!!")
            .is_empty()
    );
    assert!(world.send(CLIENT, &[]).is_empty());
}

#[test]
fn requests_that_are_not_understood_are_bad() {
    let mut world = World::new();
    let unknown =
        MessageBuilder::new(Class::Request, Method(0x006), TransactionId([1; 12])).finish();
    assert_eq!(
        Answer::read(&world.send(CLIENT, &unknown)[0].payload, USER).error,
        Some(400)
    );
    let nonce = world.nonce(CLIENT, USER);
    let broken = Ask {
        number: Some(0x5000),
        ..bind(0x4000, PEER)
    };
    let answer = world.request(CLIENT, USER, Some(&nonce), broken);
    assert_eq!(
        (answer.error, answer.integrity),
        (Some(400), Integrity::Valid)
    );
}

#[test]
fn a_source_that_floods_is_left_unanswered_while_its_authenticated_neighbour_is_served() {
    let mut world = World::new();
    let nonce = world.allocate("198.51.100.7:40002", USER).nonce;
    let answered = (0..5_000)
        .filter(|_| !world.send(CLIENT, &binding()).is_empty())
        .count();
    assert!(answered < 1_100, "{answered} of 5000 were answered");
    assert_eq!(world.engine.stats().rate_limited as usize, 5_000 - answered);
    assert_eq!(
        world
            .request("198.51.100.7:40002", USER, Some(&nonce), refresh(None))
            .error,
        None
    );
    assert_eq!(world.send("192.0.2.200:1", &binding()).len(), 1);
}

#[test]
fn forged_bindings_from_a_clients_address_do_not_cost_it_its_keepalive() {
    let mut world = World::new();
    let nonce = world.allocate(CLIENT, USER).nonce;
    let victim = addr(CLIENT);
    for second in 0..60 {
        for n in 0..1_200_u16 {
            let forged = SocketAddr::new(victim.ip(), 1_024 + second * 1_000 + n);
            world.handle(forged, listen_v4(), 0, &binding());
        }
        assert_eq!(world.send(CLIENT, &binding()).len(), 1, "second {second}");
        world.advance(1);
    }
    assert!(world.engine.stats().rate_limited > 60_000);
    // A nonce that has run out is renewed, too.
    world.advance(500);
    world.request(CLIENT, USER, Some(&nonce), refresh(Some(3_600)));
    world.advance(3_100);
    world.flood("198.51.100.7:9");
    let stale = world.request(CLIENT, USER, Some(&nonce), refresh(None));
    assert_eq!(stale.error, Some(438));
}

#[test]
fn whoever_signs_as_a_user_does_is_challenged_though_others_flood_from_its_address() {
    let mut world = World::new();
    world.flood("198.51.100.7:9");
    let forged = Ask {
        password: Some("wrong"),
        ..allocate_dual()
    };
    assert!(
        world
            .send(CLIENT, &signed_request(USER, None, forged))
            .is_empty()
    );
    world.allocate(CLIENT, USER);
    // A recorded request is worth no more than its user's share.
    let recorded = signed_request(USER, None, allocate_dual());
    let answered = (0..5_000)
        .filter(|_| !world.send("198.51.100.7:10", &recorded).is_empty())
        .count();
    assert!(answered < 1_100, "{answered} of 5000 were answered");
    world.allocate(OTHER_CLIENT, OTHER_USER);
}

#[test]
fn a_user_who_allocates_and_frees_without_end_is_slowed_down() {
    let mut world = World::new();
    let nonce = world.nonce(CLIENT, USER);
    let mut made = 0;
    for _ in 0..3_000 {
        made += usize::from(
            !world
                .send(CLIENT, &signed_request(USER, Some(&nonce), allocate_dual()))
                .is_empty(),
        );
        world.send(
            CLIENT,
            &signed_request(USER, Some(&nonce), refresh(Some(0))),
        );
    }
    assert!(made <= 1_000, "{made} allocations at once");
}

#[test]
fn unauthenticated_sources_leave_nothing_behind() {
    let mut world = World::new();
    for n in 0..2_000u32 {
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n)), 1_000);
        world.handle(
            from,
            listen_v4(),
            0,
            &signed_request(USER, None, allocate_dual()),
        );
    }
    assert_eq!(
        (
            world.engine.poll_timeout(),
            world.engine.stats().allocations
        ),
        (None, 0)
    );
}

#[test]
fn the_same_seed_gives_the_same_answers() {
    let run = || {
        let mut world = World::new();
        let mut transcript = world.send(CLIENT, &signed_request(USER, None, allocate_dual()));
        let nonce = world.nonce(CLIENT, USER);
        transcript.extend(world.send(CLIENT, &signed_request(USER, Some(&nonce), allocate_dual())));
        transcript
    };
    assert_eq!(run(), run());
}

#[test]
fn captured_clients_get_the_answers_that_the_published_relay_gave() {
    let document: serde_json::Value = serde_json::from_str(include_str!(
        "../../../../../tests/vectors/stun/captured.json"
    ))
    .unwrap();
    let listen = addr("203.0.113.11:3478");
    for scene in ["direct", "relayed"] {
        let secret = document["stamp_secrets"][scene].as_str().unwrap();
        let gatekeeper = Gatekeeper::new(secret.to_owned(), [0; 32], epoch(), Duration::ZERO);
        let mut world = World::with(|config| RelayConfig {
            stamp_secret: secret.to_owned(),
            ipv4: Some(Ipv4Addr::new(203, 0, 113, 11)),
            ipv6: None,
            ..config
        });
        let datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)> = document["datagrams"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|vector| vector["scene"] == scene)
            .map(|vector| {
                let text = |name: &str| vector[name].as_str().unwrap();
                (
                    addr(text("from")),
                    addr(text("to")),
                    unhex(text("datagram")),
                )
            })
            .collect();
        let mut nonces = std::collections::BTreeMap::<SocketAddr, String>::new();
        let mut compared = 0;
        for (from, _, datagram) in datagrams.iter().filter(|(_, to, _)| *to == listen) {
            let Ok(request) = Message::parse(datagram) else {
                continue;
            };
            // Our nonce instead of the captured one is all that differs.
            let key = request
                .username()
                .and_then(|username| gatekeeper.answer_key(username));
            let mut renewed =
                MessageBuilder::new(Class::Request, request.method(), request.transaction_id());
            for (kind, value) in request.attributes() {
                renewed = match (kind, &key) {
                    (AttributeType::NONCE, _) => renewed.nonce(&nonces[from]),
                    (AttributeType::MESSAGE_INTEGRITY, Some(key)) => renewed.sign(key),
                    _ => renewed.attribute(kind, value),
                };
            }
            let answers = world.handle(*from, listen, 0, &renewed.finish());
            let ours = Message::parse(&answers[0].payload).unwrap();
            if let Some(nonce) = ours.nonce() {
                nonces.insert(*from, nonce.to_owned());
            }
            if let Some(key) = &key {
                assert_eq!(ours.integrity(key), Integrity::Valid);
            }
            let answer_of = |(_, to, bytes): &&(SocketAddr, SocketAddr, Vec<u8>)| {
                Message::parse(bytes).is_ok_and(|theirs| {
                    to == from && theirs.transaction_id() == request.transaction_id()
                })
            };
            let Some((_, _, theirs)) = datagrams.iter().find(answer_of) else {
                continue;
            };
            assert_eq!(
                comparable(&ours),
                comparable(&Message::parse(theirs).unwrap())
            );
            compared += 1;
        }
        assert!(
            compared >= 9,
            "{compared} answers of scene {scene} compared"
        );
    }
}

/// What of an answer does not depend on chance: type, attribute order, and the values that the request determines.
fn comparable(message: &Message<'_>) -> Vec<(u16, Vec<u8>)> {
    let determined = [
        AttributeType::XOR_MAPPED_ADDRESS,
        AttributeType::LIFETIME,
        AttributeType::REALM,
    ];
    let attributes = message.attributes().map(|(kind, value)| match kind {
        AttributeType::ERROR_CODE => (kind.0, value[..4].to_vec()),
        _ if determined.contains(&kind) => (kind.0, value.to_vec()),
        _ => (kind.0, Vec::new()),
    });
    std::iter::once((0, message.bytes()[..2].to_vec()))
        .chain(attributes)
        .collect()
}

proptest! {
    #[test]
    fn changed_messages_of_the_corpus_are_survived(
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let corpus = include_str!("../../../../../fuzz/corpus/stun.txt").lines();
        let corpus: Vec<Vec<u8>> = corpus.filter(|line| !line.starts_with('#')).map(unhex).collect();
        let mut world = World::new();
        let held = world.allocate(CLIENT, USER);
        world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
        for (pick, at, value) in picks {
            let mut datagram = pick.get(&corpus).clone();
            world.send(CLIENT, &datagram);
            *at.get_mut(&mut datagram) = value;
            world.send(CLIENT, &datagram);
        }
        prop_assert_eq!(world.engine.stats().allocations, 1, "nothing of it was authenticated");
    }

    #[test]
    fn arbitrary_datagrams_are_survived(
        datagrams in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..80), 0u8..4, 0usize..50, 0u16..12), 1..20),
    ) {
        let mut world = World::new();
        let held = world.allocate(CLIENT, USER);
        world.bind(CLIENT, USER, &held.nonce, 0x4000, PEER);
        for (mut bytes, kind, stride, port) in datagrams {
            if bytes.len() >= 20 && kind == 0 {
                let length = (bytes.len() - 20) as u16 / 4 * 4;
                bytes.truncate(20 + usize::from(length));
                let method = 3 + bytes[1] % 8;
                bytes[..8].copy_from_slice(&[0, method, (length >> 8) as u8, length as u8, 0x21, 0x12, 0xa4, 0x42]);
            }
            if bytes.len() >= 4 && kind == 1 {
                bytes[0] = 0x40;
                bytes[1] %= 2;
            }
            let to = if kind < 3 { listen_v4() } else { SocketAddr::new(listen_v4().ip(), 49_999 + port) };
            let from = addr(if kind < 3 { CLIENT } else { PEER });
            let relayed_bytes: usize = world.handle(from, to, stride, &bytes).iter().map(|sent| sent.payload.len()).sum();
            prop_assert!(relayed_bytes <= 400 * (bytes.len() + 1), "an answer is bounded by what was asked");
        }
        prop_assert_eq!(world.engine.stats().allocations, 1);
    }

    #[test]
    fn any_sequence_of_requests_keeps_the_books(steps in proptest::collection::vec((0u8..6, 0u8..4, 0u8..4, 0u16..700), 1..60)) {
        let mut world = World::new();
        let clients = ["198.51.100.7:1", "198.51.100.7:2", "198.51.100.8:1", "198.51.100.8:2"];
        let users = [USER, OTHER_USER, "2145916800:x", "2145916800:y"];
        for (step, client, user, n) in steps {
            let (client, user) = (clients[usize::from(client)], users[usize::from(user)]);
            let nonce = world.nonce(client, user);
            let ask = match step {
                0 | 1 => allocate_dual(),
                2 => refresh(Some(u32::from(n))),
                3 => bind(0x4000 + n % 3, [PEER, "192.0.2.10:1", "[2001:db8::9]:1"][usize::from(n / 3 % 3)]),
                4 => { world.advance(u64::from(n)); continue }
                _ => refresh(Some(0)),
            };
            world.request(client, user, Some(&nonce), ask);
            let stats = world.engine.stats();
            prop_assert_eq!(world.open.len() as u64, 2 * stats.allocations);
            prop_assert!(stats.allocations <= 4);
            prop_assert_eq!(world.engine.poll_timeout().is_none(), stats.allocations == 0);
        }
        world.advance(5_000);
        prop_assert!(world.open.is_empty() && world.engine.is_idle());
        prop_assert_eq!((world.engine.stats().channels, world.engine.poll_timeout()), (0, None));
    }
}

const CLIENT: &str = "198.51.100.7:40001";
const PEER: &str = "192.0.2.9:52625";

/// A point in time to count from; only differences are used.
pub(super) fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[allow(clippy::disallowed_methods)] // there is no other way to make an Instant
    *EPOCH.get_or_init(Instant::now)
}

struct World {
    engine: RelayEngine,
    now: Instant,
    open: BTreeSet<SocketAddr>,
    closed: BTreeSet<SocketAddr>,
    unbindable: BTreeSet<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    local: Option<SocketAddr>,
    remote: SocketAddr,
    ecn: u8,
    payload: Vec<u8>,
}

/// An allocation as its client knows it.
struct Held {
    nonce: String,
    relayed: Vec<SocketAddr>,
}

impl Held {
    fn address(&self, peer: SocketAddr) -> SocketAddr {
        *self
            .relayed
            .iter()
            .find(|address| address.is_ipv4() == peer.is_ipv4())
            .unwrap()
    }
}

impl World {
    fn new() -> World {
        World::with(|config| config)
    }

    fn with(change: impl FnOnce(RelayConfig) -> RelayConfig) -> World {
        let config = change(RelayConfig {
            stamp_secret: SECRET.to_owned(),
            ipv4: Some(Ipv4Addr::new(203, 0, 113, 101)),
            ipv6: Some("2001:db8::101".parse().unwrap()),
            port: 3478,
            allocation_ports: 50_000..=50_009,
            peer_rules: PeerRules::default(),
            seed: [7; 32],
            epoch: epoch(),
            unix_at_epoch: Duration::from_secs(UNIX_AT_EPOCH),
        });
        World {
            engine: RelayEngine::new(config),
            now: epoch(),
            open: BTreeSet::new(),
            closed: BTreeSet::new(),
            unbindable: BTreeSet::new(),
        }
    }

    fn handle(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        stride: usize,
        buffer: &[u8],
    ) -> Vec<Sent> {
        let mut io = Io::of(&mut self.open, &mut self.closed, &self.unbindable);
        self.engine
            .handle_network(from, to, 0, stride, buffer, self.now, &mut io);
        io.sent
    }

    fn send(&mut self, from: &str, datagram: &[u8]) -> Vec<Sent> {
        self.handle(addr(from), listen_v4(), 0, datagram)
    }

    /// Use up what strangers at this address are answered.
    fn flood(&mut self, from: &str) {
        let answered = (0..2_000).filter(|_| !self.send(from, &binding()).is_empty());
        assert!(answered.count() < 2_000);
    }

    fn deliver(&mut self, from: &str, to: SocketAddr, payload: &[u8]) -> Vec<Sent> {
        self.handle(addr(from), to, 0, payload)
    }

    fn advance(&mut self, seconds: u64) {
        self.now += secs(seconds);
        let mut io = Io::of(&mut self.open, &mut self.closed, &self.unbindable);
        self.engine.handle_timeout(self.now, &mut io);
    }

    fn request(&mut self, from: &str, username: &str, nonce: Option<&str>, ask: Ask<'_>) -> Answer {
        let sent = self.send(from, &signed_request(username, nonce, ask));
        assert_eq!(sent.len(), 1, "one answer to {ask:?}");
        assert_eq!(sent[0].remote, addr(from));
        Answer::read(&sent[0].payload, username)
    }

    fn nonce(&mut self, from: &str, username: &str) -> String {
        let ask = Ask {
            method: Method::CREATE_PERMISSION,
            ..Ask::default()
        };
        self.request(from, username, None, ask).nonce.unwrap()
    }

    fn allocate(&mut self, from: &str, username: &str) -> Held {
        let nonce = self.nonce(from, username);
        let answer = self.request(from, username, Some(&nonce), allocate_dual());
        assert_eq!(answer.error, None);
        Held {
            nonce,
            relayed: answer.relayed,
        }
    }

    fn bind(&mut self, from: &str, username: &str, nonce: &str, number: u16, peer: &str) -> Answer {
        self.request(from, username, Some(nonce), bind(number, peer))
    }
}

struct Io<'a> {
    sent: Vec<Sent>,
    open: &'a mut BTreeSet<SocketAddr>,
    closed: &'a mut BTreeSet<SocketAddr>,
    unbindable: &'a BTreeSet<SocketAddr>,
}

impl<'a> Io<'a> {
    fn of(
        open: &'a mut BTreeSet<SocketAddr>,
        closed: &'a mut BTreeSet<SocketAddr>,
        unbindable: &'a BTreeSet<SocketAddr>,
    ) -> Io<'a> {
        Io {
            sent: Vec::new(),
            open,
            closed,
            unbindable,
        }
    }
}

impl Outbox for Io<'_> {
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        ecn: u8,
        len: usize,
    ) -> &mut [u8] {
        self.sent.push(Sent {
            local,
            remote,
            ecn,
            payload: vec![0; len],
        });
        &mut self.sent.last_mut().unwrap().payload
    }

    fn rollback(&mut self) {
        self.sent.pop();
    }
}

impl RelayPorts for Io<'_> {
    fn open(&mut self, address: SocketAddr) -> bool {
        !self.unbindable.contains(&address) && self.open.insert(address)
    }

    fn close(&mut self, address: SocketAddr) {
        assert!(self.open.remove(&address), "{address} was not open");
        self.closed.insert(address);
    }
}

/// A request to be written; absent attributes are left out.
#[derive(Clone, Copy, Debug)]
struct Ask<'a> {
    method: Method,
    transport: Option<u8>,
    requested: Option<AddressFamily>,
    additional: Option<AddressFamily>,
    lifetime_s: Option<u32>,
    number: Option<u16>,
    peer: Option<SocketAddr>,
    /// Instead of the right one.
    password: Option<&'a str>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Ask {
            method: Method::BINDING,
            transport: None,
            requested: None,
            additional: None,
            lifetime_s: None,
            number: None,
            peer: None,
            password: None,
        }
    }
}

fn allocate_dual() -> Ask<'static> {
    let additional = Some(AddressFamily::V6);
    Ask {
        method: Method::ALLOCATE,
        transport: Some(TRANSPORT_UDP),
        additional,
        ..Ask::default()
    }
}

fn refresh(lifetime_s: Option<u32>) -> Ask<'static> {
    Ask {
        method: Method::REFRESH,
        lifetime_s,
        ..Ask::default()
    }
}

fn bind(number: u16, peer: &str) -> Ask<'static> {
    Ask {
        method: Method::CHANNEL_BIND,
        number: Some(number),
        peer: Some(addr(peer)),
        ..Ask::default()
    }
}

fn signed_request(username: &str, nonce: Option<&str>, ask: Ask<'_>) -> Vec<u8> {
    let mut request = MessageBuilder::new(Class::Request, ask.method, TransactionId([2; 12]));
    if let Some(transport) = ask.transport {
        request = request.requested_transport(transport);
    }
    if let Some(family) = ask.requested {
        request = request.requested_address_family(family);
    }
    if let Some(family) = ask.additional {
        request = request.additional_address_family(family);
    }
    if let Some(peer) = ask.peer {
        request = request.xor_peer_address(peer);
    }
    if let Some(number) = ask.number {
        request = request.channel_number(number);
    }
    if let Some(lifetime_s) = ask.lifetime_s {
        request = request.lifetime(lifetime_s);
    }
    request = request.username(username).realm("firezone");
    if let Some(nonce) = nonce {
        request = request.nonce(nonce);
    }
    let key = match ask.password {
        Some(password) => IntegrityKey::long_term(username, "firezone", password),
        None => key_of(username),
    };
    request.sign(&key).finish()
}

/// What a client reads in an answer.
#[derive(Debug)]
struct Answer {
    error: Option<u16>,
    integrity: Integrity,
    realm: Option<String>,
    nonce: Option<String>,
    relayed: Vec<SocketAddr>,
    mapped: Option<SocketAddr>,
    lifetime_s: Option<u32>,
}

impl Answer {
    fn read(datagram: &[u8], username: &str) -> Answer {
        let message = Message::parse(datagram).unwrap();
        message.validate().unwrap();
        assert_eq!(
            message.class() == Class::Error,
            message.error_code().is_some()
        );
        Answer {
            error: message.error_code().map(|error| error.code),
            integrity: message.integrity(&key_of(username)),
            realm: message.realm().map(str::to_owned),
            nonce: message.nonce().map(str::to_owned),
            relayed: message.xor_relayed_addresses().collect(),
            mapped: message.xor_mapped_address(),
            lifetime_s: message.lifetime(),
        }
    }
}

fn key_of(username: &str) -> IntegrityKey {
    let gatekeeper = Gatekeeper::new(SECRET.to_owned(), [0; 32], epoch(), Duration::ZERO);
    // A username that is no stamp has no key; its requests are signed with something.
    gatekeeper
        .answer_key(username)
        .unwrap_or_else(|| IntegrityKey::short_term(""))
}

fn binding() -> Vec<u8> {
    MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12])).finish()
}

fn frame(number: u16, payload: &[u8]) -> Vec<u8> {
    [&channel_header(number, payload.len() as u16)[..], payload].concat()
}

fn sent(local: SocketAddr, remote: SocketAddr, payload: &[u8]) -> Sent {
    Sent {
        local: Some(local),
        remote,
        ecn: 0,
        payload: payload.to_vec(),
    }
}

fn listen_v4() -> SocketAddr {
    addr("203.0.113.101:3478")
}

fn listen_v6() -> SocketAddr {
    addr("[2001:db8::101]:3478")
}

fn v6_port(port: u16) -> SocketAddr {
    SocketAddr::new(listen_v6().ip(), port)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
