//! One validated IP packet and its edits.

use crate::checksum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Largest inner packet in bytes: the tunnel's MTU, IPv6's minimum (data-plane §2.6).
pub const MAX_INNER_PACKET: usize = 1280;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    V4,
    V6,
}

/// What the upper layer is, as far as classification and translation care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Tcp,
    Udp,
    /// ICMP or ICMPv6 echo request; source and destination value are both its identifier.
    EchoRequest,
    /// ICMP or ICMPv6 echo reply; source and destination value are both its identifier.
    EchoReply,
    /// ICMP or ICMPv6 message that quotes another packet (RFC 1122 §3.2.2, RFC 4443 §2.1).
    IcmpError,
    /// Any other ICMP or ICMPv6 message.
    IcmpOther,
    /// Any other protocol.
    Other,
}

/// Why bytes are not an acceptable inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("neither IPv4 nor IPv6")]
    Version,
    #[error("shorter than its headers")]
    Truncated,
    #[error("length field differs from the packet's size")]
    Length,
    #[error("larger than the tunnel's MTU")]
    TooLarge,
    #[error("fragment")]
    Fragment,
    #[error("source route with segments left")]
    SourceRoute,
}

/// An address of one IP version was given for a packet of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address family differs from the packet's")]
pub struct WrongFamily;

/// Flags byte of a TCP header (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }
    pub fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }
    pub fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }
    pub fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

/// Length in bytes that the IP header declares, for cutting off padding before [`IpPacket::parse`].
///
/// `None` when the bytes are no IP header or the declared length exceeds them.
pub fn declared_length(bytes: &[u8]) -> Option<usize> {
    let length = match bytes.first()? >> 4 {
        4 => usize::from(be16(bytes.get(2..4)?)),
        6 => IPV6_HEADER + usize::from(be16(bytes.get(4..6)?)),
        _ => return None,
    };
    (length <= bytes.len()).then_some(length)
}

/// A packet that passed the checks of data-plane §2.6; `B` is `&[u8]`, `&mut [u8]` or an owner of bytes.
#[derive(Clone, Debug)]
pub struct IpPacket<B> {
    bytes: B,
    layout: Layout,
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    version: Version,
    kind: Kind,
    protocol: u8,
    /// Offset of the upper-layer header.
    upper: u16,
}

impl<B: AsRef<[u8]>> IpPacket<B> {
    /// Accept any well-formed, unfragmented packet of up to 65,575 bytes.
    pub fn parse(bytes: B) -> Result<Self, Rejected> {
        let layout = Layout::of(bytes.as_ref())?;
        Ok(IpPacket { bytes, layout })
    }

