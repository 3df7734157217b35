import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from support.patience import PATIENCE_S
from wardgate.net.errors import HostRefused
from wardgate.net.succession import VARIABLE, Inheritance, Legacy, Successor, inherit, successor

LEGACY = Legacy(host={"net.ipv4.ip_forward": "0"}, machine=msgspec.Raw(b'{"names":[]}'))
# Stands for the next version's process: it writes down what it was left, and whether its device is open.
NEXT = """
import os, sys
from wardgate.net.succession import inherit
found = inherit()
os.fstat(found.tun_device)
open(sys.argv[1], "w").write(found.legacy.host["net.ipv4.ip_forward"] + os.environ["TOKEN"])
"""


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The predecessor's end; the other one is announced as a successor's."""
    ours, theirs = socket.socketpair()
    monkeypatch.setenv(VARIABLE, str(theirs.detach()))
    with ours:
        yield ours


@pytest.fixture
def device() -> Iterator[tuple[int, int]]:
    """Two ends of a pipe; the first stands for the TUN device."""
    ends = os.pipe()
    yield ends
    os.close(ends[1])


def test_a_process_that_succeeds_nobody_inherits_nothing() -> None:
    assert inherit() is None


def test_a_successor_begins_with_what_was_left_and_the_open_device(
    pair: socket.socket, device: tuple[int, int]
) -> None:
    begun: list[Inheritance | None] = []
    waiting = threading.Thread(target=lambda: begun.append(inherit()))
    waiting.start()
    assert pair.recv(100) == b"ready"
    Successor(os.getpid(), pair).hand_over(LEGACY, device[0])
    waiting.join(PATIENCE_S)

    (found,) = begun
    assert found is not None
    assert found.legacy == LEGACY
    os.write(device[1], b"packet")
    assert os.read(found.tun_device, 100) == b"packet"
    os.close(found.tun_device)
    assert VARIABLE not in os.environ, "its own children succeed nobody"


@pytest.mark.parametrize(
    "said", [b"", bytes(8), b"\xff" * 8, (5).to_bytes(8, "big") + b"{", (2).to_bytes(8, "big") + b"[]"]
)
def test_a_successor_does_not_begin_when_its_predecessor_has_ended(pair: socket.socket, said: bytes) -> None:
    pair.sendall(said)
    pair.shutdown(socket.SHUT_WR)
    with pytest.raises(HostRefused, match="was to succeed"):
        inherit()


@pytest.mark.slow
async def test_a_signal_starts_the_same_command_which_takes_over_when_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    device: tuple[int, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    written = tmp_path / "written"
    environment = {**os.environ, "TOKEN": " and its token", "WATCHDOG_PID": "1"}
    waiting = asyncio.create_task(successor(environment))
    await asyncio.sleep(0)
    # The first version that is installed cannot start: this process goes on and tries again when it is told to.
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", "raise SystemExit(1)"])
    with caplog.at_level(logging.ERROR):
        os.kill(os.getpid(), signal.SIGUSR2)
        async with asyncio.timeout(PATIENCE_S):
            while "no process could take over" not in caplog.text:  # noqa: ASYNC110 - a log line is no event
                await asyncio.sleep(0.01)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", NEXT, str(written)])
    os.kill(os.getpid(), signal.SIGUSR2)
    next_one = await asyncio.wait_for(waiting, PATIENCE_S)
    assert not written.exists(), "it waits until it is handed over to"
    next_one.hand_over(LEGACY, device[0])

    _, status = await asyncio.to_thread(os.waitpid, next_one.pid, 0)
    assert (status, written.read_text()) == (0, "0 and its token")


async def test_a_second_signal_does_not_end_a_process_that_is_on_its_way_out() -> None:
    waiting = asyncio.create_task(successor({}))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
