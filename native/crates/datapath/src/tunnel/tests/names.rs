//! Names come one by one, thousands of them under one wildcard, and make room for each other.

use super::*;
use crate::command::TranslatedFlow;
use crate::tunnel::nat_table::{Incoming, NatTable, Protocol, Side};
use crate::tunnel::seeded_hash::SeededState;
use crate::tunnel::steps;
use crate::tunnel::test_clock::an_instant;

#[test]
fn what_a_name_costs_does_not_depend_on_how_many_there_are() {
    let cost_of_last = |names: u32, kept: u32| {
        let mut world = wildcard_world();
        for number in 0..names - 1 {
            come_and_go(&mut world, number, kept);
        }
        steps::of(|| come_and_go(&mut world, names - 1, kept)).1
    };
    let (few, many) = (cost_of_last(10, 4), cost_of_last(10_000, 4_000));
    assert!(few > 0);
    assert_eq!(few, many);
}

#[test]
fn a_name_is_routed_from_when_it_is_added_until_it_is_removed() {
    let mut world = wildcard_world();
    let asks = |world: &mut World| {
        world.events(CLIENT);
        world.send(CLIENT, &udp("100.96.0.1:80", b"x"));
        world.saw(
            CLIENT,
            |event| matches!(event, Event::Intent { resource_id, .. } if resource_id == "narrow"),
        )
    };
    assert!(!asks(&mut world));
    let routes = json!([{"prefix": "100.96.0.1/32", "resource_id": "narrow", "table": "dns"}]);
    world.apply(CLIENT, json!({"command": "add_routes", "routes": routes}));
    assert!(asks(&mut world));
    world.run(3 * SECOND);
    world.apply(
        CLIENT,
        json!({"command": "remove_routes", "routes": routes}),
    );
    assert!(!asks(&mut world));
}

#[test]
fn a_route_added_again_takes_over_its_filters_and_counts_once() {
    let mut world = wildcard_world();
    let narrowed = json!([{"prefix": "100.96.0.1/32", "resource_id": "app", "table": "dns",
                           "filters": [{"protocol": "tcp", "first_port": 22, "last_port": 22}]}]);
    world.apply(CLIENT, add(1));
    world.apply(CLIENT, json!({"command": "add_routes", "routes": narrowed}));
    world.send(CLIENT, &udp("100.96.0.1:80", b"x"));
    assert_eq!(world.count(CLIENT, "dropped_prohibited"), 1);
    // Replayed, the programme leaves the engine as it was: one removal takes the route away, and the others stay.
    world.apply(CLIENT, remove(1));
    world.apply(CLIENT, remove(1));
    world.send(CLIENT, &udp("100.96.0.1:80", b"x"));
    assert_eq!(world.count(CLIENT, "dropped_unroutable"), 1);
    assert!(!world.saw(CLIENT, closed_by(ClosedBy::Local)));
}

#[test]
fn removed_routes_take_along_what_their_addresses_allowed() {
    let mut world = wildcard_world();
    let from_name = || {
        build::udp(
            socket("100.96.0.1:80"),
            socket(&format!("{CLIENT_V4}:4000")),
            b"x",
        )
        .unwrap()
    };
    world.apply(CLIENT, add(1));
    world.authorize("app", json!(["100.96.0.1"]));
    world.authorize("net", json!(["100.96.0.1"]));
    world.smuggle(GATEWAY, &from_name());
    world.run(SECOND);
    assert_eq!(world.received(CLIENT), [from_name()]);
    world.apply(CLIENT, remove(1));
    world.smuggle(GATEWAY, &from_name());
    world.run(SECOND);
    assert_eq!(
        world.received(CLIENT),
        [from_name()],
        "another resource allows it still"
    );
    world.apply(
        CLIENT,
        json!({"command": "deauthorize", "resource_id": "net"}),
    );
    world.smuggle(GATEWAY, &from_name());
    world.run(SECOND);
    assert!(world.received(CLIENT).is_empty());
    assert_eq!(world.count(CLIENT, "dropped_spoofed_source"), 1);
}

#[test]
fn the_last_removed_route_of_a_resource_ends_its_authorization() {
    let mut world = wildcard_world();
    world.apply(
        CLIENT,
        json!({"command": "deauthorize", "resource_id": "net"}),
    );
    for number in [1, 2] {
        world.apply(CLIENT, add(number));
    }
    let first = json!([{"prefix": "100.96.128.0/32", "resource_id": "app", "table": "dns"}]);
    world.apply(CLIENT, json!({"command": "remove_routes", "routes": first}));
    world.apply(CLIENT, remove(1));
    assert!(!world.saw(CLIENT, closed_by(ClosedBy::Local)));
    world.apply(CLIENT, remove(2));
    assert!(world.saw(CLIENT, closed_by(ClosedBy::Local)));
}

#[test]
fn names_are_for_a_client_only() {
    let mut world = World::connected();
    for command in ["add_routes", "remove_routes"] {
        let refused = world.try_apply(GATEWAY, json!({"command": command, "routes": []}));
        assert_eq!(
            refused.unwrap_err().to_string(),
            format!("{command} is for a client only")
        );
    }
}

