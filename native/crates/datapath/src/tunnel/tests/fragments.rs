//! Packets that come in fragments: carried both ways, judged as a whole, and cut anew.

use super::*;

const BIG: usize = 4000;

fn big(to: &str) -> Vec<u8> {
    udp(to, &[7; BIG])
}

fn big_reply(from: &str) -> Vec<u8> {
    udp_reply(from, &[8; BIG])
}

/// Let a host's operating system send a packet in fragments, in this order.
fn send_cut(world: &mut World, host: usize, packet: &[u8], order: &[usize]) {
    let pieces = build::fragments(packet, 77);
    assert_eq!(pieces.len(), order.len());
    for at in order {
        world.send(host, &pieces[*at]);
    }
    world.run(SECOND);
}

/// What came out of the tunnel, put together as a kernel does; each piece fits the tunnel.
fn received_whole(world: &mut World, host: usize) -> Option<Vec<u8>> {
    let pieces = world.received(host);
    assert!(pieces.iter().all(|piece| piece.len() <= 1280));
    whole(&pieces)
}

fn whole(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    use crate::tunnel::links::PeerKey;
    use crate::tunnel::reassembly::{Owner, Reassembly};
    use crate::tunnel::seeded_hash::SeededState;
    let mut table = Reassembly::new(SeededState::new([3, 5]));
    let owner = Owner::Peer(PeerKey::numbered(1));
    let now = crate::tunnel::test_clock::an_instant();
    let mut taken = pieces.iter().map(|piece| table.take(owner, piece, now));
    taken.find_map(Result::ok).map(|whole| whole.packet)
}

fn payload(packet: &[u8]) -> Vec<u8> {
    let packet = IpPacket::parse(packet).unwrap();
    assert!(packet.checksums_valid());
    packet.payload().to_vec()
}

#[test]
fn a_large_datagram_passes_both_ways_whatever_the_order_of_its_fragments() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut world = World::connected();
        send_cut(&mut world, CLIENT, &big(SERVER), &order);
        let came = received_whole(&mut world, GATEWAY).unwrap();
        assert_eq!(payload(&came), [7; BIG]);
        send_cut(&mut world, GATEWAY, &big_reply(SERVER), &order);
        let came = received_whole(&mut world, CLIENT).unwrap();
        assert_eq!(payload(&came), [8; BIG]);
    }
}

#[test]
fn a_large_datagram_of_ipv6_passes_too() {
    let mut world = World::connected();
    world.apply(
        CLIENT,
        json!({"command": "set_routes", "routes": [
            {"prefix": "10.0.0.0/24", "resource_id": "net", "table": "cidr"},
            {"prefix": "2001:db8::/32", "resource_id": "six", "table": "cidr"},
        ]}),
    );
    world.grant("six", json!(["2001:db8::/32"]), json!([]), Value::Null);
    world.authorize("six", json!(["2001:db8::/32"]));
    let client = socket(&format!("[{CLIENT_V6}]:4000"));
    let server = socket("[2001:db8::1]:53");
    send_cut(
        &mut world,
        CLIENT,
        &build::udp(client, server, &[7; BIG]).unwrap(),
        &[0, 1, 2, 3],
    );
    let came = received_whole(&mut world, GATEWAY).unwrap();
    assert_eq!(payload(&came), [7; BIG]);
    send_cut(
        &mut world,
        GATEWAY,
        &build::udp(server, client, &[8; BIG]).unwrap(),
        &[0, 1, 2, 3],
    );
    assert_eq!(
        payload(&received_whole(&mut world, CLIENT).unwrap()),
        [8; BIG]
    );
}

#[test]
fn a_names_address_is_translated_in_every_fragment() {
    let mut world = named_world();
    world.apply(
        GATEWAY,
        translate("app", "one.example", "100.96.0.1", Some("10.3.0.1")),
    );
    world.apply(
        GATEWAY,
        translate("app", "two.example", "100.96.0.5", Some("10.3.0.1")),
    );
    for (to, port) in [("100.96.0.1:80", 4000), ("100.96.0.5:80", 4001)] {
        send_cut(&mut world, CLIENT, &big(to), &[0, 1, 2, 3]);
        let came = received_whole(&mut world, GATEWAY).unwrap();
        let packet = IpPacket::parse(&came[..]).unwrap();
        assert_eq!(packet.destination(), ip("10.3.0.1"));
        assert_eq!(packet.source_value(), Some(port));
        assert_eq!(payload(&came), [7; BIG]);
        let answer = build::udp(
            socket("10.3.0.1:80"),
            socket(&format!("{CLIENT_V4}:{port}")),
            &[8; BIG],
        );
        send_cut(&mut world, GATEWAY, &answer.unwrap(), &[0, 1, 2, 3]);
        let pieces = world.received(CLIENT);
        let proxy = socket(to).ip();
        let IpAddr::V4(proxy) = proxy else { panic!() };
        assert!(pieces.iter().all(|piece| piece[12..16] == proxy.octets()));
        let came = whole(&pieces).unwrap();
        assert_eq!(
            IpPacket::parse(&came[..]).unwrap().destination_value(),
            Some(4000)
        );
        assert_eq!(payload(&came), [8; BIG]);
    }
}

