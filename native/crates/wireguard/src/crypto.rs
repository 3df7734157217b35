//! The primitives of paper §5.4, composed from audited ones: hash, MAC, key derivation, DH, AEAD, and XAEAD for cookies.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Mac, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use hmac::SimpleHmac;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::message::TAG_SIZE;

pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// BLAKE2s-256 of the concatenation of `parts`.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::new();
    for part in parts {
        Digest::update(&mut state, part);
    }
    state.finalize().into()
}

/// Keyed BLAKE2s with a 16-byte output over the concatenation of `parts`; `key` has 16 or 32 bytes.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut state = <Blake2sMac<U16> as KeyInit>::new_from_slice(key)
        .expect("BLAKE2s takes keys of up to 32 bytes");
    for part in parts {
        Update::update(&mut state, part);
    }
    state.finalize_fixed().into()
}

/// HKDF over HMAC-BLAKE2s: `N` outputs, at most 3, from a chaining key and an input.
pub(crate) fn derive<const N: usize>(chain: &[u8; 32], input: &[u8]) -> [Secret; N] {
    let extracted = hmac(chain, &[input]);
    let mut previous: Option<Secret> = None;
    std::array::from_fn(|position| {
        let ordinal = [u8::try_from(position + 1).expect("at most 3 outputs")];
        let output = match &previous {
            None => hmac(&extracted, &[&ordinal]),
            Some(previous) => hmac(&extracted, &[&previous[..], &ordinal]),
        };
        previous = Some(output.clone());
        output
    })
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Secret {
    let mut state = <SimpleHmac<Blake2s256> as KeyInit>::new_from_slice(key)
        .expect("HMAC takes keys of any size");
    for part in parts {
        Mac::update(&mut state, part);
    }
    Zeroizing::new(state.finalize_fixed().into())
}

/// X25519; `None` for a public key of small order, with which the result would not depend on our secret.
pub(crate) fn diffie_hellman(secret: &StaticSecret, public: &[u8; 32]) -> Option<Secret> {
    let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(*public));
    shared
        .was_contributory()
        .then(|| Zeroizing::new(shared.to_bytes()))
}

/// A ChaCha20-Poly1305 key, set up once. `ring` does not wipe it when it is dropped.
pub(crate) fn aead_key(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes"))
}

/// The nonce of a message: 4 zero bytes, then its counter, little-endian.
pub(crate) fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Encrypt `plaintext` under a key that is used once, into `sealed`, 16 bytes longer.
pub(crate) fn seal_once(key: &[u8; 32], aad: &[u8], plaintext: &[u8], sealed: &mut [u8]) {
    seal_with_nonce(key, nonce(0), aad, plaintext, sealed);
}

/// Decrypt `sealed` under a key that is used once; `None` if it was not made with this key and `aad`.
/// `N` is the plaintext's size and must be that of `sealed` less 16.
pub(crate) fn open_once<const N: usize>(
    key: &[u8; 32],
    aad: &[u8],
    sealed: &[u8],
) -> Option<[u8; N]> {
    open_with_nonce(key, nonce(0), aad, sealed)
}

/// XChaCha20-Poly1305: as [`seal_once`], for keys used often, under a random nonce.
pub(crate) fn seal_extended(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    plaintext: &[u8],
    sealed: &mut [u8],
) {
    let (key, nonce) = extend(key, nonce);
    seal_with_nonce(&key, nonce, aad, plaintext, sealed);
}

/// The inverse of [`seal_extended`]; `None` as in [`open_once`].
pub(crate) fn open_extended<const N: usize>(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    sealed: &[u8],
) -> Option<[u8; N]> {
    let (key, nonce) = extend(key, nonce);
    open_with_nonce(&key, nonce, aad, sealed)
}

fn seal_with_nonce(key: &[u8; 32], nonce: Nonce, aad: &[u8], plaintext: &[u8], sealed: &mut [u8]) {
    let (body, tag) = sealed.split_at_mut(plaintext.len());
    body.copy_from_slice(plaintext);
    let made = aead_key(key)
        .seal_in_place_separate_tag(nonce, Aad::from(aad), body)
        .expect("handshake fields are far below the AEAD's size limit");
    tag.copy_from_slice(made.as_ref());
}

