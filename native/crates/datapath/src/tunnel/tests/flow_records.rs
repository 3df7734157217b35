//! Flow records, each row of the table in data-plane §5.8, and what a peer may do to them.

use super::*;
use crate::event::{FlowEnd, FlowProtocol, FlowReport, FlowRole};

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;
const RST: u8 = 0x04;
const UNIX_US: u64 = 1_800_000_000_000_000;

/// As [`World::connected`], and both ends record "net" under an authorization.
fn recording() -> World {
    let mut world = World::connected();
    for host in [CLIENT, GATEWAY] {
        record(&mut world, host, true);
    }
    grant(&mut world, "net", "10.0.0.0/24", "first");
    authorize(&mut world, "net", "10.0.0.0/24", "first");
    world
}

fn record(world: &mut World, host: usize, is_on: bool) {
    let command =
        json!({"command": "record_flows", "is_on": is_on, "unix_at_zero_s": 1_800_000_000.0});
    world.apply(host, command);
}

fn grant(world: &mut World, resource: &str, network: &str, record_under: &str) {
    let networks = if network.is_empty() {
        json!([])
    } else {
        json!([network])
    };
    let kind = if network.is_empty() { "dns" } else { "cidr" };
    world.apply(
        GATEWAY,
        json!({"command": "grant", "peer_id": "client", "resource_id": resource, "kind": kind, "networks": networks,
               "filters": [], "expires_deadline_s": null, "rank": 0, "record_under": record_under}),
    );
}

fn authorize(world: &mut World, resource: &str, network: &str, record_under: &str) {
    world.apply(
        CLIENT,
        json!({"command": "authorize", "resource_id": resource, "peer_id": "gateway", "addresses": [network],
               "device_address": null, "record_under": record_under}),
    );
}

fn tcp(up: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (client, server) = (socket(&format!("{CLIENT_V4}:4000")), socket(SERVER));
    let (from, to) = if up {
        (client, server)
    } else {
        (server, client)
    };
    build::tcp(from, to, 1, 1, flags, payload).unwrap()
}

/// One packet through the tunnel, upwards from the client.
fn pass(world: &mut World, up: bool, packet: &[u8]) {
    world.send(if up { CLIENT } else { GATEWAY }, packet);
    world.run(Duration::from_millis(100));
}

fn tcp_passes(world: &mut World, up: bool, flags: u8, payload: &[u8]) {
    pass(world, up, &tcp(up, flags, payload));
}

/// What a host has reported since last asked, once all that waits has come out.
fn reports(world: &mut World, host: usize) -> Vec<FlowReport> {
    world.run(2 * SECOND);
    let events = world.events(host).into_iter();
    events
        .filter_map(|event| match event {
            Event::FlowsReported { reports, .. } => Some(reports),
            _ => None,
        })
        .flatten()
        .collect()
}

fn ends(reports: &[FlowReport]) -> Vec<FlowEnd> {
    reports.iter().filter_map(|report| report.end).collect()
}

fn counts(end: &FlowEnd) -> [u64; 4] {
    [end.tx_packets, end.rx_packets, end.tx_bytes, end.rx_bytes]
}

fn now_us(world: &World) -> u64 {
    UNIX_US + (world.now - world.epoch).as_micros() as u64
}

#[test]
fn both_ends_report_the_same_flow_from_its_start_to_its_end() {
    let mut world = recording();
    let began_us = now_us(&world);
    tcp_passes(&mut world, true, SYN, b"");
    tcp_passes(&mut world, false, SYN_ACK, b"");
    tcp_passes(&mut world, true, ACK, b"request");
    tcp_passes(&mut world, false, ACK, b"the answer");
    tcp_passes(&mut world, true, FIN, b"");
    let last_us = now_us(&world);
    tcp_passes(&mut world, false, FIN, b"");
    world.run(6 * SECOND);
    let hosts = world
        .hosts
        .iter()
        .map(|host| host.address)
        .collect::<Vec<_>>();
    for (host, role, delay_us) in [
        (CLIENT, FlowRole::Initiator, 0),
        (GATEWAY, FlowRole::Responder, 10_000),
    ] {
        let reports = reports(&mut world, host);
        let [start, end] = &reports[..] else {
            panic!("{reports:?}");
        };
        assert_eq!(start.end, None);
        assert_eq!(start.context.authorization_id.as_ref(), "first");
        assert_eq!(
            (start.context.role, start.protocol),
            (role, FlowProtocol::Tcp)
        );
        assert_eq!(start.initiator, (ip(CLIENT_V4), 4000));
        assert_eq!(start.responder, (ip("10.0.0.1"), 80));
        assert_eq!(start.started_at_us, began_us + delay_us);
        assert_eq!(start.context.paths.len(), 1);
        let path = start.context.paths[0];
        assert_eq!(
            (path.source, path.destination),
            (Some(hosts[CLIENT]), hosts[GATEWAY])
        );
        assert!(path.activated_at_us < began_us);
        assert_eq!(
            FlowReport {
                end: None,
                ..end.clone()
            },
            *start
        );
        let ended = end.end.unwrap();
        assert_eq!(
            counts(&ended),
            [3, 3, 7, 10],
            "tx and rx mean the same on both sides"
        );
        // The last packet goes downwards: the gateway sends it first.
        assert_eq!(ended.ended_at_us, last_us + 10_000 - delay_us);
        assert_eq!(ended.last_packet_at_us, ended.ended_at_us);
    }
}

