//! IP packets as the tunnel carries them: parse, check, edit in place, build the few we originate.
//!
//! [`IpPacket`] is a view over borrowed or owned bytes. [`IpPacket::parse`] admits exactly what a tunnel accepts
//! (data-plane §2.6) and remembers where the headers lie, so that every accessor afterwards is infallible and every
//! edit patches checksums incrementally (RFC 1624). Nothing here allocates except the builders of whole packets
//! ([`icmp_error`], [`ControlPacket::encode`], [`build`]), none of which stands on the path of forwarded traffic.
//!
//! Deliberately absent: packets in fragments ([`IpPacket::parse`] rejects them; [`Fragment`] reads one), NAT64,
//! verification of checksums on the forwarding path (an edit keeps a wrong checksum wrong, so the end host still
//! finds out).
#![forbid(unsafe_code)]

pub mod build;
pub mod checksum;
mod control;
mod fragment;
mod icmp_error;
mod ip_packet;
pub mod offload;

pub use control::{ControlEvent, ControlPacket, ControlTooLarge, MAX_CONTROL_BODY};
pub use fragment::{Cut, Fragment, FragmentId, finish_whole};
pub use icmp_error::{
    GENERATED_HOP_LIMIT, IcmpErrorKind, Quoted, Unreachable, Untranslatable, icmp_error,
};
pub use ip_packet::{
    IpPacket, Kind, MAX_INNER_PACKET, Rejected, TcpFlags, Version, WrongFamily, declared_length,
};
