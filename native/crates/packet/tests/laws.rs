//! Laws of packets: anything is survived, an edit changes what it names and leaves every checksum right, an error that
//! we build is a packet that others accept.
#![allow(clippy::unwrap_used)] // the packets are built here: a broken one is to fail loudly

use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use wardgate_packet::{
    GENERATED_HOP_LIMIT, IcmpErrorKind, IpPacket, Kind, MAX_INNER_PACKET, Rejected, Unreachable,
    Untranslatable, Version, build, checksum, declared_length, icmp_error,
};

proptest! {
    #[test]
    fn arbitrary_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
        exercise(&bytes);
        make_plausible(&mut bytes, v6);
        exercise(&bytes);
    }

    #[test]
    fn packets_with_a_few_wrong_bytes_are_survived(
        packet in packets(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = packet;
        for (at, value) in changes {
            let at = at.index(bytes.len().min(64));
            bytes[at] = value;
        }
        exercise(&bytes);
    }

    #[test]
    fn edits_change_what_they_name_and_keep_checksums_right(
        bytes in packets(), v4: [u8; 4], v6: [u8; 16], source: u16, destination: u16, ecn in 0u8..4,
    ) {
        let mut packet = IpPacket::parse_inner(bytes.clone()).unwrap();
        prop_assert!(packet.checksums_valid());
        let address = match packet.version() {
            Version::V4 => IpAddr::from(v4),
            Version::V6 => IpAddr::from(v6),
        };
        packet.set_source(address).unwrap();
        prop_assert!(packet.checksums_valid());
        packet.set_destination(address).unwrap();
        prop_assert!(packet.checksums_valid());
        packet.set_source_value(source);
        prop_assert!(packet.checksums_valid());
        packet.set_destination_value(destination);
        packet.set_ecn(ecn);
        prop_assert!(packet.checksums_valid());
        let again = IpPacket::parse_inner(packet.bytes()).unwrap();
        prop_assert_eq!((again.source(), again.destination(), again.ecn()), (address, address, ecn));
        prop_assert_eq!(again.destination_value(), Some(destination));
        let is_echo = matches!(again.kind(), Kind::EchoRequest | Kind::EchoReply);
        prop_assert_eq!(again.source_value(), Some(if is_echo { destination } else { source }));
        let before = IpPacket::parse_inner(bytes).unwrap();
        prop_assert_eq!(again.payload(), before.payload());
    }

    #[test]
    fn edits_never_mend_a_wrong_checksum(bytes in packets(), address: [u8; 16], value: u16) {
        let mut packet = IpPacket::parse_inner(bytes).unwrap();
        // Behind every header and not the checksum itself: a payload byte, so that only the upper checksum is wrong.
        let last = packet.bytes().len() - 1;
        packet.bytes_mut()[last] ^= 0x01;
        prop_assert!(!packet.checksums_valid());
        let address = match packet.version() {
            Version::V4 => IpAddr::from([address[0], address[1], address[2], address[3]]),
            Version::V6 => IpAddr::from(address),
        };
        packet.set_destination(address).unwrap();
        packet.set_source_value(value);
        prop_assert!(!packet.checksums_valid());
    }

    #[test]
    fn errors_that_we_send_parse_again_and_quote_their_cause(bytes in packets(), prohibited: bool) {
        let original = IpPacket::parse_inner(bytes).unwrap();
        let reason = if prohibited { Unreachable::Prohibited } else { Unreachable::Network };
        let error = icmp_error(&original, reason).unwrap();
        let error = IpPacket::parse_inner(error).unwrap();
        prop_assert!(error.checksums_valid());
        prop_assert_eq!((error.source(), error.destination()), (original.destination(), original.source()));
        let (hop_limit, code) = match error.version() {
            Version::V4 => (error.bytes()[8], if prohibited { (3, 13) } else { (3, 0) }),
            Version::V6 => (error.bytes()[7], if prohibited { (1, 1) } else { (1, 3) }),
        };
        prop_assert_eq!((hop_limit, error.icmp_type()), (GENERATED_HOP_LIMIT, Some(code)));
        prop_assert_eq!(error.icmp_error_kind(), Some(IcmpErrorKind::Unreachable));
        let quoted = error.quoted().unwrap();
        prop_assert_eq!((quoted.source, quoted.destination), (original.source(), original.destination()));
        prop_assert_eq!(Some(quoted.source_value), original.source_value());
        prop_assert_eq!(quoted.kind, original.kind());
        prop_assert_eq!(icmp_error(&error, reason), None, "an error is never answered by an error");
    }

    #[test]
    fn a_translated_error_is_the_error_about_the_packet_before_translation(
        before in packets(), real_v4: [u8; 4], real_v6: [u8; 16], outside: u16,
    ) {
        // The client sent `before` to a proxy address; the gateway rewrote it and the network answered.
        let inside = IpPacket::parse_inner(before.clone()).unwrap();
        let real = match inside.version() {
            Version::V4 => IpAddr::from([10, real_v4[1], real_v4[2], real_v4[3]]),
            Version::V6 => IpAddr::V6(Ipv6Addr::from(real_v6) & Ipv6Addr::from(u128::MAX >> 8)
                | Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)),
        };
        let mut outside_packet = IpPacket::parse_inner(before).unwrap();
        outside_packet.set_destination(real).unwrap();
        outside_packet.set_source_value(outside);
        let mut error = IpPacket::parse_inner(icmp_error(&outside_packet, Unreachable::Network).unwrap()).unwrap();
        error.translate_icmp_error(inside.destination(), inside.source(), inside.source_value().unwrap()).unwrap();
        prop_assert!(error.checksums_valid());
        let expected = icmp_error(&inside, Unreachable::Network).unwrap();
        prop_assert_eq!(error.bytes().len(), expected.len());
        prop_assert_eq!(error.quoted(), IpPacket::parse(expected).unwrap().quoted());
        // The quote is the client's own packet again, byte for byte but for the two ways to write a zero checksum.
        let quote = &error.upper()[8..];
        let same = quote.iter().zip(inside.bytes()).filter(|(a, b)| a == b).count();
        prop_assert!(same >= quote.len() - 2, "{} of {} bytes differ", quote.len() - same, quote.len());
    }

    #[test]
    fn sums_do_not_depend_on_how_the_data_is_cut(data in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
        let cut = (cut * 2).min(data.len() / 2 * 2);
        let whole = checksum::fold(checksum::sum(&data));
        let parts = checksum::fold(checksum::sum(&data[..cut]) + checksum::sum(&data[cut..]));
        prop_assert_eq!(whole, parts);
    }
}