#[test]
fn a_flow_begins_with_what_the_initiator_sends_to_say_something() {
    for (what, packets, is_begun) in [
        ("SYN", vec![(true, SYN, "")], true),
        ("data", vec![(true, ACK, "data")], true),
        ("bare ACK", vec![(true, ACK, "")], false),
        ("FIN", vec![(true, FIN, "data")], false),
        ("RST", vec![(true, RST, "")], false),
        ("the responder's", vec![(false, ACK, "data")], false),
        (
            "an answer to SYN",
            vec![(false, SYN, ""), (true, SYN_ACK, "")],
            true,
        ),
    ] {
        let mut world = recording();
        for (up, flags, payload) in packets {
            tcp_passes(&mut world, up, flags, payload.as_bytes());
        }
        for host in [CLIENT, GATEWAY] {
            assert_eq!(
                reports(&mut world, host).len(),
                usize::from(is_begun),
                "{what}"
            );
        }
    }
}

#[test]
fn without_an_authorization_to_record_under_nothing_is_recorded() {
    let mut world = World::connected();
    for host in [CLIENT, GATEWAY] {
        record(&mut world, host, true);
    }
    pass(&mut world, true, &udp(SERVER, b"x"));
    assert_eq!(world.received(GATEWAY).len(), 1);
    assert!(reports(&mut world, CLIENT).is_empty());
    assert!(reports(&mut world, GATEWAY).is_empty());
}

#[test]
fn recording_can_be_ended_and_begun() {
    let mut world = recording();
    pass(&mut world, true, &udp(SERVER, b"x"));
    record(&mut world, GATEWAY, false);
    pass(&mut world, true, &udp(SERVER, b"y"));
    assert_eq!(ends(&reports(&mut world, GATEWAY)).len(), 1);
    assert_eq!(world.count(GATEWAY, "flows_open"), 0);
    record(&mut world, GATEWAY, true);
    pass(&mut world, true, &udp(SERVER, b"z"));
    assert_eq!(reports(&mut world, GATEWAY).len(), 1);
}

#[test]
fn a_packet_that_waits_is_recorded_once_it_is_sent() {
    let mut world = World::new();
    record(&mut world, CLIENT, true);
    world.route_net(json!([]));
    world.send(CLIENT, &udp(SERVER, b"first"));
    assert!(reports(&mut world, CLIENT).is_empty());
    world.introduce();
    grant(&mut world, "net", "10.0.0.0/24", "first");
    authorize(&mut world, "net", "10.0.0.0/24", "first");
    assert_eq!(reports(&mut world, CLIENT).len(), 1);
    world.run(130 * SECOND);
    assert_eq!(counts(&ends(&reports(&mut world, CLIENT))[0]), [1, 0, 5, 0]);
}

#[test]
fn a_refused_packet_is_not_recorded() {
    let mut world = recording();
    world.apply(
        GATEWAY,
        json!({"command": "update_filters", "resource_id": "net",
               "filters": [{"protocol": "udp", "first_port": 53, "last_port": 53}]}),
    );
    pass(&mut world, true, &udp(SERVER, b"no"));
    assert!(reports(&mut world, GATEWAY).is_empty());
}

#[test]
fn silence_for_more_than_two_minutes_ends_a_flow() {
    let mut world = recording();
    pass(&mut world, true, &udp(SERVER, b"x"));
    let last_us = now_us(&world);
    for _ in 0..3 {
        world.run(119 * SECOND);
        pass(&mut world, false, &udp_reply(SERVER, b"y"));
    }
    assert!(ends(&reports(&mut world, GATEWAY)).is_empty());
    world.run(121 * SECOND);
    let end = ends(&reports(&mut world, GATEWAY))[0];
    assert_eq!(counts(&end), [1, 3, 1, 3]);
    assert!(end.last_packet_at_us > last_us + 350_000_000);
    assert_eq!(end.ended_at_us, end.last_packet_at_us + 120_000_000);
    assert_eq!(world.count(GATEWAY, "flows_open"), 0);
}

#[test]
fn a_reset_of_either_side_ends_a_flow() {
    for up in [true, false] {
        let mut world = recording();
        tcp_passes(&mut world, true, SYN, b"");
        tcp_passes(&mut world, up, RST, b"");
        world.run(6 * SECOND);
        for host in [CLIENT, GATEWAY] {
            let end = ends(&reports(&mut world, host))[0];
            assert_eq!(end.ended_at_us, end.last_packet_at_us);
        }
    }
}

