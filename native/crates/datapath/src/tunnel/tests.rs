//! Two engines, a relay, a network: what gets through and what does not.

mod devices;
mod flow_records;
mod fragments;
mod hostile;
mod names;
mod world;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use wardgate_packet::offload::{TunRead, VnetHeader};
use wardgate_packet::{ControlPacket, IpPacket, Kind, build};

use crate::event::{ClosedBy, Event, PathKind};
use crate::tunnel::{Arrival, Io, TunnelEngine, public_key};
use world::{CLIENT, CLIENT_V4, CLIENT_V6, GATEWAY, GATEWAY_V4, Packets, Wire, World};

const SERVER: &str = "10.0.0.1:80";
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_packet_wants_an_authorization_and_is_delivered_once_it_is_there() {
    let mut world = World::new();
    world.route_net(json!([]));
    let packet = udp(SERVER, b"first");
    world.send(CLIENT, &packet);
    let asked =
        |event: &Event| matches!(event, Event::Intent { resource_id, .. } if resource_id == "net");
    assert!(world.saw(CLIENT, asked));
    world.introduce();
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), Value::Null);
    world.authorize("net", json!(["10.0.0.0/24"]));
    world.run(2 * SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
}

#[test]
fn an_intent_is_repeated_by_traffic_only_and_after_two_seconds() {
    let mut world = World::new();
    world.route_net(json!([]));
    let intents = |world: &mut World| {
        let events = world.events(CLIENT);
        let is_intent = |event: &&Event| matches!(event, Event::Intent { .. });
        events.iter().filter(is_intent).count()
    };
    world.send(CLIENT, &udp(SERVER, b"1"));
    world.send(CLIENT, &udp(SERVER, b"2"));
    assert_eq!(intents(&mut world), 1);
    world.run(3 * SECOND);
    assert_eq!(intents(&mut world), 0);
    world.send(CLIENT, &udp(SERVER, b"3"));
    assert_eq!(intents(&mut world), 1);
}

#[test]
fn packets_pass_both_ways_over_a_direct_path() {
    let mut world = World::connected();
    let (request, reply) = (ping("10.0.0.1", false), ping("10.0.0.1", true));
    world.send(CLIENT, &request);
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [request]);
    world.send(GATEWAY, &reply);
    world.run(SECOND);
    assert_eq!(world.received(CLIENT), [reply]);
    assert!(world.saw(CLIENT, |event| matches!(
        event,
        Event::PathSelected {
            kind: PathKind::Direct,
            relay_id: None,
            ..
        }
    )));
}

#[test]
fn a_connection_tells_what_it_carried_how_old_its_keys_are_and_what_was_checked() {
    let mut world = World::connected();
    let before = world.figures(GATEWAY, "client").unwrap();
    let (request, reply) = (ping("10.0.0.1", false), ping("10.0.0.1", true));
    for _ in 0..3 {
        world.send(CLIENT, &request);
    }
    world.run(SECOND);
    world.send(GATEWAY, &reply);
    world.run(SECOND);
    let after = world.figures(GATEWAY, "client").unwrap();
    assert_eq!(after.received_packets - before.received_packets, 3);
    assert_eq!(
        after.received_bytes - before.received_bytes,
        3 * request.len() as u64
    );
    assert_eq!(after.sent_packets - before.sent_packets, 1);
    assert_eq!(after.sent_bytes - before.sent_bytes, reply.len() as u64);
    assert!(after.arrived_messages >= before.arrived_messages + 3);
    assert_eq!(after.missing_messages, 0);
    assert_eq!(
        after.handshake_age_s.unwrap() - before.handshake_age_s.unwrap(),
        2.0
    );
    let used: Vec<_> = after.checks.iter().filter(|pair| pair.is_used).collect();
    assert_eq!(used.len(), 1, "{:?}", after.checks);
    assert!(used[0].round_trip_ms.is_some());
    assert_eq!(world.figures(GATEWAY, "nobody"), None);
    assert!(!after.is_idle);
    world.run(60 * SECOND);
    assert!(world.figures(GATEWAY, "client").unwrap().is_idle);
}

#[test]
fn what_the_network_loses_is_missing_at_the_other_end() {
    let mut world = World::connected();
    for lost in [false, true, true, false] {
        world.send(CLIENT, &udp(SERVER, b"x"));
        if lost {
            world.intercept();
        }
        world.run(SECOND / 10);
    }
    let figures = world.figures(GATEWAY, "client").unwrap();
    assert_eq!(figures.missing_messages, 2);
}

