//! MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 §14.5, §14.7).

use crate::message::HEADER;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;

const INTEGRITY_ATTRIBUTE: usize = 24;
const FINGERPRINT_ATTRIBUTE: usize = 8;
const FINGERPRINT_MASK: u32 = 0x5354_554e;

/// Outcome of a check of MESSAGE-INTEGRITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    Valid,
    Missing,
    Wrong,
}

/// Key of MESSAGE-INTEGRITY, ready for use on many messages.
#[derive(Clone)]
pub struct IntegrityKey(Hmac<Sha1>);

impl IntegrityKey {
    /// MD5 of `username:realm:password` (RFC 8489 §9.2.2), without SASLprep.
    pub fn long_term(username: &str, realm: &str, password: &str) -> IntegrityKey {
        let mut digest = Md5::new();
        for part in [username, ":", realm, ":", password] {
            digest.update(part);
        }
        Self::from_bytes(&digest.finalize())
    }

    /// The password itself (RFC 8489 §9.1.1).
    pub fn short_term(password: &str) -> IntegrityKey {
        Self::from_bytes(password.as_bytes())
    }

    fn from_bytes(key: &[u8]) -> IntegrityKey {
        // HMAC takes keys of any length; the error type exists for other MACs of the trait.
        IntegrityKey(
            Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC accepts any key")),
        )
    }

    /// `message` ends where MESSAGE-INTEGRITY begins.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 20] {
        self.absorb(message).finalize().into_bytes().into()
    }

    pub(crate) fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        self.absorb(message).verify_slice(tag).is_ok()
    }

    /// The length field is taken as if the message ended with MESSAGE-INTEGRITY.
    fn absorb(&self, message: &[u8]) -> Hmac<Sha1> {
        let length = (message.len() - HEADER + INTEGRITY_ATTRIBUTE) as u16;
        let mut mac = self.0.clone();
        mac.update(&message[..2]);
        mac.update(&length.to_be_bytes());
        mac.update(&message[4..]);
        mac
    }
}

impl std::fmt::Debug for IntegrityKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("IntegrityKey(…)")
    }
}

/// CRC-32 of a message that ends where FINGERPRINT begins, masked; the length field counts FINGERPRINT.
pub(crate) fn fingerprint(message: &[u8]) -> u32 {
    let length = (message.len() - HEADER + FINGERPRINT_ATTRIBUTE) as u16;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&message[..2]);
    crc.update(&length.to_be_bytes());
    crc.update(&message[4..]);
    crc.finalize() ^ FINGERPRINT_MASK
}