#[test]
fn a_zero_udp_checksum_stays_zero_over_ipv4() {
    let mut bytes = udp_v4();
    bytes[26..28].fill(0);
    let mut packet = IpPacket::parse_inner(bytes).unwrap();
    packet.set_destination("10.9.8.7".parse().unwrap()).unwrap();
    packet.set_source_value(4);
    assert_eq!(packet.bytes()[26..28], [0, 0]);
    assert!(packet.checksums_valid());
}

#[test]
fn a_udp_checksum_that_becomes_zero_is_written_as_all_ones() {
    let v6 = build::udp(
        "[2001:db8::1]:40000".parse().unwrap(),
        "[2001:db8::2]:53".parse().unwrap(),
        b"payload!",
    )
    .unwrap();
    for (bytes, at) in [(udp_v4(), 26), (v6, 46)] {
        let mut packet = IpPacket::parse_inner(bytes).unwrap();
        let mut met_zero = false;
        for value in 0..=u16::MAX {
            packet.set_source_value(value);
            let field = [packet.bytes()[at], packet.bytes()[at + 1]];
            assert_ne!(field, [0, 0], "would say that there is no checksum");
            met_zero |= field == [0xff, 0xff];
        }
        assert!(met_zero);
        assert!(packet.checksums_valid());
    }
    let mut packet = IpPacket::parse_inner(udp_v4()).unwrap();
    for last in 0..=u16::MAX {
        let [third, fourth] = last.to_be_bytes();
        packet
            .set_destination([10, 0, third, fourth].into())
            .unwrap();
        assert_ne!(packet.bytes()[26..28], [0, 0]);
    }
    assert!(packet.checksums_valid());
}

