//! IP fragments: read one, and cut a packet into some (RFC 791, RFC 8200 §4.5).
//!
//! A [`Cut`] is how a packet was put together from fragments: what it needs to be cut anew. What leaves is cut to the
//! tunnel's MTU by us, never along a stranger's lines, so that nobody behind us sees an overlap or a header that is torn
//! apart (RFC 1858, RFC 5722).

use crate::checksum::{finish, sum};
use crate::ip_packet::{Extension, MAX_INNER_PACKET, be16, ipv4_at, ipv6_at};
use std::net::IpAddr;
use std::ops::Range;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
/// Largest packet that either version's length field can express.
const MAX_PACKET: usize = 65_535;
const FRAGMENT: u8 = 44;
/// Of IPv6 with extension headers; ours: each fragment repeats it.
const MAX_HEADER: usize = 256;

/// What the fragments of one packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentId {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub identification: u32,
    /// Of IPv4 only: there, protocols number their packets apart.
    protocol: u8,
}

/// One fragment, its own lengths checked.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    pub id: FragmentId,
    /// Where its payload belongs in that of the whole, in bytes.
    pub offset: usize,
    pub payload: &'a [u8],
    pub is_last: bool,
    /// IP header, without the fragment header of IPv6.
    header: &'a [u8],
    /// Of IPv6: what the fragment header says comes next.
    next_header: u8,
    /// Of IPv6: where the number of the fragment header stands.
    link: usize,
}

/// How to cut a packet that came in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    identification: u32,
    /// Bytes of the header that each fragment repeats.
    header: usize,
    /// Of IPv6: where the number of the first header behind it stands.
    link: usize,
}

impl<'a> Fragment<'a> {
    /// `None` when it is no fragment or not well formed.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let fragment = match bytes.first()? >> 4 {
            4 => Self::parse_ipv4(bytes)?,
            6 => Self::parse_ipv6(bytes)?,
            _ => return None,
        };
        let end = fragment.offset + fragment.payload.len();
        let is_sound = !fragment.payload.is_empty()
            && (fragment.is_last || fragment.payload.len().is_multiple_of(8))
            && fragment.header.len() + end <= MAX_PACKET;
        is_sound.then_some(fragment)
    }

    fn parse_ipv4(bytes: &'a [u8]) -> Option<Self> {
        let header = usize::from(bytes[0] & 0x0f) * 4;
        if header < IPV4_HEADER
            || bytes.len() < header
            || usize::from(be16(&bytes[2..])) != bytes.len()
        {
            return None;
        }
        let place = be16(&bytes[6..]);
        let is_last = place & 0x2000 == 0;
        let offset = usize::from(place & 0x1fff) * 8;
        (!is_last || offset > 0).then(|| Self {
            id: FragmentId {
                source: IpAddr::V4(ipv4_at(bytes, 12)),
                destination: IpAddr::V4(ipv4_at(bytes, 16)),
                identification: be16(&bytes[4..]).into(),
                protocol: bytes[9],
            },
            offset,
            payload: &bytes[header..],
            is_last,
            header: &bytes[..header],
            next_header: 0,
            link: 0,
        })
    }

    fn parse_ipv6(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < IPV6_HEADER || IPV6_HEADER + usize::from(be16(&bytes[4..])) != bytes.len()
        {
            return None;
        }
        let (mut link, mut at) = (6, IPV6_HEADER);
        while bytes[link] != FRAGMENT {
            let extension = Extension::of(bytes[link])?;
            link = at;
            at += extension.length(*bytes.get(at + 1)?);
            bytes.get(at)?;
        }
        if at > MAX_HEADER {
            return None;
        }
        let header = bytes.get(at..at + FRAGMENT_HEADER)?;
        let place = be16(&header[2..]);
        let is_last = place & 1 == 0;
        let offset = usize::from(place & 0xfff8);
        (!is_last || offset > 0).then(|| Self {
            id: FragmentId {
                source: IpAddr::V6(ipv6_at(bytes, 8)),
                destination: IpAddr::V6(ipv6_at(bytes, 24)),
                identification: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                protocol: 0,
            },
            offset,
            payload: &bytes[at + FRAGMENT_HEADER..],
            is_last,
            header: &bytes[..at],
            next_header: header[0],
            link,
        })
    }

    /// The header of the whole packet; its length is still to be set. The first fragment has it.
    pub fn header(&self) -> Vec<u8> {
        let mut header = self.header.to_vec();
        if self.link > 0 {
            header[self.link] = self.next_header;
        }
        header
    }

    /// How the whole is to be cut anew.
    pub fn cut(&self) -> Cut {
        Cut {
            identification: self.id.identification,
            header: self.header.len(),
            link: self.link,
        }
    }
}

