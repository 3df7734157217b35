//! The handshake `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s` (paper §5.4): two messages, then keys for each direction.
//!
//! ```text
//! initiator                                     responder
//! initiate ── e, es, s, ss, {timestamp} ──────► read_initiation
//! PendingInitiation::read_response ◄─ e, ee, se, psk, {} ── respond
//! ```
//!
//! Only the fields above are made and read here. Indices are the tunnel's, macs the [`crate::Gate`]'s and the cookie's.

use subtle::ConstantTimeEq;
use thiserror::Error;
use x25519_dalek::StaticSecret;

use crate::crypto::{Secret, derive, diffie_hellman, hash, open_once, seal_once};
use crate::keys::{Keys, PresharedKey, PublicKey};
use crate::message::{
    INITIATION_SIZE, MessageKind, RESPONSE_SIZE, classify, field, initiation, response,
};
use crate::timestamp::Timestamp;

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// Why a handshake message was dropped. All of them are the sender's or the network's fault; none needs an answer.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum HandshakeError {
    #[error("no handshake message of WireGuard")]
    Malformed,
    #[error("answers no handshake message that we sent last")]
    NotAwaited,
    #[error("was not made with the right keys")]
    Unauthentic,
    #[error("comes from another peer than this tunnel's")]
    WrongPeer,
    #[error("its timestamp is not above that of an earlier initiation")]
    Replayed,
}

/// The keys that a handshake yields.
pub(crate) struct TransportKeys {
    pub send: Secret,
    pub receive: Secret,
}

/// What never changes between two static keys, computed once per peer.
pub(crate) struct StaticContext {
    pub peer: PublicKey,
    /// `None` if the peer's key is of small order: no handshake can succeed then.
    shared: Option<Secret>,
}

impl StaticContext {
    pub(crate) fn new(keys: &Keys, peer: PublicKey) -> Self {
        Self {
            peer,
            shared: diffie_hellman(keys.private.secret(), &peer.0),
        }
    }
}

/// Our half-done handshake: an initiation was sent.
pub(crate) struct PendingInitiation {
    state: Symmetric,
    ephemeral: StaticSecret,
}

/// The peer's half-done handshake: its initiation was read.
pub(crate) struct ReceivedInitiation {
    state: Symmetric,
    peer_ephemeral: [u8; 32],
    pub timestamp: Timestamp,
}

/// Write ephemeral, static and timestamp into `message`, which has the size of an initiation.
pub(crate) fn initiate(
    keys: &Keys,
    context: &StaticContext,
    ephemeral: [u8; 32],
    timestamp: Timestamp,
    message: &mut [u8; INITIATION_SIZE],
) -> Result<PendingInitiation, HandshakeError> {
    let mut state = Symmetric::new(&context.peer);
    let ephemeral = StaticSecret::from(ephemeral);
    message[initiation::EPHEMERAL].copy_from_slice(&state.mix_ephemeral_of(&ephemeral));
    let key = state.mix_secret(diffie_hellman(&ephemeral, &context.peer.0).as_ref())?;
    state.seal(&key, &keys.public.0, &mut message[initiation::STATIC]);
    let key = state.mix_secret(context.shared.as_ref())?;
    state.seal(&key, &timestamp.0, &mut message[initiation::TIMESTAMP]);
    Ok(PendingInitiation { state, ephemeral })
}

/// Say which peer an initiation claims, and has the key, to come from, so that its tunnel can be looked up.
///
/// Whether it is new is for [`crate::Tunnel::handle_handshake`] to judge.
///
/// # Errors
/// [`HandshakeError::Malformed`] for anything but an initiation, [`HandshakeError::Unauthentic`] if it was not made for us.
pub fn initiator_key(keys: &Keys, initiation: &[u8]) -> Result<PublicKey, HandshakeError> {
    if classify(initiation) != Some(MessageKind::Initiation) {
        return Err(HandshakeError::Malformed);
    }
    let mut state = Symmetric::new(&keys.public);
    read_static(keys, &mut state, initiation)
}