#[test]
fn without_a_direct_path_packets_go_over_the_relay() {
    let mut world = World::new();
    world.direct = false;
    world.route_net(json!([]));
    world.introduce();
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), Value::Null);
    world.authorize("net", json!(["10.0.0.0/24"]));
    world.run(5 * SECOND);
    let packet = udp(SERVER, &[7; 1200]);
    world.send(CLIENT, &packet);
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
    let relayed = |event: &Event| matches!(event, Event::PathSelected { kind, .. } if *kind != PathKind::Direct);
    assert!(
        world.saw(CLIENT, relayed),
        "{:?}",
        world.hosts[CLIENT].events
    );
    let reply = udp_reply(SERVER, &[8; 1200]);
    world.send(GATEWAY, &reply);
    world.run(SECOND);
    assert_eq!(world.received(CLIENT), [reply]);
}

#[test]
fn nothing_passes_after_a_revocation_and_the_client_hears_goodbye() {
    let mut world = World::connected();
    world.send(CLIENT, &udp(SERVER, b"in flight"));
    world.apply(
        GATEWAY,
        json!({"command": "revoke", "peer_id": "client", "resource_id": "net"}),
    );
    world.run(SECOND);
    assert!(world.received(GATEWAY).is_empty());
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Remote)));
    assert!(world.saw(GATEWAY, closed_by(ClosedBy::Local)));
    world.send(GATEWAY, &udp_reply(SERVER, b"late"));
    world.run(SECOND);
    assert!(world.received(CLIENT).is_empty());
}

#[test]
fn revoking_one_of_two_grants_leaves_the_other_and_is_answered_with_prohibited() {
    let mut world = World::connected();
    world.apply(
        CLIENT,
        json!({"command": "set_routes", "routes": [
            {"prefix": "10.0.0.0/24", "resource_id": "net", "table": "cidr"},
            {"prefix": "10.9.0.0/24", "resource_id": "other", "table": "cidr"},
        ]}),
    );
    world.grant("other", json!(["10.9.0.0/24"]), json!([]), Value::Null);
    world.authorize("other", json!(["10.9.0.0/24"]));
    world.apply(
        GATEWAY,
        json!({"command": "revoke", "peer_id": "client", "resource_id": "net"}),
    );
    let kept = udp("10.9.0.1:53", b"kept");
    world.send(CLIENT, &kept);
    world.send(CLIENT, &udp(SERVER, b"revoked"));
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [kept]);
    let answers = world.received(CLIENT);
    assert_eq!(icmp_types(&answers), [(3, 13)]);
    assert!(world.saw(CLIENT, |event| matches!(
        event,
        Event::AccessProhibited { resource_id, .. } if resource_id == "net"
    )));
}

#[test]
fn the_client_refuses_what_its_filters_deny_without_asking_for_access() {
    let mut world = World::new();
    world.route_net(json!([{"protocol": "tcp", "first_port": 443, "last_port": 443}]));
    world.send(CLIENT, &udp(SERVER, b"no"));
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 13)]);
    assert!(!world.saw(CLIENT, |event| matches!(event, Event::Intent { .. })));
}

#[test]
fn the_gateway_refuses_what_its_filters_deny_whatever_the_client_thinks() {
    let mut world = World::connected();
    world.apply(
        GATEWAY,
        json!({"command": "update_filters", "resource_id": "net",
               "filters": [{"protocol": "udp", "first_port": 53, "last_port": 53}]}),
    );
    let allowed = udp("10.0.0.1:53", b"yes");
    world.send(CLIENT, &udp(SERVER, b"no"));
    world.send(CLIENT, &allowed);
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [allowed]);
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 13)]);
    // Replies are judged by the port they come from.
    let reply = udp_reply("10.0.0.1:53", b"yes");
    world.send(GATEWAY, &udp_reply(SERVER, b"no"));
    world.send(GATEWAY, &reply);
    world.run(SECOND);
    assert_eq!(world.received(CLIENT), [reply]);
}

#[test]
fn a_spoofed_source_does_not_leave_the_gateway() {
    let mut world = World::connected();
    world.apply(
        CLIENT,
        json!({"command": "set_addresses", "ipv4": "100.64.0.99", "ipv6": "fd00:2021:1111::99"}),
    );
    let spoofed = build::udp(socket("100.64.0.99:4000"), socket(SERVER), b"x").unwrap();
    world.send(CLIENT, &spoofed);
    world.run(SECOND);
    assert!(world.received(GATEWAY).is_empty());
    assert_eq!(world.count(GATEWAY, "dropped_spoofed_source"), 1);
}

#[test]
fn the_gateway_does_not_lead_from_client_to_client() {
    let mut world = World::connected();
    world.grant("all", json!(["0.0.0.0/0"]), json!([]), Value::Null);
    world.apply(
        CLIENT,
        json!({"command": "set_routes", "routes": [
            {"prefix": "10.0.0.0/24", "resource_id": "net", "table": "cidr"},
            {"prefix": "100.64.0.0/24", "resource_id": "all", "table": "cidr"},
        ]}),
    );
    world.authorize("all", json!(["0.0.0.0/0"]));
    world.send(CLIENT, &udp("100.64.0.77:22", b"x"));
    world.run(SECOND);
    assert!(world.received(GATEWAY).is_empty());
    let own = udp(&format!("{GATEWAY_V4}:53535"), b"dns");
    world.send(CLIENT, &own);
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [own]);
}

