//! Two clients, one of which reaches the other through a device pool (data-plane §4.10): what passes, in which direction,
//! until when; and what neither can make the other do.

use super::world::{DEVICE, DEVICE_V4, DEVICE_V6};
use super::*;
use wardgate_packet::{Unreachable, icmp_error};

const SSH: &str = "100.64.0.2:22";
const FIN_ACK: u8 = 0x11;
const SYN: u8 = 0x02;

/// The client reaches the device, and the device must let it.
fn granted_world(filters: Value) -> World {
    let mut world = World::connected_clients();
    world.authorize_device(CLIENT);
    world.grant_device(CLIENT, filters, Value::Null);
    world
}

fn only(protocol: &str, port: u16) -> Value {
    json!([{"protocol": protocol, "first_port": port, "last_port": port}])
}

/// What comes out at a host within a second of a packet sent at the other.
fn passes(world: &mut World, from: usize, packet: &[u8]) -> Vec<Vec<u8>> {
    world.received(1 - from);
    world.send(from, packet);
    world.run(SECOND);
    world.received(1 - from)
}

/// The same of a packet that the sender's engine does not get to see.
fn smuggled(world: &mut World, from: usize, packet: &[u8]) -> Vec<Vec<u8>> {
    world.received(1 - from);
    world.smuggle(from, packet);
    world.run(SECOND);
    world.received(1 - from)
}

fn segment(from: &str, to: &str, flags: u8) -> Vec<u8> {
    build::tcp(socket(from), socket(to), 1, 1, flags, b"").unwrap()
}

fn from_device(to: &str, port: u16) -> Vec<u8> {
    let source = SocketAddr::new(ip(DEVICE_V4), port);
    build::udp(source, socket(to), b"from the device").unwrap()
}

fn revoke(peer: &str) -> Value {
    json!({"command": "revoke", "peer_id": peer, "resource_id": "pool"})
}

#[test]
fn a_packet_asks_for_the_device_and_is_delivered_once_both_ends_have_the_grant() {
    let mut world = World::of_clients();
    world.route_device(CLIENT);
    let request = udp(SSH, b"hello");
    world.send(CLIENT, &request);
    assert!(world.saw(CLIENT, |event| matches!(
        event,
        Event::Intent { resource_id, destination, .. }
            if resource_id == "pool" && *destination == ip(DEVICE_V4)
    )));
    world.introduce();
    world.grant_device(CLIENT, json!([]), Value::Null);
    world.authorize_device(CLIENT);
    world.run(3 * SECOND);
    assert_eq!(world.received(DEVICE), [request]);
    let answer = udp_reply(SSH, b"answer");
    assert_eq!(passes(&mut world, DEVICE, &answer), [answer]);
}

#[test]
fn both_families_and_every_kind_of_flow_pass_and_are_answered() {
    let mut world = granted_world(json!([]));
    let v6 = |from: &str, to: &str, port| {
        let from = SocketAddr::new(ip(from), 4000);
        build::udp(from, SocketAddr::new(ip(to), port), b"six").unwrap()
    };
    for (request, answer) in [
        (
            segment("100.64.0.1:4000", SSH, SYN),
            segment(SSH, "100.64.0.1:4000", SYN | 0x10),
        ),
        (ping(DEVICE_V4, false), ping(DEVICE_V4, true)),
        (
            v6(CLIENT_V6, DEVICE_V6, 53),
            build::udp(
                SocketAddr::new(ip(DEVICE_V6), 53),
                SocketAddr::new(ip(CLIENT_V6), 4000),
                b"six",
            )
            .unwrap(),
        ),
    ] {
        assert_eq!(passes(&mut world, CLIENT, &request), [request]);
        assert_eq!(passes(&mut world, DEVICE, &answer), [answer]);
    }
}

