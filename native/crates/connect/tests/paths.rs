//! Two real nodes over a simulated network: which path they find, and how fast they find another.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use support::nat::{Mapping, Nat};
use support::world::{PEER, World};
use support::{client_config, gateway_config};
use wardgate_connect::{FailureReason, LossReason, PathKind, UpsertError, Upserted};
use wardgate_stun::Method;

const CLIENT: usize = 0;
const GATEWAY: usize = 1;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A client and a gateway, each behind a NAT, that know the given relays out of two.
fn site(mapping: Mapping, of_client: &[u32], of_gateway: &[u32]) -> World {
    let mut world = World::new();
    world.relay(1, &["192.0.2.1:3478"]);
    world.relay(2, &["192.0.2.2:3478"]);
    world.peer(
        1,
        &["10.0.0.2:52625"],
        Some(Nat::new("198.51.100.1", mapping)),
    );
    world.peer(
        2,
        &["10.1.0.2:52625"],
        Some(Nat::new("198.51.100.2", mapping)),
    );
    world.set_relays(CLIENT, of_client, &[]);
    world.set_relays(GATEWAY, of_gateway, &[]);
    world.run_for(secs(1.0));
    world
}

fn connect(world: &mut World) {
    world.upsert(GATEWAY, gateway_config());
    world.upsert(CLIENT, client_config());
    let connected = world.run_until(secs(5.0), |world| {
        world.peers.iter().all(|peer| peer.path.is_some())
    });
    assert!(connected, "no path after {:?}", world.elapsed());
    world.run_for(secs(2.0));
}

fn kind(world: &World, peer: usize) -> PathKind {
    world.peers[peer].path.unwrap().kind
}

fn is_relayed(world: &World) -> bool {
    kind(world, CLIENT) != PathKind::Direct && kind(world, GATEWAY) != PathKind::Direct
}

#[test]
fn the_checks_tell_which_pair_was_answered_in_what_time() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    let path = world.peers[CLIENT].path.unwrap();
    let checks = world.peers[CLIENT].node.checks(PEER);
    let chosen: Vec<_> = checks.iter().filter(|pair| pair.is_chosen).collect();
    let [chosen] = chosen[..] else {
        panic!("{checks:?}")
    };
    assert_eq!(
        (Some(chosen.local), chosen.remote, chosen.remote_kind),
        (path.local, path.remote, "srflx")
    );
    let round_trip = chosen.round_trip.unwrap();
    assert!(
        round_trip > Duration::ZERO && round_trip < secs(0.1),
        "{round_trip:?}"
    );
    assert!(chosen.answered > 0 && chosen.answered <= chosen.sent);
    let host = checks.iter().find(|pair| pair.remote_kind == "host");
    let host = host.expect("the gateway's own address is tried, too");
    assert!(host.sent > 0);
    assert_eq!((host.answered, host.round_trip), (0, None));
    assert!(checks.iter().any(|pair| pair.local_kind == "relay"));
}

#[test]
fn two_cone_nats_meet_directly() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    assert_eq!(
        (kind(&world, CLIENT), kind(&world, GATEWAY)),
        (PathKind::Direct, PathKind::Direct)
    );
    assert!(world.exchange(secs(1.0), secs(0.02), GATEWAY) < secs(0.1));
    assert!(world.exchange(secs(1.0), secs(0.02), CLIENT) < secs(0.1));
}

#[test]
fn two_symmetric_nats_meet_at_the_relay() {
    let mut world = site(Mapping::AddressAndPortDependent, &[1], &[1]);
    connect(&mut world);
    assert!(is_relayed(&world), "{:?}", world.peers[CLIENT].path);
    let forwarded = world.relays[&1].forwarded();
    assert!(world.exchange(secs(1.0), secs(0.02), GATEWAY) < secs(0.2));
    assert!(world.relays[&1].forwarded() >= forwarded + 100);
}

#[test]
fn two_relays_serve_when_each_side_knows_only_its_own() {
    let mut world = site(Mapping::AddressAndPortDependent, &[1], &[2]);
    world.direct_blocked = true;
    connect(&mut world);
    assert_eq!(
        (kind(&world, CLIENT), kind(&world, GATEWAY)),
        (PathKind::BothRelays, PathKind::BothRelays)
    );
    assert!(world.exchange(secs(1.0), secs(0.02), GATEWAY) < secs(0.2));
    assert!(world.relays.values().all(|relay| relay.forwarded() > 50));
}