#[test]
fn no_packet_passes_at_or_after_the_deadline_even_before_the_tick() {
    let mut world = World::connected();
    let deadline_s = world.now_s() + 60.0;
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), json!(deadline_s));
    let deadline = world.epoch + Duration::from_secs_f64(deadline_s);
    for (at, passes) in [(deadline - Duration::from_millis(1), 1), (deadline, 0)] {
        world.send(CLIENT, &udp(SERVER, b"tick-tock"));
        let datagrams = world.intercept();
        let gateway = &mut world.hosts[GATEWAY];
        let mut wire = Wire::new(gateway.address);
        let mut tun = Packets::default();
        for mut datagram in datagrams {
            let stride = datagram.payload.len();
            let payload = &mut datagram.payload;
            gateway.engine.handle_network(
                &arrival(datagram.from, datagram.to, 0, stride),
                payload,
                &mut Io {
                    now: at,
                    tun: &mut tun,
                    out: &mut wire,
                },
            );
        }
        assert_eq!(tun.0.len(), passes, "{at:?}");
    }
}

#[test]
fn an_expired_grant_is_reported_and_the_last_one_closes_the_connection() {
    let mut world = World::connected();
    let deadline_s = world.now_s() + 5.0;
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), json!(deadline_s));
    world.run(4 * SECOND);
    assert!(!world.saw(GATEWAY, |event| matches!(event, Event::GrantExpired { .. })));
    world.run(2 * SECOND);
    assert!(world.saw(GATEWAY, |event| matches!(event, Event::GrantExpired { .. })));
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Remote)));
}

#[test]
fn retained_grants_get_their_new_deadline_and_others_go() {
    let mut world = World::connected();
    world.grant("other", json!(["10.9.0.0/24"]), json!([]), Value::Null);
    let deadline_s = world.now_s() + 3.0;
    world.apply(
        GATEWAY,
        json!({"command": "retain_grants", "grants": [
            {"peer_id": "client", "resource_id": "net", "expires_deadline_s": deadline_s},
            {"peer_id": "stranger", "resource_id": "net", "expires_deadline_s": null},
        ]}),
    );
    let packet = udp(SERVER, b"x");
    world.send(CLIENT, &packet);
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
    world.run(3 * SECOND);
    let expired: Vec<Event> = world
        .events(GATEWAY)
        .into_iter()
        .filter(|event| matches!(event, Event::GrantExpired { .. }))
        .collect();
    assert_eq!(
        expired,
        [Event::GrantExpired {
            peer_id: "client".into(),
            resource_id: "net".into()
        }]
    );
}

#[test]
fn names_are_translated_and_colliding_flows_return_to_their_own_proxies() {
    let mut world = named_world();
    for (name, proxy) in [("one.example", "100.96.0.1"), ("two.example", "100.96.0.5")] {
        world.apply(GATEWAY, translate("app", name, proxy, Some("10.3.0.1")));
    }
    world.send(CLIENT, &udp("100.96.0.1:80", b"one"));
    world.send(CLIENT, &udp("100.96.0.5:80", b"two"));
    world.run(SECOND);
    let outside = world.received(GATEWAY);
    let ports: Vec<u16> = outside.iter().map(|bytes| source_port(bytes)).collect();
    assert_eq!(ports, [4000, 4001]);
    for bytes in &outside {
        let packet = IpPacket::parse(&bytes[..]).unwrap();
        assert_eq!(packet.destination(), ip("10.3.0.1"));
        assert!(packet.checksums_valid());
    }
    for port in ports {
        let to = socket(&format!("{CLIENT_V4}:{port}"));
        world.send(
            GATEWAY,
            &build::udp(socket("10.3.0.1:80"), to, b"re").unwrap(),
        );
    }
    world.run(SECOND);
    let replies = world.received(CLIENT);
    let expected = ["100.96.0.1:80", "100.96.0.5:80"].map(|proxy| udp_reply(proxy, b"re"));
    assert_eq!(replies, expected);
}

#[test]
fn an_icmp_error_about_a_translated_flow_quotes_what_the_client_sent() {
    let mut world = named_world();
    world.apply(
        GATEWAY,
        translate("app", "one.example", "100.96.0.1", Some("10.3.0.1")),
    );
    world.send(CLIENT, &udp("100.96.0.1:80", b"one"));
    world.run(SECOND);
    let sent = world.received(GATEWAY).remove(0);
    let error = wardgate_packet::icmp_error(
        &IpPacket::parse(&sent[..]).unwrap(),
        wardgate_packet::Unreachable::Network,
    )
    .unwrap();
    world.send(GATEWAY, &error);
    world.run(SECOND);
    let got = world.received(CLIENT).remove(0);
    let got = IpPacket::parse(&got[..]).unwrap();
    let quoted = got.quoted().unwrap();
    assert!(got.checksums_valid());
    assert_eq!(got.source(), ip("100.96.0.1"));
    assert_eq!(quoted.destination, ip("100.96.0.1"));
    assert_eq!((quoted.source_value, quoted.destination_value), (4000, 80));
}