/// Read an initiation of the right size; its sender must be the peer of `context`.
pub(crate) fn read_initiation(
    keys: &Keys,
    context: &StaticContext,
    message: &[u8],
) -> Result<ReceivedInitiation, HandshakeError> {
    let mut state = Symmetric::new(&keys.public);
    let sender = read_static(keys, &mut state, message)?;
    if !bool::from(sender.0.ct_eq(&context.peer.0)) {
        return Err(HandshakeError::WrongPeer);
    }
    let key = state.mix_secret(context.shared.as_ref())?;
    let timestamp = Timestamp(state.open(&key, &message[initiation::TIMESTAMP])?);
    Ok(ReceivedInitiation {
        state,
        peer_ephemeral: field(message, initiation::EPHEMERAL),
        timestamp,
    })
}

fn read_static(
    keys: &Keys,
    state: &mut Symmetric,
    message: &[u8],
) -> Result<PublicKey, HandshakeError> {
    let peer_ephemeral = field(message, initiation::EPHEMERAL);
    state.mix_ephemeral(&peer_ephemeral);
    let key = state.mix_secret(diffie_hellman(keys.private.secret(), &peer_ephemeral).as_ref())?;
    Ok(PublicKey(state.open(&key, &message[initiation::STATIC])?))
}

/// Write ephemeral and proof into `message`, and end the handshake as responder.
pub(crate) fn respond(
    context: &StaticContext,
    preshared_key: &PresharedKey,
    received: ReceivedInitiation,
    ephemeral: [u8; 32],
    message: &mut [u8; RESPONSE_SIZE],
) -> Result<TransportKeys, HandshakeError> {
    let ReceivedInitiation {
        mut state,
        peer_ephemeral,
        ..
    } = received;
    let ephemeral = StaticSecret::from(ephemeral);
    message[response::EPHEMERAL].copy_from_slice(&state.mix_ephemeral_of(&ephemeral));
    state.mix_secret(diffie_hellman(&ephemeral, &peer_ephemeral).as_ref())?;
    state.mix_secret(diffie_hellman(&ephemeral, &context.peer.0).as_ref())?;
    let key = state.mix_preshared_key(preshared_key);
    state.seal(&key, &[], &mut message[response::EMPTY]);
    let [receive, send] = derive(&state.chain, &[]);
    Ok(TransportKeys { send, receive })
}

impl PendingInitiation {
    /// Read a response of the right size and end the handshake as initiator. A forged response leaves it pending.
    pub(crate) fn read_response(
        &self,
        keys: &Keys,
        preshared_key: &PresharedKey,
        message: &[u8],
    ) -> Result<TransportKeys, HandshakeError> {
        let mut state = self.state.clone();
        let peer_ephemeral = field(message, response::EPHEMERAL);
        state.mix_ephemeral(&peer_ephemeral);
        state.mix_secret(diffie_hellman(&self.ephemeral, &peer_ephemeral).as_ref())?;
        state.mix_secret(diffie_hellman(keys.private.secret(), &peer_ephemeral).as_ref())?;
        let key = state.mix_preshared_key(preshared_key);
        state.open::<0>(&key, &message[response::EMPTY])?;
        let [send, receive] = derive(&state.chain, &[]);
        Ok(TransportKeys { send, receive })
    }
}

/// Noise's symmetric state: the chaining key C and the transcript hash H of paper §5.4.
#[derive(Clone)]
struct Symmetric {
    chain: Secret,
    hash: [u8; 32],
}

impl Symmetric {
    fn new(responder: &PublicKey) -> Self {
        let chain = hash(&[CONSTRUCTION]);
        let mut state = Self {
            chain: chain.into(),
            hash: hash(&[&chain, IDENTIFIER]),
        };
        state.mix_hash(&responder.0);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_ephemeral_of(&mut self, ephemeral: &StaticSecret) -> [u8; 32] {
        let public = x25519_dalek::PublicKey::from(ephemeral).to_bytes();
        self.mix_ephemeral(&public);
        public
    }

    /// Noise mixes an ephemeral key into the chain too, if there is a preshared key (Noise §9.2).
    fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        [self.chain] = derive(&self.chain, public);
    }

    fn mix_secret(&mut self, shared: Option<&Secret>) -> Result<Secret, HandshakeError> {
        let shared = shared.ok_or(HandshakeError::Unauthentic)?;
        let [chain, key] = derive(&self.chain, &shared[..]);
        self.chain = chain;
        Ok(key)
    }