#[test]
fn a_host_without_ipv6_meets_one_without_ipv4_at_a_dual_stack_relay() {
    let mut world = World::new();
    world.relay(1, &["192.0.2.1:3478", "[2001:db8::1]:3478"]);
    world.peer(
        1,
        &["10.0.0.2:52625"],
        Some(Nat::new("198.51.100.1", Mapping::EndpointIndependent)),
    );
    world.peer(2, &["[2001:db8:2::2]:52625"], None);
    world.set_relays(CLIENT, &[1], &[]);
    world.set_relays(GATEWAY, &[1], &[]);
    world.run_for(secs(1.0));
    connect(&mut world);
    assert!(is_relayed(&world));
    assert!(world.exchange(secs(1.0), secs(0.02), CLIENT) < secs(0.2));
}

#[test]
fn without_nat_ipv6_is_preferred() {
    let mut world = World::new();
    world.relay(1, &["192.0.2.1:3478", "[2001:db8::1]:3478"]);
    world.peer(1, &["198.51.100.1:52625", "[2001:db8:1::2]:52625"], None);
    world.peer(2, &["198.51.100.2:52625", "[2001:db8:2::2]:52625"], None);
    world.set_relays(CLIENT, &[1], &[]);
    world.set_relays(GATEWAY, &[1], &[]);
    world.run_for(secs(1.0));
    connect(&mut world);
    let path = world.peers[CLIENT].path.unwrap();
    assert_eq!(path.kind, PathKind::Direct);
    assert_eq!(path.remote, support::address("[2001:db8:2::2]:52625"));
}

/// A forwarded port lets a direct path through a symmetric NAT: the peer tries the inner port at the outer address.
#[test]
fn a_forwarded_port_is_found_though_the_relay_saw_another() {
    let mut world = World::new();
    world.relay(1, &["192.0.2.1:3478"]);
    world.peer(1, &["198.51.100.1:52625"], None);
    world.peer(2, &["198.51.100.2:52625"], None);
    world.set_relays(CLIENT, &[1], &[]);
    world.run_for(secs(1.0));
    world.upsert(CLIENT, client_config());
    for candidate in [
        "candidate:1 1 udp 2130706175 10.1.0.2 52625 typ host ufrag gate",
        "candidate:2 1 udp 1686109695 198.51.100.2 40000 typ srflx raddr 0.0.0.0 rport 0 ufrag gate",
    ] {
        assert!(
            world.peers[CLIENT]
                .node
                .add_remote_candidate(PEER, candidate, world.now)
        );
    }
    world.drain(CLIENT);
    let guessed = support::address("198.51.100.2:52625");
    assert!(world.transcript.iter().any(|(_, to, _)| *to == guessed));
}

#[test]
fn a_relay_that_dies_during_a_transfer_is_replaced_within_seconds() {
    let mut world = site(Mapping::AddressAndPortDependent, &[1, 2], &[1, 2]);
    world.direct_blocked = true;
    connect(&mut world);
    let used = world.peers[CLIENT].path.unwrap().relay.unwrap();
    world.relays.get_mut(&used).unwrap().dead = true;
    let gap = world.exchange(secs(20.0), secs(0.02), GATEWAY);
    assert!(gap < secs(5.0), "{gap:?}");
    assert!(world.exchange(secs(1.0), secs(0.02), CLIENT) < secs(0.2));
    let (_, lost, reason) = world.peers[CLIENT].relays_lost[0];
    assert_eq!((lost, reason), (used, LossReason::TimedOut));
    assert_ne!(world.peers[CLIENT].path.unwrap().relay, Some(used));
    assert!(
        world
            .peers
            .iter()
            .all(|peer| peer.failed.is_none() && !peer.no_relays)
    );
}

#[test]
fn the_peers_relay_dying_is_noticed_by_the_peer_and_the_path_moves() {
    // The client can send to any address but only its own relay may answer through its NAT.
    for seed in 0..4 {
        let mut world = site(Mapping::AddressAndPortDependent, &[1], &[2]);
        world.direct_blocked = true;
        connect(&mut world);
        world.set_relays(GATEWAY, &[1], &[]);
        world.run_for(secs(1.0 + f64::from(seed) / 10.0));
        world.relays.get_mut(&2).unwrap().dead = true;
        let gap = world.exchange(secs(20.0), secs(0.02), CLIENT);
        assert!(gap < secs(5.0), "{gap:?}");
    }
}