#[test]
fn fragments_are_rejected_and_atomic_fragments_pass() {
    for flags in [0x20, 0x00] {
        let mut bytes = udp_v4();
        bytes[6] = flags;
        bytes[7] = u8::from(flags == 0);
        assert_eq!(IpPacket::parse(&bytes[..]).unwrap_err(), Rejected::Fragment);
    }
    let fragment = |offset_and_flag: u8| with_extension(44, [0, 0, 0, offset_and_flag, 1, 2, 3, 4]);
    assert_eq!(
        IpPacket::parse(&fragment(1)[..]).unwrap_err(),
        Rejected::Fragment
    );
    assert_eq!(
        IpPacket::parse(&fragment(8)[..]).unwrap_err(),
        Rejected::Fragment
    );
    let atomic = fragment(0);
    let atomic = IpPacket::parse(&atomic[..]).unwrap();
    assert_eq!(
        (atomic.kind(), atomic.destination_value()),
        (Kind::Udp, Some(53))
    );
    assert!(atomic.checksums_valid());
}

#[test]
fn a_route_that_goes_on_elsewhere_is_rejected() {
    let routed = |segments_left| with_extension(43, [0, 0, 4, segments_left, 0, 0, 0, 0]);
    assert_eq!(
        IpPacket::parse(&routed(1)[..]).unwrap_err(),
        Rejected::SourceRoute
    );
    assert_eq!(IpPacket::parse(&routed(0)[..]).unwrap().kind(), Kind::Udp);
}

#[test]
fn lengths_must_agree() {
    let mut padded = udp_v4();
    padded.push(0);
    assert_eq!(IpPacket::parse(&padded[..]).unwrap_err(), Rejected::Length);
    assert_eq!(declared_length(&padded), Some(padded.len() - 1));
    let mut bad_udp = udp_v4();
    bad_udp[25] += 1;
    assert_eq!(IpPacket::parse(&bad_udp[..]).unwrap_err(), Rejected::Length);
    let mut bad_tcp = tcp_v4();
    bad_tcp[32] = 4 << 4;
    assert_eq!(
        IpPacket::parse(&bad_tcp[..]).unwrap_err(),
        Rejected::Truncated
    );
}

#[test]
fn a_packet_above_the_mtu_is_no_inner_packet() {
    let (source, destination) = endpoints_v4();
    let largest = build::udp(source, destination, &vec![0; MAX_INNER_PACKET - 28]).unwrap();
    assert!(IpPacket::parse_inner(&largest[..]).is_ok());
    let larger = build::udp(source, destination, &vec![0; MAX_INNER_PACKET - 27]).unwrap();
    assert_eq!(
        IpPacket::parse_inner(&larger[..]).unwrap_err(),
        Rejected::TooLarge
    );
    assert!(IpPacket::parse(&larger[..]).is_ok());
}

#[test]
fn congestion_is_marked_only_on_packets_that_can_carry_it() {
    for (ecn, marked) in [(0, 0), (1, 3), (2, 3), (3, 3)] {
        let mut packet = IpPacket::parse_inner(udp_v4()).unwrap();
        packet.set_ecn(ecn);
        packet.mark_congestion();
        assert_eq!(packet.ecn(), marked);
        assert!(packet.checksums_valid());
    }
}

#[test]
fn an_error_with_a_wrong_checksum_is_not_translated_into_a_right_one() {
    let original = IpPacket::parse_inner(udp_v4()).unwrap();
    let mut error = icmp_error(&original, Unreachable::Network).unwrap();
    *error.last_mut().unwrap() ^= 1;
    let before = error.clone();
    let mut error = IpPacket::parse_inner(error).unwrap();
    let outcome = error.translate_icmp_error(original.destination(), original.source(), 1);
    assert_eq!(outcome, Err(Untranslatable::Checksum));
    assert_eq!(error.bytes(), before);
}

#[test]
fn redirects_are_errors_but_are_not_translated() {
    let original = udp_v4();
    let mut message = vec![5, 1, 0, 0, 10, 0, 0, 1];
    message.extend_from_slice(&original[..28]);
    let field = checksum::finish(checksum::sum(&message));
    message[2..4].copy_from_slice(&field.to_be_bytes());
    let mut bytes =
        build::icmp_echo(ip("10.0.0.2"), ip("10.0.0.1"), false, 0, 0, &message[8..]).unwrap();
    bytes[20..].copy_from_slice(&message);
    let mut packet = IpPacket::parse_inner(bytes).unwrap();
    assert_eq!(packet.icmp_error_kind(), Some(IcmpErrorKind::Untranslated));
    assert_eq!(
        packet.translate_icmp_error(ip("10.0.0.1"), ip("10.0.0.1"), 1),
        Err(Untranslatable::Type)
    );
}