#[test]
fn fragments_wait_for_an_authorization_like_other_packets() {
    let mut world = World::new();
    world.route_net(json!([]));
    send_cut(&mut world, CLIENT, &big(SERVER), &[0, 1, 2, 3]);
    world.introduce();
    world.grant("net", json!(["10.0.0.0/24"]), json!([]), Value::Null);
    world.authorize("net", json!(["10.0.0.0/24"]));
    world.run(2 * SECOND);
    assert_eq!(
        payload(&received_whole(&mut world, GATEWAY).unwrap()),
        [7; BIG]
    );
}

#[test]
fn filters_see_the_ports_of_the_whole_packet() {
    let mut world = World::connected();
    let only_53 = json!([{"protocol": "udp", "first_port": 53, "last_port": 53}]);
    world.apply(
        GATEWAY,
        json!({"command": "update_filters", "resource_id": "net", "filters": only_53}),
    );
    send_cut(&mut world, CLIENT, &big(SERVER), &[0, 1, 2, 3]);
    assert!(world.received(GATEWAY).is_empty());
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 13)]);
    send_cut(&mut world, CLIENT, &big("10.0.0.1:53"), &[3, 1, 2, 0]);
    assert!(received_whole(&mut world, GATEWAY).is_some());
    // The client's own filters answer, too.
    world.route_net(only_53);
    send_cut(&mut world, CLIENT, &big(SERVER), &[0, 1, 2, 3]);
    assert_eq!(icmp_types(&world.received(CLIENT)), [(3, 13)]);
}

#[test]
fn a_flow_of_fragments_is_one_record() {
    let mut world = World::connected();
    world.apply(
        CLIENT,
        json!({"command": "record_flows", "is_on": true, "unix_at_zero_s": 0.0}),
    );
    world.apply(
        CLIENT,
        json!({"command": "authorize", "resource_id": "net", "peer_id": "gateway", "addresses": ["10.0.0.0/24"],
               "record_under": "first"}),
    );
    send_cut(&mut world, CLIENT, &big(SERVER), &[0, 1, 2, 3]);
    world.run(130 * SECOND);
    let ends: Vec<_> = world
        .events(CLIENT)
        .into_iter()
        .filter_map(|event| match event {
            Event::FlowsReported { reports, .. } => Some(reports),
            _ => None,
        })
        .flatten()
        .filter_map(|report| report.end)
        .collect();
    assert_eq!((ends.len(), ends[0].tx_bytes), (1, BIG as u64));
}

#[test]
fn a_hostile_client_gets_no_fragment_past_the_gateway() {
    let mut world = World::connected();
    let only_53 = json!([{"protocol": "udp", "first_port": 53, "last_port": 53}]);
    world.apply(
        GATEWAY,
        json!({"command": "update_filters", "resource_id": "net", "filters": only_53}),
    );
    let pieces = build::fragments(&big("10.0.0.1:53"), 9);
    let shown = &pieces[0];
    // A second first fragment with other ports, one that reaches into the first, one that says less.
    let other = build::fragments(&big("10.0.0.1:22"), 9);
    let mut shifted = pieces[1].clone();
    shifted[6..8].copy_from_slice(&0x2001_u16.to_be_bytes());
    let short = {
        let mut short = other[0][..28].to_vec();
        short[2..4].copy_from_slice(&28_u16.to_be_bytes());
        short
    };
    for hostile in [&shifted, &short] {
        world.smuggle(CLIENT, shown);
        world.smuggle(CLIENT, hostile);
        for piece in &pieces[1..] {
            world.smuggle(CLIENT, piece);
        }
        world.run(SECOND);
        assert!(world.received(GATEWAY).is_empty());
        world.run(10 * SECOND);
    }
    world.smuggle(CLIENT, &other[0]);
    for piece in &pieces[1..] {
        world.smuggle(CLIENT, piece);
    }
    world.run(SECOND);
    assert!(world.received(GATEWAY).is_empty());
    assert!(world.count(GATEWAY, "dropped_malformed") > 0);
    assert_eq!(world.count(GATEWAY, "dropped_fragmented"), 2);
}

#[test]
fn unfinished_packets_cost_neither_memory_nor_wake_ups_for_long() {
    let mut world = World::connected();
    let pieces = build::fragments(&big(SERVER), 9);
    for identification in 0..500_u16 {
        let mut piece = pieces[1].clone();
        piece[4..6].copy_from_slice(&identification.to_be_bytes());
        world.smuggle(CLIENT, &piece);
    }
    world.run(10 * SECOND);
    assert_eq!(world.count(GATEWAY, "dropped_fragmented"), 500);
    let packet = udp(SERVER, b"after");
    world.send(CLIENT, &packet);
    world.run(SECOND);
    assert_eq!(world.received(GATEWAY), [packet]);
}

#[test]
fn a_gateway_keeps_no_fragments_for_addresses_that_are_no_clients() {
    let mut world = World::connected();
    let unfinished = build::fragments(&big_reply(SERVER), 77);
    for number in 0..200 {
        let mut stray = unfinished[0].clone();
        stray[16..20].copy_from_slice(&[100, 64, 9, number]);
        world.send(GATEWAY, &stray);
    }
    assert_eq!(world.count(GATEWAY, "dropped_unroutable"), 200);
    for piece in &unfinished {
        world.send(GATEWAY, piece);
    }
    world.run(SECOND);
    assert_eq!(
        payload(&received_whole(&mut world, CLIENT).unwrap()),
        [8; BIG]
    );
    assert_eq!(world.count(GATEWAY, "dropped_fragmented"), 0);
}
