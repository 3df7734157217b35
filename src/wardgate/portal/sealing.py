"""Values that the store keeps and the portal reads again, but that a copy of the database shall not tell: sealed with
AES-256-GCM (RFC 5116) under a key of the installation's (`keys`).

    12 bytes nonce ‖ ciphertext ‖ 16 bytes tag, in base64url

What a value belongs to is under the seal: moved to another row, it does not open.
"""

import base64
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12


class SealBroken(ValueError):
    """The value was sealed with another key or for another owner, or has been changed."""


def seal(key: bytes, value: bytes, *, owner: str, random_bytes: Callable[[int], bytes]) -> str:
    """Return the sealed value; it opens with the same key (32 bytes) and owner only."""
    nonce = random_bytes(NONCE_BYTES)
    return base64.urlsafe_b64encode(nonce + AESGCM(key).encrypt(nonce, value, owner.encode())).decode()


def unseal(key: bytes, sealed: str, *, owner: str) -> bytes:
    """Return what was sealed.

    Raises:
        SealBroken: it does not open.
    """
    try:
        raw = base64.urlsafe_b64decode(sealed)
        return AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], owner.encode())
    except (InvalidTag, ValueError) as error:
        raise SealBroken("a sealed value does not open") from error
