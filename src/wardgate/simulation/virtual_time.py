"""An asyncio event loop whose clock jumps to the next timer instead of waiting.

Nothing in it waits for the operating system: code that runs on it must not open sockets or use threads. Equal
programs run equally, step by step, whatever the machine is doing.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")


class Deadlocked(Exception):
    """Every task waits for something that no timer will bring: the program under simulation hangs."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` starts at `start_s` and moves only when all ready callbacks have run."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s
        super().__init__(_NoWaiting(self))

    def time(self) -> float:
        return self._now_s

    def advance(self, duration_s: float) -> None:
        self._now_s += duration_s


def run_virtual(main: Coroutine[Any, Any, _T], *, start_s: float = 1000.0) -> _T:
    """Run to its end on a fresh loop; like asyncio.run. Raises Deadlocked when it hangs."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start_s)) as runner:
        return runner.run(main)


class _NoWaiting(selectors.BaseSelector):
    """Answers each wait at once, with the clock moved by what the wait would have taken."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._keys: dict[object, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlocked("no callback is ready and no timer is set")
        if timeout > 0:
            self._loop.advance(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        # Only the loop's own self-pipe comes here; threads would use it, and there are none.
        key = selectors.SelectorKey(
            fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data
        )
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()
