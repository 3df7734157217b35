"""Running a process's tasks side by side: the first that ends, ends all."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any


async def run_until_first_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all; when one returns or raises, cancel the others, wait for them and pass on what it raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def stop_signal(finish: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
    """Return when SIGTERM or SIGINT arrives.

    Args:
        finish: what is still to be done then; it ends by itself, or at the next signal.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await stopped.wait()
        if finish is not None:
            stopped.clear()
            await run_until_first_ends(finish(), _until(stopped))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def on_hangup(react: Callable[[], None]) -> None:
    """Call `react` at each SIGHUP, forever."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, react)
    try:
        await asyncio.Event().wait()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
