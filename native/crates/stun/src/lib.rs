//! STUN and TURN messages (RFC 8489, RFC 8656) as bytes: parse borrowed, encode into a `Vec`.
//!
//! [`Message::parse`] checks the header only and borrows the datagram; attributes are decoded when asked for, so that a
//! server can tell "no STUN at all" (silence) from "STUN with a bad attribute" ([`Message::validate`], error 400).
//! [`MessageBuilder`] appends attributes in call order: peers and vectors depend on it. [`ChannelData`] is the frame
//! that carries relayed payload.
//!
//! Deliberately absent: TCP framing, Send and Data indications, MESSAGE-INTEGRITY-SHA256, SASLprep. No peer of this
//! system uses them (relay §10). Connectivity checks between peers are the ICE agent's.
#![forbid(unsafe_code)]

mod attribute;
mod builder;
mod channel_data;
mod integrity;
mod message;

pub use attribute::{AddressFamily, AttributeType, ErrorCode};
pub use builder::MessageBuilder;
pub use channel_data::{CHANNEL_HEADER, ChannelData, FIRST_CHANNEL, LAST_CHANNEL, channel_header};
pub use integrity::{Integrity, IntegrityKey};
pub use message::{Class, Malformed, Message, Method, NotStun, TransactionId};

/// Protocol number of UDP in REQUESTED-TRANSPORT, the only transport that is relayed.
pub const TRANSPORT_UDP: u8 = 17;

/// Shape of a datagram that arrives at a port which speaks STUN and channel data (RFC 8656 §12, relay §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Stun,
    ChannelData,
}

/// Judge a datagram by its first byte; `None` is neither.
pub fn shape(datagram: &[u8]) -> Option<Shape> {
    match datagram.first()? {
        0..=3 => Some(Shape::Stun),
        0x40..=0x4f => Some(Shape::ChannelData),
        _ => None,
    }
}
