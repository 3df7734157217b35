"""The local control socket of a client or gateway: questions in, answers out, a JSON object a line.

Who may ask: root, the process's own user, and members of the group `wardgate`, to whom the socket's mode gives way.
The kernel says who is at the other end; a name in a message counts for nothing. Nothing can be changed here, except
that asking *why* asks the portal for access as a packet would.

Bounds: 8 connections, a line of 4 KiB, 10 s to ask and be answered, one question at a time.
"""

import asyncio
import contextlib
import grp
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from wardgate.peer.status import Question, Refused, Status, Why

MAX_CONNECTIONS: Final = 8
MAX_LINE_BYTES: Final = 4096
TIMEOUT_S: Final = 10.0
GROUP: Final = "wardgate"
_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
_MAX_GROUPS: Final = 256  # what Python's getsockopt returns at most

Answer = Callable[[Question], Awaitable[Status | Why | Refused]]

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def control_socket(path: Path | None, answer: Answer) -> AsyncIterator[None]:
    """Serve questions until the block ends.

    Where the socket cannot be made, one line says so, and the process does its work without it.
    """
    server = None if path is None else await _serve(path, answer)
    try:
        yield
    finally:
        if server is not None and path is not None:
            server.close()
            _remove(path)


async def _serve(path: Path, answer: Answer) -> asyncio.Server | None:
    open_now = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        # Only what the kernel has taken counts as sent: nothing is left to wait for, whoever does not read.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            with contextlib.suppress(TimeoutError, ValueError, ConnectionError):
                async with asyncio.timeout(TIMEOUT_S):
                    if open_now <= MAX_CONNECTIONS and may_ask(writer.get_extra_info("socket")):
                        line = await reader.readline()
                        writer.write(msgspec.json.encode(await _answer(line, answer)) + b"\n")
                        await writer.drain()
        finally:
            open_now -= 1
            writer.transport.abort()

    try:
        if not _make_room(path):
            log.warning("another process has the control socket", extra={"path": str(path)})
            return None
        former = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(handle, path, limit=MAX_LINE_BYTES)
        finally:
            os.umask(former)
        _open_to_group(path)
    except OSError as error:
        log.warning(
            "there is no control socket: `wardgate status` cannot ask this process",
            extra={"path": str(path), "reason": error.strerror or str(error)},
        )
        return None
    return server


async def _answer(line: bytes, answer: Answer) -> Status | Why | Refused:
    try:
        question = msgspec.json.decode(line, type=Question)
    except msgspec.DecodeError:
        return Refused("that is no question")
    return await answer(question)


def may_ask(connection: socket.socket) -> bool:
    """Tell whether the process at the other end is root's, this user's, or one of a member of the group."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid, gid = int(struct.unpack("3i", credentials)[1]), int(struct.unpack("3i", credentials)[2])
    if uid in (0, os.geteuid()):
        return True
    group = _group()
    if group is None:
        return False
    try:
        further = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:
        return gid == group
    groups: tuple[int, ...] = struct.unpack(f"{len(further) // 4}I", further)
    return group == gid or group in groups


def _make_room(path: Path) -> bool:
    """Remove what a process that is gone has left; false: one that lives has it."""
    path.parent.mkdir(mode=0o750, exist_ok=True)
    if _is_served(path):
        return False
    path.unlink(missing_ok=True)
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _open_to_group(path: Path) -> None:
    """Let members of the group connect; where there is no such group, or it may not be given, root alone asks."""
    group = _group()
    if group is not None:
        with contextlib.suppress(PermissionError):
            os.chown(path, -1, group)
            path.chmod(0o660)


def _group() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None
