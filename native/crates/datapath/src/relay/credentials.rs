//! Who may allocate: credentials derived from the stamp secret, and nonces that need no memory (relay §3).
//!
//! ```text
//! username = "{expiry, Unix seconds}:{salt}"
//! password = base64( SHA-256( "{expiry}:{stamp secret}:{salt}" ) ), without padding
//! nonce    = UUID text of  u32 seconds since start | first 12 bytes of HMAC-SHA256(own key, seconds | client socket)
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use wardgate_stun::{Integrity, IntegrityKey, Message};

/// Realm of every credential; clients refuse any other (relay §2.4).
pub(super) const REALM: &str = "firezone";

/// How long a nonce is accepted from the socket that it was issued to. Ours; clients renew at once on 438.
const NONCE_LIFETIME: Duration = Duration::from_secs(3_600);

const NONCE_TAG: usize = 12;

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthFailure {
    /// 401: something is missing, expired, or the signature is wrong.
    Unauthorized,
    /// 438.
    StaleNonce,
}

/// An authenticated request's sender.
pub(super) struct Credential<'a> {
    pub(super) username: &'a str,
    pub(super) key: IntegrityKey,
}

pub(super) struct Gatekeeper {
    stamp_secret: String,
    nonce_mac: Hmac<Sha256>,
    epoch: Instant,
    /// Wall time, Unix epoch to `wall_at`.
    wall: Duration,
    wall_at: Instant,
}

impl Gatekeeper {
    pub(super) fn new(
        stamp_secret: String,
        nonce_key: [u8; 32],
        epoch: Instant,
        unix_at_epoch: Duration,
    ) -> Gatekeeper {
        let nonce_mac = Hmac::new_from_slice(&nonce_key)
            .unwrap_or_else(|_| unreachable!("HMAC accepts any key"));
        Gatekeeper {
            stamp_secret,
            nonce_mac,
            epoch,
            wall: unix_at_epoch,
            wall_at: epoch,
        }
    }

    pub(super) fn set_wall_clock(&mut self, unix: Duration, now: Instant) {
        (self.wall, self.wall_at) = (unix, now);
    }

    /// The checks of relay §3.3 in their order.
    pub(super) fn authenticate<'a>(
        &self,
        request: &Message<'a>,
        from: SocketAddr,
        now: Instant,
    ) -> Result<Credential<'a>, AuthFailure> {
        if !request.has_integrity() {
            return Err(AuthFailure::Unauthorized);
        }
        let username = request.username().ok_or(AuthFailure::Unauthorized)?;
        let nonce = request
            .nonce()
            .and_then(parse_nonce)
            .ok_or(AuthFailure::Unauthorized)?;
        if !self.is_fresh(&nonce, from, now) {
            return Err(AuthFailure::StaleNonce);
        }
        self.verify(username, request, now)
            .ok_or(AuthFailure::Unauthorized)
    }

    /// Who signed this request, with or without a nonce of ours: maybe long ago, and maybe somebody else sends a copy.
    pub(super) fn signer<'a>(&self, request: &Message<'a>, now: Instant) -> Option<&'a str> {
        let credential = self.verify(request.username()?, request, now)?;
        Some(credential.username)
    }

    fn verify<'a>(
        &self,
        username: &'a str,
        request: &Message<'a>,
        now: Instant,
    ) -> Option<Credential<'a>> {
        let stamp = Stamp::parse(username)?;
        if Duration::from_secs(stamp.expiry) < self.unix(now) {
            return None;
        }
        let key = stamp.key(username, &self.stamp_secret);
        match request.integrity(&key) {
            Integrity::Valid => Some(Credential { username, key }),
            Integrity::Missing | Integrity::Wrong => None,
        }
    }

    /// Key that an answer to this username is signed with, whether or not its holder proved anything.
    ///
    /// `None`: the username is not one of ours, and no answer can be given.
    pub(super) fn answer_key(&self, username: &str) -> Option<IntegrityKey> {
        Some(Stamp::parse(username)?.key(username, &self.stamp_secret))
    }

    /// A nonce for this client socket.
    pub(super) fn nonce(&self, client: SocketAddr, now: Instant) -> String {
        let issued_s = self.seconds(now);
        let mut nonce = [0u8; 4 + NONCE_TAG];
        nonce[..4].copy_from_slice(&issued_s.to_be_bytes());
        nonce[4..]
            .copy_from_slice(&self.absorb(issued_s, client).finalize().into_bytes()[..NONCE_TAG]);
        let mut text = String::with_capacity(36);
        for (at, byte) in nonce.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        }
        text
    }

    fn is_fresh(&self, nonce: &[u8; 4 + NONCE_TAG], client: SocketAddr, now: Instant) -> bool {
        let issued_s = u32::from_be_bytes([nonce[0], nonce[1], nonce[2], nonce[3]]);
        let age_s = self.seconds(now).checked_sub(issued_s);
        age_s.is_some_and(|age_s| u64::from(age_s) < NONCE_LIFETIME.as_secs())
            && self
                .absorb(issued_s, client)
                .verify_truncated_left(&nonce[4..])
                .is_ok()
    }

    fn absorb(&self, issued_s: u32, client: SocketAddr) -> Hmac<Sha256> {
        let mut mac = self.nonce_mac.clone();
        mac.update(&issued_s.to_be_bytes());
        match client.ip() {
            IpAddr::V4(v4) => mac.update(&v4.octets()),
            IpAddr::V6(v6) => mac.update(&v6.octets()),
        }
        mac.update(&client.port().to_be_bytes());
        mac
    }

    fn seconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_secs() as u32
    }

    fn unix(&self, now: Instant) -> Duration {
        self.wall + now.saturating_duration_since(self.wall_at)
    }
}