    fn mix_preshared_key(&mut self, preshared_key: &PresharedKey) -> Secret {
        let [chain, into_hash, key] = derive(&self.chain, &preshared_key.0);
        self.chain = chain;
        self.mix_hash(&into_hash[..]);
        key
    }

    fn seal(&mut self, key: &Secret, plaintext: &[u8], sealed: &mut [u8]) {
        seal_once(key, &self.hash, plaintext, sealed);
        self.mix_hash(sealed);
    }

    fn open<const N: usize>(
        &mut self,
        key: &Secret,
        sealed: &[u8],
    ) -> Result<[u8; N], HandshakeError> {
        let opened = open_once(key, &self.hash, sealed).ok_or(HandshakeError::Unauthentic)?;
        self.mix_hash(sealed);
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::MacWriter;
    use crate::keys::PrivateKey;
    use crate::testing::epoch;

    #[test]
    fn a_handshake_with_fixed_keys_gives_the_bytes_of_an_independent_derivation() {
        let initiator = Keys::new(PrivateKey::new([0x11; 32]));
        let responder = Keys::new(PrivateKey::new([0x22; 32]));
        let preshared_key = PresharedKey::new([0x55; 32]);
        let timestamp = Timestamp([0x40, 0, 0, 0, 0, 0, 0, 0x0a, 1, 2, 3, 4]);
        let here = StaticContext::new(&initiator, responder.public);
        let there = StaticContext::new(&responder, initiator.public);

        let mut first = [0; INITIATION_SIZE];
        first[..8].copy_from_slice(&[1, 0, 0, 0, 0x01, 0xab, 0, 0]);
        let pending = initiate(&initiator, &here, [0x33; 32], timestamp, &mut first).unwrap();
        MacWriter::new(&responder.public).write(0xab01, &mut first, epoch());
        assert_eq!(first[..], vector("initiation"));
        assert_eq!(initiator_key(&responder, &first), Ok(initiator.public));

        let received = read_initiation(&responder, &there, &first).unwrap();
        assert_eq!(received.timestamp, timestamp);
        let mut second = [0; RESPONSE_SIZE];
        second[..12].copy_from_slice(&[2, 0, 0, 0, 0x01, 0xcd, 0, 0, 0x01, 0xab, 0, 0]);
        let theirs = respond(&there, &preshared_key, received, [0x44; 32], &mut second).unwrap();
        MacWriter::new(&initiator.public).write(0xcd01, &mut second, epoch());
        assert_eq!(second[..], vector("response"));

        let ours = pending
            .read_response(&initiator, &preshared_key, &second)
            .unwrap();
        assert_eq!(ours.send[..], vector("to_responder"));
        assert_eq!(ours.receive[..], vector("to_initiator"));
        assert_eq!(theirs.receive, ours.send);
        assert_eq!(theirs.send, ours.receive);
    }

    #[test]
    fn an_initiation_for_somebody_else_names_nobody() {
        let bystander = Keys::new(PrivateKey::new([0x66; 32]));
        assert_eq!(
            initiator_key(&bystander, &vector("initiation")),
            Err(HandshakeError::Unauthentic)
        );
        assert_eq!(
            initiator_key(&bystander, &vector("response")),
            Err(HandshakeError::Malformed)
        );
    }

    #[test]
    fn keys_of_small_order_end_in_an_error() {
        let keys = Keys::new(PrivateKey::new([0x11; 32]));
        let context = StaticContext::new(&keys, PublicKey([0; 32]));
        let mut message = [0; INITIATION_SIZE];
        let made = initiate(
            &keys,
            &context,
            [0x33; 32],
            Timestamp([0; 12]),
            &mut message,
        );
        assert_eq!(made.err(), Some(HandshakeError::Unauthentic));
        message[..4].copy_from_slice(&MessageKind::Initiation.header());
        message[initiation::EPHEMERAL].fill(0);
        assert_eq!(
            initiator_key(&keys, &message),
            Err(HandshakeError::Unauthentic)
        );
    }

    fn vector(name: &str) -> Vec<u8> {
        let lines = include_str!("../tests/vectors/handshake.txt").lines();
        let line = lines
            .filter_map(|line| line.split_once(' '))
            .find(|(key, _)| *key == name);
        let hex = line.expect("the vector exists").1.as_bytes();
        hex.chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