#[test]
fn the_last_packets_of_a_closed_flow_belong_to_it() {
    let mut world = recording();
    tcp_passes(&mut world, true, SYN, b"");
    tcp_passes(&mut world, true, FIN, b"");
    tcp_passes(&mut world, false, FIN, b"");
    tcp_passes(&mut world, true, ACK, b"");
    tcp_passes(&mut world, true, ACK, b"late");
    world.run(6 * SECOND);
    let reports = reports(&mut world, GATEWAY);
    assert_eq!(reports.len(), 2);
    assert_eq!(counts(&ends(&reports)[0]), [4, 1, 4, 0]);
}

#[test]
fn one_fin_leaves_a_flow_open() {
    let mut world = recording();
    tcp_passes(&mut world, true, SYN, b"");
    tcp_passes(&mut world, true, FIN, b"");
    world.run(60 * SECOND);
    assert!(ends(&reports(&mut world, GATEWAY)).is_empty());
}

#[test]
fn a_new_syn_splits_a_flow_but_a_repeated_one_does_not() {
    let mut world = recording();
    tcp_passes(&mut world, true, SYN, b"");
    tcp_passes(&mut world, true, SYN, b"");
    assert_eq!(reports(&mut world, GATEWAY).len(), 1);
    tcp_passes(&mut world, true, ACK, b"");
    tcp_passes(&mut world, true, SYN, b"");
    let split = reports(&mut world, GATEWAY);
    assert_eq!(split.len(), 2);
    assert_eq!(counts(&ends(&split)[0]), [3, 0, 0, 0]);
    assert_eq!(world.count(GATEWAY, "flows_open"), 1);
}

#[test]
fn ports_that_are_used_again_after_a_close_begin_another_flow() {
    let mut world = recording();
    tcp_passes(&mut world, true, SYN, b"");
    tcp_passes(&mut world, false, RST, b"");
    tcp_passes(&mut world, true, SYN, b"");
    let reports = reports(&mut world, CLIENT);
    let [first, second] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert!(
        first.end.is_some(),
        "what ends at once is told with its end"
    );
    assert!(second.end.is_none());
    assert!(second.started_at_us > first.started_at_us);
}

#[test]
fn icmp_and_what_is_for_the_gateway_itself_are_not_recorded() {
    let mut world = recording();
    pass(&mut world, true, &ping("10.0.0.1", false));
    let dns = udp(&format!("{GATEWAY_V4}:53535"), b"query");
    pass(&mut world, true, &dns);
    assert_eq!(world.received(GATEWAY).len(), 2);
    assert!(reports(&mut world, CLIENT).is_empty());
    assert!(reports(&mut world, GATEWAY).is_empty());
}

#[test]
fn a_gateway_records_a_name_by_its_real_address_and_the_client_by_the_one_it_knows() {
    let mut world = named_world();
    for host in [CLIENT, GATEWAY] {
        record(&mut world, host, true);
    }
    grant(&mut world, "app", "", "named");
    authorize(&mut world, "app", "100.96.0.1/32", "named");
    world.apply(
        GATEWAY,
        translate("app", "one.example", "100.96.0.1", Some("10.3.0.1")),
    );
    world.apply(
        GATEWAY,
        translate("app", "two.example", "100.96.0.5", Some("10.3.0.1")),
    );
    for to in ["100.96.0.1:80", "100.96.0.5:80"] {
        pass(&mut world, true, &udp(to, b"x"));
    }
    pass(
        &mut world,
        false,
        &build::udp(
            socket("10.3.0.1:80"),
            socket(&format!("{CLIENT_V4}:4001")),
            b"yy",
        )
        .unwrap(),
    );
    world.run(130 * SECOND);
    let ours = reports(&mut world, GATEWAY);
    let of = |port| {
        ours.iter()
            .filter(move |report| report.initiator.1 == port)
            .collect::<Vec<_>>()
    };
    for (port, domain, rx) in [(4000, "one.example", 0), (4001, "two.example", 1)] {
        let found = of(port);
        assert_eq!(found.len(), 2, "{ours:?}");
        assert_eq!(found[0].context.domain.as_deref(), Some(domain));
        assert_eq!(found[0].responder, (ip("10.3.0.1"), 80));
        assert_eq!(found[1].end.unwrap().rx_packets, rx);
    }
    let theirs = reports(&mut world, CLIENT);
    assert_eq!(theirs[0].responder, (ip("100.96.0.1"), 80));
    assert_eq!(theirs[0].context.domain, None);
}

