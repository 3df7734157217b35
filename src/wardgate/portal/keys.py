"""Keys of the installation: one master secret, one derived key per purpose (HKDF-SHA256), so that no key
serves two ends.
"""

from dataclasses import dataclass, field, fields
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MASTER_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Keys:
    """32 bytes each.

    Attributes:
        tokens: MAC of bearer tokens and one-time links.
        cookies: signs the portal's cookies, each under its name.
        forms: binds form tokens (CSRF) to a session, or to a browser that has none.
        cursors: signs page cursors.
        answers: encrypts answers that are kept for repeated calls.
        links: signs links that are sent by mail.
        letters: seals letters with secrets in them while they wait in the job queue.
        second_factors: seals secrets of authenticator apps, and recognises recovery codes.
    """

    tokens: bytes = field(repr=False)
    cookies: bytes = field(repr=False)
    forms: bytes = field(repr=False)
    cursors: bytes = field(repr=False)
    answers: bytes = field(repr=False)
    links: bytes = field(repr=False)
    letters: bytes = field(repr=False)
    second_factors: bytes = field(repr=False)

    @classmethod
    def derive(cls, master: bytes) -> "Keys":
        """Derive all keys from the master secret (at least 32 random bytes)."""
        if len(master) < MASTER_BYTES:
            raise ValueError(f"a master secret has at least {MASTER_BYTES} bytes")
        return cls(**{one.name: _derive(master, one.name) for one in fields(cls)})


def _derive(master: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"wardgate {purpose} 1".encode()).derive(
        master
    )