/// Set the lengths of a packet of which header and payload were put together.
pub fn finish_whole(packet: &mut [u8], cut: &Cut) {
    let length = packet.len();
    if cut.is_ipv6() {
        packet[4..6].copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
    } else {
        seal_ipv4(&mut packet[..cut.header], length, 0);
    }
}

impl Cut {
    /// How a packet without extension headers is cut.
    pub(crate) fn of(packet: &[u8], identification: u32) -> Self {
        let is_ipv6 = packet[0] >> 4 == 6;
        Self {
            identification,
            header: if is_ipv6 { IPV6_HEADER } else { IPV4_HEADER },
            link: if is_ipv6 { 6 } else { 0 },
        }
    }

    fn is_ipv6(&self) -> bool {
        self.link > 0
    }

    fn header_length(&self) -> usize {
        self.header + if self.is_ipv6() { FRAGMENT_HEADER } else { 0 }
    }

    /// Payload bytes of each fragment but the last.
    fn unit(&self) -> usize {
        (MAX_INNER_PACKET - self.header_length()) & !7
    }

    fn fits(&self, packet: usize) -> bool {
        packet <= MAX_INNER_PACKET
    }

    pub(crate) fn count(&self, packet: usize) -> usize {
        if self.fits(packet) {
            1
        } else {
            (packet - self.header).div_ceil(self.unit())
        }
    }

    fn payload(&self, packet: usize, index: usize) -> Range<usize> {
        let start = self.header + index * self.unit();
        start..packet.min(start + self.unit())
    }

    pub(crate) fn length(&self, packet: usize, index: usize) -> usize {
        if self.fits(packet) {
            packet
        } else {
            self.header_length() + self.payload(packet, index).len()
        }
    }

    pub(crate) fn write(&self, packet: &[u8], index: usize, out: &mut [u8]) {
        if self.fits(packet.len()) {
            return out.copy_from_slice(packet);
        }
        let payload = self.payload(packet.len(), index);
        let is_last = payload.end == packet.len();
        let offset = payload.start - self.header;
        let length = out.len();
        let (headers, body) = out.split_at_mut(self.header_length());
        body.copy_from_slice(&packet[payload]);
        headers[..self.header].copy_from_slice(&packet[..self.header]);
        if self.is_ipv6() {
            headers[4..6].copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
            let next_header = std::mem::replace(&mut headers[self.link], FRAGMENT);
            let place = (offset as u16) | u16::from(!is_last);
            let fragment = &mut headers[self.header..];
            fragment[0] = next_header;
            fragment[1] = 0;
            fragment[2..4].copy_from_slice(&place.to_be_bytes());
            fragment[4..8].copy_from_slice(&self.identification.to_be_bytes());
        } else {
            headers[4..6].copy_from_slice(&(self.identification as u16).to_be_bytes());
            let more = if is_last { 0 } else { 0x2000 };
            seal_ipv4(headers, length, (offset / 8) as u16 | more);
        }
    }
}