#[test]
fn a_flow_stays_under_its_authorization_and_the_next_one_comes_under_the_newest() {
    let mut world = recording();
    pass(&mut world, true, &udp(SERVER, b"x"));
    grant(&mut world, "net", "10.0.0.0/24", "second");
    authorize(&mut world, "net", "10.0.0.0/24", "second");
    pass(&mut world, true, &udp(SERVER, b"x"));
    pass(&mut world, true, &udp("10.0.0.1:81", b"x"));
    for host in [CLIENT, GATEWAY] {
        let reports = reports(&mut world, host);
        let under: Vec<&str> = reports
            .iter()
            .map(|report| &*report.context.authorization_id)
            .collect();
        assert_eq!(under, ["first", "second"]);
    }
}

#[test]
fn a_flow_that_comes_to_another_resource_is_split() {
    let mut world = recording();
    pass(&mut world, true, &udp(SERVER, b"x"));
    grant(&mut world, "narrow", "10.0.0.1/32", "other");
    pass(&mut world, true, &udp(SERVER, b"yy"));
    let reports = reports(&mut world, GATEWAY);
    let under: Vec<(&str, bool)> = reports
        .iter()
        .map(|report| (&*report.context.authorization_id, report.end.is_some()))
        .collect();
    assert_eq!(under, [("first", true), ("other", false)]);
    assert_eq!(counts(&ends(&reports)[0]), [1, 0, 1, 0]);
}

#[test]
fn the_end_of_a_peer_ends_its_flows() {
    let mut world = recording();
    pass(&mut world, true, &udp(SERVER, b"x"));
    let revoke = json!({"command": "revoke", "peer_id": "client", "resource_id": "net"});
    world.apply(GATEWAY, revoke);
    for host in [GATEWAY, CLIENT] {
        assert_eq!(ends(&reports(&mut world, host)).len(), 1);
    }
}

#[test]
fn a_shutdown_reports_the_end_of_everything_at_once() {
    let mut world = recording();
    for port in 1..=600 {
        world.send(CLIENT, &udp(&format!("10.0.0.1:{port}"), b"x"));
    }
    world.events(CLIENT);
    world.apply(CLIENT, json!({"command": "shutdown"}));
    let ended = world
        .events(CLIENT)
        .into_iter()
        .filter_map(|event| match event {
            Event::FlowsReported { reports, .. } => Some(ends(&reports).len()),
            _ => None,
        });
    assert_eq!(ended.sum::<usize>(), 600);
}

#[test]
fn reports_come_in_batches_and_after_two_seconds_at_the_latest() {
    let mut world = recording();
    let batches = |world: &mut World| -> Vec<usize> {
        let events = world.events(CLIENT).into_iter();
        events
            .filter_map(|event| match event {
                Event::FlowsReported { reports, .. } => Some(reports.len()),
                _ => None,
            })
            .collect()
    };
    for port in 1..=300 {
        world.send(CLIENT, &udp(&format!("10.0.0.1:{port}"), b"x"));
    }
    assert!(batches(&mut world).is_empty());
    world.run(2 * SECOND);
    assert_eq!(batches(&mut world), [256, 44]);
}

#[test]
fn a_super_packet_counts_as_its_segments() {
    let mut world = recording();
    let mut packet = tcp(true, ACK, &[7; 3000]);
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: VnetHeader::GSO_TCP_V4,
        header_len: 40,
        gso_size: 1200,
        checksum_start: 20,
        checksum_offset: 16,
    };
    let mut read = header.encode().to_vec();
    read.append(&mut packet);
    world.send_read(CLIENT, &TunRead::parse(&read).unwrap());
    world.run(130 * SECOND);
    for host in [CLIENT, GATEWAY] {
        assert_eq!(
            counts(&ends(&reports(&mut world, host))[0]),
            [3, 0, 3000, 0]
        );
    }
}

#[test]
fn packets_of_one_receive_are_counted_each_under_its_flow() {
    let mut world = recording();
    let other = udp("10.0.0.1:81", &[2; 50]);
    let data = |flags| tcp(true, flags, &[1; 38]);
    let sent = [
        data(ACK),
        data(ACK),
        other.clone(),
        other.clone(),
        data(ACK),
        data(ACK),
        data(FIN),
        other.clone(),
        other,
    ];
    for packet in &sent {
        world.send(CLIENT, packet);
    }
    let datagrams = world.intercept();
    // As the kernel joins them: all of one size in one buffer.
    let stride = datagrams[0].payload.len();
    assert!(
        datagrams
            .iter()
            .all(|datagram| datagram.payload.len() == stride)
    );
    let mut joined: Vec<u8> = datagrams
        .iter()
        .flat_map(|datagram| datagram.payload.clone())
        .collect();
    let (from, to) = (datagrams[0].from, datagrams[0].to);
    let gateway = &mut world.hosts[GATEWAY];
    gateway.engine.handle_network(
        &arrival(from, to, 0, stride),
        &mut joined,
        &mut Io {
            now: world.now,
            tun: &mut gateway.tun,
            out: &mut Wire::new(to),
        },
    );
    assert_eq!(world.received(GATEWAY).len(), sent.len());
    world.run(130 * SECOND);
    let reports = reports(&mut world, GATEWAY);
    let of = |protocol| {
        let ended = reports.iter().filter(|report| report.protocol == protocol);
        counts(&ended.filter_map(|report| report.end).next().unwrap())
    };
    assert_eq!(of(FlowProtocol::Tcp), [5, 0, 190, 0]);
    assert_eq!(of(FlowProtocol::Udp), [4, 0, 200, 0]);
}

