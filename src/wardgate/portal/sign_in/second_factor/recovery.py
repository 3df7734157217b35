"""Recovery codes: ten that work once each, for who has lost everything else.

A code has 60 random bits, so that a keyed hash is enough to keep it by; nobody can guess one within the tries that
there are.
"""

import hmac
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

COUNT: Final = 10
ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz123456789"  # 32: without i, l, o and 0
CODE_CHARS: Final = 12
_LONGEST_TYPED: Final = 64


def draw_codes(random_bytes: Callable[[int], bytes]) -> list[str]:
    """Return new codes as they are shown: `abcd-efgh-jkmn`."""
    return [_shown(random_bytes(CODE_CHARS)) for _ in range(COUNT)]


def hash_code(key: bytes, actor_id: UUID, code: str) -> str:
    """Return what is stored of a code, however it was typed."""
    return hmac.digest(key, b"recovery code " + actor_id.bytes + normalized(code).encode(), "sha256").hex()


def without(hashes: Sequence[str], used: str) -> list[str] | None:
    """Return the hashes that are left when one is used; None if it is none of them."""
    left = [one for one in hashes if not hmac.compare_digest(one, used)]
    return left if len(left) < len(hashes) else None


def normalized(typed: str) -> str:
    return "".join(char for char in typed[:_LONGEST_TYPED].lower() if char not in "- \t")


def _shown(random: bytes) -> str:
    text = "".join(ALPHABET[byte % len(ALPHABET)] for byte in random)  # 256 is a multiple of 32
    return "-".join(text[first : first + 4] for first in range(0, CODE_CHARS, 4))
