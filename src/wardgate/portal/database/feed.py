"""The change feed's readers: each sees every committed change of its account in order, without gaps, at least once.

A reader asks the database for what follows its position, and sleeps when there is nothing. Hints wake it:
this process's own commits, and a poll that notices those of other processes (`wardgate init` beside a running
portal, other nodes): SQLite's `data_version`, PostgreSQL's counters. A hint carries no content, so a lost or
a superfluous one does no harm.

What this process has committed itself need not be read back: the changes of an account that is followed are kept until
all its readers have them, and handed out if they follow the reader's position. Otherwise the database is asked.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from wardgate.portal.database.base_store import DATABASE_ERRORS, BaseStore
from wardgate.portal.database.transaction import BaseTransaction
from wardgate.portal.environment import Environment
from wardgate.portal.schema.change_feed import Change

POLL_S = 0.25
RETRY_S = 1.0
_BATCH = 500
_TAKEN: Final = 100
"""Changes that are handed out at once where none has to be asked for: a reader takes some milliseconds for them."""

_KEPT: Final = 20_000
"""Changes of an account that its readers have not taken yet."""


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
        self._waiting: dict[UUID, list[_Reader]] = {}
        self._newest: dict[UUID, deque[Change]] = {}  # without gaps; of accounts that somebody waits for
        self._stop_listening = store.on_commit(self._wake)
        store.on_append(self._keep)
        self.on_delivery: Callable[[float], None] = _unobserved

    def close(self) -> None:
        self._stop_listening()
        self._store.stop_handing_over(self._keep)

    async def run(self) -> None:
        """Poll for commits of other processes; returns never."""
        while True:
            await self._environment.clock.sleep(POLL_S)
            with contextlib.suppress(*DATABASE_ERRORS):
                moved = await self._store.accounts_changed_elsewhere(tuple(self._waiting))
                for account_id in moved:
                    for reader in self._waiting.get(account_id, ()):
                        reader.is_sure = False
                self._wake(moved)

    async def position(self, account_id: UUID) -> int:
        """Return the sequence of the account's newest change, 0 for none."""
        async with self._store.reading() as transaction:
            return await transaction.sequence(account_id)

    def has_more(self, account_id: UUID, after: int) -> bool:
        """Tell whether a reader at this position has changes to take that need not be asked for."""
        newest = self._newest.get(account_id)
        return newest is not None and len(newest) > 0 and newest[-1].sequence > after

    async def follow(self, account_id: UUID, after: int) -> AsyncGenerator[list[Change]]:
        """Yield batches of changes behind the sequence `after`, for ever; resume with the last one's sequence.

        Raises:
            FeedBroken: a change is missing, or comes twice.
        """
        reader = _Reader(after)
        self._waiting.setdefault(account_id, []).append(reader)
        try:
            while True:
                reader.woken.clear()
                if reader.is_sure and self._is_newest(account_id, after):
                    await reader.woken.wait()
                    continue
                reader.is_sure = reader.is_sure or not self._kept_after(account_id, after)
                changes = await self.changes_after(account_id, after)
                reader.is_sure = reader.is_sure and len(changes) < _BATCH
                if changes:
                    _check_follows(changes, after)
                    after = reader.after = changes[-1].sequence
                    self._forget_taken(account_id)
                    age = self._environment.clock.now() - changes[0].committed_at
                    self.on_delivery(max(0.0, age.total_seconds()))
                    yield changes
                    # After a transaction about thousands of rows the next batch is there already.
                    await self._environment.clock.sleep(0)
                else:
                    await reader.woken.wait()
        finally:
            self._waiting[account_id].remove(reader)
            if not self._waiting[account_id]:
                del self._waiting[account_id]
                self._newest.pop(account_id, None)

    async def changes_after(self, account_id: UUID, after: int) -> list[Change]:
        """Return the next changes, retrying while the database is unavailable, which the store logs."""
        kept = self._kept_after(account_id, after)
        if kept:
            return kept
        while True:
            with contextlib.suppress(*DATABASE_ERRORS):
                async with self._store.reading() as transaction:
                    return await transaction.changes_after(account_id, after, _BATCH)
            await self._environment.clock.sleep(RETRY_S)

    def _keep(self, account_id: UUID, changes: list[Change]) -> None:
        if account_id not in self._waiting:
            return
        newest = self._newest.setdefault(account_id, deque(maxlen=_KEPT))
        if not changes or (newest and changes[0].sequence != newest[-1].sequence + 1):
            newest.clear()
        newest.extend(changes)

    def _kept_after(self, account_id: UUID, after: int) -> list[Change]:
        """Return the changes behind a position, as far as they are kept; nothing if the next one is not."""
        newest = self._newest.get(account_id)
        if not newest or not newest[0].sequence <= after + 1 <= newest[-1].sequence:
            return []
        first = after + 1 - newest[0].sequence
        return list(itertools.islice(newest, first, first + _TAKEN))

    def _forget_taken(self, account_id: UUID) -> None:
        """Keep the last change that all readers have: it shows that there is none behind it."""
        newest = self._newest.get(account_id)
        taken = min(reader.after for reader in self._waiting[account_id])
        while newest and newest[0].sequence < taken:
            newest.popleft()

    def _is_newest(self, account_id: UUID, sequence: int) -> bool:
        """Tell whether a change is the last that this process has committed."""
        newest = self._newest.get(account_id)
        return newest is not None and len(newest) > 0 and newest[-1].sequence == sequence

    def _wake(self, account_ids: frozenset[UUID]) -> None:
        for account_id in account_ids:
            for reader in self._waiting.get(account_id, ()):
                reader.woken.set()


@dataclass(slots=True, eq=False)
class _Reader:
    """Somebody who follows a feed, and how far it has come.

    Attributes:
        is_sure: the database has been asked since a poll found that another process may have moved the feed.
    """

    after: int
    is_sure: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)


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
