"""The portal's way to its database, as over a network: every transaction takes time on both ways, and writes may fail.

SQLite in memory answers within one step of virtual time, so that nothing ever happens between a decision and
its commit, or while a session is being loaded. The administrator of the simulation writes to the near store,
whose commits are seen at once.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from wardgate.portal.database.base_store import Appended, DatabaseAdapter
from wardgate.portal.environment import Environment
from wardgate.portal.store import Store, Transaction

_HELD_S: Final = 1.0


class DistantStore(Store):
    """A store whose `near` is a second entrance to the same database.

    Attributes:
        rng: draws how long each way takes.
        way_s: how long the longest way takes, there or back.
        is_full: the disk takes no more; nothing is written and the writer is told so.
        failures: writes refused for it.
    """

    def __init__(self, database: DatabaseAdapter, environment: Environment) -> None:
        super().__init__(database, environment)
        self.near = Store(database, environment)
        self.rng = random.Random(0)  # noqa: S311  # replays
        self.way_s = 0.0
        self.is_full = False
        self.failures = 0
        self._reading_to_hold: tuple[int, asyncio.Future[None]] | None = None

    def hold_reading(self, skipped: int) -> asyncio.Future[None]:
        """Keep the answer of one of the next readings under way for a while; done when it is, with what has
        been read.
        """
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading_to_hold = skipped, held
        return held

    def on_commit(self, listener: Callable[[frozenset[UUID]], None]) -> Callable[[], None]:
        """Whoever commits, here or there, wakes the listener."""
        stops = [super().on_commit(listener), self.near.on_commit(listener)]

        def stop() -> None:
            for one in stops:
                one()

        return stop

    def on_append(self, reader: Appended) -> None:
        """What was written is read back on a way of its own: a view lags, as behind another node."""

    def stop_handing_over(self, reader: Appended) -> None: ...

    @asynccontextmanager
    async def reading(
        self, *, is_long: bool = False, is_one_moment: bool = True
    ) -> AsyncIterator[Transaction]:
        await self._travel()
        async with super().reading(is_long=is_long, is_one_moment=is_one_moment) as transaction:
            yield transaction
        await self._travel()
        await self._be_held()

    @asynccontextmanager
    async def writing(
        self, subject: dict[str, Any] | None = None, *, is_synced: bool = True
    ) -> AsyncIterator[Transaction]:
        await self._travel()
        if self.is_full:
            self.failures += 1
            raise OSError(errno.ENOSPC, "the disk is full")
        async with super().writing(subject, is_synced=is_synced) as transaction:
            yield transaction
        await self._travel()

    async def _be_held(self) -> None:
        if self._reading_to_hold is None:
            return
        skipped, held = self._reading_to_hold
        if skipped:
            self._reading_to_hold = skipped - 1, held
            return
        self._reading_to_hold = None
        if not held.done():
            held.set_result(None)
            await asyncio.sleep(_HELD_S)

    async def _travel(self) -> None:
        if self.way_s:
            await asyncio.sleep(self.rng.uniform(0.0, self.way_s))
