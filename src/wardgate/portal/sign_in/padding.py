"""Answers that take equally long, whoever is asked about."""

from collections.abc import Awaitable
from typing import Final, TypeVar

from wardgate.portal.environment import Clock

PADDED_S: Final = 3.0  # identity §16

_Result = TypeVar("_Result")


async def padded(clock: Clock, work: Awaitable[_Result]) -> _Result:
    """Do some work, and come back after three seconds, however it went: neither a mail that is sent nor a hash that
    is computed can be told from one that is not.
    """
    began_at = clock.monotonic()
    try:
        return await work
    finally:
        await pad(clock, since=began_at)


async def pad(clock: Clock, *, since: float) -> None:
    """Wait until three seconds have passed since then."""
    await clock.sleep(max(0.0, since + PADDED_S - clock.monotonic()))
