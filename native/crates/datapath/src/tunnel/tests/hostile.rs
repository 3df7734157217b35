//! What a peer may choose, chosen by one that means harm; and what a peer of the other side must not be able to.

use super::*;

const NAMED: &str = "100.96.0.1:80";

/// One name of "app", assigned and in use: the client's packet left as one to `real`.
fn assigned_world(real: &str) -> World {
    let mut world = named_world();
    world.apply(
        GATEWAY,
        translate("app", "one.example", "100.96.0.1", Some(real)),
    );
    assert_eq!(destinations(&mut world, NAMED), [ip(real)]);
    world
}

/// Where the gateway lets a client's packet go.
fn destinations(world: &mut World, to: &str) -> Vec<IpAddr> {
    world.smuggle(CLIENT, &udp(to, b"knock"));
    world.run(SECOND);
    let packets = world.received(GATEWAY);
    packets
        .iter()
        .map(|bytes| IpPacket::parse(&bytes[..]).unwrap().destination())
        .collect()
}

#[test]
fn a_client_reaches_no_host_by_calling_it_a_proxy_address() {
    let mut world = named_world();
    for (hostile, real) in [
        ("10.66.6.6", "10.3.0.1"),
        ("10.66.6.6", "10.66.6.6"),
        ("169.254.169.254", "10.3.0.1"),
        ("100.64.0.9", "10.3.0.1"),
        ("100.100.111.1", "10.3.0.1"),
        ("100.127.255.254", "10.3.0.1"),
        ("100.96.0.9", "127.0.0.1"),
        ("100.96.0.9", "100.64.0.9"),
    ] {
        let refused = world
            .try_apply(
                GATEWAY,
                translate("app", "one.example", hostile, Some(real)),
            )
            .expect_err(hostile);
        assert!(
            refused.to_string().contains("proxy address")
                || refused.to_string().contains("outside"),
            "{refused}"
        );
        assert!(
            destinations(&mut world, &format!("{hostile}:22")).is_empty(),
            "{hostile}"
        );
    }
    assert_eq!(world.count(GATEWAY, "refused_translations"), 8);
}

#[test]
fn a_refused_translation_leaves_the_others_as_they_are() {
    let mut world = assigned_world("10.3.0.1");
    let mut hostile = translate("app", "two.example", "100.96.0.1", Some("10.3.0.2"));
    hostile["addresses"][3][0] = json!("10.66.6.6");
    assert!(world.try_apply(GATEWAY, hostile).is_err());
    assert_eq!(destinations(&mut world, NAMED), [ip("10.3.0.1")]);
}

#[test]
fn a_translation_opens_no_way_to_the_real_address_itself() {
    let mut world = assigned_world("10.3.0.1");
    assert!(destinations(&mut world, "10.3.0.1:80").is_empty());
    assert!(destinations(&mut world, "100.96.0.77:80").is_empty());
}

#[test]
fn a_network_that_covers_the_proxy_addresses_opens_no_name() {
    let mut world = named_world();
    world.grant("all", json!(["0.0.0.0/0"]), json!([]), Value::Null);
    assert!(destinations(&mut world, NAMED).is_empty());
    let web_only = json!([{"protocol": "tcp", "first_port": 443, "last_port": 443}]);
    world.grant("app", json!([]), web_only, Value::Null);
    world.apply(
        GATEWAY,
        translate("app", "one.example", "100.96.0.1", Some("10.3.0.1")),
    );
    assert!(destinations(&mut world, NAMED).is_empty());
}

#[test]
fn a_resource_without_names_has_no_translations() {
    let mut world = named_world();
    let refused = world
        .try_apply(
            GATEWAY,
            translate("net", "one.example", "100.96.0.1", Some("10.3.0.1")),
        )
        .expect_err("a network has no names");
    assert_eq!(refused.to_string(), "the resource has no names");
}