/// Connected, with resource "app" authorised and one address that leads to it.
fn wildcard_world() -> World {
    let mut world = World::connected();
    world.apply(
        CLIENT,
        json!({"command": "set_routes", "routes": [
            {"prefix": "10.0.0.0/24", "resource_id": "net", "table": "cidr"},
            {"prefix": "100.96.128.0/32", "resource_id": "app", "table": "dns"},
        ]}),
    );
    world.authorize("app", json!([]));
    world
}

/// What a client's Python tells the engine of its `number`th name, when it keeps so many; the gateway confirms a name
/// after some others have come.
fn come_and_go(world: &mut World, number: u32, kept: u32) {
    world.apply(CLIENT, add(number));
    world.apply(CLIENT, hold("hold_name", number));
    world.authorize("app", json!([proxy(number)]));
    if let Some(confirmed) = number.checked_sub(kept / 2) {
        world.apply(CLIENT, hold("release_name", confirmed));
    }
    if let Some(former) = number.checked_sub(kept) {
        world.apply(CLIENT, remove(former));
    }
}

fn add(number: u32) -> Value {
    json!({"command": "add_routes", "routes": [route(number)]})
}

fn remove(number: u32) -> Value {
    json!({"command": "remove_routes", "routes": [route(number)]})
}

fn hold(command: &str, number: u32) -> Value {
    json!({"command": command, "peer_id": "gateway", "resource_id": "app", "proxy_ips": [proxy(number)],
           "flush": true})
}

fn route(number: u32) -> Value {
    json!({"prefix": proxy(number), "resource_id": "app", "table": "dns"})
}

fn proxy(number: u32) -> String {
    std::net::Ipv4Addr::from_bits(0x6460_0000 + number).to_string()
}

/// What a gateway translates of a client that speaks to a name at 10.1.0.1.
fn flows_of_a_gateway() -> Vec<TranslatedFlow> {
    let mut world = named_world();
    world.apply(
        GATEWAY,
        translate("app", "x.app.example", "100.96.0.1", Some("10.1.0.1")),
    );
    world.send(CLIENT, &udp("100.96.0.1:80", b"x"));
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY).len(), 1);
    world.send(GATEWAY, &udp_reply("10.1.0.1:80", b"y"));
    let flows = world.hosts[GATEWAY].engine.translated_flows(world.now);
    assert_eq!(flows.len(), 1);
    assert!(flows[0].is_answered);
    flows
}

#[test]
fn a_server_that_goes_on_speaking_is_translated_by_the_next_process_once_the_name_is() {
    let flows = flows_of_a_gateway();
    for (what, flows, real, waited, passes) in [
        ("as it was", flows.clone(), "10.1.0.1", 0, true),
        (
            "the name leads elsewhere by now",
            flows.clone(),
            "10.1.0.2",
            0,
            false,
        ),
        ("too late", flows.clone(), "10.1.0.1", 60, false),
        ("nothing inherited", vec![], "10.1.0.1", 0, false),
        (
            "another client's",
            vec![TranslatedFlow {
                peer_id: "other".into(),
                ..flows[0].clone()
            }],
            "10.1.0.1",
            0,
            false,
        ),
    ] {
        let mut world = named_world();
        world.apply(GATEWAY, json!({"command": "inherit_flows", "flows": flows}));
        world.send(GATEWAY, &udp_reply("10.1.0.1:80", b"too early"));
        world.run(Duration::from_secs(waited));
        world.apply(
            GATEWAY,
            translate("app", "x.app.example", "100.96.0.1", Some(real)),
        );
        world.send(GATEWAY, &udp_reply("10.1.0.1:80", b"more"));
        world.run(SECOND);
        let expected = passes.then(|| udp_reply("100.96.0.1:80", b"more"));
        assert_eq!(world.received(CLIENT), Vec::from_iter(expected), "{what}");
    }
}

#[test]
fn an_inherited_flow_takes_nothing_from_one_that_has_begun_meanwhile() {
    let mut nat = NatTable::new(SeededState::new([1, 2]));
    let now = an_instant();
    let side = |address: &str, value| Side {
        protocol: Protocol::Udp,
        value,
        address: ip(address),
    };
    let [first, second] = ["100.96.0.1", "100.96.0.2"].map(|proxy| side(proxy, 4000));
    let outside = nat.outgoing(first, ip("10.1.0.1"), None, now).unwrap();
    nat.revive(second, outside, true, now);
    nat.revive(first, side("10.1.0.1", 4001), true, now);
    assert_eq!(nat.live_flows(now), [(first, outside, false)]);
    nat.revive(second, side("10.1.0.1", 4001), true, now);
    assert_eq!(
        nat.incoming(side("10.1.0.1", 4001), None, now),
        Incoming::Translated(second)
    );
    let next = nat.outgoing(side("100.96.0.3", 4000), ip("10.1.0.1"), None, now);
    assert_eq!(next, Ok(side("10.1.0.1", 4002)), "both values are taken");
}