#[test]
fn without_a_grant_nothing_passes_and_the_sender_is_told() {
    let mut world = World::connected_clients();
    world.authorize_device(CLIENT);
    let request = udp(SSH, b"knock");
    assert!(passes(&mut world, CLIENT, &request).is_empty());
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 13)]);
    assert!(world.saw(CLIENT, |event| matches!(
        event,
        Event::AccessProhibited { peer_id, resource_id, device_address: Some(device) }
            if peer_id == "device" && resource_id == "pool" && *device == ip(DEVICE_V4)
    )));
    assert_eq!(world.count(DEVICE, "dropped_prohibited"), 1);
}

#[test]
fn the_filters_of_the_target_decide_whatever_the_sender_thinks() {
    let mut world = granted_world(only("udp", 53));
    let dns = udp("100.64.0.2:53", b"query");
    assert!(passes(&mut world, CLIENT, &udp(SSH, b"knock")).is_empty());
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 13)]);
    assert_eq!(passes(&mut world, CLIENT, &dns), std::slice::from_ref(&dns));
    assert!(
        passes(
            &mut world,
            CLIENT,
            &segment("100.64.0.1:4000", "100.64.0.2:53", SYN)
        )
        .is_empty()
    );
    assert!(passes(&mut world, CLIENT, &ping(DEVICE_V4, false)).is_empty());
    // Another pool adds to what this one permits.
    world.apply(
        DEVICE,
        json!({"command": "grant", "peer_id": "client", "resource_id": "other", "kind": "device",
               "networks": [], "filters": only("udp", 22), "expires_deadline_s": null}),
    );
    let ssh = udp(SSH, b"now");
    assert_eq!(passes(&mut world, CLIENT, &ssh), [ssh]);
}

#[test]
fn new_filters_hold_for_flows_that_are_open() {
    let mut world = granted_world(json!([]));
    let (request, answer) = (udp(SSH, b"request"), udp_reply(SSH, b"answer"));
    assert_eq!(
        passes(&mut world, CLIENT, &request),
        std::slice::from_ref(&request)
    );
    world.apply(
        DEVICE,
        json!({"command": "update_filters", "resource_id": "pool", "filters": only("udp", 53)}),
    );
    assert!(passes(&mut world, DEVICE, &answer).is_empty());
    assert!(passes(&mut world, CLIENT, &request).is_empty());
}

#[test]
fn the_target_answers_and_does_not_begin() {
    let mut world = granted_world(json!([]));
    let begun = from_device("100.64.0.1:4000", 9000);
    assert!(passes(&mut world, DEVICE, &begun).is_empty());
    assert_eq!(world.count(DEVICE, "dropped_unroutable"), 1);
    // Its engine is its own affair: the client decides as well.
    assert!(smuggled(&mut world, DEVICE, &begun).is_empty());
    assert_eq!(world.count(CLIENT, "dropped_prohibited"), 1);
    let request = udp("100.64.0.2:9000", b"request");
    assert_eq!(passes(&mut world, CLIENT, &request), [request]);
    assert_eq!(
        passes(&mut world, DEVICE, &begun),
        std::slice::from_ref(&begun)
    );
    assert!(smuggled(&mut world, DEVICE, &from_device("100.64.0.1:4001", 9000)).is_empty());
}

#[test]
fn each_direction_is_granted_by_itself() {
    let mut world = granted_world(only("udp", 22));
    world.authorize_device(DEVICE);
    world.grant_device(DEVICE, only("udp", 80), Value::Null);
    let (there, back) = (udp(SSH, b"there"), from_device("100.64.0.1:80", 5000));
    assert_eq!(
        passes(&mut world, CLIENT, &there),
        std::slice::from_ref(&there)
    );
    assert_eq!(
        passes(&mut world, DEVICE, &back),
        std::slice::from_ref(&back)
    );
    // One of them ends: the connection stays for the other.
    world.apply(DEVICE, revoke("client"));
    assert!(passes(&mut world, CLIENT, &there).is_empty());
    assert_eq!(passes(&mut world, DEVICE, &back), [back]);
    world.apply(
        DEVICE,
        json!({"command": "deauthorize", "resource_id": "pool"}),
    );
    world.run(SECOND);
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Remote)));
}

