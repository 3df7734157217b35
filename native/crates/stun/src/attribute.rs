//! Attribute types and the encoding of their values (RFC 8489 §14, RFC 8656 §18).

use crate::message::MAGIC_COOKIE;
use crate::{FIRST_CHANNEL, LAST_CHANNEL, TransactionId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributeType(pub u16);

impl AttributeType {
    pub const USERNAME: Self = Self(0x0006);
    pub const MESSAGE_INTEGRITY: Self = Self(0x0008);
    pub const ERROR_CODE: Self = Self(0x0009);
    pub const CHANNEL_NUMBER: Self = Self(0x000c);
    pub const LIFETIME: Self = Self(0x000d);
    pub const XOR_PEER_ADDRESS: Self = Self(0x0012);
    pub const REALM: Self = Self(0x0014);
    pub const NONCE: Self = Self(0x0015);
    pub const XOR_RELAYED_ADDRESS: Self = Self(0x0016);
    pub const REQUESTED_ADDRESS_FAMILY: Self = Self(0x0017);
    pub const REQUESTED_TRANSPORT: Self = Self(0x0019);
    pub const XOR_MAPPED_ADDRESS: Self = Self(0x0020);
    pub const ADDITIONAL_ADDRESS_FAMILY: Self = Self(0x8000);
    pub const SOFTWARE: Self = Self(0x8022);
    pub const FINGERPRINT: Self = Self(0x8028);

    /// Whether `value` decodes; always true for types that this crate does not decode.
    pub(crate) fn accepts(self, value: &[u8], transaction_id: TransactionId) -> bool {
        match self {
            Self::USERNAME => username(value).is_some(),
            Self::REALM | Self::NONCE | Self::SOFTWARE => short_text(value).is_some(),
            Self::MESSAGE_INTEGRITY => value.len() == 20,
            Self::ERROR_CODE => ErrorCode::decode(value).is_some(),
            Self::CHANNEL_NUMBER => channel_number(value).is_some(),
            Self::LIFETIME => lifetime(value).is_some(),
            Self::REQUESTED_TRANSPORT => transport(value).is_some(),
            Self::REQUESTED_ADDRESS_FAMILY | Self::ADDITIONAL_ADDRESS_FAMILY => {
                AddressFamily::decode(value).is_some()
            }
            Self::XOR_PEER_ADDRESS | Self::XOR_RELAYED_ADDRESS | Self::XOR_MAPPED_ADDRESS => {
                xor_address(value, transaction_id).is_some()
            }
            _ => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    V4,
    V6,
}

impl AddressFamily {
    pub fn of(address: IpAddr) -> AddressFamily {
        if address.is_ipv4() {
            AddressFamily::V4
        } else {
            AddressFamily::V6
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            AddressFamily::V4 => 1,
            AddressFamily::V6 => 2,
        }
    }

    pub(crate) fn decode(value: &[u8]) -> Option<AddressFamily> {
        match value {
            [1, _, _, _] => Some(AddressFamily::V4),
            [2, _, _, _] => Some(AddressFamily::V6),
            _ => None,
        }
    }
}

/// Value of ERROR-CODE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// 300 to 699.
    pub code: u16,
    pub reason: &'a str,
}

impl<'a> ErrorCode<'a> {
    pub(crate) fn decode(value: &'a [u8]) -> Option<ErrorCode<'a>> {
        let [_, _, class, number, reason @ ..] = value else {
            return None;
        };
        let class = class & 0b111;
        if !(3..=6).contains(&class) || *number > 99 {
            return None;
        }
        let reason = std::str::from_utf8(reason).ok()?;
        Some(ErrorCode {
            code: u16::from(class) * 100 + u16::from(*number),
            reason,
        })
    }
}

/// At most 512 bytes (RFC 8489 §14.3).
pub(crate) fn username(value: &[u8]) -> Option<&str> {
    if value.len() > 512 {
        return None;
    }
    std::str::from_utf8(value).ok()
}

/// Fewer than 128 characters: REALM, NONCE, SOFTWARE (RFC 8489 §14.9, 14.10, 14.14).
pub(crate) fn short_text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.chars().count() < 128)
}

pub(crate) fn channel_number(value: &[u8]) -> Option<u16> {
    let [high, low, _, _] = value else {
        return None;
    };
    let number = u16::from_be_bytes([*high, *low]);
    (FIRST_CHANNEL..=LAST_CHANNEL)
        .contains(&number)
        .then_some(number)
}

pub(crate) fn lifetime(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

pub(crate) fn transport(value: &[u8]) -> Option<u8> {
    let [protocol, _, _, _] = value else {
        return None;
    };
    Some(*protocol)
}

pub(crate) fn xor_address(value: &[u8], transaction_id: TransactionId) -> Option<SocketAddr> {
    let [_, family, port_high, port_low, address @ ..] = value else {
        return None;
    };
    let port = u16::from_be_bytes([*port_high, *port_low]) ^ (MAGIC_COOKIE >> 16) as u16;
    let address = match family {
        1 => {
            let octets: [u8; 4] = address.try_into().ok()?;
            IpAddr::V4(Ipv4Addr::from(u32::from_be_bytes(octets) ^ MAGIC_COOKIE))
        }
        2 => {
            let octets: [u8; 16] = address.try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(
                u128::from_be_bytes(octets) ^ ipv6_mask(transaction_id),
            ))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Encoded value and its length: 8 bytes for IPv4, 20 for IPv6.
pub(crate) fn encode_xor_address(
    address: SocketAddr,
    transaction_id: TransactionId,
) -> ([u8; 20], usize) {
    let mut value = [0u8; 20];
    value[2..4].copy_from_slice(&(address.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&(u32::from(v4) ^ MAGIC_COOKIE).to_be_bytes());
            (value, 8)
        }
        IpAddr::V6(v6) => {
            value[1] = 2;
            value[4..20]
                .copy_from_slice(&(u128::from(v6) ^ ipv6_mask(transaction_id)).to_be_bytes());
            (value, 20)
        }
    }
}

fn ipv6_mask(transaction_id: TransactionId) -> u128 {
    let mut mask = [0u8; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&transaction_id.0);
    u128::from_be_bytes(mask)
}
