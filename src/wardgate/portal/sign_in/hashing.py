"""Hashing of what people type: passwords and codes, by argon2id (RFC 9106 §4, the second recommended option).

A hash takes some fifty milliseconds of a core and 64 MiB: callers run it in the environment's executor.
"""

from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SALT_BYTES: Final = 16

_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)


def hash_text(text: str, *, salt: bytes) -> str:
    """Return what the store keeps of a text."""
    return _HASHER.hash(text, salt=salt)


def is_text_of(stored: str | None, text: str) -> bool:
    """Tell whether a text is the one that was hashed. It takes as long for nobody's hash (None) and for what is no
    hash.
    """
    try:
        _HASHER.verify(_nobodys() if stored is None else stored, text)
    except InvalidHashError:
        return is_text_of(None, text)
    except VerificationError:
        return False
    return stored is not None


@cache
def _nobodys() -> str:
    return hash_text("", salt=bytes(SALT_BYTES))
