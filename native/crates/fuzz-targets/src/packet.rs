//! IP packets: whatever is accepted can be read, edited and answered, and stays a packet.

use wardgate_packet::offload::TunRead;
use wardgate_packet::{
    ControlPacket, Fragment, IpPacket, MAX_INNER_PACKET, Unreachable, build, declared_length,
    finish_whole, icmp_error,
};

/// The input is one packet.
pub fn packet(input: &[u8]) -> bool {
    let _ = declared_length(input);
    let _ = ControlPacket::parse(input);
    if let Some(fragment) = Fragment::parse(input) {
        assert!(IpPacket::parse(input).is_err(), "a fragment is no packet");
        let mut whole = fragment.header();
        whole.extend_from_slice(fragment.payload);
        finish_whole(&mut whole, &fragment.cut());
        for piece in build::segments(&TunRead::cut(&whole, fragment.cut())) {
            assert!(piece.len() <= MAX_INNER_PACKET || input.len() > MAX_INNER_PACKET);
            assert!(piece == whole || Fragment::parse(&piece).is_some());
        }
        return true;
    }
    let Ok(mut packet) = IpPacket::parse(input.to_vec()) else {
        return false;
    };
    assert_eq!(declared_length(input), Some(input.len()));
    let _ = (packet.source_value(), packet.destination_value());
    let _ = (packet.tcp_flags(), packet.icmp_type(), packet.ecn());
    let _ = (packet.payload(), packet.icmp_error_kind(), packet.quoted());
    for reason in [Unreachable::Prohibited, Unreachable::Network] {
        if let Some(error) = icmp_error(&packet, reason) {
            let error = IpPacket::parse_inner(&error[..]).expect("our own errors are packets");
            assert!(error.checksums_valid());
        }
    }
    let was_valid = packet.checksums_valid();
    let (source, destination) = (packet.source(), packet.destination());
    let translated = packet.translate_icmp_error(source, destination, 7).is_ok();
    assert!(!translated || was_valid, "a wrong checksum is not mended");
    for (one, other) in [(destination, source), (source, destination)] {
        packet.set_source(one).expect("of the packet's family");
        packet
            .set_destination(other)
            .expect("of the packet's family");
    }
    packet.set_source_value(1);
    packet.set_destination_value(2);
    packet.mark_congestion();
    let edited = IpPacket::parse(packet.bytes()).expect("an edited packet is a packet");
    assert_eq!(
        (edited.source(), edited.destination()),
        (source, destination)
    );
    assert_eq!(
        edited.checksums_valid(),
        was_valid,
        "edits keep checksums as they are"
    );
    true
}