#[test]
fn a_name_ends_with_its_grant_and_a_later_grant_does_not_bring_it_back() {
    let mut world = assigned_world("10.3.0.1");
    let revoke = json!({"command": "revoke", "peer_id": "client", "resource_id": "app"});
    world.apply(GATEWAY, revoke);
    assert!(destinations(&mut world, NAMED).is_empty());
    world.grant("app", json!([]), json!([]), Value::Null);
    assert!(destinations(&mut world, NAMED).is_empty());
    world.apply(
        GATEWAY,
        translate("app", "one.example", "100.96.0.1", Some("10.3.0.1")),
    );
    assert_eq!(destinations(&mut world, NAMED), [ip("10.3.0.1")]);
}

#[test]
fn a_renewed_grant_keeps_its_names() {
    let mut world = assigned_world("10.3.0.1");
    let later = json!(world.now_s() + 60.0);
    world.grant("app", json!([]), json!([]), later);
    assert_eq!(destinations(&mut world, NAMED), [ip("10.3.0.1")]);
}

#[test]
fn a_flow_to_a_revoked_name_does_not_go_on_under_another_name() {
    let mut world = assigned_world("10.3.0.1");
    world.grant("other", json!([]), json!([]), Value::Null);
    world.apply(
        GATEWAY,
        json!({"command": "revoke", "peer_id": "client", "resource_id": "app"}),
    );
    world.apply(
        GATEWAY,
        translate("other", "two.example", "100.96.0.1", Some("10.4.0.1")),
    );
    assert_eq!(destinations(&mut world, NAMED), [ip("10.4.0.1")]);
}

#[test]
fn nobody_on_the_network_speaks_as_a_name() {
    let mut world = assigned_world("10.3.0.1");
    world.received(CLIENT);
    world.send(GATEWAY, &udp_reply(NAMED, b"forged"));
    world.run(SECOND);
    assert!(world.received(CLIENT).is_empty());
    let genuine = udp_reply("10.3.0.1:80", b"genuine");
    world.send(GATEWAY, &genuine);
    world.run(SECOND);
    assert_eq!(world.received(CLIENT), [udp_reply(NAMED, b"genuine")]);
}

#[test]
fn what_the_gateways_own_kernel_says_about_a_translated_flow_is_translated() {
    let mut world = named_world();
    world.apply(
        GATEWAY,
        translate("app", "one.example", "100.96.0.1", Some("10.3.0.1")),
    );
    world.send(CLIENT, &udp(NAMED, b"one"));
    world.run(SECOND);
    let sent = world.received(GATEWAY).remove(0);
    let mut error = wardgate_packet::icmp_error(
        &IpPacket::parse(&sent[..]).unwrap(),
        wardgate_packet::Unreachable::Network,
    )
    .unwrap();
    IpPacket::parse(&mut error[..])
        .unwrap()
        .set_source(ip(GATEWAY_V4))
        .unwrap();
    world.send(GATEWAY, &error);
    world.run(SECOND);
    let got = world.received(CLIENT).remove(0);
    let got = IpPacket::parse(&got[..]).unwrap();
    assert!(got.checksums_valid());
    assert_eq!(got.source(), ip("100.96.0.1"));
    assert_eq!(got.quoted().unwrap().destination, ip("100.96.0.1"));
}

#[test]
fn what_the_gateways_own_kernel_says_about_its_own_ports_passes_as_it_is() {
    let mut world = World::connected();
    let query = udp(&format!("{GATEWAY_V4}:53535"), b"dns");
    let error = wardgate_packet::icmp_error(
        &IpPacket::parse(&query[..]).unwrap(),
        wardgate_packet::Unreachable::Network,
    )
    .unwrap();
    world.send(GATEWAY, &error);
    world.run(SECOND);
    assert_eq!(world.received(CLIENT), [error]);
}

#[test]
fn a_clients_icmp_errors_reach_nobody() {
    let mut world = World::connected();
    let from_server = udp_reply(SERVER, b"data");
    let forged = wardgate_packet::icmp_error(
        &IpPacket::parse(&from_server[..]).unwrap(),
        wardgate_packet::Unreachable::Prohibited,
    )
    .unwrap();
    world.smuggle(CLIENT, &forged);
    world.run(SECOND);
    assert!(world.received(GATEWAY).is_empty());
    assert_eq!(world.count(GATEWAY, "dropped_forged_icmp_errors"), 1);
}

