"""One process takes another's place while the host's interface, routes and settings stay: an upgrade without a gap.

```
 predecessor                                   successor
   SIGUSR2 ──► start it ──────────────────────► loads its code
                     ◄──────────── ready ─────── opens nothing yet
   closes sockets, leaves the host as it is
   names it to the service manager
                     ───── legacy, TUN device ─► opens everything and goes on
   ends
```

The successor is started by the same command and environment; what lies at that path may be another version. Until
it is ready nothing has changed: one that cannot start is logged, and its predecessor goes on. The TUN device stays
open all the while, so packets to the tunnel wait in it. A legacy is JSON, and what a version does not know of
another's is left out.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from wardgate.net.errors import HostRefused
from wardgate.net.service_manager import notify

VARIABLE: Final = "WARDGATE_SUCCEEDS"
"""Names the descriptor over which a successor speaks with its predecessor."""

PROGRAM: Final = "WARDGATE_PROGRAM"
"""Names what starts this program (deploy/wardgate.sh): the interpreter's own path leads to this version only."""

SIGNAL: Final = signal.SIGUSR2
START_LIMIT_S: Final = 120.0  # ours: a busy machine takes long to load the code
_READY: Final = b"ready"
_MAX_LEGACY: Final = 64 * 1024 * 1024  # bytes; names and host settings take some hundred kilobytes
_LENGTH_SIZE: Final = 8
# Meant for the process that systemd started, by its id (sd_watchdog_enabled(3)); the successor is the main process too.
_OF_ONE_PROCESS: Final = ("WATCHDOG_PID",)

log = logging.getLogger(__name__)


class Legacy(msgspec.Struct, frozen=True, kw_only=True):
    """What a process leaves to its successor.

    Attributes:
        host: what settings of the host were before ours, by the setting's name.
        configured: how the interface was last configured, in the words of who reads it.
        machine: likewise, what the machine knew.
    """

    host: dict[str, Any] = {}
    configured: msgspec.Raw = msgspec.Raw(b"null")
    machine: msgspec.Raw = msgspec.Raw(b"null")


class Inheritance(msgspec.Struct, frozen=True):
    """What a successor begins with; `tun_device` is an open descriptor, its owner's to close."""

    legacy: Legacy
    tun_device: int


class Successor:
    """A process that is ready to take our place."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid: Final = pid
        self._channel: Final = channel

    def hand_over(self, legacy: Legacy, tun_device: int) -> None:
        """Give it all that it needs and leave the rest of the service's life to it; `tun_device` is closed.

        Nothing that it is going to open may be open here any more.
        """
        payload = msgspec.json.encode(legacy)
        # From now on the service manager watches, and ends, that process.
        notify(f"MAINPID={self.pid}")
        try:
            with self._channel:
                self._channel.setblocking(True)
                socket.send_fds(self._channel, [len(payload).to_bytes(_LENGTH_SIZE, "big")], [tun_device])
                self._channel.sendall(payload)
        except OSError as error:
            log.error("the successor has ended before it took over", extra={"reason": error.strerror})  # noqa: TRY400
        finally:
            os.close(tun_device)
        log.info("another process goes on", extra={"pid": self.pid})


async def successor(environment: Mapping[str, str] | None = None) -> Successor:
    """At each SIGUSR2 start a successor, until one is ready: return that."""
    wanted = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(SIGNAL, wanted.set)
    try:
        while True:
            await wanted.wait()
            wanted.clear()
            log.info("starting a process that takes over")
            found = await _start(_environment() if environment is None else dict(environment))
            if found is not None:
                return found
            log.error("no process could take over: this one goes on")
    finally:
        # A second signal on the way out must not end us half-way.
        loop.remove_signal_handler(SIGNAL)
        signal.signal(SIGNAL, signal.SIG_IGN)


async def _start(environment: dict[str, str]) -> Successor | None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    try:
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            for name in _OF_ONE_PROCESS:
                environment.pop(name, None)
            program = environment.get(PROGRAM)
            command = (program, *sys.argv[1:]) if program else (sys.executable, *sys.orig_argv[1:])
            # Not asyncio's: it would end the process together with this one's loop.
            pid = os.posix_spawn(  # noqa: ASYNC221 - it returns at once
                command[0], command, {**environment, VARIABLE: str(theirs.fileno())}
            )
    except OSError as error:
        log.warning("a process could not be started", extra={"reason": error.strerror})
        ours.close()
        return None
    loop = asyncio.get_running_loop()
    said = b""
    try:
        async with asyncio.timeout(START_LIMIT_S):
            while len(said) < len(_READY) and (part := await loop.sock_recv(ours, len(_READY))):
                said += part
    except (TimeoutError, OSError):
        said = b""
    except BaseException:
        await _end(pid, ours)
        raise
    if said == _READY:
        return Successor(pid, ours)
    await _end(pid, ours)
    return None


async def _end(pid: int, channel: socket.socket) -> None:
    channel.close()
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitpid, pid, 0)


def _environment() -> dict[str, str]:
    """The environment that this process was started with: what it has removed since, as its token, is still there."""
    pairs = (pair.partition(b"=") for pair in Path("/proc/self/environ").read_bytes().split(b"\0") if pair)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def inherit() -> Inheritance | None:
    """Wait, in a successor, until its predecessor hands over; None in any other process.

    Called when all is loaded and nothing is open.

    Raises:
        HostRefused: the predecessor has ended or given up.
    """
    number = os.environ.pop(VARIABLE, "")
    if not number.isdecimal():
        return None
    with socket.socket(fileno=int(number)) as channel:
        try:
            channel.sendall(_READY)
            length, descriptors, _, _ = socket.recv_fds(channel, _LENGTH_SIZE, 1)
            payload = _read(channel, int.from_bytes(length, "big"))
            return Inheritance(msgspec.json.decode(payload, type=Legacy), *descriptors)
        except (OSError, EOFError, TypeError, msgspec.DecodeError) as error:
            raise HostRefused("the process that this one was to succeed has ended") from error


def _read(channel: socket.socket, length: int) -> bytes:
    if not 0 < length <= _MAX_LEGACY:
        raise EOFError
    payload = bytearray()
    while len(payload) < length:
        part = channel.recv(min(length - len(payload), 1 << 16))
        if not part:
            raise EOFError
        payload += part
    return bytes(payload)