#[test]
fn the_last_revocation_says_goodbye_and_ends_the_flows() {
    let mut world = granted_world(json!([]));
    let request = udp(SSH, b"request");
    assert_eq!(
        passes(&mut world, CLIENT, &request),
        std::slice::from_ref(&request)
    );
    world.apply(DEVICE, revoke("client"));
    world.send(DEVICE, &udp_reply(SSH, b"answer"));
    world.run(SECOND);
    assert!(world.received(CLIENT).is_empty());
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Remote)));
    // The next packet asks anew.
    world.events(CLIENT);
    world.send(CLIENT, &request);
    assert!(world.saw(CLIENT, |event| matches!(event, Event::Intent { .. })));
}

#[test]
fn replying_does_not_make_a_flow_ours() {
    let mut world = granted_world(json!([]));
    world.apply(
        DEVICE,
        json!({"command": "grant", "peer_id": "client", "resource_id": "other", "kind": "device",
               "networks": [], "filters": only("udp", 53), "expires_deadline_s": null}),
    );
    let (request, answer) = (udp(SSH, b"request"), udp_reply(SSH, b"answer"));
    assert_eq!(
        passes(&mut world, CLIENT, &request),
        std::slice::from_ref(&request)
    );
    assert_eq!(
        passes(&mut world, DEVICE, &answer),
        std::slice::from_ref(&answer)
    );
    world.apply(DEVICE, revoke("client"));
    assert!(passes(&mut world, CLIENT, &request).is_empty());
    assert!(passes(&mut world, DEVICE, &answer).is_empty());
}

#[test]
fn no_packet_passes_at_or_after_the_deadline_even_before_the_tick() {
    let mut world = World::connected_clients();
    world.authorize_device(CLIENT);
    let deadline = world.now + 10 * SECOND;
    let deadline_s = json!(world.now_s() + 10.0);
    world.grant_device(CLIENT, json!([]), deadline_s.clone());
    let (request, answer) = (udp(SSH, b"request"), udp_reply(SSH, b"answer"));
    assert_eq!(passes(&mut world, CLIENT, &request), [request]);
    world.send_before_timers(DEVICE, &answer, deadline - Duration::from_millis(1));
    world.run(SECOND);
    assert_eq!(world.received(CLIENT), std::slice::from_ref(&answer));
    world.send_before_timers(DEVICE, &answer, deadline);
    world.run(SECOND);
    assert!(world.received(CLIENT).is_empty());
}

#[test]
fn an_expired_grant_is_reported_and_the_last_one_closes_the_connection() {
    let mut world = World::connected_clients();
    world.authorize_device(CLIENT);
    let deadline = json!(world.now_s() + 10.0);
    world.grant_device(CLIENT, json!([]), deadline);
    world.run(11 * SECOND);
    assert!(world.saw(DEVICE, |event| matches!(
        event,
        Event::GrantExpired { peer_id, resource_id } if peer_id == "client" && resource_id == "pool"
    )));
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Remote)));
    assert_eq!(world.count(DEVICE, "connections"), 0);
}

#[test]
fn retained_grants_get_their_new_deadline_and_others_go() {
    let mut world = World::connected_clients();
    world.authorize_device(CLIENT);
    let deadline = json!(world.now_s() + 5.0);
    world.grant_device(CLIENT, json!([]), deadline);
    let later = world.now_s() + 60.0;
    let retain = |grants: Value| json!({"command": "retain_grants", "grants": grants});
    let kept = json!([{"peer_id": "client", "resource_id": "pool", "expires_deadline_s": later}]);
    for _ in 0..2 {
        world.apply(DEVICE, retain(kept.clone()));
    }
    world.run(10 * SECOND);
    let request = udp(SSH, b"request");
    assert_eq!(passes(&mut world, CLIENT, &request), [request]);
    world.apply(DEVICE, retain(json!([])));
    world.run(SECOND);
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Remote)));
}

