//! The four messages, by type and size (paper §5.4), integers little-endian.
//!
//! ```text
//! initiation  1,0,0,0 | sender 4 | ephemeral 32 | static 48 | timestamp 28 | mac1 16 | mac2 16        = 148
//! response    2,0,0,0 | sender 4 | receiver 4 | ephemeral 32 | empty 16 | mac1 16 | mac2 16           =  92
//! cookie      3,0,0,0 | receiver 4 | nonce 24 | cookie 32                                             =  64
//! data        4,0,0,0 | receiver 4 | counter 8 | packet n | tag 16                                    = n + 32
//! ```

use std::ops::Range;

pub const INITIATION_SIZE: usize = 148;
pub const RESPONSE_SIZE: usize = 92;
pub const COOKIE_REPLY_SIZE: usize = 64;
pub const DATA_HEADER_SIZE: usize = 16;
pub const TAG_SIZE: usize = 16;
/// What a data message adds to its packet: header and authentication tag, bytes.
pub const DATA_OVERHEAD: usize = DATA_HEADER_SIZE + TAG_SIZE;

pub(crate) const MAC_SIZE: usize = 16;

/// Where the fields of an initiation lie.
pub(crate) mod initiation {
    use super::Range;
    pub const SENDER: Range<usize> = 4..8;
    pub const EPHEMERAL: Range<usize> = 8..40;
    pub const STATIC: Range<usize> = 40..88;
    pub const TIMESTAMP: Range<usize> = 88..116;
}

/// Where the fields of a response lie.
pub(crate) mod response {
    use super::Range;
    pub const SENDER: Range<usize> = 4..8;
    pub const RECEIVER: Range<usize> = 8..12;
    pub const EPHEMERAL: Range<usize> = 12..44;
    pub const EMPTY: Range<usize> = 44..60;
}

/// Where the fields of a cookie reply lie.
pub(crate) mod cookie_reply {
    use super::Range;
    pub const RECEIVER: Range<usize> = 4..8;
    pub const NONCE: Range<usize> = 8..32;
    pub const COOKIE: Range<usize> = 32..64;
}

/// Where the fields of a data message lie.
pub(crate) mod data {
    use super::Range;
    pub const RECEIVER: Range<usize> = 4..8;
    pub const COUNTER: Range<usize> = 8..16;
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MessageKind {
    Initiation,
    Response,
    CookieReply,
    Data,
}

impl MessageKind {
    /// The first four bytes of a message: its type and three reserved zeros.
    pub(crate) const fn header(self) -> [u8; 4] {
        match self {
            Self::Initiation => [1, 0, 0, 0],
            Self::Response => [2, 0, 0, 0],
            Self::CookieReply => [3, 0, 0, 0],
            Self::Data => [4, 0, 0, 0],
        }
    }
}

/// Say which WireGuard message a datagram is; `None`: none. Handshake messages have exactly one size, data messages a least one.
#[must_use]
pub fn classify(datagram: &[u8]) -> Option<MessageKind> {
    let header = datagram.first_chunk::<4>()?;
    match (*header, datagram.len()) {
        ([1, 0, 0, 0], INITIATION_SIZE) => Some(MessageKind::Initiation),
        ([2, 0, 0, 0], RESPONSE_SIZE) => Some(MessageKind::Response),
        ([3, 0, 0, 0], COOKIE_REPLY_SIZE) => Some(MessageKind::CookieReply),
        ([4, 0, 0, 0], DATA_OVERHEAD..) => Some(MessageKind::Data),
        _ => None,
    }
}

/// Read the index that the receiver gave to a session; its upper 24 bits name our tunnel ([`crate::TunnelConfig::index`]).
///
/// `None` for initiations, which carry none, and for datagrams that are no WireGuard message.
#[must_use]
pub fn receiver_index(datagram: &[u8]) -> Option<u32> {
    let range = match classify(datagram)? {
        MessageKind::Initiation => return None,
        MessageKind::Response => response::RECEIVER,
        MessageKind::CookieReply => cookie_reply::RECEIVER,
        MessageKind::Data => data::RECEIVER,
    };
    Some(u32::from_le_bytes(field(datagram, range)))
}

/// Copy the `N` bytes at `range` of a message whose size was checked.
pub(crate) fn field<const N: usize>(message: &[u8], range: Range<usize>) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&message[range]);
    bytes
}

/// Where mac1 begins in an initiation or a response; mac2 follows it and ends the message.
pub(crate) const fn mac1_offset(message_size: usize) -> usize {
    message_size - 2 * MAC_SIZE
}