/// Each hop loses a tenth, so that a relayed check and its answer arrive with 0.9⁴ only.
#[test]
fn a_lossy_network_costs_neither_relay_nor_peer() {
    let mut world = site(Mapping::AddressAndPortDependent, &[1, 2], &[1, 2]);
    connect(&mut world);
    world.loss = 0.1;
    world.exchange(secs(600.0), secs(0.2), CLIENT);
    assert!(
        world
            .peers
            .iter()
            .all(|peer| peer.relays_lost.is_empty() && peer.failed.is_none())
    );
}

#[test]
fn a_relay_removed_by_the_portal_is_left_at_once() {
    let mut world = site(Mapping::AddressAndPortDependent, &[1, 2], &[1, 2]);
    world.direct_blocked = true;
    connect(&mut world);
    let used = world.peers[CLIENT].path.unwrap().relay.unwrap();
    world.relays.get_mut(&used).unwrap().dead = true;
    for peer in [CLIENT, GATEWAY] {
        world.set_relays(peer, &[], &[used]);
    }
    let gap = world.exchange(secs(5.0), secs(0.02), GATEWAY);
    assert!(gap < secs(1.0), "{gap:?}");
    assert!(world.peers.iter().all(|peer| peer.relays_lost.is_empty()));
    let withdrawn = &world.peers[CLIENT].withdrawn;
    assert!(
        !withdrawn.is_empty()
            && withdrawn
                .iter()
                .all(|text| world.peers[CLIENT].candidates.contains(text))
    );
}

#[test]
fn a_restarted_relay_is_allocated_on_anew() {
    let mut world = site(Mapping::AddressAndPortDependent, &[1], &[1]);
    world.direct_blocked = true;
    connect(&mut world);
    world.relays.get_mut(&1).unwrap().restart();
    let gap = world.exchange(secs(20.0), secs(0.02), GATEWAY);
    assert!(gap < secs(5.0), "{gap:?}");
    assert!(
        world
            .peers
            .iter()
            .all(|peer| peer.relays_lost.is_empty() && peer.failed.is_none())
    );
}

#[test]
fn a_direct_path_survives_the_loss_of_every_relay() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    world.relays.get_mut(&1).unwrap().dead = true;
    assert!(world.exchange(secs(60.0), secs(0.1), GATEWAY) < secs(0.3));
    assert!(
        world
            .peers
            .iter()
            .all(|peer| peer.no_relays && peer.failed.is_none())
    );
}

#[test]
fn a_dead_peer_is_noticed_in_the_time_of_the_profile() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    world.peers[GATEWAY].dead = true;
    let died = world.elapsed();
    let noticed = world.run_until(secs(30.0), |world| {
        let now = world.now;
        world.peers[CLIENT].node.note_activity(PEER, now);
        world.peers[CLIENT].failed.is_some()
    });
    assert!(noticed);
    let (at, reason) = world.peers[CLIENT].failed.unwrap();
    assert_eq!(reason, FailureReason::IceTimeout);
    // 12 checks go unanswered, the first of them up to 1.5 s after the last answer: 16.5 s, and 2 s of grace.
    let took = at - died;
    assert!(took > secs(16.5) && took < secs(20.1), "{took:?}");
    assert_eq!(world.peers[CLIENT].node.path(PEER), None);
}

#[test]
fn a_nat_that_forgets_its_mappings_interrupts_only_for_moments() {
    let mut world = World::new();
    world.relay(1, &["192.0.2.1:3478"]);
    world.peer(
        1,
        &["10.0.0.2:52625"],
        Some(Nat::new("198.51.100.1", Mapping::EndpointIndependent)),
    );
    world.peer(2, &["198.51.100.2:52625"], None);
    world.set_relays(CLIENT, &[1], &[]);
    world.set_relays(GATEWAY, &[1], &[]);
    world.run_for(secs(1.0));
    connect(&mut world);
    world.peers[CLIENT].nat.as_mut().unwrap().flush();
    let gap = world.exchange(secs(20.0), secs(0.02), CLIENT);
    assert!(gap < secs(2.5), "{gap:?}");
}

/// Neither router lets the other side's new address in, and neither agent drops the nominated pair for a long while.
#[test]
fn a_nominated_pair_that_falls_silent_is_left_for_one_that_works() {
    for receiver in [CLIENT, GATEWAY] {
        let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
        connect(&mut world);
        assert_eq!(kind(&world, CLIENT), PathKind::Direct);
        world.peers[CLIENT].nat.as_mut().unwrap().flush();
        let gap = world.exchange(secs(30.0), secs(0.02), receiver);
        assert!(gap < secs(8.0), "{gap:?}");
        assert!(world.peers.iter().all(|peer| peer.failed.is_none()));
    }
}

