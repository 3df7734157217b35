"""Holds a portal still at a point between a decision and what follows from it: around the journal's
transaction, before the view.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any
from uuid import UUID

from support.patience import PATIENCE_S
from wardgate.portal.app import Portal
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.store import Store, Transaction


@contextlib.contextmanager
def gates_of(portal: Portal) -> Iterator[Gates]:
    """Gates that open at the end, however the test ended."""
    gates = Gates(portal)
    try:
        yield gates
    finally:
        gates.open()


class Gate:
    """Open, or closed: then whoever comes waits, and `reached` tells of it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._reached = asyncio.Event()
        self.open()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._reached.clear()
        self._open.clear()

    async def reached(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._reached.wait()

    async def pass_through(self) -> None:
        if not self._open.is_set():
            self._reached.set()
        await self._open.wait()


class Gates:
    """The gates of one portal.

    Attributes:
        begin: before the journal begins a transaction.
        committed: after it has committed, before anybody is told.
        feed: before the account's view reads what has changed.
    """

    def __init__(self, portal: Portal) -> None:
        self.begin, self.committed, self.feed = Gate(), Gate(), Gate()
        self._store: Store = portal.services.store
        portal.journal._store = self  # type: ignore[assignment]
        feed = portal.services.feed
        self.changes_after = feed.changes_after
        feed.changes_after = self._read_changes  # type: ignore[method-assign]

    def open(self) -> None:
        """Let everybody pass: a portal whose journal waits never ends."""
        for gate in (self.begin, self.committed, self.feed):
            gate.open()

    @contextlib.asynccontextmanager
    async def writing(self, *arguments: Any, **options: Any) -> AsyncIterator[Transaction]:
        """Stand in for the store of the journal."""
        await self.begin.pass_through()
        async with self._store.writing(*arguments, **options) as transaction:
            yield transaction
        await self.committed.pass_through()

    def start_sync(self) -> Awaitable[None] | None:
        return self._store.start_sync()

    async def _read_changes(self, account_id: UUID, after: int) -> list[Change]:
        await self.feed.pass_through()
        return await self.changes_after(account_id, after)