#[test]
fn a_member_that_leaves_the_pool_takes_its_authorization_along() {
    let mut world = granted_world(json!([]));
    let leave = |device: &str| json!({"command": "deauthorize", "resource_id": "pool", "device_address": device});
    world.apply(CLIENT, leave(DEVICE_V4));
    world.run(SECOND);
    assert!(!world.saw(DEVICE, closed_by(ClosedBy::Remote)));
    world.send(CLIENT, &udp(SSH, b"waits"));
    assert!(world.saw(CLIENT, |event| matches!(event, Event::Intent { .. })));
    for _ in 0..2 {
        world.apply(CLIENT, leave(DEVICE_V6));
    }
    world.run(SECOND);
    assert!(world.saw(DEVICE, closed_by(ClosedBy::Remote)));
    world.apply(CLIENT, leave(DEVICE_V4));
    assert_eq!(world.count(CLIENT, "buffered_lost"), 1);
}

#[test]
fn nobody_speaks_for_anybody_else_nor_reaches_beyond_the_device() {
    let mut world = granted_world(json!([]));
    for (source, destination, counter) in [
        ("100.64.0.9:4000", SSH, "dropped_spoofed_source"),
        ("192.168.1.1:4000", SSH, "dropped_spoofed_source"),
        (SSH, SSH, "dropped_spoofed_source"),
        ("100.64.0.1:4000", "192.168.1.1:22", "dropped_unroutable"),
        ("100.64.0.1:4000", "100.64.0.9:22", "dropped_unroutable"),
        ("100.64.0.1:4000", "100.64.0.1:22", "dropped_unroutable"),
        ("100.64.0.1:4000", "100.100.111.1:53", "dropped_unroutable"),
        ("100.64.0.1:4000", "127.0.0.1:22", "dropped_unroutable"),
        ("100.64.0.1:4000", "224.0.0.1:22", "dropped_unroutable"),
    ] {
        let before = world.count(DEVICE, counter);
        let packet = build::udp(socket(source), socket(destination), b"forged").unwrap();
        assert!(smuggled(&mut world, CLIENT, &packet).is_empty());
        assert_eq!(
            world.count(DEVICE, counter),
            before + 1,
            "{source} {destination}"
        );
    }
}

#[test]
fn an_authorization_of_sources_does_not_let_a_device_use_them() {
    let mut world = World::connected_clients();
    world.grant_device(DEVICE, json!([]), Value::Null);
    world.route_device(CLIENT);
    world.apply(
        CLIENT,
        json!({"command": "authorize", "resource_id": "pool", "peer_id": "device",
               "addresses": ["0.0.0.0/0"], "device_address": DEVICE_V4}),
    );
    let forged = build::udp(socket("10.0.0.1:80"), socket("100.64.0.1:4000"), b"x").unwrap();
    assert!(smuggled(&mut world, DEVICE, &forged).is_empty());
}

#[test]
fn icmp_errors_pass_about_flows_between_the_two_only() {
    let mut world = granted_world(json!([]));
    let error = |packet: &[u8]| {
        let packet = IpPacket::parse(packet.to_vec()).unwrap();
        icmp_error(&packet, Unreachable::Network).unwrap()
    };
    let (request, answer) = (udp(SSH, b"request"), udp_reply(SSH, b"answer"));
    let (about_request, about_answer) = (error(&request), error(&answer));
    // Before there is a flow, errors are forgeries.
    assert!(passes(&mut world, DEVICE, &about_request).is_empty());
    assert!(smuggled(&mut world, DEVICE, &about_request).is_empty());
    assert_eq!(world.count(CLIENT, "dropped_forged_icmp_errors"), 1);
    assert_eq!(passes(&mut world, CLIENT, &request), [request]);
    assert_eq!(passes(&mut world, DEVICE, &about_request), [about_request]);
    assert_eq!(passes(&mut world, DEVICE, &answer), [answer]);
    assert_eq!(passes(&mut world, CLIENT, &about_answer), [about_answer]);
    // Nothing about what we have with others.
    let strange = build::udp(socket("100.64.0.1:4000"), socket("10.0.0.9:22"), b"x").unwrap();
    let mut strange = error(&strange);
    rewrite_source(&mut strange, DEVICE_V4);
    assert!(smuggled(&mut world, DEVICE, &strange).is_empty());
}