#[test]
fn a_name_without_an_address_of_the_family_is_unreachable() {
    let mut world = named_world();
    world.apply(GATEWAY, translate("app", "one.example", "100.96.0.1", None));
    world.send(CLIENT, &udp("100.96.0.1:80", b"one"));
    world.run(SECOND);
    assert!(world.received(GATEWAY).is_empty());
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 0)]);
}

#[test]
fn a_proxy_address_that_changes_its_name_resets_the_translations() {
    let mut world = named_world();
    for (name, first, real) in [
        ("one.example", "100.96.0.1", "10.3.0.1"),
        ("two.example", "100.96.0.5", "10.3.0.2"),
        ("new.example", "100.96.0.1", "10.3.0.3"),
    ] {
        world.apply(GATEWAY, translate("app", name, first, Some(real)));
    }
    world.send(CLIENT, &udp("100.96.0.5:80", b"stale"));
    world.run(SECOND);
    assert!(world.received(GATEWAY).is_empty());
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 13)]);
}

#[test]
fn held_names_keep_their_packets_until_they_are_released() {
    let mut world = named_world();
    world.apply(
        GATEWAY,
        translate("app", "one.example", "100.96.0.1", Some("10.3.0.1")),
    );
    let hold = |verb: &str, rest: Value| {
        let mut command = json!({"command": verb, "peer_id": "gateway", "resource_id": "app",
                                 "proxy_ips": ["100.96.0.1", "100.96.0.5"]});
        if let Value::Bool(flush) = rest {
            command["flush"] = json!(flush);
        }
        command
    };
    world.apply(CLIENT, hold("hold_name", Value::Null));
    for index in 0..40u8 {
        world.send(CLIENT, &udp("100.96.0.1:80", &[index]));
    }
    world.run(SECOND);
    assert!(world.received(GATEWAY).is_empty());
    world.apply(CLIENT, hold("release_name", json!(true)));
    world.run(SECOND);
    let payloads: Vec<u8> = world
        .received(GATEWAY)
        .iter()
        .filter_map(|packet| packet.last().copied())
        .collect();
    assert_eq!(payloads, (8..40).collect::<Vec<u8>>());
    world.apply(CLIENT, hold("hold_name", Value::Null));
    world.send(CLIENT, &udp("100.96.0.1:80", b"dropped"));
    world.apply(CLIENT, hold("release_name", json!(false)));
    world.send(CLIENT, &udp("100.96.0.1:80", b"passes"));
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY).len(), 1);
}

#[test]
fn control_packets_wait_for_the_tunnel_and_surface_at_the_other_end() {
    let mut world = World::new();
    world.route_net(json!([]));
    world.introduce();
    let body = r#"{"resource":"app","domain":"one.example","proxy_ips":[]}"#;
    let assigned = json!({"command": "send_control_packet", "peer_id": "gateway", "type": 0,
                          "payload": body});
    world.apply(CLIENT, assigned.clone());
    world.apply(CLIENT, assigned);
    world.run(2 * SECOND);
    let arrived: Vec<Event> = world
        .events(GATEWAY)
        .into_iter()
        .filter(|event| matches!(event, Event::ControlPacket { .. }))
        .collect();
    let expected = Event::ControlPacket {
        peer_id: "client".into(),
        kind: 0,
        payload: body.into(),
    };
    assert_eq!(arrived, [expected]);
}

#[test]
fn a_client_that_gives_up_its_last_resource_says_goodbye() {
    let mut world = World::connected();
    world.apply(
        CLIENT,
        json!({"command": "deauthorize", "resource_id": "net"}),
    );
    world.run(SECOND);
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Local)));
    assert!(world.saw(GATEWAY, closed_by(ClosedBy::Remote)));
    // The gateway has forgotten the grants with the client.
    assert!(
        world
            .try_apply(GATEWAY, json!({"command": "send_control_packet", "peer_id": "client", "type": 1, "payload": ""}))
            .is_err()
    );
}

#[test]
fn packets_that_wait_for_a_connection_survive_its_replacement() {
    let mut world = World::new();
    world.route_net(json!([]));
    world.introduce();
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), Value::Null);
    world.authorize("net", json!(["10.0.0.0/24"]));
    let packet = udp(SERVER, b"patient");
    world.send(CLIENT, &packet);
    world.restart(GATEWAY);
    world.introduce();
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), Value::Null);
    world.run(2 * SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
}