#[test]
fn a_gateway_speaks_for_what_it_was_authorised_for_and_for_nobody_else() {
    let mut world = World::connected();
    for (from, admitted) in [
        ("10.0.1.1:80", false),
        ("8.8.8.8:53", false),
        ("100.64.0.77:22", false),
        ("100.96.0.1:80", false),
        ("100.64.0.2:53535", true),
        ("10.0.0.99:80", true),
    ] {
        let packet = udp_reply(from, b"data");
        world.smuggle(GATEWAY, &packet);
        world.run(SECOND);
        let expected = if admitted { vec![packet] } else { vec![] };
        assert_eq!(world.received(CLIENT), expected, "{from}");
    }
    assert_eq!(world.count(CLIENT, "dropped_spoofed_source"), 4);
}

#[test]
fn a_client_gets_nothing_once_its_last_grant_is_over() {
    let mut world = World::connected();
    let deadline_s = world.now_s() + 60.0;
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), json!(deadline_s));
    let deadline = world.epoch + Duration::from_secs_f64(deadline_s);
    let query = udp(&format!("{GATEWAY_V4}:53535"), b"dns");
    let error = wardgate_packet::icmp_error(
        &IpPacket::parse(&query[..]).unwrap(),
        wardgate_packet::Unreachable::Network,
    )
    .unwrap();
    for packet in [
        udp_reply(SERVER, b"data"),
        udp_reply(&format!("{GATEWAY_V4}:53535"), b"answer"),
        error,
    ] {
        world.intercept();
        world.send_before_timers(GATEWAY, &packet, deadline - Duration::from_millis(1));
        assert_eq!(world.intercept().len(), 1);
        world.send_before_timers(GATEWAY, &packet, deadline);
        assert!(world.intercept().is_empty());
    }
}

#[test]
fn a_shorter_deadline_counts_however_it_comes() {
    let by_grant = |world: &mut World, at: Value| {
        world.grant("net", json!(["10.0.0.0/24"]), json!([]), at);
    };
    let by_init = |world: &mut World, at: Value| {
        let kept = json!([{"peer_id": "client", "resource_id": "net", "expires_deadline_s": at}]);
        world.apply(GATEWAY, json!({"command": "retain_grants", "grants": kept}));
    };
    for renew in [by_grant as fn(&mut World, Value), by_init] {
        let mut world = World::connected();
        let now_s = world.now_s();
        renew(&mut world, json!(now_s + 600.0));
        renew(&mut world, json!(now_s + 3.0));
        world.run(2 * SECOND);
        assert_eq!(destinations(&mut world, "10.0.0.1:53"), [ip("10.0.0.1")]);
        world.run(SECOND);
        assert!(world.saw(GATEWAY, |event| matches!(event, Event::GrantExpired { .. })));
        assert!(world.saw(GATEWAY, closed_by(ClosedBy::Local)));
    }
}

#[test]
fn a_longer_deadline_counts_too() {
    let mut world = World::connected();
    let now_s = world.now_s();
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), json!(now_s + 3.0));
    world.grant(
        "net",
        json!(["10.0.0.0/24"]),
        json!([]),
        json!(now_s + 60.0),
    );
    world.run(30 * SECOND);
    assert!(!world.saw(GATEWAY, |event| matches!(event, Event::GrantExpired { .. })));
    assert_eq!(destinations(&mut world, "10.0.0.1:53"), [ip("10.0.0.1")]);
}

#[test]
fn grants_that_end_together_are_all_told_of_by_their_clients_name() {
    let mut world = World::connected();
    let at = json!(world.now_s() + 3.0);
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), at.clone());
    world.grant("more", json!(["10.9.0.0/24"]), json!([]), at);
    world.run(4 * SECOND);
    let expired: Vec<Event> = world
        .events(GATEWAY)
        .into_iter()
        .filter(|event| matches!(event, Event::GrantExpired { .. }))
        .collect();
    let of = |resource: &str| Event::GrantExpired {
        peer_id: "client".into(),
        resource_id: resource.into(),
    };
    assert_eq!(expired, [of("more"), of("net")]);
}

