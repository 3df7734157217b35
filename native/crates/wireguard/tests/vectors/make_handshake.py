"""Derive a WireGuard handshake with fixed keys from the paper's §5.4, independently of the Rust code.

Primitives come from hashlib and pyca/cryptography. Output: lines of `name hex`, kept beside this file as handshake.txt:

    python make_handshake.py > handshake.txt
"""

import hashlib
import hmac
import sys

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

INITIATOR, RESPONDER = bytes([0x11] * 32), bytes([0x22] * 32)
INITIATOR_EPHEMERAL, RESPONDER_EPHEMERAL = bytes([0x33] * 32), bytes([0x44] * 32)
PRESHARED_KEY = bytes([0x55] * 32)
TIMESTAMP = bytes.fromhex("400000000000000a01020304")
INITIATOR_INDEX, RESPONDER_INDEX = bytes.fromhex("01ab0000"), bytes.fromhex("01cd0000")


def blake2s(*parts: bytes) -> bytes:
    return hashlib.blake2s(b"".join(parts)).digest()


def hkdf(chain: bytes, material: bytes, count: int) -> list[bytes]:
    extracted = hmac.new(chain, material, hashlib.blake2s).digest()
    outputs = [b""]
    for ordinal in range(1, count + 1):
        outputs.append(hmac.new(extracted, outputs[-1] + bytes([ordinal]), hashlib.blake2s).digest())
    return outputs[1:]


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def dh(private: bytes, peer: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(peer))


def seal(key: bytes, counter: int, plaintext: bytes, aad: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(bytes(4) + counter.to_bytes(8, "little"), plaintext, aad)


def mac1(receiver: bytes, message: bytes) -> bytes:
    return hashlib.blake2s(message, key=blake2s(b"mac1----", receiver), digest_size=16).digest()


def main() -> None:
    chain = blake2s(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    transcript = blake2s(blake2s(chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com"), public(RESPONDER))

    ephemeral = public(INITIATOR_EPHEMERAL)
    (chain,) = hkdf(chain, ephemeral, 1)
    transcript = blake2s(transcript, ephemeral)
    chain, key = hkdf(chain, dh(INITIATOR_EPHEMERAL, public(RESPONDER)), 2)
    static = seal(key, 0, public(INITIATOR), transcript)
    transcript = blake2s(transcript, static)
    chain, key = hkdf(chain, dh(INITIATOR, public(RESPONDER)), 2)
    timestamp = seal(key, 0, TIMESTAMP, transcript)
    transcript = blake2s(transcript, timestamp)
    initiation = bytes([1, 0, 0, 0]) + INITIATOR_INDEX + ephemeral + static + timestamp
    initiation += mac1(public(RESPONDER), initiation) + bytes(16)

    ephemeral = public(RESPONDER_EPHEMERAL)
    (chain,) = hkdf(chain, ephemeral, 1)
    transcript = blake2s(transcript, ephemeral)
    (chain,) = hkdf(chain, dh(RESPONDER_EPHEMERAL, public(INITIATOR_EPHEMERAL)), 1)
    (chain,) = hkdf(chain, dh(RESPONDER_EPHEMERAL, public(INITIATOR)), 1)
    chain, tau, key = hkdf(chain, PRESHARED_KEY, 3)
    transcript = blake2s(transcript, tau)
    empty = seal(key, 0, b"", transcript)
    response = bytes([2, 0, 0, 0]) + RESPONDER_INDEX + INITIATOR_INDEX + ephemeral + empty
    response += mac1(public(INITIATOR), response) + bytes(16)

    to_responder, to_initiator = hkdf(chain, b"", 2)
    for name, value in {
        "initiation": initiation,
        "response": response,
        "to_responder": to_responder,
        "to_initiator": to_initiator,
    }.items():
        sys.stdout.write(f"{name} {value.hex()}\n")


if __name__ == "__main__":
    main()