#[test]
fn a_route_that_goes_takes_its_authorization_along() {
    let mut world = World::connected();
    world.apply(CLIENT, json!({"command": "set_routes", "routes": []}));
    world.run(SECOND);
    assert!(world.saw(GATEWAY, closed_by(ClosedBy::Remote)));
}

#[test]
fn the_same_routes_again_disturb_nothing() {
    let mut world = World::connected();
    world.route_net(json!([]));
    let packet = udp(SERVER, b"x");
    world.send(CLIENT, &packet);
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
    assert!(!world.saw(CLIENT, closed_by(ClosedBy::Local)));
}

#[test]
fn introducing_known_peers_again_keeps_their_connection() {
    let mut world = World::connected();
    world.events(CLIENT);
    world.introduce();
    let packet = udp(SERVER, b"x");
    world.send(CLIENT, &packet);
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
    assert!(!world.saw(CLIENT, |event| matches!(
        event,
        Event::PathSelected { .. } | Event::HandshakeDone { .. }
    )));
}

#[test]
fn a_restarted_client_comes_back_with_a_new_key() {
    let mut world = World::connected();
    world.restart(CLIENT);
    world.route_net(json!([]));
    world.introduce();
    world.authorize("net", json!(["10.0.0.0/24"]));
    let packet = udp(SERVER, b"again");
    world.send(CLIENT, &packet);
    world.run(3 * SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
}

#[test]
fn a_restarted_gateway_is_reached_again() {
    let mut world = World::connected();
    world.restart(GATEWAY);
    world.introduce();
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), Value::Null);
    world.authorize("net", json!(["10.0.0.0/24"]));
    let packet = udp(SERVER, b"again");
    world.send(CLIENT, &packet);
    world.run(3 * SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
}

#[test]
fn a_gateway_that_dies_is_noticed_and_its_resource_is_asked_for_again() {
    let mut world = World::connected();
    world.hosts[GATEWAY].alive = false;
    world.run(150 * SECOND);
    assert!(world.saw(CLIENT, |event| matches!(event, Event::PeerFailed { .. })));
    world.events(CLIENT);
    world.send(CLIENT, &udp(SERVER, b"x"));
    assert!(world.saw(CLIENT, |event| matches!(event, Event::Intent { .. })));
}

#[test]
fn a_gateway_keeps_grants_over_a_failed_connection() {
    let mut world = World::connected();
    world.hosts[CLIENT].alive = false;
    world.run(600 * SECOND);
    assert!(world.saw(GATEWAY, |event| matches!(event, Event::PeerFailed { .. })));
    world.restart(CLIENT);
    world.route_net(json!([]));
    world.introduce();
    world.authorize("net", json!(["10.0.0.0/24"]));
    let packet = udp(SERVER, b"back");
    world.send(CLIENT, &packet);
    world.run(3 * SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
}

#[test]
fn a_connection_survives_rekeying_and_hours_of_idleness_without_losing_the_first_packet() {
    let mut world = World::connected();
    for pause in [170, 3600, 125, 200] {
        world.run(pause * SECOND);
        let packet = udp(SERVER, &[pause as u8; 9]);
        world.send(CLIENT, &packet);
        world.run(SECOND);
        assert_eq!(
            world.received(GATEWAY),
            [packet],
            "after {pause} s: {:?} {:?} {:?}",
            world.events(CLIENT),
            world.hosts[CLIENT].engine.stats(),
            world.hosts[GATEWAY].engine.stats()
        );
    }
    assert!(!world.saw(CLIENT, |event| matches!(event, Event::PeerFailed { .. })));
}

#[test]
fn without_a_usable_relay_a_peer_is_refused_and_relays_are_wanted() {
    let mut world = World::new();
    world.apply(
        CLIENT,
        json!({"command": "set_relays", "relays": [], "removed": ["relay"], "replace_all": false}),
    );
    let refused = world
        .try_apply(CLIENT, upsert_json("gateway"))
        .expect_err("no relay is left");
    assert!(refused.to_string().starts_with("no relay"), "{refused}");
    assert!(world.saw(CLIENT, |event| *event
        == Event::NoRelays {
            peer_id: Some("gateway".into())
        }));
}

#[test]
fn a_reset_closes_every_peer_and_adopts_the_new_key() {
    let mut world = World::connected();
    let key = crate::command::Key([0x55; 32]);
    world.apply(
        CLIENT,
        json!({"command": "reset_network", "private_key": key.encode()}),
    );
    world.hosts[CLIENT].key = key;
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Local)));
    world.run(2 * SECOND);
    world.introduce();
    world.authorize("net", json!(["10.0.0.0/24"]));
    let packet = udp(SERVER, b"roamed");
    world.send(CLIENT, &packet);
    world.run(3 * SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
}

#[test]
fn a_shutdown_says_goodbye_and_frees_the_allocation() {
    let mut world = World::connected();
    assert_eq!(world.allocations(), 2);
    world.apply(GATEWAY, json!({"command": "shutdown"}));
    world.run(SECOND);
    assert_eq!(world.allocations(), 1);
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Remote)));
}

