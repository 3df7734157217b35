"""One sync of the disk for all who wait for one."""

import asyncio
from collections.abc import Awaitable, Callable

Sync = Callable[[], Awaitable[None]]


class GroupSync:
    """Shares runs of `sync`: whoever asks is served by a run that began afterwards, and all who ask meanwhile
    by the same one.
    """

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    def begin(self) -> Awaitable[None]:
        """Ask for a run; the result ends with it, or fails as it did."""
        if self._next is None:
            self._next = asyncio.create_task(self._run(), name="sync")
        # One of many who wait may be cancelled: the run is not.
        return asyncio.shield(self._next)

    async def _run(self) -> None:
        if self._running is not None:
            await asyncio.wait((self._running,))
        self._running, self._next = self._next, None
        await self._sync()