fn exercise(bytes: &[u8]) {
    let _ = declared_length(bytes);
    let _ = wardgate_packet::ControlPacket::parse(bytes);
    let Ok(mut packet) = IpPacket::parse(bytes.to_vec()) else {
        return;
    };
    let _ = (
        packet.source_value(),
        packet.destination_value(),
        packet.tcp_flags(),
        packet.icmp_type(),
        packet.ecn(),
    );
    let _ = (
        packet.payload().len(),
        packet.checksums_valid(),
        packet.icmp_error_kind(),
        packet.quoted(),
    );
    for reason in [Unreachable::Prohibited, Unreachable::Network] {
        if let Some(error) = icmp_error(&packet, reason) {
            assert!(IpPacket::parse_inner(&error[..]).unwrap().checksums_valid());
        }
    }
    let (source, destination) = (packet.source(), packet.destination());
    let _ = packet.translate_icmp_error(source, destination, 7);
    packet.set_source(destination).unwrap();
    packet.set_destination(source).unwrap();
    packet.set_source_value(1);
    packet.set_destination_value(2);
    packet.mark_congestion();
    assert!(IpPacket::parse(packet.bytes()).is_ok());
}

/// Right version, length and an upper layer that is looked into.
fn make_plausible(bytes: &mut [u8], v6: bool) {
    if bytes.len() < 40 {
        return;
    }
    let length = bytes.len() as u16;
    let protocol = [1, 6, 17, 58, 0, 43, 44, 51, 255][usize::from(bytes[39]) % 9];
    if v6 {
        bytes[0] = 0x60;
        bytes[4..6].copy_from_slice(&(length - 40).to_be_bytes());
        bytes[6] = protocol;
    } else {
        bytes[0] = 0x40 | (5 + bytes[38] % 3);
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes[6..8].fill(0);
        bytes[9] = protocol;
    }
}

fn packets() -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(any::<u8>(), 1..64);
    (addresses(), any::<[u16; 2]>(), payload, 0u8..4, any::<u8>()).prop_map(
        |((source, destination), ports, payload, kind, flags)| {
            let (from, to) = (
                SocketAddr::new(source, ports[0]),
                SocketAddr::new(destination, ports[1]),
            );
            match kind {
                0 => build::udp(from, to, &payload),
                1 => build::tcp(from, to, 1, 2, flags, &payload),
                _ => build::icmp_echo(source, destination, kind == 3, ports[0], ports[1], &payload),
            }
            .unwrap()
        },
    )
}

/// Two unicast addresses of one family.
fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<[[u8; 3]; 2]>().prop_map(|[a, b]| {
            (
                IpAddr::V4(Ipv4Addr::new(100, a[0], a[1], a[2])),
                IpAddr::V4(Ipv4Addr::new(198, b[0], b[1], b[2])),
            )
        }),
        any::<[[u16; 7]; 2]>().prop_map(|[a, b]| {
            let address = |w: [u16; 7]| {
                IpAddr::V6(Ipv6Addr::new(
                    0x2001, w[0], w[1], w[2], w[3], w[4], w[5], w[6],
                ))
            };
            (address(a), address(b))
        }),
    ]
}

fn endpoints_v4() -> (SocketAddr, SocketAddr) {
    (
        "100.64.0.1:40000".parse().unwrap(),
        "10.0.0.1:53".parse().unwrap(),
    )
}

fn udp_v4() -> Vec<u8> {
    let (source, destination) = endpoints_v4();
    build::udp(source, destination, b"payload!").unwrap()
}

fn tcp_v4() -> Vec<u8> {
    let (source, destination) = endpoints_v4();
    build::tcp(source, destination, 7, 0, 0x02, b"").unwrap()
}

/// A UDP packet over IPv6 with one extension header of 8 bytes, whose next-header byte is filled in here.
fn with_extension(kind: u8, mut extension: [u8; 8]) -> Vec<u8> {
    let plain = build::udp(
        "[2001:db8::1]:9".parse().unwrap(),
        "[2001:db8::2]:53".parse().unwrap(),
        b"x",
    )
    .unwrap();
    extension[0] = plain[6];
    let mut bytes = plain[..40].to_vec();
    bytes.extend_from_slice(&extension);
    bytes.extend_from_slice(&plain[40..]);
    bytes[6] = kind;
    bytes[5] += 8;
    bytes
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