    /// As [`parse`](Self::parse), but at most [`MAX_INNER_PACKET`] bytes.
    pub fn parse_inner(bytes: B) -> Result<Self, Rejected> {
        if bytes.as_ref().len() > MAX_INNER_PACKET {
            return Err(Rejected::TooLarge);
        }
        Self::parse(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    pub fn into_inner(self) -> B {
        self.bytes
    }

    pub fn version(&self) -> Version {
        self.layout.version
    }

    pub fn kind(&self) -> Kind {
        self.layout.kind
    }

    /// IP protocol number of the upper layer, behind all IPv6 extension headers.
    pub fn protocol(&self) -> u8 {
        self.layout.protocol
    }

    pub fn source(&self) -> IpAddr {
        let bytes = self.bytes();
        match self.layout.version {
            Version::V4 => IpAddr::V4(ipv4_at(bytes, 12)),
            Version::V6 => IpAddr::V6(ipv6_at(bytes, 8)),
        }
    }

    pub fn destination(&self) -> IpAddr {
        let bytes = self.bytes();
        match self.layout.version {
            Version::V4 => IpAddr::V4(ipv4_at(bytes, 16)),
            Version::V6 => IpAddr::V6(ipv6_at(bytes, 24)),
        }
    }

    /// Source port, or the identifier of an ICMP echo; `None` for everything else.
    pub fn source_value(&self) -> Option<u16> {
        self.layout
            .value_offset(Side::Source)
            .map(|at| be16(&self.bytes()[at..]))
    }

    /// Destination port, or the identifier of an ICMP echo; `None` for everything else.
    pub fn destination_value(&self) -> Option<u16> {
        self.layout
            .value_offset(Side::Destination)
            .map(|at| be16(&self.bytes()[at..]))
    }

    pub fn tcp_flags(&self) -> Option<TcpFlags> {
        (self.layout.kind == Kind::Tcp).then(|| TcpFlags(self.bytes()[self.upper_offset() + 13]))
    }

    /// Type and code of an ICMP or ICMPv6 message.
    pub fn icmp_type(&self) -> Option<(u8, u8)> {
        self.layout.is_icmp().then(|| {
            let upper = self.upper();
            (upper[0], upper[1])
        })
    }

    /// The two ECN bits (RFC 3168): 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
    pub fn ecn(&self) -> u8 {
        let bytes = self.bytes();
        match self.layout.version {
            Version::V4 => bytes[1] & 0b11,
            Version::V6 => (bytes[1] >> 4) & 0b11,
        }
    }

    /// Upper-layer header and payload.
    pub fn upper(&self) -> &[u8] {
        &self.bytes()[self.upper_offset()..]
    }

    pub fn upper_offset(&self) -> usize {
        usize::from(self.layout.upper)
    }

    /// What follows the TCP, UDP or ICMP header; for other protocols the same as [`upper`](Self::upper).
    pub fn payload(&self) -> &[u8] {
        let upper = self.upper();
        let header = match self.layout.kind {
            Kind::Tcp => usize::from(upper[12] >> 4) * 4,
            Kind::Udp => UDP_HEADER,
            Kind::Other => 0,
            _ => ICMP_HEADER,
        };
        &upper[header..]
    }

    /// Whether the checksums of IPv4 header, TCP, UDP and ICMP are right; true for protocols not known here.
    pub fn checksums_valid(&self) -> bool {
        let bytes = self.bytes();
        if self.layout.version == Version::V4 {
            let header = usize::from(bytes[0] & 0x0f) * 4;
            if checksum::fold(checksum::sum(&bytes[..header])) != 0xffff {
                return false;
            }
        }
        let Some(at) = self.layout.checksum_offset() else {
            return true;
        };
        if self.layout.is_unchecked_udp(bytes, at) {
            return self.layout.version == Version::V4;
        }
        checksum::fold(self.pseudo_header_sum() + checksum::sum(self.upper())) == 0xffff
    }

    pub(crate) fn pseudo_header_sum(&self) -> u64 {
        if self.layout.has_pseudo_header() {
            checksum::pseudo_header(
                self.source(),
                self.destination(),
                self.layout.protocol,
                self.upper().len(),
            )
        } else {
            0
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> IpPacket<B> {
    pub fn set_source(&mut self, address: IpAddr) -> Result<(), WrongFamily> {
        match (self.layout.version, address) {
            (Version::V4, IpAddr::V4(v4)) => self.replace_address(12, &v4.octets()),
            (Version::V6, IpAddr::V6(v6)) => self.replace_address(8, &v6.octets()),
            _ => return Err(WrongFamily),
        }
        Ok(())
    }

    pub fn set_destination(&mut self, address: IpAddr) -> Result<(), WrongFamily> {
        match (self.layout.version, address) {
            (Version::V4, IpAddr::V4(v4)) => self.replace_address(16, &v4.octets()),
            (Version::V6, IpAddr::V6(v6)) => self.replace_address(24, &v6.octets()),
            _ => return Err(WrongFamily),
        }
        Ok(())
    }

    /// Set the source port or ICMP echo identifier; nothing happens to packets that have neither.
    pub fn set_source_value(&mut self, value: u16) {
        if let Some(at) = self.layout.value_offset(Side::Source) {
            self.replace_upper(at, value);
        }
    }

    /// Set the destination port or ICMP echo identifier; nothing happens to packets that have neither.
    pub fn set_destination_value(&mut self, value: u16) {
        if let Some(at) = self.layout.value_offset(Side::Destination) {
            self.replace_upper(at, value);
        }
    }

    /// Set the two ECN bits.
    pub fn set_ecn(&mut self, ecn: u8) {
        let version = self.layout.version;
        let bytes = self.bytes.as_mut();
        match version {
            Version::V4 => {
                let old = [bytes[0], bytes[1]];
                let new = [bytes[0], (bytes[1] & !0b11) | (ecn & 0b11)];
                bytes[1] = new[1];
                adjust_field(bytes, 10, &old, &new);
            }
            Version::V6 => bytes[1] = (bytes[1] & !(0b11 << 4)) | ((ecn & 0b11) << 4),
        }
    }

    /// Carry congestion seen on the outer packet inward: CE is written over ECT only (RFC 6040 §4.2, data-plane §2.6).
    pub fn mark_congestion(&mut self) {
        if matches!(self.ecn(), 1 | 2) {
            self.set_ecn(3);
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut()
    }

    fn replace_address<const N: usize>(&mut self, at: usize, new: &[u8; N]) {
        let layout = self.layout;
        let bytes = self.bytes.as_mut();
        let mut old = [0u8; N];
        old.copy_from_slice(&bytes[at..at + N]);
        bytes[at..at + N].copy_from_slice(new);
        if layout.version == Version::V4 {
            adjust_field(bytes, 10, &old, new);
        }
        if layout.has_pseudo_header() {
            layout.adjust_upper_checksum(bytes, &old, new);
        }
    }

    fn replace_upper(&mut self, at: usize, value: u16) {
        let layout = self.layout;
        let bytes = self.bytes.as_mut();
        let old = [bytes[at], bytes[at + 1]];
        let new = value.to_be_bytes();
        bytes[at..at + 2].copy_from_slice(&new);
        layout.adjust_upper_checksum(bytes, &old, &new);
    }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

impl Layout {
    fn of(bytes: &[u8]) -> Result<Layout, Rejected> {
        let (version, protocol, upper) = match bytes.first().map(|byte| byte >> 4) {
            Some(4) => ipv4_upper(bytes)?,
            Some(6) => ipv6_upper(bytes)?,
            Some(_) => return Err(Rejected::Version),
            None => return Err(Rejected::Truncated),
        };
        let kind = upper_kind(version, protocol, &bytes[upper..])?;
        let upper = u16::try_from(upper).map_err(|_| Rejected::Length)?;
        Ok(Layout {
            version,
            kind,
            protocol,
            upper,
        })
    }

    fn is_icmp(self) -> bool {
        matches!(
            self.kind,
            Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError | Kind::IcmpOther
        )
    }

    fn has_pseudo_header(self) -> bool {
        match self.kind {
            Kind::Tcp | Kind::Udp => true,
            Kind::Other => false,
            _ => self.version == Version::V6,
        }
    }

    fn value_offset(self, side: Side) -> Option<usize> {
        let within = match (self.kind, side) {
            (Kind::Tcp | Kind::Udp, Side::Source) => 0,
            (Kind::Tcp | Kind::Udp, Side::Destination) => 2,
            (Kind::EchoRequest | Kind::EchoReply, _) => 4,
            _ => return None,
        };
        Some(usize::from(self.upper) + within)
    }

    fn checksum_offset(self) -> Option<usize> {
        let within = match self.kind {
            Kind::Tcp => 16,
            Kind::Udp => 6,
            Kind::Other => return None,
            _ => 2,
        };
        Some(usize::from(self.upper) + within)
    }

    /// A UDP checksum of zero says "not computed"; such a packet stays unchecked through every edit.
    fn is_unchecked_udp(self, bytes: &[u8], at: usize) -> bool {
        self.kind == Kind::Udp && bytes[at..at + 2] == [0, 0]
    }

    fn adjust_upper_checksum(self, bytes: &mut [u8], old: &[u8], new: &[u8]) {
        let Some(at) = self.checksum_offset() else {
            return;
        };
        if self.is_unchecked_udp(bytes, at) {
            return;
        }
        adjust_field(bytes, at, old, new);
        if self.is_unchecked_udp(bytes, at) {
            bytes[at..at + 2].copy_from_slice(&[0xff, 0xff]); // RFC 768: a computed zero is sent as all ones
        }
    }
}

fn ipv4_upper(bytes: &[u8]) -> Result<(Version, u8, usize), Rejected> {
    if bytes.len() < IPV4_HEADER {
        return Err(Rejected::Truncated);
    }
    let header = usize::from(bytes[0] & 0x0f) * 4;
    if header < IPV4_HEADER || header > bytes.len() {
        return Err(Rejected::Truncated);
    }
    if usize::from(be16(&bytes[2..])) != bytes.len() {
        return Err(Rejected::Length);
    }
    if be16(&bytes[6..]) & 0x3fff != 0 {
        return Err(Rejected::Fragment); // more-fragments flag or an offset
    }
    Ok((Version::V4, bytes[9], header))
}

fn ipv6_upper(bytes: &[u8]) -> Result<(Version, u8, usize), Rejected> {
    if bytes.len() < IPV6_HEADER {
        return Err(Rejected::Truncated);
    }
    if IPV6_HEADER + usize::from(be16(&bytes[4..])) != bytes.len() {
        return Err(Rejected::Length);
    }
    let mut next = bytes[6];
    let mut at = IPV6_HEADER;
    // Ends: every extension header is at least 8 bytes long.
    while let Some(extension) = Extension::of(next) {
        let header = bytes.get(at..at + 8).ok_or(Rejected::Truncated)?;
        match extension {
            Extension::Fragment if be16(&header[2..]) & 0xfff9 != 0 => {
                return Err(Rejected::Fragment);
            }
            // The packet would travel on to an address that no filter saw.
            Extension::Routing if header[3] != 0 => return Err(Rejected::SourceRoute),
            _ => {}
        }
        next = header[0];
        at += extension.length(header[1]);
        if at > bytes.len() {
            return Err(Rejected::Truncated);
        }
    }
    Ok((Version::V6, next, at))
}

/// IPv6 extension headers (IANA registry); encapsulating security payload hides what follows and ends the walk.
pub(crate) enum Extension {
    Options,
    Routing,
    Fragment,
    Authentication,
}

impl Extension {
    pub(crate) fn of(next_header: u8) -> Option<Extension> {
        match next_header {
            0 | 60 | 135 | 139 | 140 => Some(Extension::Options),
            43 => Some(Extension::Routing),
            44 => Some(Extension::Fragment),
            51 => Some(Extension::Authentication),
            _ => None,
        }
    }

    pub(crate) fn length(&self, length_field: u8) -> usize {
        match self {
            Extension::Fragment => 8,
            Extension::Authentication => (usize::from(length_field) + 2) * 4,
            Extension::Options | Extension::Routing => (usize::from(length_field) + 1) * 8,
        }
    }
}

fn upper_kind(version: Version, protocol: u8, upper: &[u8]) -> Result<Kind, Rejected> {
    match (version, protocol) {
        (_, TCP) => {
            if upper.len() < TCP_HEADER {
                return Err(Rejected::Truncated);
            }
            let header = usize::from(upper[12] >> 4) * 4;
            if header < TCP_HEADER || header > upper.len() {
                return Err(Rejected::Truncated);
            }
            Ok(Kind::Tcp)
        }
        (_, UDP) => {
            if upper.len() < UDP_HEADER {
                return Err(Rejected::Truncated);
            }
            if usize::from(be16(&upper[4..])) != upper.len() {
                return Err(Rejected::Length);
            }
            Ok(Kind::Udp)
        }
        (Version::V4, ICMP) | (Version::V6, ICMPV6) => {
            if upper.len() < ICMP_HEADER {
                return Err(Rejected::Truncated);
            }
            Ok(icmp_kind(version, upper[0]))
        }
        _ => Ok(Kind::Other),
    }
}

pub(crate) fn icmp_kind(version: Version, icmp_type: u8) -> Kind {
    match (version, icmp_type) {
        (Version::V4, 8) | (Version::V6, 128) => Kind::EchoRequest,
        (Version::V4, 0) | (Version::V6, 129) => Kind::EchoReply,
        // Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
        (Version::V4, 3 | 4 | 5 | 11 | 12) => Kind::IcmpError,
        // RFC 4443 §2.1: types with a zero high bit are errors.
        (Version::V6, 0..=127) => Kind::IcmpError,
        _ => Kind::IcmpOther,
    }
}

pub(crate) fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

pub(crate) fn ipv4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

pub(crate) fn ipv6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0u8; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(octets)
}

pub(crate) fn adjust_field(bytes: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    let field = checksum::adjust(be16(&bytes[at..]), old, new);
    bytes[at..at + 2].copy_from_slice(&field.to_be_bytes());
}