struct Stamp<'a> {
    expiry: u64,
    expiry_text: &'a str,
    salt: &'a str,
}

impl<'a> Stamp<'a> {
    /// Exactly one colon, and decimal digits before it.
    fn parse(username: &'a str) -> Option<Stamp<'a>> {
        let (expiry_text, salt) = username.split_once(':')?;
        if salt.contains(':') || !expiry_text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Stamp {
            expiry: expiry_text.parse().ok()?,
            expiry_text,
            salt,
        })
    }

    fn key(&self, username: &str, stamp_secret: &str) -> IntegrityKey {
        IntegrityKey::long_term(username, REALM, &self.password(stamp_secret))
    }

    fn password(&self, stamp_secret: &str) -> String {
        let mut digest = Sha256::new();
        for part in [self.expiry_text, ":", stamp_secret, ":", self.salt] {
            digest.update(part);
        }
        STANDARD_NO_PAD.encode(digest.finalize())
    }
}

fn parse_nonce(text: &str) -> Option<[u8; 4 + NONCE_TAG]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|at| bytes[*at] != b'-') {
        return None;
    }
    let mut nonce = [0u8; 4 + NONCE_TAG];
    let mut digits = bytes
        .iter()
        .filter(|byte| **byte != b'-')
        .map(|byte| char::from(*byte).to_digit(16));
    for byte in &mut nonce {
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_those_of_the_specification() {
        for (username, stamp_secret, password) in [
            (
                "1892160000:n23JJ2wKKtt30oXi",
                "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab",
                "00hqldgk5xLeKKOB+xls9mHMVtgqzie9DulfgQwMv68",
            ),
            (
                "1685984278:uvdgKvS9GXYZ_vmv",
                "1cab293a-4032-46f4-862a-40e5d174b0d2",
                "6xUIoZ+QvxKhRasLifwfRkMXl+ETLJUsFkHlXjlHAkg",
            ),
            (
                "1800000000:kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY",
                "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                "zVr/PcAgmLgJU+mYs7bycmuQFDM3yq8VumHmxYZPHPY",
            ),
        ] {
            assert_eq!(
                Stamp::parse(username).unwrap().password(stamp_secret),
                password
            );
        }
    }

    #[test]
    fn usernames_of_another_shape_are_refused() {
        for username in [
            "",
            ":",
            "abc:salt",
            "12",
            "1:2:3",
            "+12:salt",
            "99999999999999999999999:salt",
        ] {
            assert!(Stamp::parse(username).is_none(), "{username:?}");
        }
    }

    #[test]
    fn a_nonce_is_accepted_from_its_socket_for_its_lifetime() {
        let epoch = super::super::tests::epoch();
        let gatekeeper = Gatekeeper::new(String::new(), [3; 32], epoch, Duration::ZERO);
        let client: SocketAddr = "198.51.100.7:40001".parse().unwrap();
        let issued_at = epoch + Duration::from_secs(100);
        let nonce = parse_nonce(&gatekeeper.nonce(client, issued_at)).unwrap();
        assert!(gatekeeper.is_fresh(&nonce, client, issued_at));
        assert!(gatekeeper.is_fresh(
            &nonce,
            client,
            issued_at + NONCE_LIFETIME - Duration::from_secs(1)
        ));
        assert!(!gatekeeper.is_fresh(&nonce, client, issued_at + NONCE_LIFETIME));
        assert!(
            !gatekeeper.is_fresh(&nonce, client, epoch),
            "issued in the future"
        );
        assert!(!gatekeeper.is_fresh(&nonce, "198.51.100.7:40002".parse().unwrap(), issued_at));
        let restarted = Gatekeeper::new(String::new(), [4; 32], epoch, Duration::ZERO);
        assert!(!restarted.is_fresh(&nonce, client, issued_at));
    }

    #[test]
    fn only_uuid_text_is_a_nonce() {
        assert!(parse_nonce("6f1c0b2e-8d34-4a57-9b61-0c2d7e5fa913").is_some());
        for text in [
            "",
            "6f1c0b2e8d344a579b610c2d7e5fa913",
            "6f1c0b2e-8d34-4a57-9b61-0c2d7e5fa91",
            "-".repeat(36).as_str(),
        ] {
            assert!(parse_nonce(text).is_none(), "{text}");
        }
        assert!(parse_nonce("6f1c0b2g-8d34-4a57-9b61-0c2d7e5fa913").is_none());
    }
}