#[test]
fn a_peer_that_never_signals_is_given_up_after_ten_seconds() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    let begin = world.elapsed();
    world.upsert(CLIENT, client_config());
    world.run_for(secs(11.0));
    assert_eq!(
        world.peers[CLIENT].failed,
        Some((begin + secs(10.0), FailureReason::NoCandidates))
    );
}

#[test]
fn a_peer_that_claims_our_role_is_not_answered() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    let mut config = gateway_config();
    config.controlling = true;
    world.upsert(GATEWAY, config);
    world.upsert(CLIENT, client_config());
    world.run_for(secs(10.0));
    assert!(world.peers.iter().all(|peer| peer.path.is_none()));
}

#[test]
fn an_unused_connection_goes_idle_and_wakes_on_a_packet() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    world.run_for(secs(5.0));
    let busy = checks_within(&mut world, secs(10.0));
    world.run_for(secs(40.0));
    let idle = checks_within(&mut world, secs(50.0));
    world.send_data(CLIENT, &[4, 0, 0, 0]);
    let woken = checks_within(&mut world, secs(10.0));
    // Pairs that do not work are gone by then, so that fewer are checked than at first.
    assert!(
        idle < busy,
        "{idle} checks in 50 s idle, {busy} in 10 s busy"
    );
    assert!(
        woken * 5 > idle * 3,
        "{woken} checks in 10 s after a packet, {idle} in 50 s before"
    );
    assert!(world.peers.iter().all(|peer| peer.failed.is_none()));
}

#[test]
fn an_equal_upsert_keeps_the_connection_and_announces_again() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    let announced = std::mem::take(&mut world.peers[CLIENT].candidates);
    let path = world.peers[CLIENT].path;
    assert_eq!(
        world.peers[CLIENT]
            .node
            .upsert_peer(PEER, client_config(), world.now),
        Ok(Upserted::Kept)
    );
    world.drain(CLIENT);
    let mut again = world.peers[CLIENT].candidates.clone();
    let mut announced = announced;
    again.sort();
    announced.sort();
    assert_eq!(again, announced);
    assert_eq!(world.peers[CLIENT].node.path(PEER), path);
}

#[test]
fn other_credentials_replace_the_connection() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    let mut config = client_config();
    config.local_ice.username = "othr".into();
    assert_eq!(
        world.peers[CLIENT]
            .node
            .upsert_peer(PEER, config, world.now),
        Ok(Upserted::New)
    );
    assert_eq!(world.peers[CLIENT].node.path(PEER), None);
}

#[test]
fn no_peer_can_be_added_before_a_relay_answered() {
    let mut world = World::new();
    world.relay(1, &["192.0.2.1:3478"]);
    world.peer(1, &["10.0.0.2:52625"], None);
    world.set_relays(CLIENT, &[1], &[]);
    let refused = world.peers[CLIENT]
        .node
        .upsert_peer(PEER, client_config(), world.now);
    assert_eq!(refused, Err(UpsertError::NoRelay));
    world.run_for(secs(0.1));
    assert_eq!(
        world.peers[CLIENT]
            .node
            .upsert_peer(PEER, client_config(), world.now),
        Ok(Upserted::New)
    );
}

#[test]
fn names_that_the_agent_cannot_encode_are_refused() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    let mut config = client_config();
    config.remote_ice.username = "x".repeat(64);
    let refused = world.peers[CLIENT]
        .node
        .upsert_peer(PEER, config, world.now);
    assert_eq!(refused, Err(UpsertError::UsernameTooLong));
}

#[test]
fn candidates_are_announced_in_the_form_and_order_of_the_wire() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    world.upsert(CLIENT, client_config());
    let candidates = &world.peers[CLIENT].candidates;
    let port = candidates[2].split(' ').nth(5).unwrap();
    let relayed = format!("37748479 192.0.2.1 {port} typ relay raddr 0.0.0.0 rport 0 ufrag clnt");
    let tails: Vec<&str> = candidates
        .iter()
        .map(|text| text.split_once(" 1 udp ").unwrap().1)
        .collect();
    assert_eq!(
        tails,
        [
            "2130706175 10.0.0.2 52625 typ host ufrag clnt",
            "1686109951 198.51.100.1 20001 typ srflx raddr 0.0.0.0 rport 0 ufrag clnt",
            &relayed,
        ]
    );
    assert!(candidates.iter().all(|text| text.starts_with("candidate:")));
}

