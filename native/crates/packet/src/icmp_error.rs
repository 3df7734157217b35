//! ICMP errors: those we answer with (data-plane §4.9) and those we translate (§5.5).

use crate::build;
use crate::checksum;
use crate::ip_packet::{
    Extension, ICMP, ICMPV6, IpPacket, Kind, MAX_INNER_PACKET, TCP, UDP, Version, adjust_field,
    be16, icmp_kind, ipv4_at, ipv6_at,
};
use std::net::IpAddr;

/// TTL or hop limit of the errors that we send or rebuild (data-plane §4.9, §5.5).
pub const GENERATED_HOP_LIMIT: u8 = 20;

const ICMP_HEADER: usize = 8;
/// Bytes of the offending IPv4 packet's payload that are quoted (RFC 792).
const IPV4_QUOTED_PAYLOAD: usize = 8;

/// Why we refuse to carry a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// A filter or the lack of a grant: communication administratively prohibited.
    Prohibited,
    /// No translation, or no address of the family: network (IPv4) or address (IPv6) unreachable.
    Network,
}

/// The answer to `original` that says why it was not carried: from its destination to its source.
///
/// `None` when no error may be sent (RFC 1122 §3.2.2.2, RFC 4443 §2.4): for ICMP errors themselves, and when
/// either address does not name one host.
pub fn icmp_error<B: AsRef<[u8]>>(original: &IpPacket<B>, reason: Unreachable) -> Option<Vec<u8>> {
    if original.kind() == Kind::IcmpError
        || !names_one_host(original.source())
        || !names_one_host(original.destination())
    {
        return None;
    }
    let bytes = original.bytes();
    let (icmp_type, code, quoted) = match (original.version(), reason) {
        (Version::V4, Unreachable::Prohibited) => {
            (3, 13, original.upper_offset() + IPV4_QUOTED_PAYLOAD)
        }
        (Version::V4, Unreachable::Network) => {
            (3, 0, original.upper_offset() + IPV4_QUOTED_PAYLOAD)
        }
        (Version::V6, Unreachable::Prohibited) => (1, 1, MAX_INNER_PACKET - 40 - ICMP_HEADER),
        (Version::V6, Unreachable::Network) => (1, 3, MAX_INNER_PACKET - 40 - ICMP_HEADER),
    };
    let mut message = vec![icmp_type, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&bytes[..quoted.min(bytes.len())]);
    build::icmp(
        original.destination(),
        original.source(),
        GENERATED_HOP_LIMIT,
        &message,
    )
}

/// Errors that are carried through translation; others that quote a packet are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrorKind {
    /// Includes IPv4 "fragmentation needed".
    Unreachable,
    /// IPv6 only.
    PacketTooBig,
    TimeExceeded,
    /// Quotes a packet, but is of a type that is not translated.
    Untranslated,
}

/// The packet inside an ICMP error, as far as the router that sent the error quoted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub kind: Kind,
    /// Source port or ICMP echo identifier.
    pub source_value: u16,
    /// Destination port or ICMP echo identifier.
    pub destination_value: u16,
    /// Offsets within the quote.
    upper: usize,
}

/// The packet is no ICMP error that can be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    #[error("not an ICMP error of a carried type")]
    Type,
    #[error("quoted packet is cut short or of another protocol")]
    Quote,
    #[error("checksum is wrong")]
    Checksum,
    #[error("address family differs from the packet's")]
    Family,
}

impl<B: AsRef<[u8]>> IpPacket<B> {
    /// Kind of this ICMP error; `None` when it is none.
    pub fn icmp_error_kind(&self) -> Option<IcmpErrorKind> {
        if self.kind() != Kind::IcmpError {
            return None;
        }
        Some(match (self.version(), self.upper()[0]) {
            (Version::V4, 3) | (Version::V6, 1) => IcmpErrorKind::Unreachable,
            (Version::V6, 2) => IcmpErrorKind::PacketTooBig,
            (Version::V4, 11) | (Version::V6, 3) => IcmpErrorKind::TimeExceeded,
            _ => IcmpErrorKind::Untranslated,
        })
    }

