//! Encoding of STUN messages.

use crate::attribute::{self, AddressFamily, AttributeType};
use crate::integrity::{IntegrityKey, fingerprint};
use crate::message::{Class, HEADER, MAGIC_COOKIE, Method, TransactionId, encode_type};
use std::net::SocketAddr;

/// Appends attributes in the order of the calls; [`finish`](Self::finish) gives the datagram.
///
/// Values longer than a message can hold are cut: no caller has any, and a short answer beats a panic.
#[derive(Debug)]
pub struct MessageBuilder {
    bytes: Vec<u8>,
    transaction_id: TransactionId,
}

impl MessageBuilder {
    pub fn new(class: Class, method: Method, transaction_id: TransactionId) -> MessageBuilder {
        Self::reusing(Vec::with_capacity(192), class, method, transaction_id)
    }

    /// As [`new`](Self::new), in the memory of `buffer`, whose content is discarded.
    pub fn reusing(
        mut buffer: Vec<u8>,
        class: Class,
        method: Method,
        transaction_id: TransactionId,
    ) -> MessageBuilder {
        buffer.clear();
        buffer.extend_from_slice(&encode_type(class, method).to_be_bytes());
        buffer.extend_from_slice(&[0, 0]);
        buffer.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        buffer.extend_from_slice(&transaction_id.0);
        MessageBuilder {
            bytes: buffer,
            transaction_id,
        }
    }

    pub fn attribute(mut self, kind: AttributeType, value: &[u8]) -> Self {
        const LARGEST_VALUE: usize = 1024;
        let value = &value[..value.len().min(LARGEST_VALUE)];
        self.bytes.extend_from_slice(&kind.0.to_be_bytes());
        self.bytes
            .extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    pub fn software(self, text: &str) -> Self {
        self.attribute(AttributeType::SOFTWARE, text.as_bytes())
    }

    pub fn username(self, text: &str) -> Self {
        self.attribute(AttributeType::USERNAME, text.as_bytes())
    }

    pub fn realm(self, text: &str) -> Self {
        self.attribute(AttributeType::REALM, text.as_bytes())
    }

    pub fn nonce(self, text: &str) -> Self {
        self.attribute(AttributeType::NONCE, text.as_bytes())
    }

    pub fn lifetime(self, seconds: u32) -> Self {
        self.attribute(AttributeType::LIFETIME, &seconds.to_be_bytes())
    }

    /// `protocol` is an IP protocol number, [`TRANSPORT_UDP`](crate::TRANSPORT_UDP).
    pub fn requested_transport(self, protocol: u8) -> Self {
        self.attribute(AttributeType::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0])
    }

    pub fn requested_address_family(self, family: AddressFamily) -> Self {
        self.attribute(
            AttributeType::REQUESTED_ADDRESS_FAMILY,
            &[family.code(), 0, 0, 0],
        )
    }

    pub fn additional_address_family(self, family: AddressFamily) -> Self {
        self.attribute(
            AttributeType::ADDITIONAL_ADDRESS_FAMILY,
            &[family.code(), 0, 0, 0],
        )
    }

    pub fn channel_number(self, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        self.attribute(AttributeType::CHANNEL_NUMBER, &[high, low, 0, 0])
    }

    pub fn xor_peer_address(self, address: SocketAddr) -> Self {
        self.xor_address(AttributeType::XOR_PEER_ADDRESS, address)
    }

    pub fn xor_relayed_address(self, address: SocketAddr) -> Self {
        self.xor_address(AttributeType::XOR_RELAYED_ADDRESS, address)
    }

    pub fn xor_mapped_address(self, address: SocketAddr) -> Self {
        self.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address)
    }

    /// `code` is 300 to 699.
    pub fn error_code(self, code: u16, reason: &str) -> Self {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend_from_slice(reason.as_bytes());
        self.attribute(AttributeType::ERROR_CODE, &value)
    }

    /// MESSAGE-INTEGRITY over everything so far.
    pub fn sign(self, key: &IntegrityKey) -> Self {
        let tag = key.sign(&self.bytes);
        self.attribute(AttributeType::MESSAGE_INTEGRITY, &tag)
    }

    /// FINGERPRINT over everything so far; the last attribute.
    pub fn fingerprint(self) -> Self {
        let value = fingerprint(&self.bytes);
        self.attribute(AttributeType::FINGERPRINT, &value.to_be_bytes())
    }

    pub fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() - HEADER) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
        self.bytes
    }

    fn xor_address(self, kind: AttributeType, address: SocketAddr) -> Self {
        let (value, length) = attribute::encode_xor_address(address, self.transaction_id);
        self.attribute(kind, &value[..length])
    }
}
