//! Macs and cookies of handshake messages (paper §5.3, §5.4.4, §5.4.7), the sender's part; the receiver's is [`crate::Gate`].
//!
//! mac1 proves that the sender knows our public key. mac2 proves that it receives at the address that it sends from: its key is
//! a cookie, which a node under load sends instead of doing the work that the message asks for.

use std::time::{Duration, Instant};

use crate::crypto::{hash, mac, open_extended};
use crate::keys::PublicKey;
use crate::message::{MAC_SIZE, cookie_reply, field, mac1_offset};
use crate::noise::HandshakeError;

/// How long a received cookie is used (paper §5.4.7).
const COOKIE_VALIDITY: Duration = Duration::from_secs(120);

/// The key of mac1 in messages to the owner of `public`.
pub(crate) fn mac1_key(public: &PublicKey) -> [u8; 32] {
    hash(&[b"mac1----", &public.0])
}

/// The key that seals the cookies made by the owner of `public`.
pub(crate) fn cookie_key(public: &PublicKey) -> [u8; 32] {
    hash(&[b"cookie--", &public.0])
}

/// Puts macs on the handshake messages to one peer, and keeps its cookie.
pub(crate) struct MacWriter {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    cookie: Option<(Instant, [u8; 16])>,
    /// Of the last message, with our index in it; a cookie reply must refer to both.
    last: Option<(u32, [u8; MAC_SIZE])>,
}

impl MacWriter {
    pub(crate) fn new(peer: &PublicKey) -> Self {
        Self {
            mac1_key: mac1_key(peer),
            cookie_key: cookie_key(peer),
            cookie: None,
            last: None,
        }
    }

    /// Fill in the macs that end `message`; `index` is ours, as written into it.
    pub(crate) fn write(&mut self, index: u32, message: &mut [u8], now: Instant) {
        let (body, macs) = message.split_at_mut(mac1_offset(message.len()));
        let (mac1, mac2) = macs.split_at_mut(MAC_SIZE);
        let made = mac(&self.mac1_key, &[body]);
        mac1.copy_from_slice(&made);
        self.last = Some((index, made));
        if let Some((received_at, cookie)) = &self.cookie
            && now.saturating_duration_since(*received_at) < COOKIE_VALIDITY
        {
            mac2.copy_from_slice(&mac(cookie, &[body, mac1]));
        }
    }

    /// Take the cookie out of a reply of the right size. Nothing is sent again before its timer says so (paper §6.6).
    pub(crate) fn handle_reply(
        &mut self,
        reply: &[u8],
        now: Instant,
    ) -> Result<(), HandshakeError> {
        let (index, mac1) = self.last.ok_or(HandshakeError::NotAwaited)?;
        if u32::from_le_bytes(field(reply, cookie_reply::RECEIVER)) != index {
            return Err(HandshakeError::NotAwaited);
        }
        let nonce = field(reply, cookie_reply::NONCE);
        let cookie = open_extended(
            &self.cookie_key,
            &nonce,
            &mac1,
            &reply[cookie_reply::COOKIE],
        )
        .ok_or(HandshakeError::Unauthentic)?;
        self.cookie = Some((now, cookie));
        self.last = None;
        Ok(())
    }

    /// Forget the cookie.
    pub(crate) fn clear(&mut self) {
        self.cookie = None;
        self.last = None;
    }
}