#[test]
fn a_device_says_nothing_about_our_flows_with_another_one() {
    let mut world = granted_world(json!([]));
    // A third client, to which a flow stands as far as the engine knows.
    let third = "100.64.0.3";
    let mut command = json!({
        "command": "upsert_peer", "id": "third",
        "public_key": public_key(&crate::command::Key([5; 32])).encode(),
        "preshared_key": crate::command::Key([7; 32]).encode(),
        "local_ice": {"username": "ab12", "password": "local-password-local-pw"},
        "remote_ice": {"username": "cd34", "password": "remote-password-remote"},
        "role": "controlling", "profile": "client", "ipv4": third, "ipv6": "fd00:2021:1111::3",
    });
    world.apply(CLIENT, command.take());
    world.apply(
        CLIENT,
        json!({"command": "add_routes", "routes": [
            {"prefix": format!("{third}/32"), "resource_id": "pool", "table": "device"}]}),
    );
    world.apply(
        CLIENT,
        json!({"command": "authorize", "resource_id": "pool", "peer_id": "third", "addresses": [],
               "device_address": third}),
    );
    let request = udp(&format!("{third}:22"), b"to the third");
    world.send(CLIENT, &request);
    let about = icmp_error(&IpPacket::parse(request).unwrap(), Unreachable::Network).unwrap();
    let mut about = about;
    rewrite_source(&mut about, DEVICE_V4);
    assert!(smuggled(&mut world, DEVICE, &about).is_empty());
    assert_eq!(world.count(CLIENT, "dropped_forged_icmp_errors"), 1);
}

#[test]
fn a_peer_opens_a_bounded_number_of_flows_and_ended_ones_make_room() {
    let mut world = granted_world(json!([]));
    let count = 32_768_u32;
    let knock = |number: u32| {
        let from = SocketAddr::new(ip(CLIENT_V4), 1 + (number % 60_000) as u16);
        let to = SocketAddr::new(ip(DEVICE_V4), 1000 + (number / 60_000) as u16);
        build::udp(from, to, b"").unwrap()
    };
    for number in 0..count {
        world.smuggle(CLIENT, &knock(number));
        if number % 4096 == 0 {
            world.run(Duration::from_millis(50));
        }
    }
    world.run(SECOND);
    assert_eq!(world.received(DEVICE).len(), count as usize);
    assert!(smuggled(&mut world, CLIENT, &knock(count)).is_empty());
    assert_eq!(world.count(DEVICE, "dropped_flows_exhausted"), 1);
    // Open flows go on, and after their time there is room.
    assert_eq!(smuggled(&mut world, CLIENT, &knock(7)), [knock(7)]);
    world.run(121 * SECOND);
    assert_eq!(smuggled(&mut world, CLIENT, &knock(count)), [knock(count)]);
}

#[test]
fn a_connection_that_ended_need_not_be_remembered_for_hours() {
    let mut world = granted_world(json!([]));
    let (own, device) = ("100.64.0.1:4000", SSH);
    for flags in [SYN, FIN_ACK] {
        assert_eq!(
            passes(&mut world, CLIENT, &segment(own, device, flags)).len(),
            1
        );
    }
    let late = segment(device, own, 0x10);
    assert_eq!(
        passes(&mut world, DEVICE, &late),
        std::slice::from_ref(&late)
    );
    world.run(121 * SECOND);
    assert!(passes(&mut world, DEVICE, &late).is_empty());
    // The same ports again are a new connection, which may be idle for long.
    assert_eq!(
        passes(&mut world, CLIENT, &segment(own, device, SYN)).len(),
        1
    );
    world.run(3600 * SECOND);
    assert_eq!(passes(&mut world, DEVICE, &late), [late]);
}