#[test]
fn a_path_over_a_relay_has_no_source_where_the_initiator_uses_its_own() {
    let mut world = World::new();
    world.direct = false;
    world.route_net(json!([]));
    world.introduce();
    for host in [CLIENT, GATEWAY] {
        record(&mut world, host, true);
    }
    grant(&mut world, "net", "10.0.0.0/24", "first");
    authorize(&mut world, "net", "10.0.0.0/24", "first");
    world.run(5 * SECOND);
    let kinds: Vec<PathKind> = [CLIENT, GATEWAY]
        .map(|host| {
            let mut events = world.hosts[host].events.iter().rev();
            let latest = events.find_map(|event| match event {
                Event::PathSelected { kind, .. } => Some(*kind),
                _ => None,
            });
            latest.unwrap()
        })
        .to_vec();
    pass(&mut world, true, &udp(SERVER, b"x"));
    let client_relays = matches!(kinds[0], PathKind::LocalRelay | PathKind::BothRelays);
    for host in [CLIENT, GATEWAY] {
        let path = reports(&mut world, host)[0].context.paths[0];
        assert_eq!(path.source.is_none(), client_relays, "{path:?} {kinds:?}");
        // Whoever uses its relay is reached at the relay's address.
        let relay = ip("5.5.5.5");
        let gateway_relays = matches!(kinds[1], PathKind::LocalRelay | PathKind::BothRelays);
        assert_eq!(
            path.destination.ip() == relay,
            gateway_relays,
            "{path:?} {kinds:?}"
        );
    }
}

/// What both ends report of two flows, of which the first packets came right before a host did something: with the events taken
/// in between, or not.
fn reported_around(
    host: usize,
    takes_events: bool,
    then: impl FnOnce(&mut World, usize),
) -> [Vec<FlowReport>; 2] {
    let mut world = recording();
    let udp = |port| {
        let from = socket(&format!("{CLIENT_V4}:{port}"));
        build::udp(from, socket(SERVER), b"seen").unwrap()
    };
    let packets = [udp(5000), udp(5000), udp(5001)];
    let mut datagrams = Vec::new();
    for packet in &packets {
        if host == CLIENT && !takes_events {
            world.drive_deaf(CLIENT, |engine, io| {
                engine.handle_tun(&TunRead::whole(packet), io);
            });
        } else {
            world.send(CLIENT, packet);
            datagrams.extend(world.intercept());
        }
    }
    for mut datagram in datagrams {
        let arrival = arrival(datagram.from, datagram.to, 0, datagram.payload.len());
        let call = |engine: &mut TunnelEngine, io: &mut Io<'_, Packets, Wire>| {
            engine.handle_network(&arrival, &mut datagram.payload, io);
        };
        if host == GATEWAY && !takes_events {
            world.drive_deaf(GATEWAY, call);
        } else {
            world.drive(GATEWAY, call);
        }
    }
    then(&mut world, host);
    world.run(125 * SECOND);
    [CLIENT, GATEWAY].map(|host| reports(&mut world, host))
}

#[test]
fn what_passed_before_a_change_is_recorded_as_it_was_then() {
    let revoke = json!({"command": "revoke", "peer_id": "client", "resource_id": "net"});
    let filters = json!([{"protocol": "tcp", "first_port": 1, "last_port": 9}]);
    let filter = json!({"command": "update_filters", "resource_id": "net", "filters": filters});
    let off = json!({"command": "record_flows", "is_on": false, "unix_at_zero_s": 1_800_000_000.0});
    let remove = |peer: &str| json!({"command": "remove_peer", "id": peer, "goodbye": false});
    let unroute = json!({"command": "set_routes", "routes": []});
    let cases = [
        (GATEWAY, revoke),
        (GATEWAY, filter),
        (GATEWAY, off.clone()),
        (GATEWAY, remove("client")),
        (CLIENT, off),
        (CLIENT, unroute),
        (CLIENT, remove("gateway")),
    ];
    for (host, command) in cases {
        let around = |takes_events| {
            reported_around(host, takes_events, |world, host| {
                world.apply(host, command.clone());
            })
        };
        let expected = around(true);
        assert_eq!(ends(&expected[host]).len(), 2, "{command}");
        assert_eq!(around(false)[host], expected[host], "{command}");
    }
}

