//! A STUN message borrowed from a datagram.

use crate::attribute::{self, AddressFamily, AttributeType, ErrorCode};
use crate::integrity::{Integrity, IntegrityKey, fingerprint};
use std::net::SocketAddr;

pub(crate) const MAGIC_COOKIE: u32 = 0x2112_a442;
pub(crate) const HEADER: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;
const INTEGRITY_LENGTH: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub [u8; 12]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A 12-bit STUN method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method(pub u16);

impl Method {
    pub const BINDING: Self = Self(0x001);
    pub const ALLOCATE: Self = Self(0x003);
    pub const REFRESH: Self = Self(0x004);
    pub const CREATE_PERMISSION: Self = Self(0x008);
    pub const CHANNEL_BIND: Self = Self(0x009);
}

/// The bytes have no STUN header, or its length is not that of the datagram: not ours, or cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a STUN message")]
pub struct NotStun;

/// An attribute does not decode: the peer's fault, answer 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("attribute exceeds the message")]
    Framing,
    #[error("attribute {0:#06x} does not decode")]
    Value(u16),
}

/// A message whose header is right; its attributes are decoded on access.
///
/// Accessors give the first attribute of a type (RFC 8489 §14) and `None` when it is absent or does not decode.
/// Attributes behind MESSAGE-INTEGRITY are not covered by it and are ignored, except FINGERPRINT (RFC 8489 §14.5).
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    pub fn parse(datagram: &'a [u8]) -> Result<Message<'a>, NotStun> {
        if datagram.len() < HEADER || datagram[0] & 0xc0 != 0 {
            return Err(NotStun);
        }
        let length = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
        let cookie = u32::from_be_bytes([datagram[4], datagram[5], datagram[6], datagram[7]]);
        if cookie != MAGIC_COOKIE || length % 4 != 0 || HEADER + length != datagram.len() {
            return Err(NotStun);
        }
        Ok(Message { bytes: datagram })
    }

    pub fn class(&self) -> Class {
        match self.message_type() & 0x0110 {
            0x0000 => Class::Request,
            0x0010 => Class::Indication,
            0x0100 => Class::Success,
            _ => Class::Error,
        }
    }

    pub fn method(&self) -> Method {
        let t = self.message_type();
        Method((t & 0x000f) | ((t & 0x00e0) >> 1) | ((t & 0x3e00) >> 2))
    }

    pub fn transaction_id(&self) -> TransactionId {
        let mut id = [0u8; 12];
        id.copy_from_slice(&self.bytes[8..HEADER]);
        TransactionId(id)
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether all attributes lie within the message and all known ones decode.
    pub fn validate(&self) -> Result<(), Malformed> {
        let mut attributes = self.attributes();
        let id = self.transaction_id();
        for (kind, value) in &mut attributes {
            if !kind.accepts(value, id) {
                return Err(Malformed::Value(kind.0));
            }
        }
        if attributes.broken {
            Err(Malformed::Framing)
        } else {
            Ok(())
        }
    }

    /// Types and values in order, up to MESSAGE-INTEGRITY and FINGERPRINT; stops where the framing is broken.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes {
            bytes: self.bytes,
            at: HEADER,
            sealed: false,
            broken: false,
        }
    }

    /// Value of the first attribute of this type.
    pub fn attribute(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attributes()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    pub fn username(&self) -> Option<&'a str> {
        attribute::username(self.attribute(AttributeType::USERNAME)?)
    }

    pub fn realm(&self) -> Option<&'a str> {
        attribute::short_text(self.attribute(AttributeType::REALM)?)
    }

    pub fn nonce(&self) -> Option<&'a str> {
        attribute::short_text(self.attribute(AttributeType::NONCE)?)
    }

    pub fn software(&self) -> Option<&'a str> {
        attribute::short_text(self.attribute(AttributeType::SOFTWARE)?)
    }

    pub fn error_code(&self) -> Option<ErrorCode<'a>> {
        ErrorCode::decode(self.attribute(AttributeType::ERROR_CODE)?)
    }

    pub fn channel_number(&self) -> Option<u16> {
        attribute::channel_number(self.attribute(AttributeType::CHANNEL_NUMBER)?)
    }

    /// Seconds.
    pub fn lifetime(&self) -> Option<u32> {
        attribute::lifetime(self.attribute(AttributeType::LIFETIME)?)
    }

    /// IP protocol number.
    pub fn requested_transport(&self) -> Option<u8> {
        attribute::transport(self.attribute(AttributeType::REQUESTED_TRANSPORT)?)
    }

    pub fn requested_address_family(&self) -> Option<AddressFamily> {
        AddressFamily::decode(self.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY)?)
    }

    pub fn additional_address_family(&self) -> Option<AddressFamily> {
        AddressFamily::decode(self.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY)?)
    }

    pub fn xor_mapped_address(&self) -> Option<SocketAddr> {
        self.xor_address(AttributeType::XOR_MAPPED_ADDRESS)
    }

    pub fn xor_peer_address(&self) -> Option<SocketAddr> {
        self.xor_address(AttributeType::XOR_PEER_ADDRESS)
    }

    /// All relayed addresses: a dual-stack allocation has one of each family (RFC 8656 §7.3).
    pub fn xor_relayed_addresses(&self) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let id = self.transaction_id();
        self.attributes()
            .filter(|(kind, _)| *kind == AttributeType::XOR_RELAYED_ADDRESS)
            .filter_map(move |(_, value)| attribute::xor_address(value, id))
    }

    pub fn has_integrity(&self) -> bool {
        self.attribute(AttributeType::MESSAGE_INTEGRITY).is_some()
    }

    /// Compare MESSAGE-INTEGRITY with `key`, in constant time.
    pub fn integrity(&self, key: &IntegrityKey) -> Integrity {
        let mut attributes = self.attributes();
        while let Some((kind, value)) = attributes.next() {
            if kind != AttributeType::MESSAGE_INTEGRITY {
                continue;
            }
            if value.len() != INTEGRITY_LENGTH {
                return Integrity::Wrong;
            }
            let covered = &self.bytes[..attributes.at - ATTRIBUTE_HEADER - INTEGRITY_LENGTH];
            return if key.verify(covered, value) {
                Integrity::Valid
            } else {
                Integrity::Wrong
            };
        }
        Integrity::Missing
    }

    /// Whether the message ends in a right FINGERPRINT.
    pub fn has_valid_fingerprint(&self) -> bool {
        let Some((covered, [0x80, 0x28, 0, 4, value @ ..])) = self.bytes.split_last_chunk::<8>()
        else {
            return false;
        };
        covered.len() >= HEADER && *value == fingerprint(covered).to_be_bytes()
    }

    fn xor_address(&self, kind: AttributeType) -> Option<SocketAddr> {
        attribute::xor_address(self.attribute(kind)?, self.transaction_id())
    }

    fn message_type(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }
}

/// Iterator of [`Message::attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
    sealed: bool,
    broken: bool,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (AttributeType, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some([kind_high, kind_low, length_high, length_low]) =
            self.bytes.get(self.at..self.at + ATTRIBUTE_HEADER)
        {
            let kind = AttributeType(u16::from_be_bytes([*kind_high, *kind_low]));
            let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
            let start = self.at + ATTRIBUTE_HEADER;
            let Some(value) = self.bytes.get(start..start + length) else {
                self.broken = true;
                return None;
            };
            self.at = start + length.next_multiple_of(4);
            if !self.sealed || kind == AttributeType::FINGERPRINT {
                self.sealed |=
                    kind == AttributeType::MESSAGE_INTEGRITY || kind == AttributeType::FINGERPRINT;
                return Some((kind, value));
            }
        }
        None
    }
}

pub(crate) fn encode_type(class: Class, method: Method) -> u16 {
    let class = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::Success => 0x0100,
        Class::Error => 0x0110,
    };
    class | (method.0 & 0x000f) | ((method.0 & 0x0070) << 1) | ((method.0 & 0x0f80) << 2)
}
