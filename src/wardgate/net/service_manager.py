"""Messages to systemd (sd_notify(3)); silent where no service manager listens."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
_ALIVE: Final = "WATCHDOG=1"


def notify(state: str, *, environment: Mapping[str, str] = os.environ) -> None:
    """Send assignments such as `READY=1`, one a line, to the socket that `NOTIFY_SOCKET` names."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return
    with (
        contextlib.suppress(OSError),  # a manager that is gone is no reason to end
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        # A leading @ stands for Linux's abstract namespace.
        sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        sender.sendall(state.encode())


def notify_slow_stop(limit_s: float, *, environment: Mapping[str, str] = os.environ) -> None:
    """Tell the manager that this process stops, and to give it that long instead of `TimeoutStopSec=`."""
    notify(f"{STOPPING}\nEXTEND_TIMEOUT_USEC={round(limit_s * 1e6)}", environment=environment)


async def keep_watchdog(
    is_well: Callable[[], bool] = lambda: True, *, environment: Mapping[str, str] = os.environ
) -> None:
    """Tell the service manager for ever that this process goes on, twice in the time it allows (`WatchdogSec=`).

    Args:
        is_well: asked before each message; while it says no, none is sent, and the manager starts the process anew.
    """
    interval_s = _watchdog_s(environment)
    if interval_s is None:
        await asyncio.Event().wait()
        return
    while True:
        if is_well():
            notify(_ALIVE, environment=environment)
        await asyncio.sleep(interval_s / 2)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return how long the manager waits for a word; None: it waits for none, or not for this process's."""
    if environment.get("WATCHDOG_PID") not in (None, "", str(os.getpid())):
        return None
    try:
        microseconds = int(environment.get("WATCHDOG_USEC") or 0)
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None
