"""What strangers cost: `/healthz` and the memory of a real portal process while connections that prove
nothing are held open.

    python -m benches.portal_floods [SECONDS]

The portal runs as `wardgate portal`. The flood is a process of its own, and so is whoever asks for health:
neither distorts the other's times except by using the same CPUs. Connections of one address are bounded, so
the flood comes from many addresses of 127.0.0.0/8.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import http.client
import multiprocessing
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benches.portal_account import percentiles
from benches.portal_sockets import free_port, running

SECONDS: Final = 20.0
"""Of each flood: longer than an unfinished head is waited for, so that connections are closed and come again."""

OF_ONE_ADDRESS: Final = 500
DESCRIPTORS: Final = 40_000
PROBE_EVERY_S: Final = 0.02
WARM_UP: Final = 10
GATHERING_S: Final = 15.0
PIECE_EVERY_S: Final = 1.0
AGAIN_AFTER_S: Final = 0.5
_MIB: Final = 1024  # /proc counts in KiB

_HEAD: Final = b"GET /healthz HTTP/1.1\r\nHost: portal\r\n"
_BODY: Final = (
    b"POST /sites HTTP/1.1\r\nHost: portal\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000000\r\n\r\n"
)
_UPGRADE: Final = (
    b"GET /client/websocket?vsn=2.0.0&token=none&external_id=a&public_key=b HTTP/1.1\r\nHost: portal\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

FLOODS: Final[dict[str, tuple[int, bytes, bytes]]] = {
    "nobody": (0, b"", b""),
    "slow heads": (5_000, _HEAD, b"X: y\r\n"),
    "slow bodies": (5_000, _BODY, b" "),
    "half-open upgrades": (5_000, _UPGRADE[:-2], b""),
    "idle connections": (10_000, b"", b""),
}
"""How many connections, what each begins with, and what it adds every second."""


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Each flood once, for as long as it takes until its connections have been ended and have come again."""
    results = measure()
    print("\nfloods: strangers who hold connections, and /healthz and the portal's memory meanwhile")
    report(results)
    return results