#[test]
fn malformed_candidates_are_skipped_and_the_rest_is_used() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    world.upsert(GATEWAY, gateway_config());
    world.upsert(CLIENT, client_config());
    let now = world.now;
    for text in [
        "",
        "candidate:",
        "candidate:1 1 udp x 10.1.0.2 1 typ host",
        "\u{0}",
        "candidate:1 1 udp 1 a.local 1 typ host",
    ] {
        assert!(
            !world.peers[CLIENT]
                .node
                .add_remote_candidate(PEER, text, now)
        );
        assert!(
            !world.peers[CLIENT]
                .node
                .remove_remote_candidate(PEER, text, now)
        );
    }
    assert!(world.run_until(secs(5.0), |world| {
        world.peers.iter().all(|peer| peer.path.is_some())
    }));
}

#[test]
fn a_flood_of_candidates_neither_drowns_the_node_nor_the_network() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    world.upsert(CLIENT, client_config());
    world.peers[CLIENT].sent = 0;
    let now = world.now;
    let mut taken = 0;
    for index in 0..20_000_u32 {
        let [_, _, high, low] = index.to_be_bytes();
        let kind = [
            "host",
            "srflx raddr 0.0.0.0 rport 0",
            "relay raddr 0.0.0.0 rport 0",
        ][index as usize % 3];
        let text = format!(
            "candidate:{index} 1 udp {index} 203.0.{high}.{low} 4000 typ {kind} ufrag gate"
        );
        taken += usize::from(
            world.peers[CLIENT]
                .node
                .add_remote_candidate(PEER, &text, now),
        );
    }
    world.drain(CLIENT);
    assert_eq!(taken, 64);
    world.run_for(secs(2.0));
    // 100 pairs, at most 5 checks each in 2 s, and one channel per candidate, repeated at most twice.
    assert!(
        world.peers[CLIENT].sent <= 100 * 5 + 64 * 3,
        "{}",
        world.peers[CLIENT].sent
    );
}

#[test]
fn candidates_added_and_removed_for_ever_meet_a_limit() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    world.upsert(CLIENT, client_config());
    let now = world.now;
    let node = &mut world.peers[CLIENT].node;
    let taken = (0..5_000_u32).filter(|index| {
        let text = format!(
            "candidate:1 1 udp 7 203.0.113.1 {} typ host ufrag gate",
            1 + index
        );
        let taken = node.add_remote_candidate(PEER, &text, now);
        node.remove_remote_candidate(PEER, &text, now);
        taken
    });
    assert_eq!(taken.count(), 1_000);
}

#[test]
fn a_peer_cannot_withdraw_a_candidate_of_ours() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    let now = world.now;
    let ours = "candidate:1 1 udp 7 10.0.0.2 52625 typ host";
    assert!(
        world.peers[CLIENT]
            .node
            .add_remote_candidate(PEER, ours, now)
    );
    assert!(
        world.peers[CLIENT]
            .node
            .remove_remote_candidate(PEER, ours, now)
    );
    world.drain(CLIENT);
    assert!(world.exchange(secs(20.0), secs(0.1), CLIENT) < secs(0.3));
    assert_eq!(kind(&world, CLIENT), PathKind::Direct);
}

#[test]
fn a_reset_forgets_the_peers_and_allocates_anew() {
    let mut world = site(Mapping::EndpointIndependent, &[1], &[1]);
    connect(&mut world);
    world.peers[CLIENT].sockets = vec![support::address("10.0.0.2:40001")];
    world.relays.get_mut(&1).unwrap().requests.clear();
    let now = world.now;
    assert_eq!(world.peers[CLIENT].node.reset(now), [PEER]);
    world.peers[CLIENT].candidates.clear();
    world.drain(CLIENT);
    world.run_for(secs(1.0));
    assert_eq!(
        world.relays[&1].requests,
        [Method::BINDING, Method::ALLOCATE, Method::ALLOCATE]
    );
    world.upsert(CLIENT, client_config());
    assert!(world.peers[CLIENT].candidates[0].contains("10.0.0.2 40001 typ host"));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || {
        let mut world = site(Mapping::AddressAndPortDependent, &[1, 2], &[1, 2]);
        connect(&mut world);
        world.exchange(secs(30.0), secs(0.5), CLIENT);
        world.transcript
    };
    let (first, second) = (run(), run());
    assert!(first.len() > 100);
    assert!(first == second);
}

/// Connectivity checks that the client sends to the gateway within `time`.
fn checks_within(world: &mut World, time: Duration) -> usize {
    let before = world.peers[CLIENT].sent;
    world.run_for(time);
    world.peers[CLIENT].sent - before
}