#[test]
fn what_passed_before_a_goodbye_or_a_question_is_counted() {
    let goodbye = |world: &mut World, _| {
        let goodbye = ControlPacket {
            event: wardgate_packet::ControlEvent::Goodbye,
            body: b"",
        };
        world.smuggle(CLIENT, &goodbye.encode().unwrap());
        for mut datagram in world.intercept() {
            let arrival = arrival(datagram.from, datagram.to, 0, datagram.payload.len());
            world.drive_deaf(GATEWAY, |engine, io| {
                engine.handle_network(&arrival, &mut datagram.payload, io);
            });
        }
    };
    let expected = reported_around(GATEWAY, true, goodbye);
    assert_eq!(ends(&expected[GATEWAY]).len(), 2);
    assert_eq!(
        reported_around(GATEWAY, false, goodbye)[GATEWAY],
        expected[GATEWAY]
    );
    reported_around(GATEWAY, false, |world, host| {
        assert_eq!(world.count(host, "flows_open"), 2);
    });
    reported_around(GATEWAY, false, |world, host| {
        let waits = |world: &World| match &world.hosts[host].engine {
            TunnelEngine::Gateway(engine) => !engine.flows.seen.is_empty(),
            TunnelEngine::Client(_) => unreachable!(),
        };
        assert!(waits(world));
        world.drive_deaf(host, |engine, io| engine.handle_timeout(io));
        assert!(!waits(world));
    });
}

mod bounds {
    //! The table alone, where paths and bounds would take long in a whole world.

    use std::sync::{Arc, LazyLock};
    use std::time::Instant;

    use wardgate_connect::Path;

    use super::*;
    use crate::tunnel::flow_records::{Basis, FlowRecords};
    use crate::tunnel::links::PeerKey;
    use crate::tunnel::seeded_hash::SeededState;
    use crate::tunnel::sightings::{Right, Sighting, Sightings};
    use crate::tunnel::steps;
    use crate::tunnel::test_clock::an_instant;

    const PEER_FLOWS: usize = 65_536;

    fn table() -> FlowRecords {
        table_of(an_instant())
    }

    fn table_of(epoch: Instant) -> FlowRecords {
        let mut records = FlowRecords::new(SeededState::new([3, 5]), epoch, Duration::ZERO);
        records.set(true, Duration::ZERO, epoch);
        records
    }

    fn note(records: &mut FlowRecords, seen: Sighting) {
        records.seen.push(seen);
        records.count_seen(basis);
    }