    /// The TCP, UDP or ICMP echo packet that this ICMP error is about; `None` when there is none or it is cut too short.
    pub fn quoted(&self) -> Option<Quoted> {
        if self.kind() != Kind::IcmpError {
            return None;
        }
        quoted(self.version(), &self.upper()[ICMP_HEADER..])
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> IpPacket<B> {
    /// Turn an error about a translated packet into one about the packet before translation, in place (§5.5).
    ///
    /// Afterwards it comes from `proxy`, goes to `client`, and quotes a packet to `proxy` with source value
    /// `source_value`. The packet is unchanged when an error is returned.
    pub fn translate_icmp_error(
        &mut self,
        proxy: IpAddr,
        client: IpAddr,
        source_value: u16,
    ) -> Result<(), Untranslatable> {
        match self.icmp_error_kind() {
            None | Some(IcmpErrorKind::Untranslated) => return Err(Untranslatable::Type),
            Some(_) => {}
        }
        let quoted = self.quoted().ok_or(Untranslatable::Quote)?;
        let version = self.version();
        let family = |address: IpAddr| {
            if address.is_ipv4() {
                Version::V4
            } else {
                Version::V6
            }
        };
        if family(proxy) != version || family(client) != version {
            return Err(Untranslatable::Family);
        }
        if !self.checksums_valid() {
            return Err(Untranslatable::Checksum);
        }
        let at = self.upper_offset();
        rewrite_quote(
            &mut self.bytes_mut()[at + ICMP_HEADER..],
            version,
            &quoted,
            proxy,
            source_value,
        );
        self.set_hop_limit(GENERATED_HOP_LIMIT);
        // Checked above, so neither can fail.
        let _ = self
            .set_source(proxy)
            .and_then(|()| self.set_destination(client));
        self.bytes_mut()[at + 2..at + 4].fill(0);
        let field = checksum::finish(self.pseudo_header_sum() + checksum::sum(self.upper()));
        self.bytes_mut()[at + 2..at + 4].copy_from_slice(&field.to_be_bytes());
        Ok(())
    }

    fn set_hop_limit(&mut self, hop_limit: u8) {
        let version = self.version();
        let bytes = self.bytes_mut();
        match version {
            Version::V4 => {
                let old = [bytes[8], bytes[9]];
                bytes[8] = hop_limit;
                adjust_field(bytes, 10, &old, &[hop_limit, old[1]]);
            }
            Version::V6 => bytes[7] = hop_limit,
        }
    }
}

fn names_one_host(address: IpAddr) -> bool {
    !(address.is_unspecified()
        || address.is_multicast()
        || matches!(address, IpAddr::V4(v4) if v4.is_broadcast()))
}

/// A quote may end anywhere, so lengths are not compared; only the headers' start and the ports must be there.
fn quoted(version: Version, quote: &[u8]) -> Option<Quoted> {
    let (source, destination, protocol, upper) = match (version, quote.first()? >> 4) {
        (Version::V4, 4) => {
            let upper = usize::from(quote[0] & 0x0f) * 4;
            if upper < 20 || quote.len() < upper || be16(&quote[6..]) & 0x1fff != 0 {
                return None;
            }
            (
                IpAddr::V4(ipv4_at(quote, 12)),
                IpAddr::V4(ipv4_at(quote, 16)),
                quote[9],
                upper,
            )
        }
        (Version::V6, 6) => {
            if quote.len() < 40 {
                return None;
            }
            let (protocol, upper) = quoted_ipv6_upper(quote)?;
            (
                IpAddr::V6(ipv6_at(quote, 8)),
                IpAddr::V6(ipv6_at(quote, 24)),
                protocol,
                upper,
            )
        }
        _ => return None,
    };
    let head = quote.get(upper..upper + 8)?;
    let (kind, source_value, destination_value) = match (version, protocol) {
        (_, TCP) => (Kind::Tcp, be16(head), be16(&head[2..])),
        (_, UDP) => (Kind::Udp, be16(head), be16(&head[2..])),
        (Version::V4, ICMP) | (Version::V6, ICMPV6) => {
            let kind = icmp_kind(version, head[0]);
            if !matches!(kind, Kind::EchoRequest | Kind::EchoReply) {
                return None;
            }
            (kind, be16(&head[4..]), be16(&head[4..]))
        }
        _ => return None,
    };
    Some(Quoted {
        source,
        destination,
        protocol,
        kind,
        source_value,
        destination_value,
        upper,
    })
}

fn quoted_ipv6_upper(quote: &[u8]) -> Option<(u8, usize)> {
    let mut next = quote[6];
    let mut at = 40;
    while let Some(extension) = Extension::of(next) {
        let header = quote.get(at..at + 8)?;
        if matches!(extension, Extension::Fragment) && be16(&header[2..]) & 0xfff8 != 0 {
            return None;
        }
        next = header[0];
        at += extension.length(header[1]);
    }
    Some((next, at))
}

fn rewrite_quote(
    quote: &mut [u8],
    version: Version,
    quoted: &Quoted,
    destination: IpAddr,
    source_value: u16,
) {
    let (value_at, checksum_at) = match quoted.kind {
        Kind::Tcp => (quoted.upper, quoted.upper + 16),
        Kind::Udp => (quoted.upper, quoted.upper + 6),
        _ => (quoted.upper + 4, quoted.upper + 2),
    };
    let old_value = [quote[value_at], quote[value_at + 1]];
    let new_value = source_value.to_be_bytes();
    quote[value_at..value_at + 2].copy_from_slice(&new_value);
    let address_counts = matches!(quoted.kind, Kind::Tcp | Kind::Udp) || version == Version::V6;
    // The checksum of a quoted TCP segment usually lies behind the end of the quote.
    let has_checksum = quote.len() >= checksum_at + 2
        && !(quoted.kind == Kind::Udp && quote[checksum_at..checksum_at + 2] == [0, 0]);
    if has_checksum {
        adjust_field(quote, checksum_at, &old_value, &new_value);
    }
    match destination {
        IpAddr::V4(new) => {
            let old = ipv4_at(quote, 16).octets();
            quote[16..20].copy_from_slice(&new.octets());
            adjust_field(quote, 10, &old, &new.octets());
            if has_checksum && address_counts {
                adjust_field(quote, checksum_at, &old, &new.octets());
            }
        }
        IpAddr::V6(new) => {
            let old = ipv6_at(quote, 24).octets();
            quote[24..40].copy_from_slice(&new.octets());
            if has_checksum && address_counts {
                adjust_field(quote, checksum_at, &old, &new.octets());
            }
        }
    }
    if has_checksum && quoted.kind == Kind::Udp && quote[checksum_at..checksum_at + 2] == [0, 0] {
        quote[checksum_at..checksum_at + 2].copy_from_slice(&[0xff, 0xff]);
    }
}
