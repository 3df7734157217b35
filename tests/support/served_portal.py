"""A portal behind its real server, in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from support.patience import PATIENCE_S
from wardgate.portal.app import Portal
from wardgate.portal.environment import Environment
from wardgate.portal.keys import Keys
from wardgate.portal.listening import listen
from wardgate.portal.server import DRAIN_S, serve
from wardgate.portal.settings import PortalSettings

START_S = 4 * PATIENCE_S
STOP_S = DRAIN_S + 4 * PATIENCE_S
"""More than the server itself waits for connections to end: what it says then is seen."""


@contextlib.asynccontextmanager
async def served_portal(
    settings: Callable[[int], PortalSettings],
    *,
    environment: Environment | None = None,
    stop: asyncio.Event | None = None,
    address: str = "127.0.0.1",
    **listeners: Any,
) -> AsyncIterator[tuple[Portal, int]]:
    """Serve a portal on a port that the kernel chooses; it is asked to stop at the end, or before by `stop`.

    Args:
        settings: makes them for that port.
        listeners: those that `serve` takes besides.
    """
    listener = listen(address, 0)
    port: int = listener.getsockname()[1]
    environment = environment or Environment.of_this_process()
    portal = await Portal.open(settings(port), Keys.derive(b"k" * 32), environment)
    ready, stop = asyncio.Event(), stop or asyncio.Event()
    task = asyncio.create_task(serve(portal, listener, **listeners, on_ready=ready.set, until=stop))
    await asyncio.wait_for(ready.wait(), START_S)
    try:
        yield portal, port
    finally:
        stop.set()
        await asyncio.wait_for(task, STOP_S)