    fn basis(_: &Sighting) -> Option<Basis<'static>> {
        static UNDER: LazyLock<[Arc<str>; 2]> = LazyLock::new(|| ["net".into(), "first".into()]);
        let [resource, authorization] = &*UNDER;
        Some(Basis {
            resource,
            authorization,
            role: FlowRole::Responder,
            domain: None,
        })
    }

    fn seen(peer: u32, number: usize, up: bool, at: Instant) -> Sighting {
        let far = std::net::Ipv4Addr::from_bits(0x0a00_0000 + (number >> 16) as u32);
        let far = SocketAddr::from((far, number as u16));
        let near = socket("100.64.0.1:4000");
        let (from, to) = if up { (near, far) } else { (far, near) };
        let packet = IpPacket::parse(build::udp(from, to, b"x").unwrap()).unwrap();
        let right = if up {
            Right::Received(far.ip())
        } else {
            Right::None
        };
        Sighting::of(PeerKey::numbered(peer), &packet, up, right, 1, at).unwrap()
    }

    fn path(port: u16) -> Path<u32> {
        let remote = SocketAddr::from(([192, 0, 2, 1], port));
        Path {
            kind: wardgate_connect::PathKind::Direct,
            local: Some(socket("192.0.2.9:1")),
            send_to: remote,
            remote,
            channel: None,
            relayed: None,
            relay: None,
        }
    }

    fn drained(records: &mut FlowRecords, now: Instant) -> Vec<FlowReport> {
        let then = now + 2 * SECOND;
        while records.poll_timeout().is_some_and(|at| at <= then) {
            records.handle_timeout(then);
        }
        let batches = std::iter::from_fn(|| records.reports.pop());
        batches
            .flat_map(|event| match event {
                Event::FlowsReported { reports, .. } => reports,
                _ => unreachable!(),
            })
            .collect()
    }

    #[test]
    fn the_seventeenth_path_splits_a_flow() {
        let (mut records, now) = (table(), an_instant());
        let peer = PeerKey::numbered(1);
        for port in 1..=16 {
            records.path_selected(peer, path(port), now);
            note(&mut records, seen(1, 1, port % 2 == 1, now));
        }
        records.path_selected(peer, path(16), now);
        note(&mut records, seen(1, 1, true, now));
        assert_eq!(drained(&mut records, now).len(), 1);
        records.path_selected(peer, path(17), now);
        note(&mut records, seen(1, 1, false, now));
        let split = drained(&mut records, now);
        assert_eq!(split.len(), 2);
        assert_eq!(split[0].context.paths.len(), 16);
        assert_eq!(counts(&split[0].end.unwrap()), [9, 8, 9, 8]);
        let ports: Vec<u16> = split[0]
            .context
            .paths
            .iter()
            .map(|path| path.source.unwrap().port())
            .collect();
        assert_eq!(ports, (1..=16).collect::<Vec<u16>>());
        assert_eq!(split[1].context.paths.len(), 1);
    }

    #[test]
    fn what_nobody_asks_about_is_counted_within_a_second() {
        let epoch = an_instant();
        let mut records = table_of(epoch);
        assert_eq!(records.poll_timeout(), None);
        let at = epoch + SECOND / 2;
        records.seen.push(seen(1, 1, true, at));
        records.seen.push(seen(1, 2, true, at + SECOND / 4));
        assert_eq!(records.poll_timeout(), Some(at + SECOND));
        records.count_seen(basis);
        assert_eq!(records.poll_timeout(), Some(epoch + 2 * SECOND));
    }

    #[test]
    fn flows_that_begin_alike_share_what_they_report() {
        let (mut records, now) = (table(), an_instant());
        let under: Vec<Arc<str>> = (0..9)
            .map(|number| format!("{number}").as_str().into())
            .collect();
        let begin = |records: &mut FlowRecords, flow: usize, resource: usize| {
            records.seen.push(seen(1, flow, true, now));
            records.count_seen(|_| {
                Some(Basis {
                    resource: &under[resource],
                    authorization: &under[0],
                    role: FlowRole::Responder,
                    domain: None,
                })
            });
        };
        records.path_selected(PeerKey::numbered(1), path(1), now);
        for flow in 0..4 {
            begin(&mut records, flow, flow % 2);
        }
        records.path_selected(PeerKey::numbered(1), path(2), now);
        begin(&mut records, 4, 0);
        // So many others that those before are not remembered.
        for flow in 5..13 {
            begin(&mut records, flow, flow - 4);
        }
        begin(&mut records, 13, 0);
        let begun = drained(&mut records, now);
        let shares = |one: usize, other: usize| {
            let [one, other] = [one, other].map(|at| &begun[at].context);
            (Arc::ptr_eq(one, other), one == other)
        };
        assert_eq!(begun.len(), 14);
        assert_eq!((shares(0, 2), shares(1, 3)), ((true, true), (true, true)));
        assert_eq!(shares(0, 1), (false, false), "another resource");
        assert_eq!(shares(0, 4), (false, false), "another path");
        assert_eq!(shares(4, 13), (false, true), "forgotten since");
    }

    /// A packet of one of some flows, in the initiator's direction or not; of TCP if it has flags.
    fn packet_of(
        flow: usize,
        up: bool,
        flags: Option<u8>,
        payload: &[u8],
        at: Instant,
    ) -> Sighting {
        let ends = [
            socket(&format!("100.64.0.1:{}", 4000 + flow)),
            socket(SERVER),
        ];
        let [from, to] = if up { ends } else { [ends[1], ends[0]] };
        let packet = match flags {
            None => build::udp(from, to, payload),
            Some(flags) => build::tcp(from, to, 1, 1, flags, payload),
        };
        let packet = IpPacket::parse(packet.unwrap()).unwrap();
        let right = if up {
            Right::Received(to.ip())
        } else {
            Right::None
        };
        let peer = PeerKey::numbered(1 + flow as u32 % 2);
        Sighting::of(peer, &packet, up, right, 1, at).unwrap()
    }

    proptest! {
        #[test]
        fn counting_many_sightings_together_says_what_counting_each_does(
            steps in prop::collection::vec(
                (0..12, 0..4_usize, any::<bool>(), prop::sample::select(vec![SYN, SYN_ACK, ACK, FIN, RST]), 0..2_usize),
                1..300,
            ),
        ) {
            // One flow is recorded under nothing.
            let basis = |seen: &Sighting| match seen.tuple.initiator().1 {
                4003 => None,
                _ if seen.from_initiator => basis(seen),
                _ => None,
            };
            let mut now = an_instant();
            let (mut together, mut singly) = (table_of(now), table_of(now));
            for (kind, flow, up, flags, length) in steps {
                let peer = PeerKey::numbered(1 + flow as u32 % 2);
                if kind < 2 {
                    now += if up { SECOND / 4 } else { 130 * SECOND };
                } else if kind < 4 {
                    together.count_seen(basis);
                    for records in [&mut together, &mut singly] {
                        match kind {
                            2 => records.grants_changed(up.then_some(peer)),
                            _ if up => records.path_selected(peer, path(length as u16), now),
                            _ => records.handle_timeout(now),
                        }
                    }
                } else {
                    let flags = (kind > 7).then_some(flags);
                    let seen = packet_of(flow, up, flags, &b"data"[..length], now);
                    singly.seen.push(seen);
                    singly.count_seen(basis);
                    if together.seen.is_full() {
                        together.count_seen(basis);
                    }
                    together.seen.push(seen);
                }
            }
            together.count_seen(basis);
            prop_assert_eq!(together.stats(), singly.stats());
            for records in [&mut together, &mut singly] {
                records.end_all(now);
            }
            prop_assert_eq!(drained(&mut together, now), drained(&mut singly, now));
        }
    }

    #[test]
    fn packets_are_added_to_the_sighting_before_them_only() {
        let now = an_instant();
        let udp = packet_of(1, true, None, b"data", now);
        let packet = IpPacket::parse(udp_packet()).unwrap();
        let mut seen = Sightings::default();
        let first = seen.push(udp).unwrap();
        assert!(seen.add(first, &packet));
        let other = seen.push(packet_of(2, true, None, b"data", now)).unwrap();
        assert!(!seen.add(first, &packet), "another flow was seen since");
        assert!(seen.add(other, &packet));
        let counted = seen.take();
        let packets: Vec<usize> = counted.iter().map(|seen| seen.packets).collect();
        assert_eq!(packets, [2, 2]);
        assert!(!seen.add(other, &packet), "it is counted already");
        for (flags, takes_more) in [(SYN, false), (FIN, false), (RST, false), (ACK, true)] {
            let ticket = seen.push(packet_of(1, true, Some(flags), b"data", now));
            assert_eq!(ticket.is_some(), takes_more, "{flags}");
        }
        assert_eq!(
            seen.push(packet_of(3, true, Some(ACK), b"", now)),
            None,
            "it opens nothing"
        );
        assert!(
            seen.push(packet_of(3, false, Some(ACK), b"", now))
                .is_some()
        );
    }

    fn udp_packet() -> Vec<u8> {
        build::udp(socket("100.64.0.1:4001"), socket(SERVER), b"data").unwrap()
    }

    #[test]
    fn a_peer_that_opens_flows_without_end_makes_its_own_oldest_records_end() {
        let (mut records, now) = (table(), an_instant());
        note(&mut records, seen(2, 1, true, now));
        let mut ended = Vec::new();
        for number in 0..PEER_FLOWS + 10 {
            let (_, cost) = steps::of(|| note(&mut records, seen(1, number, true, now)));
            assert!(cost <= 2, "{cost}");
            while let Some(Event::FlowsReported { reports, .. }) = records.reports.pop() {
                ended.extend(reports.into_iter().filter(|report| report.end.is_some()));
            }
        }
        ended.extend(
            drained(&mut records, now)
                .into_iter()
                .filter(|report| report.end.is_some()),
        );
        let ports: Vec<u16> = ended.iter().map(|report| report.responder.1).collect();
        assert_eq!(ports, (0..10).collect::<Vec<u16>>());
        assert_eq!(value(&records, "flows_displaced"), 10);
        assert_eq!(value(&records, "flows_open") as usize, PEER_FLOWS + 1);
        note(&mut records, seen(2, 1, false, now));
        records.forget_peer(PeerKey::numbered(1), now);
        assert_eq!(value(&records, "flows_open"), 1);
    }

    #[test]
    fn reports_that_nobody_fetches_are_bounded_and_counted_and_ends_go_before_starts() {
        let (mut records, now) = (table(), an_instant());
        for number in 0..40_000 {
            note(&mut records, seen(1, number, true, now));
        }
        while records
            .poll_timeout()
            .is_some_and(|at| at <= now + 2 * SECOND)
        {
            records.handle_timeout(now + 2 * SECOND);
        }
        assert_eq!(value(&records, "flow_records_lost"), 40_000 - 32_768);
        records.forget_peer(PeerKey::numbered(1), now);
        let mut lost = 0;
        let mut ended = 0;
        records.handle_timeout(now + 2 * SECOND);
        while let Some(Event::FlowsReported {
            reports,
            lost: more,
        }) = records.reports.pop()
        {
            assert!(reports.len() <= 256);
            lost += more;
            ended += ends(&reports).len();
        }
        assert_eq!(ended, 32_768);
        assert_eq!(lost, value(&records, "flow_records_lost"));
    }

    #[test]
    fn silent_flows_end_in_small_pieces_until_all_have() {
        let (mut records, now) = (table(), an_instant());
        for number in 0..2_000 {
            note(&mut records, seen(1, number, true, now));
        }
        drained(&mut records, now);
        let over = now + 121 * SECOND;
        let mut calls = 0;
        while records.poll_timeout().is_some_and(|at| at <= over) {
            let ((), cost) = steps::of(|| records.handle_timeout(over));
            assert!(cost <= 256, "{cost}");
            calls += 1;
        }
        assert!(calls >= 8, "{calls}");
        assert_eq!(value(&records, "flows_open"), 0);
        assert_eq!(drained(&mut records, over).len(), 2_000);
        assert_eq!(records.poll_timeout(), None, "nothing is due any more");
    }

    fn value(records: &FlowRecords, name: &str) -> u64 {
        let stats = records.stats();
        stats.iter().find(|(known, _)| *known == name).unwrap().1
    }
}
