"""One-time codes that are sent by e-mail (identity §3): drawing one, storing what recognises it, checking what somebody
typed. Sign-in by e-mail and the proof of an address at another provider use the same.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement

from wardgate.portal.services import Services
from wardgate.portal.sign_in.hashing import SALT_BYTES, hash_text, is_text_of
from wardgate.portal.sign_in.passcode_attempts import MAX_ATTEMPTS, count_attempt
from wardgate.portal.sign_in.tables import OneTimePasscode
from wardgate.portal.store import AccountTables

LIFETIME: Final = timedelta(minutes=15)
CODE_CHARS: Final = 6
ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz123456789"  # without l, o and 0, which look like others

_FAIR: Final = 256 - 256 % len(ALPHABET)
_LONGEST_TYPED: Final = 64


@dataclass(frozen=True, slots=True)
class DrawnCode:
    """A new code: what is sent, and what is stored of it."""

    text: str
    code_hash: str


async def draw_code(services: Services) -> DrawnCode:
    """Draw a code; the hash is computed off the event loop."""
    environment = services.environment
    chars: list[str] = []
    while len(chars) < CODE_CHARS:
        # Larger bytes are skipped, so that no character is likelier than another.
        chars += [ALPHABET[byte % len(ALPHABET)] for byte in environment.rng.randbytes(16) if byte < _FAIR]
    text, salt = "".join(chars[:CODE_CHARS]), environment.rng.randbytes(SALT_BYTES)
    code_hash = await services.hashing.run(environment.executor, lambda: hash_text(text, salt=salt))
    return DrawnCode(text, code_hash)


async def store_code(tables: AccountTables, actor_id: UUID, code: DrawnCode) -> OneTimePasscode:
    """Store a code beside whatever codes the actor has."""
    return await tables.one_time_passcodes.insert(
        OneTimePasscode(
            id=tables.new_id(),
            account_id=tables.account_id,
            actor_id=actor_id,
            code_hash=code.code_hash,
            expires_at=tables.now + LIFETIME,
        )
    )


async def use_code(
    services: Services,
    account_id: UUID,
    code_id: UUID,
    actor_id: UUID,
    typed: str,
    *of_actor: ColumnElement[bool],
) -> bool:
    """Check what somebody typed, and use the code up if it is right; after the third wrong attempt it is gone too.

    The attempt is counted and committed before the comparison, which takes long: guesses that arrive together are
    counted all the same. Whoever deletes the code has used it; nobody else has.

    Args:
        of_actor: see `count_attempt`.
    """
    async with services.store.writing() as transaction:
        tried = await count_attempt(transaction, account_id, code_id, actor_id, *of_actor)
    stored, text = None if tried is None else tried.code_hash, normalized(typed)
    executor = services.environment.executor
    is_right = await services.hashing.run(executor, lambda: is_text_of(stored, text))
    if tried is None or not (is_right or tried.attempts >= MAX_ATTEMPTS):
        return False
    async with services.store.writing() as transaction:
        was_there = await transaction.of(account_id).one_time_passcodes.delete(code_id)
    return is_right and was_there


def normalized(typed: str) -> str:
    """Return a code as it was drawn, however it was typed: capitals, blanks and hyphens mean nothing."""
    return "".join(typed[:_LONGEST_TYPED].lower().replace("-", "").split())
