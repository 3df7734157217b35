"""The change feed's readers: each sees every committed change of its account in order, without gaps, at least once.

A reader asks the database for what follows its position, and sleeps when there is nothing. Hints wake it:
this process's own commits, and a poll that notices those of other processes (`wardgate init` beside a running
portal, other nodes): SQLite's `data_version`, PostgreSQL's counters. A hint carries no content, so a lost or
a superfluous one does no harm.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from uuid import UUID

from wardgate.portal.database.base_store import DATABASE_ERRORS, BaseStore
from wardgate.portal.database.transaction import BaseTransaction
from wardgate.portal.environment import Environment
from wardgate.portal.schema.change_feed import Change

POLL_S = 0.25
RETRY_S = 1.0
_BATCH = 500


class FeedBroken(Exception):
    """What was read does not follow what was read before: readers of the feed must not continue."""


class Feed:
    """Wakes the readers of one store. `run` polls for other processes' commits until it is cancelled.

    Attributes:
        on_delivery: told, with each batch, how many seconds ago its oldest change was made.
    """

    def __init__(self, store: BaseStore[BaseTransaction], environment: Environment) -> None:
        self._store = store
        self._environment = environment
        self._waiting: dict[UUID, list[asyncio.Event]] = {}
        self._stop_listening = store.on_commit(self._wake)
        self.on_delivery: Callable[[float], None] = _unobserved

    def close(self) -> None:
        self._stop_listening()

    async def run(self) -> None:
        """Poll for commits of other processes; returns never."""
        while True:
            await self._environment.clock.sleep(POLL_S)
            with contextlib.suppress(*DATABASE_ERRORS):
                self._wake(await self._store.accounts_changed_elsewhere(tuple(self._waiting)))

    async def position(self, account_id: UUID) -> int:
        """Return the sequence of the account's newest change, 0 for none."""
        async with self._store.reading() as transaction:
            return await transaction.sequence(account_id)

    async def follow(self, account_id: UUID, after: int) -> AsyncGenerator[list[Change]]:
        """Yield batches of changes behind the sequence `after`, for ever; resume with the last one's sequence.

        Raises:
            FeedBroken: a change is missing, or comes twice.
        """
        event = asyncio.Event()
        self._waiting.setdefault(account_id, []).append(event)
        try:
            while True:
                event.clear()
                changes = await self.changes_after(account_id, after)
                if changes:
                    _check_follows(changes, after)
                    after = changes[-1].sequence
                    age = self._environment.clock.now() - changes[0].committed_at
                    self.on_delivery(max(0.0, age.total_seconds()))
                    yield changes
                    # After a transaction about thousands of rows the next batch is there already.
                    await self._environment.clock.sleep(0)
                else:
                    await event.wait()
        finally:
            self._waiting[account_id].remove(event)
            if not self._waiting[account_id]:
                del self._waiting[account_id]

    async def changes_after(self, account_id: UUID, after: int) -> list[Change]:
        """Return the next changes, retrying while the database is unavailable, which the store logs."""
        while True:
            with contextlib.suppress(*DATABASE_ERRORS):
                async with self._store.reading() as transaction:
                    return await transaction.changes_after(account_id, after, _BATCH)
            await self._environment.clock.sleep(RETRY_S)

    def _wake(self, account_ids: frozenset[UUID]) -> None:
        for account_id in account_ids:
            for event in self._waiting.get(account_id, ()):
                event.set()


def _check_follows(changes: list[Change], after: int) -> None:
    """Check that nothing is left out. A deleted account's feed holds nothing but its deletion."""
    first = changes[0]
    if first.object == "accounts" and first.operation == "delete":
        after = first.sequence - 1
    numbers = [change.sequence for change in changes]
    if numbers != list(range(after + 1, after + 1 + len(numbers))):
        raise FeedBroken(f"after {after} came {numbers[0]} to {numbers[-1]}, {len(numbers)} changes")


def _unobserved(_seconds: float) -> None:
    """The default: nothing is measured."""
