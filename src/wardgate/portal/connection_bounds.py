"""Bounds for connections of those who have proved nothing, whichever protocol they speak, and what keeps them."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 200
HEAD_S: Final = 10.0
BODY_S: Final = 40.0
UNREAD_S: Final = 30.0
CLOSE_S: Final = 10.0

SLICE_BYTES: Final = 4096
ENDED_AT_ONCE: Final = 16
"""Each takes a twentieth of a millisecond; then others have their turn."""


class Ends:
    """The ends of connections that are due, carried out a few in each turn of the loop."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()
        self._is_going_on = False

    def add(self, end: Callable[[], None]) -> None:
        """Call `end` when it is its turn; it must look whether the connection has gone on meanwhile."""
        self._due.append(end)
        if not self._is_going_on:
            self._is_going_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        try:
            for _ in range(min(ENDED_AT_ONCE, len(self._due))):
                self._due.popleft()()
        finally:
            self._is_going_on = bool(self._due)
            if self._is_going_on:
                asyncio.get_running_loop().call_soon(self._go_on)


class HeldFlow(FlowControl):
    """Reading rests while uvicorn wants it to, or while slices are left."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._is_wanted = False
        self._is_held = False

    def pause_reading(self) -> None:
        self._is_wanted = True
        self._apply()

    def resume_reading(self) -> None:
        self._is_wanted = False
        self._apply()

    def hold(self, *, is_held: bool) -> None:
        self._is_held = is_held
        self._apply()

    def _apply(self) -> None:
        if self._is_wanted or self._is_held:
            super().pause_reading()
        else:
            super().resume_reading()


class Closing:
    """Closes a connection within `CLOSE_S`, whether or not its peer reads what was said or ends its TLS too.

    asyncio's TLS has two traps. A second `close` takes the connection away from its transport, whose methods raise
    from then on. And while reading rests, what the peer says at the end is not read either.
    """

    __slots__ = ("_loop", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Close, unless somebody has; abort later, if that does not end it."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.close()
        if self._timer is None:
            self._timer = self._loop.call_later(CLOSE_S, self._transport.abort)

    def end(self) -> None:
        """The connection is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ReaderWatch:
    """Ends a connection that takes nothing of what waits for it for `UNREAD_S`."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Something waits."""
        self.stop()
        self._timer = self._loop.call_later(UNREAD_S, self._check, self._transport.get_write_buffer_size())

    def stop(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, unread_before: int) -> None:
        if self._transport.is_closing() or self._transport.get_write_buffer_size() >= unread_before:
            self._transport.abort()
        else:
            self.start()