/// Set length and place of an IPv4 header, and its checksum.
fn seal_ipv4(header: &mut [u8], length: usize, place: u16) {
    header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    header[6..8].copy_from_slice(&place.to_be_bytes());
    header[10..12].fill(0);
    let field = finish(sum(header));
    header[10..12].copy_from_slice(&field.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::TunRead;
    use crate::{IpPacket, Kind, build};
    use proptest::prelude::*;

    fn datagram(is_ipv6: bool, payload: &[u8]) -> Vec<u8> {
        let (from, to) = if is_ipv6 {
            ("[fd00::1]:4000", "[fd00::2]:53")
        } else {
            ("10.0.0.1:4000", "10.0.0.2:53")
        };
        build::udp(from.parse().unwrap(), to.parse().unwrap(), payload).unwrap()
    }

    fn joined(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut parts: Vec<Fragment<'_>> = pieces
            .iter()
            .map(|piece| Fragment::parse(piece).unwrap())
            .collect();
        parts.sort_by_key(|part| part.offset);
        assert!(parts.windows(2).all(|pair| {
            pair[0].id == pair[1].id && pair[0].offset + pair[0].payload.len() == pair[1].offset
        }));
        let mut whole = parts[0].header();
        for part in &parts {
            whole.extend_from_slice(part.payload);
        }
        finish_whole(&mut whole, &parts[0].cut());
        whole
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_cut_and_put_together_is_what_it_was(
            is_ipv6: bool, length in 1300usize..20_000, identification: u32,
        ) {
            let packet = datagram(is_ipv6, &vec![7; length]);
            let pieces = build::fragments(&packet, identification);
            prop_assert!(pieces.len() >= 2);
            for piece in &pieces {
                prop_assert!(piece.len() <= MAX_INNER_PACKET);
                prop_assert!(matches!(IpPacket::parse(&piece[..]), Err(crate::Rejected::Fragment)));
            }
            let whole = joined(&pieces);
            let parsed = IpPacket::parse(&whole[..]).unwrap();
            prop_assert_eq!(parsed.kind(), Kind::Udp);
            prop_assert!(parsed.checksums_valid());
            prop_assert_eq!(parsed.payload(), &vec![7; length][..]);
        }

        #[test]
        fn hostile_bytes_are_read_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 1..80), six: bool) {
            bytes[0] = if six { 0x60 } else { 0x45 };
            if let Some(fragment) = Fragment::parse(&bytes) {
                prop_assert!(fragment.offset + fragment.payload.len() <= MAX_PACKET);
            }
        }
    }

    #[test]
    fn a_packet_that_fits_is_not_cut() {
        for is_ipv6 in [false, true] {
            let packet = datagram(is_ipv6, &[1; 1200]);
            assert_eq!(build::fragments(&packet, 9), [packet]);
        }
    }

    #[test]
    fn fragments_that_are_none_or_reach_too_far_are_refused() {
        let packet = datagram(false, &[1; 3000]);
        let pieces = build::fragments(&packet, 9);
        assert!(Fragment::parse(&packet).is_none(), "not a fragment");
        let spoilt = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut piece = pieces[1].clone();
            change(&mut piece);
            Fragment::parse(&piece).is_none()
        };
        assert!(!spoilt(&|_| {}));
        assert!(
            spoilt(&|piece| piece[6..8].copy_from_slice(&0x3fff_u16.to_be_bytes())),
            "beyond 64 KiB"
        );
        assert!(spoilt(&|piece| {
            piece.pop();
        }));
        assert!(
            spoilt(&|piece| {
                piece.truncate(25);
                piece[2..4].copy_from_slice(&25_u16.to_be_bytes());
            }),
            "not a multiple of eight"
        );
        assert!(
            spoilt(&|piece| {
                piece.truncate(20);
                piece[2..4].copy_from_slice(&20_u16.to_be_bytes());
            }),
            "empty"
        );
    }

    #[test]
    fn extension_headers_before_the_fragment_header_are_repeated_by_each() {
        let packet = datagram(true, &[1; 3000]);
        let mut options = packet[..40].to_vec();
        options[6] = 0;
        options.extend_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
        options.extend_from_slice(&packet[40..]);
        let length = options.len() - 40;
        options[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        let cut = Cut {
            identification: 5,
            header: 48,
            link: 40,
        };
        let read = TunRead::cut(&options, cut);
        let pieces = build::segments(&read);
        assert!(pieces.iter().all(|piece| piece[6] == 0 && piece[40] == 44));
        assert_eq!(joined(&pieces), options);
    }
}