#[test]
fn a_failed_connection_takes_the_grants_along() {
    let mut world = granted_world(json!([]));
    world.hosts[CLIENT].alive = false;
    world.run(600 * SECOND);
    assert!(world.saw(DEVICE, |event| matches!(event, Event::PeerFailed { .. })));
    let stranger = json!({"command": "retain_grants", "grants": [
        {"peer_id": "client", "resource_id": "pool", "expires_deadline_s": null}]});
    world.apply(DEVICE, stranger);
    assert_eq!(world.count(DEVICE, "connections"), 0);
}

#[test]
fn a_reset_forgets_what_others_may_do() {
    let mut world = granted_world(json!([]));
    let key = crate::command::Key([0x55; 32]);
    world.apply(
        DEVICE,
        json!({"command": "reset_network", "private_key": key.encode()}),
    );
    world.hosts[DEVICE].key = key;
    world.run(2 * SECOND);
    world.introduce();
    world.run(2 * SECOND);
    assert!(passes(&mut world, CLIENT, &udp(SSH, b"knock")).is_empty());
    assert_eq!(world.count(DEVICE, "dropped_prohibited"), 1);
}

/// A program that only receives sends nothing that would open its flow anew.
#[test]
fn a_flow_that_we_opened_is_answered_after_a_reset_once_there_is_access_again() {
    let mut world = granted_world(json!([]));
    let [request, answer] = [udp(SSH, b"send me much"), udp_reply(SSH, b"much")];
    assert_eq!(passes(&mut world, CLIENT, &request), [request]);
    let key = crate::command::Key([0x55; 32]);
    world.apply(
        CLIENT,
        json!({"command": "reset_network", "private_key": key.encode()}),
    );
    world.hosts[CLIENT].key = key;
    world.run(2 * SECOND);
    world.introduce();
    world.grant_device(CLIENT, json!([]), Value::Null);
    world.run(2 * SECOND);
    assert!(passes(&mut world, DEVICE, &answer).is_empty());
    world.authorize_device(CLIENT);
    assert_eq!(
        passes(&mut world, DEVICE, &answer),
        std::slice::from_ref(&answer)
    );
    let unasked = udp_reply("100.64.0.2:23", b"unasked");
    assert!(passes(&mut world, DEVICE, &unasked).is_empty());
}