def measure(seconds: float = SECONDS) -> dict[str, Any]:
    """Return for each flood percentiles of `/healthz` in milliseconds, the portal's memory in MiB, and
    connections held.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
    with (
        tempfile.TemporaryDirectory(prefix="wardgate-bench-") as directory,
        _portal(Path(directory)) as (pid, port),
    ):
        return {name: _measure_one(pid, port, flood, seconds) for name, flood in FLOODS.items()}


def _measure_one(pid: int, port: int, flood: tuple[int, bytes, bytes], seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    stop = context.Event()
    flooding = context.Process(target=_flood, args=(sending, stop, port, *flood))
    flooding.start()
    held = receiving.recv()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = cpu_s(pid)
    started = time.perf_counter()
    answering, telling = context.Pipe(duplex=False)
    probing = context.Process(target=_probe, args=(telling, port, seconds))
    probing.start()
    taken = answering.recv()
    took_s = time.perf_counter() - started
    cpu = (cpu_s(pid) - before) / took_s
    peak = _memory(pid, "VmHWM")
    stop.set()
    opened = receiving.recv()
    for process in (probing, flooding):
        process.join()
    return {
        **percentiles(taken), "most": max(taken) * 1e3, "probes": len(taken), "peak_mib": peak / _MIB,
        "cpu": cpu, "held": held, "opened": opened,
    }  # fmt: skip


def _probe(telling: Any, port: int, seconds: float) -> None:
    """Ask for health as a load balancer does, each time on a connection of its own."""
    taken = [_health_s(port) for _ in range(WARM_UP)][WARM_UP:]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        taken.append(_health_s(port))
        time.sleep(PROBE_EVERY_S)
    telling.send(taken)


def _health_s(port: int) -> float:
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    connection.close()
    return time.perf_counter() - started


def _flood(sending: Any, stop: Any, port: int, count: int, beginning: bytes, piece: bytes) -> None:
    strangers = _Strangers(port, count, beginning, piece)
    deadline = time.monotonic() + GATHERING_S
    strangers.work(until=lambda: strangers.held >= count or time.monotonic() > deadline)
    # On a slow machine the first are ended before the last have connected: told is how many there are.
    sending.send(strangers.held)
    strangers.work(until=stop.is_set)
    sending.send(strangers.opened)


class _Strangers:
    """So many connections; one that the portal ends comes again."""

    def __init__(self, port: int, count: int, beginning: bytes, piece: bytes) -> None:
        self._port = port
        self._beginning = beginning
        self._piece = piece
        self._poll = select.epoll()
        self._open: dict[int, tuple[int, socket.socket]] = {}
        self._due: list[tuple[float, int, int]] = []  # when, who, descriptor (-1: connect)
        self.opened = 0
        for number in range(count):
            heapq.heappush(self._due, (0.0, number, -1))

    @property
    def held(self) -> int:
        return len(self._open)

    def work(self, until: Callable[[], bool]) -> None:
        while not until():
            now = time.monotonic()
            for _ in range(200):
                if not self._due or self._due[0][0] > now:
                    break
                _at, number, descriptor = heapq.heappop(self._due)
                if descriptor < 0:
                    self._connect(number, now)
                else:
                    self._go_on(number, descriptor, now)
            for descriptor, _events in self._poll.poll(0.005):
                self._read(descriptor)

    def _connect(self, number: int, now: float) -> None:
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        high, low = divmod(number // OF_ONE_ADDRESS, 250)
        one.bind((f"127.1.{high}.{low + 1}", 0))
        if one.connect_ex(("127.0.0.1", self._port)) not in (0, errno.EINPROGRESS):
            one.close()
            heapq.heappush(self._due, (now + AGAIN_AFTER_S, number, -1))
            return
        self.opened += 1
        self._open[one.fileno()] = (number, one)
        self._poll.register(one.fileno(), select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR)
        if self._beginning:
            heapq.heappush(self._due, (now + 0.01, number, one.fileno()))

    def _go_on(self, number: int, descriptor: int, now: float) -> None:
        who, one = self._open.get(descriptor, (-1, None))
        if one is None or who != number:
            return
        is_first = one.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == 0
        try:
            one.send(self._beginning if is_first else self._piece)
        except BlockingIOError:
            heapq.heappush(self._due, (now + 0.05, number, descriptor))
            return
        except OSError:
            self._lose(descriptor)
            return
        # The socket itself remembers that it has begun.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 1)
        if self._piece:
            heapq.heappush(self._due, (now + PIECE_EVERY_S, number, descriptor))

    def _read(self, descriptor: int) -> None:
        _number, one = self._open[descriptor]
        try:
            is_over = not one.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            is_over = True
        if is_over:
            self._lose(descriptor)

    def _lose(self, descriptor: int) -> None:
        number, one = self._open.pop(descriptor)
        self._poll.unregister(descriptor)
        one.close()
        heapq.heappush(self._due, (time.monotonic() + AGAIN_AFTER_S, number, -1))


_IP_BIND_ADDRESS_NO_PORT: Final = 24
"""From linux/in.h: the port is chosen when connecting, so that each address has all of them."""


@contextlib.contextmanager
def _portal(directory: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    wardgate = str(Path(sys.executable).with_name("wardgate"))
    environment = {
        **os.environ,
        "WARDGATE_DATA_DIR": str(directory),
        "WARDGATE_LISTEN": f"127.0.0.1:{port}",
        "WARDGATE_LOG_LEVEL": "warning",
    }
    account = ["--account-name", "Acme", "--account-slug", "acme", "--admin-email", "ada@acme.example"]
    subprocess.run([wardgate, "init", *account], env=environment, check=True, stdout=subprocess.DEVNULL)
    with running([wardgate, "portal"], port, environment) as process:
        yield process.pid, port


def _memory(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(field)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(results: dict[str, Any]) -> None:
    for name, one in results.items():
        print(
            f"    {name:<20} {one['held']:>6} held, {one['opened']:>6} opened   health p50 {one['p50']:.1f} ms, "
            f"p99 {one['p99']:.1f} ms, most {one['most']:.0f} ms   {one['peak_mib']:.0f} MiB, {one['cpu']:.0%} of a CPU"
        )


if __name__ == "__main__":
    report(measure(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))