#[test]
fn a_shutdown_without_a_goodbye_frees_the_allocation_too() {
    let mut world = World::connected();
    world.apply(CLIENT, json!({"command": "shutdown", "goodbye": false}));
    world.run(SECOND);
    assert_eq!(world.allocations(), 1);
    assert!(!world.saw(GATEWAY, closed_by(ClosedBy::Remote)));
}

#[test]
fn a_goodbye_tells_whether_the_connection_was_in_use() {
    for (quiet, expected) in [(1, true), (60, false)] {
        let mut world = World::connected();
        world.send(CLIENT, &udp(SERVER, b"x"));
        world.run(Duration::from_secs(quiet));
        world.apply(GATEWAY, json!({"command": "shutdown"}));
        world.run(SECOND);
        assert!(world.saw(
            CLIENT,
            |event| matches!(event, Event::PeerClosed { by: ClosedBy::Remote, in_use, .. } if *in_use == expected)
        ), "after {quiet} s");
    }
}

#[test]
fn a_super_packet_arrives_as_its_segments_in_order() {
    let mut world = World::connected();
    let payload: Vec<u8> = (0..3000u32).map(|index| index as u8).collect();
    let mut packet = build::tcp(
        socket(&format!("{CLIENT_V4}:4000")),
        socket(SERVER),
        1000,
        1,
        0x18,
        &payload,
    )
    .unwrap();
    packet[36..38].copy_from_slice(&[0, 0]);
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: VnetHeader::GSO_TCP_V4,
        header_len: 40,
        gso_size: 1240,
        checksum_start: 20,
        checksum_offset: 16,
    };
    let mut read = header.encode().to_vec();
    read.extend_from_slice(&packet);
    world.send_read(CLIENT, &TunRead::parse(&read).unwrap());
    world.run(SECOND);
    let received = world.received(GATEWAY);
    assert_eq!(received.len(), 3);
    let mut joined = Vec::new();
    for bytes in &received {
        let packet = IpPacket::parse_inner(&bytes[..]).unwrap();
        assert!(packet.checksums_valid());
        joined.extend_from_slice(packet.payload());
    }
    assert_eq!(joined, payload);
}

#[test]
fn congestion_seen_outside_is_marked_inside_and_inner_marks_show_outside() {
    let mut world = World::connected();
    let mut packet = IpPacket::parse(udp(SERVER, b"ecn")).unwrap();
    packet.set_ecn(2);
    world.send(CLIENT, packet.bytes());
    let mut datagrams = world.intercept();
    assert!(datagrams.iter().all(|datagram| datagram.ecn == 2));
    let gateway = &mut world.hosts[GATEWAY];
    let mut wire = Wire::new(gateway.address);
    let mut tun = Packets::default();
    for datagram in &mut datagrams {
        let stride = datagram.payload.len();
        gateway.engine.handle_network(
            &arrival(datagram.from, datagram.to, 3, stride),
            &mut datagram.payload,
            &mut Io {
                now: world.now,
                tun: &mut tun,
                out: &mut wire,
            },
        );
    }
    let got = IpPacket::parse(&tun.0[0][..]).unwrap();
    assert_eq!(got.ecn(), 3);
    assert!(got.checksums_valid());
}

#[test]
fn several_datagrams_of_one_receive_are_all_opened() {
    let mut world = World::connected();
    let packets: Vec<Vec<u8>> = (0..5).map(|index| udp(SERVER, &[index; 100])).collect();
    for packet in &packets {
        world.send(CLIENT, packet);
    }
    let datagrams = world.intercept();
    let stride = datagrams[0].payload.len();
    let mut joined: Vec<u8> = datagrams
        .iter()
        .flat_map(|one| one.payload.clone())
        .collect();
    let gateway = &mut world.hosts[GATEWAY];
    let (from, to) = (datagrams[0].from, datagrams[0].to);
    gateway.engine.handle_network(
        &arrival(from, to, 0, stride),
        &mut joined,
        &mut Io {
            now: world.now,
            tun: &mut gateway.tun,
            out: &mut Wire::new(to),
        },
    );
    assert_eq!(world.received(GATEWAY), packets);
}

#[test]
fn a_hostile_gateway_reaches_nobody_behind_the_client() {
    let mut world = World::connected();
    let from_server = |to: &str| build::udp(socket(SERVER), socket(to), b"data").unwrap();
    let for_client = from_server(&format!("{CLIENT_V4}:4000"));
    let now = world.now;
    for packet in [&from_server("192.168.1.1:4000"), &for_client] {
        let gateway = &mut world.hosts[GATEWAY];
        let mut wire = Wire::new(gateway.address);
        let (links, counters) = gateway.engine.parts();
        let key = links.key_of("client").unwrap();
        links
            .send_packet(key, packet, counters, now, &mut wire)
            .unwrap();
        let client = &mut world.hosts[CLIENT];
        let mut datagram = wire.datagrams.remove(0);
        let stride = datagram.payload.len();
        client.engine.handle_network(
            &arrival(datagram.from, datagram.to, 0, stride),
            &mut datagram.payload,
            &mut Io {
                now,
                tun: &mut client.tun,
                out: &mut Wire::new(datagram.to),
            },
        );
    }
    assert_eq!(world.received(CLIENT), [for_client]);
}