fn open_with_nonce<const N: usize>(
    key: &[u8; 32],
    nonce: Nonce,
    aad: &[u8],
    sealed: &[u8],
) -> Option<[u8; N]> {
    let mut buffer = Zeroizing::new([0; 64]);
    let buffer = buffer
        .get_mut(..sealed.len())
        .filter(|buffer| buffer.len() == N + TAG_SIZE)?;
    buffer.copy_from_slice(sealed);
    let opened = aead_key(key)
        .open_in_place(nonce, Aad::from(aad), buffer)
        .ok()?;
    opened.first_chunk().copied()
}

/// Derive the sub-key and nonce of XChaCha20 (draft-irtf-cfrg-xchacha-03 §2.3): `ring` has no XChaCha.
fn extend(key: &[u8; 32], nonce: &[u8; 24]) -> (Secret, Nonce) {
    let (prefix, rest) = nonce.split_at(16);
    let mut short = [0; 12];
    short[4..].copy_from_slice(rest);
    let mut input = [0; 16];
    input.copy_from_slice(prefix);
    (hchacha20(key, &input), Nonce::assume_unique_for_key(short))
}

/// HChaCha20 (draft-irtf-cfrg-xchacha-03 §2.2): the ChaCha20 rounds without the final addition, first and last rows kept.
fn hchacha20(key: &[u8; 32], input: &[u8; 16]) -> Secret {
    const ROWS: [[usize; 4]; 8] = [
        [0, 4, 8, 12],
        [1, 5, 9, 13],
        [2, 6, 10, 14],
        [3, 7, 11, 15],
        [0, 5, 10, 15],
        [1, 6, 11, 12],
        [2, 7, 8, 13],
        [3, 4, 9, 14],
    ];
    let mut state = Zeroizing::new([0_u32; 16]);
    state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (word, bytes) in state[4..]
        .iter_mut()
        .zip(key.chunks_exact(4).chain(input.chunks_exact(4)))
    {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for _ in 0..10 {
        for [a, b, c, d] in ROWS {
            for (x, y, z, rotation) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
                state[x] = state[x].wrapping_add(state[y]);
                state[z] = (state[z] ^ state[x]).rotate_left(rotation);
            }
        }
    }
    let mut output = Zeroizing::new([0; 32]);
    for (bytes, word) in output
        .chunks_exact_mut(4)
        .zip(state[..4].iter().chain(&state[12..]))
    {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rising<const N: usize>(first: u8) -> [u8; N] {
        std::array::from_fn(|position| first + u8::try_from(position).unwrap())
    }

    #[test]
    fn hchacha20_gives_the_output_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03 §2.2.1
        let input = [
            0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0, 0x31, 0x41, 0x59, 0x27,
        ];
        let expected = [
            0x82, 0x41, 0x3b, 0x42, 0x27, 0xb2, 0x7b, 0xfe, 0xd3, 0x0e, 0x42, 0x50, 0x8a, 0x87,
            0x7d, 0x73, 0xa0, 0xf9, 0xe4, 0xd5, 0x8a, 0x74, 0xa8, 0x53, 0xc1, 0x2e, 0xc4, 0x13,
            0x26, 0xd3, 0xec, 0xdc,
        ];
        assert_eq!(*hchacha20(&rising(0), &input), expected);
    }

    #[test]
    fn xaead_gives_the_tag_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03 A.3.1
        let plaintext = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
sunscreen would be it.";
        let aad = [
            0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
        ];
        let mut sealed = vec![0; plaintext.len() + TAG_SIZE];
        seal_extended(&rising(0x80), &rising(0x40), &aad, plaintext, &mut sealed);
        assert_eq!(
            sealed[..8],
            [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]
        );
        let tag = [
            0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a,
            0xcf, 0x49,
        ];
        assert_eq!(sealed[plaintext.len()..], tag);
    }

    #[test]
    fn what_was_sealed_opens_and_what_was_changed_does_not() {
        let mut sealed = [0; 32];
        seal_extended(&[1; 32], &[2; 24], b"aad", &[3; 16], &mut sealed);
        assert_eq!(
            open_extended(&[1; 32], &[2; 24], b"aad", &sealed),
            Some([3; 16])
        );
        assert_eq!(
            open_extended::<16>(&[1; 32], &[2; 24], b"add", &sealed),
            None
        );
        sealed[5] ^= 1;
        assert_eq!(
            open_extended::<16>(&[1; 32], &[2; 24], b"aad", &sealed),
            None
        );
    }

    #[test]
    fn a_public_key_of_small_order_shares_no_secret() {
        assert!(diffie_hellman(&StaticSecret::from([7; 32]), &[0; 32]).is_none());
    }
}
