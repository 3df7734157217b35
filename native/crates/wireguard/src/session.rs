//! The data state of a tunnel: what seals in one direction and opens in the other.
//!
//! Sending and receiving share nothing here, so that each can move to a thread of its own.

use std::time::Instant;

use ring::aead::{Aad, LessSafeKey};
use thiserror::Error;

use crate::crypto::{Secret, aead_key, nonce};
use crate::message::{DATA_HEADER_SIZE, DATA_OVERHEAD, MessageKind, TAG_SIZE, data, field};
use crate::replay::ReplayWindow;

/// After this many messages sent, the session is replaced (paper §6.1).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// From this counter on, a session neither seals nor opens (paper §6.1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// Why a data message was dropped.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OpenError {
    #[error("no data message of WireGuard")]
    Malformed,
    #[error("belongs to no session")]
    UnknownSession,
    #[error("its session is too old, or its counter too high")]
    Expired,
    #[error("was received before, or is too late to tell")]
    Replayed,
    #[error("was not made with the session's key")]
    Unauthentic,
}

/// Seals data messages with one key.
pub(crate) struct SendSession {
    /// The peer's, opaque to us.
    receiver_index: [u8; 4],
    key: LessSafeKey,
    pub counter: u64,
    /// From then on nothing is sealed.
    pub stops_at: Instant,
    /// Whether a packet was sealed, not only keepalives.
    pub carried_data: bool,
}

impl SendSession {
    pub(crate) fn new(receiver_index: [u8; 4], key: &Secret, stops_at: Instant) -> Self {
        Self {
            receiver_index,
            key: aead_key(key),
            counter: 0,
            stops_at,
            carried_data: false,
        }
    }

    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        now < self.stops_at && self.counter < REJECT_AFTER_MESSAGES
    }

    /// Seal the middle of `packet` in place and write header and tag around it. The session must be usable.
    pub(crate) fn seal(&mut self, packet: &mut [u8]) {
        let (header, rest) = packet.split_at_mut(DATA_HEADER_SIZE);
        let (plaintext, tag) = rest.split_at_mut(rest.len() - TAG_SIZE);
        header[..4].copy_from_slice(&MessageKind::Data.header());
        header[data::RECEIVER].copy_from_slice(&self.receiver_index);
        header[data::COUNTER].copy_from_slice(&self.counter.to_le_bytes());
        let made = self
            .key
            .seal_in_place_separate_tag(nonce(self.counter), Aad::empty(), plaintext)
            .expect("a packet is far below the AEAD's size limit of 256 GiB");
        tag.copy_from_slice(made.as_ref());
        self.counter += 1;
        self.carried_data |= !plaintext.is_empty();
    }
}

/// Opens data messages with one key, each once.
pub(crate) struct ReceiveSession {
    key: LessSafeKey,
    window: ReplayWindow,
    /// From then on nothing is opened.
    pub expires_at: Instant,
}

impl ReceiveSession {
    pub(crate) fn new(key: &Secret, expires_at: Instant) -> Self {
        Self {
            key: aead_key(key),
            window: ReplayWindow::new(),
            expires_at,
        }
    }

    /// How many messages arrived, and how many of those sent until the latest one did not.
    pub(crate) fn arrived_and_missing(&self) -> (u64, u64) {
        self.window.arrived_and_missing()
    }

    /// Open `datagram`, of at least 32 bytes, in place; give its plaintext.
    pub(crate) fn open<'a>(
        &mut self,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Result<&'a mut [u8], OpenError> {
        debug_assert!(datagram.len() >= DATA_OVERHEAD);
        let counter = u64::from_le_bytes(field(datagram, data::COUNTER));
        if now >= self.expires_at || counter >= REJECT_AFTER_MESSAGES {
            return Err(OpenError::Expired);
        }
        if !self.window.admits(counter) {
            return Err(OpenError::Replayed);
        }
        let opened = self
            .key
            .open_in_place(
                nonce(counter),
                Aad::empty(),
                &mut datagram[DATA_HEADER_SIZE..],
            )
            .map_err(|_| OpenError::Unauthentic)?;
        self.window.insert(counter);
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::epoch;

    #[test]
    fn from_the_last_message_on_a_session_seals_nothing() {
        let mut session =
            SendSession::new([0; 4], &[7; 32].into(), epoch() + Duration::from_secs(1));
        session.counter = REJECT_AFTER_MESSAGES - 1;
        assert!(session.is_usable(epoch()));
        session.seal(&mut [0; DATA_OVERHEAD]);
        assert!(!session.is_usable(epoch()));
    }

    #[test]
    fn a_counter_from_the_limit_on_is_refused_though_authentic() {
        let now = epoch();
        let later = now + Duration::from_secs(1);
        let mut sender = SendSession::new([0; 4], &[7; 32].into(), later);
        let mut receiver = ReceiveSession::new(&[7; 32].into(), later);
        for (counter, expected) in [
            (REJECT_AFTER_MESSAGES - 1, Ok(())),
            (REJECT_AFTER_MESSAGES, Err(OpenError::Expired)),
            (u64::MAX - 1, Err(OpenError::Expired)),
        ] {
            sender.counter = counter;
            let mut message = [0; DATA_OVERHEAD + 1];
            sender.seal(&mut message);
            assert_eq!(
                receiver.open(&mut message, now).map(|_| ()),
                expected,
                "{counter}"
            );
        }
    }

    #[test]
    fn a_forged_counter_does_not_move_the_window() {
        let now = epoch();
        let later = now + Duration::from_secs(1);
        let mut sender = SendSession::new([0; 4], &[7; 32].into(), later);
        let mut receiver = ReceiveSession::new(&[7; 32].into(), later);
        let mut message = [0; DATA_OVERHEAD];
        sender.seal(&mut message);
        let mut forged = message;
        forged[data::COUNTER].copy_from_slice(&1_000_000_u64.to_le_bytes());
        assert_eq!(
            receiver.open(&mut forged, now).map(|_| ()),
            Err(OpenError::Unauthentic)
        );
        assert!(receiver.open(&mut message, now).is_ok());
    }
}