#[test]
fn the_internet_resource_leads_to_public_addresses_only() {
    let mut world = World::connected();
    world.apply(
        GATEWAY,
        json!({"command": "grant", "peer_id": "client", "resource_id": "internet", "kind": "internet",
               "networks": ["0.0.0.0/0", "::/0"], "filters": [], "expires_deadline_s": null, "rank": 0}),
    );
    world.apply(
        CLIENT,
        json!({"command": "set_routes", "routes": [
            {"prefix": "10.0.0.0/24", "resource_id": "net", "table": "cidr"},
            {"prefix": "0.0.0.0/0", "resource_id": "internet", "table": "internet"},
            {"prefix": "::/0", "resource_id": "internet", "table": "internet"},
        ]}),
    );
    world.authorize("internet", json!(["0.0.0.0/0", "::/0"]));
    let public = udp("9.9.9.9:53", b"q");
    let v6 = build::udp(
        socket(&format!("[{CLIENT_V6}]:4000")),
        socket("[2001:db8::1]:53"),
        b"q",
    )
    .unwrap();
    world.send(CLIENT, &public);
    world.send(CLIENT, &v6);
    world.send(CLIENT, &udp("192.168.0.1:53", b"q"));
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [public, v6]);
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 0)]);
}

#[test]
fn commands_of_the_other_role_and_about_strangers_are_refused() {
    let mut world = World::connected();
    let grant_to = |peer: &str, kind: &str| {
        json!({"command": "grant", "peer_id": peer, "resource_id": "r", "kind": kind,
               "networks": [], "filters": [], "expires_deadline_s": null})
    };
    let grant = grant_to("stranger", "cidr");
    for (host, command, reason) in [
        (CLIENT, grant.clone(), "unknown peer stranger"),
        (
            CLIENT,
            grant_to("gateway", "cidr"),
            "grant of a network or name is for a gateway only",
        ),
        (
            CLIENT,
            grant_to("gateway", "internet"),
            "grant of a network or name is for a gateway only",
        ),
        (GATEWAY, grant, "unknown peer stranger"),
        (
            GATEWAY,
            grant_to("client", "device"),
            "grant of a device is for a client only",
        ),
        (
            GATEWAY,
            json!({"command": "set_routes", "routes": []}),
            "set_routes is for a client only",
        ),
        (
            CLIENT,
            json!({"command": "authorize", "resource_id": "r", "peer_id": "stranger", "addresses": []}),
            "unknown peer stranger",
        ),
        (
            GATEWAY,
            json!({"command": "translate", "peer_id": "client", "resource_id": "r", "name": "n", "addresses": []}),
            "unknown grant",
        ),
        (CLIENT, json!({"command": "dance"}), "malformed command"),
        (
            CLIENT,
            json!({"command": "set_addresses", "ipv4": "1.2.3", "ipv6": "::1"}),
            "malformed command",
        ),
    ] {
        let refused = world.try_apply(host, command).expect_err(reason);
        assert!(refused.to_string().starts_with(reason), "{refused}");
    }
}

