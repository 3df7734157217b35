"""One stream of server-sent events for each open page: it names that something has changed, and the script reads the
page's own address again. Nothing is polled but what no feed tells of (`Live.every_s`); a page that nothing concerns
costs a comment line now and then.

    event: changed      what the page declares in `Page.live` has changed
    data: devices presence
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wardgate.portal.store import Feed
from wardgate.portal.web.frame import Frame
from wardgate.portal.web.page import Live
from wardgate.supervision import Tasks

KEEPALIVE_S: Final = 20.0
SETTLE_S: Final = (
    0.1  # changes come in bursts: the first is told at once, and one message stands for the others
)
RECONNECT_MS: Final = 2000
MAX_STREAMS: Final = 50
"""Of one session."""
MAX_CATCH_UP: Final = 1000
"""A page that missed more changes reads itself again in any case."""
_DOUBTFUL: Final = frozenset(
    {"accounts", "actors", "portal_sessions", "operator_sessions", "operator_tokens"}
)
"""After a change of these a session may have ended; without one it is looked at as often as a comment is sent."""


class LiveStreams:
    """The streams of one portal."""

    def __init__(self, frame: Frame[Any]) -> None:
        self._frame = frame
        self._pages = {page.path: page for page in frame.pages}
        self._streams: Counter[str] = Counter()
        self._readers: dict[UUID, _Reader] = {}

    async def answer(self, request: Request) -> Response:
        """Follow the page that the query names, `?page=/sites`."""
        signed_in = await self._frame.signed_in(request)
        if signed_in is None:
            # 204 ends an EventSource for good; a redirect to a page would be an error that it repeats.
            return Response(status_code=204)
        if self._streams[self._frame.form_token(signed_in)] >= MAX_STREAMS:
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS)
        page = self._pages.get(request.query_params.get("page", ""))
        live = Live() if page is None else page.live
        feed_id = self._frame.feed_of(signed_in)
        return StreamingResponse(
            self._stream(signed_in, feed_id, live, _seen(request)),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _stream(
        self, signed_in: Any, feed_id: UUID, live: Live, seen: int | None
    ) -> AsyncIterator[str]:
        """Yield an event after each change, for as long as the session lives."""
        clock = self._frame.services.environment.clock
        pause_s = KEEPALIVE_S if live.every_s is None else live.every_s
        async with self._counted(signed_in), self._changes(feed_id, live, seen) as changes:
            yield f"retry: {RECONNECT_MS}\nevent: following\ndata: {live_text(live)}\n\n"
            looked_at = clock.monotonic()
            # A page whose stream ends connects again, to one that can follow.
            while not changes.has_ended:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await changes.arrived.wait()
                if changes.is_doubtful or clock.monotonic() - looked_at >= pause_s:
                    changes.is_doubtful = False
                    if not await self._frame.is_alive(signed_in):
                        return
                    looked_at = clock.monotonic()
                if live.every_s is not None:
                    changes.add("time")
                if not changes.arrived.is_set():
                    yield ": still here\n\n"
                    continue
                if changes.is_presence:
                    await clock.sleep(SETTLE_S)  # what a connect writes follows it
                changed = changes.take()
                if changed:
                    yield f"event: changed\ndata: {' '.join(sorted(changed))}\n\n"
                    await clock.sleep(SETTLE_S)

    @contextlib.asynccontextmanager
    async def _counted(self, signed_in: Any) -> AsyncIterator[None]:
        """Count a stream of a session, which its form token names."""
        session = self._frame.form_token(signed_in)
        self._streams[session] += 1
        try:
            yield
        finally:
            self._streams[session] -= 1
            self._streams += Counter()  # without the sessions that have none

    @contextlib.asynccontextmanager
    async def _changes(self, feed_id: UUID, live: Live, seen: int | None) -> AsyncIterator["_Changes"]:
        changes = _Changes()
        bus = self._frame.services.environment.bus
        with contextlib.ExitStack() as watches:
            for kind in live.presence:
                topic = "presence:relay" if kind == "relay" else f"presence:{feed_id}"
                watches.callback(bus.watch(topic, partial(changes.add, "presence")))
            if live.decisions:
                watches.callback(bus.watch(f"decisions:{feed_id}", partial(changes.add, "decisions")))
            reader = self._readers.get(feed_id)
            if reader is None or reader.has_ended:
                reader = self._readers[feed_id] = _Reader(self._frame.services.feed, feed_id)
            try:
                await reader.join(changes, live.tables, seen)
                yield changes
            finally:
                if reader.leave(changes):
                    if self._readers.get(feed_id) is reader:
                        del self._readers[feed_id]
                    await reader.close()


class _Reader:
    """Reads a feed for all the pages that follow it: one statement for a change, however many they are."""

    def __init__(self, feed: Feed, feed_id: UUID) -> None:
        self._feed = feed
        self._feed_id = feed_id
        self._pages: dict[_Changes, frozenset[str]] = {}
        self._position = 0
        self._has_position = asyncio.Event()
        self._tasks = Tasks()
        self._follower = self._tasks.start(self._follow(), name="pages")

    @property
    def has_ended(self) -> bool:
        return self._follower.done()

    async def join(self, page: "_Changes", tables: frozenset[str], seen: int | None) -> None:
        """Tell a page what changes from where it was read; one that is older, or from elsewhere, from now on."""
        self._pages[page] = tables
        await self._has_position.wait()
        if seen is not None and self._position - MAX_CATCH_UP <= seen < self._position:
            missed = await self._feed.changes_after(self._feed_id, seen)
            page.tell({change.object for change in missed}, tables)
        page.has_ended = page.has_ended or self.has_ended

    def leave(self, page: "_Changes") -> bool:
        """Tell a page nothing more; true: it was the last one."""
        self._pages.pop(page, None)
        return not self._pages

    async def close(self) -> None:
        await self._tasks.close()

    async def _follow(self) -> None:
        try:
            self._position = await self._feed.position(self._feed_id)
            self._has_position.set()
            async with contextlib.aclosing(self._feed.follow(self._feed_id, self._position)) as batches:
                async for batch in batches:
                    self._position = batch[-1].sequence
                    names = {change.object for change in batch}
                    for page, tables in self._pages.items():
                        page.tell(names, tables)
        finally:
            self._has_position.set()
            for page in self._pages:
                page.has_ended = True
                page.arrived.set()


class _Changes:
    """What has changed since the last event.

    Attributes:
        is_doubtful: the session may have ended.
        has_ended: nobody tells any more.
    """

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.is_doubtful = False
        self.has_ended = False
        self._names: set[str] = set()

    def tell(self, names: set[str], tables: frozenset[str]) -> None:
        """Take what has changed in a feed, as far as it concerns a page of these tables."""
        if names & _DOUBTFUL:
            self.is_doubtful = True
            self.arrived.set()
        if names & tables:
            self.add(*(names & tables))

    def add(self, *names: str) -> None:
        self._names.update(names)
        self.arrived.set()

    @property
    def is_presence(self) -> bool:
        return "presence" in self._names

    def take(self) -> set[str]:
        self.arrived.clear()
        names, self._names = self._names, set()
        return names


def _seen(request: Request) -> int | None:
    """Return the place in the feed where the page was read."""
    text = request.query_params.get("seen", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


def live_text(live: Live) -> str:
    return " ".join(sorted(live.tables | live.presence | ({"decisions"} if live.decisions else set())))