/// Another device of the account, which gives the client's public key for its own.
fn impostor(world: &World) -> Value {
    let ice = |name: &str| json!({"username": name, "password": "long-enough-password-xx"});
    json!({"command": "upsert_peer", "id": "impostor",
           "public_key": public_key(&world.hosts[CLIENT].key).encode(),
           "preshared_key": crate::command::Key([9; 32]).encode(),
           "local_ice": ice("mall"), "remote_ice": ice("mal2"), "role": "controlled", "profile": "server",
           "ipv4": "100.64.0.66", "ipv6": "fd00:2021:1111::66"})
}

#[test]
fn a_second_device_with_the_same_public_key_does_not_cut_the_first_one_off() {
    let mut world = World::connected();
    let refused = world
        .try_apply(GATEWAY, impostor(&world))
        .expect_err("the key has a session");
    assert_eq!(
        refused.to_string(),
        "the public key of peer impostor is that of client, which has a session"
    );
    assert_eq!(world.count(GATEWAY, "refused_keys"), 1);
    for _ in 0..300 {
        world.send(CLIENT, &udp(SERVER, b"steady"));
        world.run(SECOND);
        assert_eq!(world.received(GATEWAY).len(), 1);
    }
    assert!(!world.saw(CLIENT, |event| matches!(event, Event::PeerFailed { .. })));
}

#[test]
fn a_peer_with_our_own_public_key_is_refused() {
    let mut world = World::new();
    let mut command = impostor(&world);
    command["public_key"] = json!(public_key(&world.hosts[GATEWAY].key).encode());
    let refused = world.try_apply(GATEWAY, command).expect_err("our own key");
    assert_eq!(
        refused.to_string(),
        "the public key of peer impostor is our own"
    );
}

#[test]
fn a_flood_of_control_packets_does_not_reach_python_but_a_goodbye_does() {
    let mut world = World::connected();
    let control = |event, body: &str| {
        let body = body.as_bytes();
        wardgate_packet::ControlPacket { event, body }
            .encode()
            .unwrap()
    };
    use wardgate_packet::ControlEvent;
    for index in 0..1000 {
        let packet = control(ControlEvent::AssignedIps, &index.to_string());
        world.smuggle(CLIENT, &packet);
    }
    world.smuggle(CLIENT, &control(ControlEvent::Goodbye, ""));
    world.run(SECOND);
    let events = world.events(GATEWAY);
    let told = |event: &&Event| matches!(event, Event::ControlPacket { .. });
    assert!(events.iter().filter(told).count() <= 256);
    assert!(world.count(GATEWAY, "dropped_control_limited") >= 1000 - 256 - 10);
    assert!(events.iter().any(closed_by(ClosedBy::Remote)));
}

#[test]
fn whoever_names_a_key_without_proving_it_makes_room_for_its_owner() {
    let mut world = World::new();
    world.route_net(json!([]));
    world.apply(GATEWAY, impostor(&world));
    world.introduce();
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), Value::Null);
    world.authorize("net", json!(["10.0.0.0/24"]));
    world.run(2 * SECOND);
    assert_eq!(destinations(&mut world, SERVER), [ip("10.0.0.1")]);
}

#[test]
fn the_owner_of_a_key_comes_back_with_it_and_leaves_it_when_it_goes() {
    let mut world = World::connected();
    // The same device with other ICE credentials: a new connection under the same key.
    world.renew_credentials();
    world.introduce();
    world.run(2 * SECOND);
    assert_eq!(destinations(&mut world, SERVER), [ip("10.0.0.1")]);
    world.hosts[CLIENT].alive = false;
    world.run(600 * SECOND);
    assert!(world.saw(GATEWAY, |event| matches!(event, Event::PeerFailed { .. })));
    world.apply(GATEWAY, impostor(&world));
}
