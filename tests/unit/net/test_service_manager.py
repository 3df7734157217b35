import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from wardgate.net.service_manager import keep_watchdog, notify, notify_slow_stop


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        yield manager


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


async def watched(**environment: str) -> None:
    """Let the watchdog take its first turn."""
    task = asyncio.create_task(keep_watchdog(environment=environment))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_the_state_reaches_the_service_manager(manager: socket.socket) -> None:
    notify("READY=1", environment=environment(manager))
    assert manager.recv(100) == b"READY=1"


def test_a_slow_stop_asks_for_its_time(manager: socket.socket) -> None:
    notify_slow_stop(615.0, environment=environment(manager))

    assert manager.recv(100) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=615000000"


def test_without_a_service_manager_nothing_happens(tmp_path: Path) -> None:
    notify("READY=1", environment={})
    notify("READY=1", environment={"NOTIFY_SOCKET": str(tmp_path / "gone")})


async def test_a_watchdog_hears_from_a_process_that_is_well(manager: socket.socket) -> None:
    received = asyncio.get_running_loop().sock_recv(manager, 100)
    task = asyncio.create_task(keep_watchdog(environment=environment(manager, WATCHDOG_USEC="20000")))
    assert await received == b"WATCHDOG=1"
    assert await asyncio.get_running_loop().sock_recv(manager, 100) == b"WATCHDOG=1", "and again"
    task.cancel()


async def test_a_watchdog_hears_nothing_from_a_process_that_is_not(manager: socket.socket) -> None:
    asked = asyncio.Event()

    def is_well() -> bool:
        asked.set()
        return False

    task = asyncio.create_task(keep_watchdog(is_well, environment=environment(manager, WATCHDOG_USEC="2000")))
    await asked.wait()
    task.cancel()
    with pytest.raises(BlockingIOError):
        manager.recv(100)


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}])
async def test_a_manager_that_waits_for_no_word_gets_none(
    manager: socket.socket, more: dict[str, str]
) -> None:
    assert os.getpid() != 1
    await watched(**environment(manager, **more))
    with pytest.raises(BlockingIOError):
        manager.recv(100)