#[test]
fn the_same_inputs_give_the_same_trace() {
    let run = || {
        let mut world = World::connected();
        for index in 0..20 {
            world.send(CLIENT, &udp(SERVER, &[index; 50]));
            world.run(7 * SECOND);
        }
        world.trace
    };
    assert_eq!(run(), run());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..1500),
        kind in 0u8..6,
        stride in 0usize..1500,
        tamper in any::<prop::sample::Index>(),
    ) {
        let mut world = World::connected();
        world.send(CLIENT, &udp(SERVER, &[1; 64]));
        let mut valid = world.intercept().remove(0);
        let at = tamper.index(valid.payload.len());
        valid.payload[at] ^= 0x5a;
        let mut shaped = noise.clone();
        if shaped.len() >= 4 {
            shaped[..4].copy_from_slice(&[kind, 0, 0, 0]);
        }
        let tampered = std::mem::take(&mut valid.payload);
        let now = world.now;
        for (host, from) in [(GATEWAY, valid.from), (CLIENT, valid.to), (GATEWAY, socket("5.5.5.5:3478"))] {
            let host = &mut world.hosts[host];
            let mut wire = Wire::new(host.address);
            for bytes in [&noise, &shaped, &tampered] {
                let mut bytes = bytes.clone();
                let own = host.address;
                let mut io = Io { now, tun: &mut host.tun, out: &mut wire };
                host.engine.handle_network(&arrival(from, own, 0, stride), &mut bytes, &mut io);
            }
            let mut io = Io { now, tun: &mut host.tun, out: &mut wire };
            host.engine.handle_tun(&TunRead::whole(&noise), &mut io);
        }
        prop_assert!(world.hosts[GATEWAY].tun.0.is_empty());
    }

    #[test]
    fn what_a_hostile_client_puts_into_the_tunnel_never_panics_the_gateway(
        inner in proptest::collection::vec(any::<u8>(), 1..1280),
        version in prop::sample::select(vec![0x45u8, 0x60, 0x46]),
        protocol in prop::sample::select(vec![1u8, 6, 17, 58, 255, 0, 44]),
    ) {
        let mut world = World::connected();
        let mut inner = inner;
        inner[0] = version;
        if inner.len() > 9 {
            let at = if version == 0x60 { 6 } else { 9 };
            inner[at] = protocol;
        }
        let now = world.now;
        let client = &mut world.hosts[CLIENT];
        let mut wire = Wire::new(client.address);
        let (links, counters) = client.engine.parts();
        let key = links.key_of("gateway").unwrap();
        links.send_packet(key, &inner, counters, now, &mut wire).unwrap();
        let gateway = &mut world.hosts[GATEWAY];
        let own = gateway.address;
        for mut datagram in wire.datagrams {
            let stride = datagram.payload.len();
            gateway.engine.handle_network(
                &arrival(datagram.from, own, 3, stride),
                &mut datagram.payload,
                &mut Io { now, tun: &mut gateway.tun, out: &mut Wire::new(own) },
            );
        }
    }
}

/// A connected world with resource "app", whose names get proxy addresses in 100.96.0.0/16.
fn named_world() -> World {
    let mut world = World::connected();
    world.grant("app", json!([]), json!([]), Value::Null);
    world.apply(
        CLIENT,
        json!({"command": "set_routes", "routes": [
            {"prefix": "10.0.0.0/24", "resource_id": "net", "table": "cidr"},
            {"prefix": "100.96.0.1/32", "resource_id": "app", "table": "dns"},
            {"prefix": "100.96.0.5/32", "resource_id": "app", "table": "dns"},
        ]}),
    );
    world.authorize("app", json!(["100.96.0.1/32", "100.96.0.5/32"]));
    world
}

/// The name's four proxy addresses begin with `first`; all stand for `real`.
fn translate(resource: &str, name: &str, first: &str, real: Option<&str>) -> Value {
    let first: std::net::Ipv4Addr = first.parse().unwrap();
    let pairs: Vec<Value> = (0..4)
        .map(|index| json!([std::net::Ipv4Addr::from_bits(first.to_bits() + index), real]))
        .collect();
    json!({"command": "translate", "peer_id": "client", "resource_id": resource, "name": name,
           "addresses": pairs})
}

fn upsert_json(id: &str) -> Value {
    let key = crate::command::Key([3; 32]).encode();
    let ice = json!({"username": "user", "password": "long-enough-password-xx"});
    json!({"command": "upsert_peer", "id": id, "public_key": key, "preshared_key": key,
           "local_ice": ice, "remote_ice": ice, "role": "controlling", "profile": "client",
           "ipv4": GATEWAY_V4, "ipv6": world::GATEWAY_V6})
}

fn closed_by(expected: ClosedBy) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::PeerClosed { by, .. } if *by == expected)
}

fn udp(to: &str, payload: &[u8]) -> Vec<u8> {
    build::udp(socket(&format!("{CLIENT_V4}:4000")), socket(to), payload).unwrap()
}

fn udp_reply(from: &str, payload: &[u8]) -> Vec<u8> {
    build::udp(socket(from), socket(&format!("{CLIENT_V4}:4000")), payload).unwrap()
}

fn ping(server: &str, reply: bool) -> Vec<u8> {
    let (client, server) = (ip(CLIENT_V4), ip(server));
    let (from, to) = if reply {
        (server, client)
    } else {
        (client, server)
    };
    build::icmp_echo(from, to, reply, 77, 1, b"ping").unwrap()
}

fn icmp_types(packets: &[Vec<u8>]) -> Vec<(u8, u8)> {
    packets
        .iter()
        .map(|bytes| {
            let packet = IpPacket::parse(&bytes[..]).unwrap();
            assert_eq!(packet.kind(), Kind::IcmpError);
            assert!(packet.checksums_valid());
            packet.icmp_type().unwrap()
        })
        .collect()
}

fn source_port(bytes: &[u8]) -> u16 {
    IpPacket::parse(bytes).unwrap().source_value().unwrap()
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn arrival(from: SocketAddr, local: SocketAddr, ecn: u8, stride: usize) -> Arrival {
    Arrival {
        from,
        local,
        ecn,
        stride,
    }
}
