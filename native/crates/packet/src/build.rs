//! Whole packets from scratch: for datagrams that the engine originates inside a tunnel, and for tests of what forwards.

use crate::checksum;
use crate::fragment::Cut;
use crate::ip_packet::{ICMP, ICMPV6, TCP, UDP};
use crate::offload::TunRead;
use std::net::{IpAddr, SocketAddr};

/// Hop limit of packets built here, except ICMP errors.
const HOP_LIMIT: u8 = 64;

/// A UDP datagram. `None` when the families differ or the payload exceeds an IP packet.
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let mut upper = Vec::with_capacity(8 + payload.len());
    upper.extend_from_slice(&source.port().to_be_bytes());
    upper.extend_from_slice(&destination.port().to_be_bytes());
    upper.extend_from_slice(&u16::try_from(8 + payload.len()).ok()?.to_be_bytes());
    upper.extend_from_slice(&[0, 0]);
    upper.extend_from_slice(payload);
    let mut packet = ip(source.ip(), destination.ip(), UDP, HOP_LIMIT, &upper)?;
    let at = packet.len() - upper.len() + 6;
    seal_upper(
        &mut packet,
        source.ip(),
        destination.ip(),
        UDP,
        upper.len(),
        at,
    );
    if packet[at..at + 2] == [0, 0] {
        packet[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    }
    Some(packet)
}

/// A TCP segment without options, window 65,535. `None` as for [`udp`].
pub fn tcp(
    source: SocketAddr,
    destination: SocketAddr,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let mut upper = Vec::with_capacity(20 + payload.len());
    upper.extend_from_slice(&source.port().to_be_bytes());
    upper.extend_from_slice(&destination.port().to_be_bytes());
    upper.extend_from_slice(&sequence.to_be_bytes());
    upper.extend_from_slice(&acknowledgement.to_be_bytes());
    upper.extend_from_slice(&[5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    upper.extend_from_slice(payload);
    let mut packet = ip(source.ip(), destination.ip(), TCP, HOP_LIMIT, &upper)?;
    let at = packet.len() - upper.len() + 16;
    seal_upper(
        &mut packet,
        source.ip(),
        destination.ip(),
        TCP,
        upper.len(),
        at,
    );
    Some(packet)
}

/// The fragments of a packet without extension headers, cut to the tunnel's MTU; one that fits stays as it is.
pub fn fragments(packet: &[u8], identification: u32) -> Vec<Vec<u8>> {
    segments(&TunRead::cut(packet, Cut::of(packet, identification)))
}

/// The packets that a read consists of, each finished.
pub fn segments(read: &TunRead<'_>) -> Vec<Vec<u8>> {
    let finished = read.segments().map(|segment| {
        let mut packet = vec![0; segment.len()];
        segment.write_into(&mut packet);
        packet
    });
    finished.collect()
}

/// An ICMP or ICMPv6 echo request, or the reply to one. `None` as for [`udp`].
pub fn icmp_echo(
    source: IpAddr,
    destination: IpAddr,
    reply: bool,
    identifier: u16,
    sequence: u16,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let echo_type = match (source.is_ipv4(), reply) {
        (true, false) => 8,
        (true, true) => 0,
        (false, false) => 128,
        (false, true) => 129,
    };
    let mut upper = vec![echo_type, 0, 0, 0];
    upper.extend_from_slice(&identifier.to_be_bytes());
    upper.extend_from_slice(&sequence.to_be_bytes());
    upper.extend_from_slice(payload);
    icmp(source, destination, HOP_LIMIT, &upper)
}

/// An ICMP or ICMPv6 message whose checksum field (bytes 2–3 of `upper`) is zero; it is computed here.
pub(crate) fn icmp(
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    upper: &[u8],
) -> Option<Vec<u8>> {
    let protocol = if source.is_ipv4() { ICMP } else { ICMPV6 };
    let mut packet = ip(source, destination, protocol, hop_limit, upper)?;
    let at = packet.len() - upper.len() + 2;
    seal_upper(&mut packet, source, destination, protocol, upper.len(), at);
    Some(packet)
}

fn ip(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hop_limit: u8,
    upper: &[u8],
) -> Option<Vec<u8>> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(20 + upper.len()).ok()?;
            let mut packet = Vec::with_capacity(usize::from(total));
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&total.to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0x40, 0, hop_limit, protocol, 0, 0]); // id 0 with don't-fragment: RFC 6864
            packet.extend_from_slice(&source.octets());
            packet.extend_from_slice(&destination.octets());
            let field = checksum::finish(checksum::sum(&packet));
            packet[10..12].copy_from_slice(&field.to_be_bytes());
            packet.extend_from_slice(upper);
            Some(packet)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(upper.len()).ok()?;
            let mut packet = Vec::with_capacity(40 + upper.len());
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&length.to_be_bytes());
            packet.extend_from_slice(&[protocol, hop_limit]);
            packet.extend_from_slice(&source.octets());
            packet.extend_from_slice(&destination.octets());
            packet.extend_from_slice(upper);
            Some(packet)
        }
        _ => None,
    }
}

fn seal_upper(
    packet: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
    at: usize,
) {
    let upper = &packet[packet.len() - length..];
    let pseudo = if protocol == ICMP {
        0
    } else {
        checksum::pseudo_header(source, destination, protocol, length)
    };
    let field = checksum::finish(pseudo + checksum::sum(upper));
    packet[at..at + 2].copy_from_slice(&field.to_be_bytes());
}
