"""Hashing of what people type: passwords and codes, by argon2id (RFC 9106 §4, the second recommended option).

A hash takes some fifty milliseconds of a core and 64 MiB: it is computed in the environment's executor, by `Hashing`.
"""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from wardgate.portal.environment import Executor

SALT_BYTES: Final = 16
AT_ONCE: Final = 2
"""Hashes computed at a time: strangers ask for them, and the executor's other threads bring commits to the disk."""
MOST_WAITING: Final = 64
"""Some two seconds' work; whoever comes then is told to come again in `RETRY_S`."""
RETRY_S: Final = 3

_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)


_Result = TypeVar("_Result")


class HashingBusy(Exception):
    """So many wait already that nothing was computed."""


class Hashing:
    """The hashes of one process, few at a time."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._under_way = 0

    async def run(self, executor: Executor, function: Callable[[], _Result]) -> _Result:
        """Compute a hash in the executor when its turn has come.

        Raises:
            HashingBusy: too many wait for theirs.
        """
        if self._under_way >= AT_ONCE + MOST_WAITING:
            raise HashingBusy
        self._under_way += 1
        try:
            async with self._turns:
                return await executor.run(function)
        finally:
            self._under_way -= 1


def hash_text(text: str, *, salt: bytes) -> str:
    """Return what the store keeps of a text."""
    return _HASHER.hash(text, salt=salt)


def is_text_of(stored: str | None, text: str) -> bool:
    """Tell whether a text is the one that was hashed. It takes as long for nobody's hash (None) and for what is no
    hash.
    """
    try:
        _HASHER.verify(_hash_of_nobody() if stored is None else stored, text)
    except InvalidHashError:
        return is_text_of(None, text)
    except VerificationError:
        return False
    return stored is not None


@cache
def _hash_of_nobody() -> str:
    return hash_text("", salt=bytes(SALT_BYTES))