fn rewrite_source(packet: &mut [u8], source: &str) {
    let mut packet = IpPacket::parse(packet).unwrap();
    packet.set_source(ip(source)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever commands come in whatever order: the device lets through exactly what a live grant admits at that instant, and
    /// answers go back exactly while one does.
    #[test]
    fn a_packet_passes_exactly_while_a_grant_admits_it(
        steps in prop::collection::vec((0..8_u8, 0..2_usize, 0..3_u16, 1..5_u64), 1..60),
    ) {
        let pools = ["pool", "other"];
        let ports = [22, 53, 80];
        let mut world = World::connected_clients();
        world.authorize_device(CLIENT);
        // So that the connection outlives every grant; no route leads to it.
        world.apply(DEVICE, json!({"command": "authorize", "resource_id": "unused", "peer_id": "client",
                                   "addresses": [], "device_address": "100.64.0.77"}));
        let mut held: [Option<(Option<u16>, Option<Duration>)>; 2] = [None, None];
        for (step, pool, port, seconds) in steps {
            let (port, now) = (ports[usize::from(port)], world.now - world.epoch);
            for one in &mut held {
                // What has expired is gone for good.
                *one = one.filter(|(_, ends)| ends.is_none_or(|ends| now < ends));
            }
            match step {
                0 | 1 => {
                    let filters = (step == 1).then_some(port);
                    let ends = (seconds < 4).then(|| now + SECOND * seconds as u32);
                    held[pool] = Some((filters, ends));
                    world.apply(DEVICE, json!({
                        "command": "grant", "peer_id": "client", "resource_id": pools[pool], "kind": "device",
                        "networks": [], "filters": filters.map_or(json!([]), |port| only("udp", port)),
                        "expires_deadline_s": ends.map(|ends| ends.as_secs_f64()),
                    }));
                }
                2 => {
                    held[pool] = None;
                    world.apply(DEVICE, json!({
                        "command": "revoke", "peer_id": "client", "resource_id": pools[pool],
                    }));
                }
                3 => {
                    if let Some((filters, _)) = &mut held[pool] {
                        *filters = Some(port);
                    }
                    world.apply(DEVICE, json!({
                        "command": "update_filters", "resource_id": pools[pool], "filters": only("udp", port),
                    }));
                }
                4 => world.run(SECOND * seconds as u32),
                5 => {
                    let ends = now + SECOND * seconds as u32;
                    held[1 - pool] = None;
                    if let Some((_, until)) = &mut held[pool] {
                        *until = Some(ends);
                    }
                    world.apply(DEVICE, json!({"command": "retain_grants", "grants": [{
                        "peer_id": "client", "resource_id": pools[pool],
                        "expires_deadline_s": ends.as_secs_f64(),
                    }]}));
                }
                _ => {
                    let request = udp(&format!("{DEVICE_V4}:{port}"), b"request");
                    world.received(DEVICE);
                    world.received(CLIENT);
                    world.send(CLIENT, &request);
                    world.run(Duration::from_millis(100));
                    let admits = |at: Duration| held.iter().flatten().any(|(filters, ends)| {
                        filters.is_none_or(|only| only == port) && ends.is_none_or(|ends| at < ends)
                    });
                    let (arrival, end) = (now + Duration::from_millis(10), now + Duration::from_millis(100));
                    let arrived = world.received(DEVICE) == [request];
                    prop_assert_eq!(arrived, admits(arrival));
                    world.send(DEVICE, &udp_reply(&format!("{DEVICE_V4}:{port}"), b"answer"));
                    world.run(Duration::from_millis(100));
                    let answered = world.received(CLIENT).iter().any(|packet| packet[9] == 17);
                    if arrived {
                        prop_assert_eq!(answered, admits(end));
                    } else if !admits(end) {
                        prop_assert!(!answered);
                    }
                }
            }
        }
    }
}

#[test]
fn a_flow_between_clients_is_recorded_by_both_each_in_its_role() {
    use crate::event::{FlowReport, FlowRole};
    let mut world = granted_world(json!([]));
    for host in [CLIENT, DEVICE] {
        let record = json!({"command": "record_flows", "is_on": true, "unix_at_zero_s": 0.0});
        world.apply(host, record);
    }
    world.apply(
        CLIENT,
        json!({"command": "authorize", "resource_id": "pool", "peer_id": "device", "addresses": [],
               "device_address": DEVICE_V4, "record_under": "one"}),
    );
    world.apply(
        DEVICE,
        json!({"command": "grant", "peer_id": "client", "resource_id": "pool", "kind": "device", "networks": [],
               "filters": [], "expires_deadline_s": null, "record_under": "one"}),
    );
    for _ in 0..2 {
        assert_eq!(passes(&mut world, CLIENT, &udp(SSH, b"hello")).len(), 1);
        assert_eq!(
            passes(&mut world, DEVICE, &udp_reply(SSH, b"answer")).len(),
            1
        );
    }
    world.run(130 * SECOND);
    for (host, role) in [(CLIENT, FlowRole::Initiator), (DEVICE, FlowRole::Responder)] {
        let reports: Vec<FlowReport> = world
            .events(host)
            .into_iter()
            .filter_map(|event| match event {
                Event::FlowsReported { reports, .. } => Some(reports),
                _ => None,
            })
            .flatten()
            .collect();
        let [begun, ended] = &reports[..] else {
            panic!("{reports:?}");
        };
        assert_eq!(
            (begun.context.role, &*begun.context.authorization_id),
            (role, "one")
        );
        assert_eq!(begun.initiator, (ip(CLIENT_V4), 4000));
        assert_eq!(begun.responder, (ip(DEVICE_V4), 22));
        let end = ended.end.unwrap();
        assert_eq!([end.tx_packets, end.rx_packets], [2, 2]);
        assert_eq!([end.tx_bytes, end.rx_bytes], [10, 12]);
    }
}
