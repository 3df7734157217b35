"""HTTP listener for probes: `GET /healthz` is 200 while the process lives, `GET /readyz` 200 or 503 (operations §7).

`GET /metrics` answers processes on this host only, wherever the listener is bound. Do not wire `/readyz` to
restarts: a relay or gateway without its portal still carries traffic.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Final

from wardgate.net.errors import HostRefused
from wardgate.net.exposition import CONTENT_TYPE

_REQUEST_TIMEOUT_S: Final = 5.0
_LARGEST_HEAD: Final = 8192  # bytes


@contextlib.asynccontextmanager
async def health_listener(
    host: str,
    port: int,
    *,
    is_ready: Callable[[], bool],
    version: str,
    metrics: Callable[[], str | None] = lambda: None,
    notes: Callable[[], Iterable[object]] = tuple,
) -> AsyncIterator[int]:
    """Serve probes until the block ends; yields the bound port. `metrics` gives None where there are none.

    `/readyz` says the version, and each of the notes on a line.

    Raises:
        HostRefused: the address cannot be bound.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError
        ):
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                shown = metrics if is_own_host(writer.get_extra_info("peername")) else lambda: None
                readiness = "\n".join([version, *map(str, notes())]).encode("ascii", "replace").decode()
                writer.write(_response(head, is_ready=is_ready(), readiness=readiness, metrics=shown))
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    try:
        server = await asyncio.start_server(answer, host, port, limit=_LARGEST_HEAD)
    except OSError as error:
        raise HostRefused(
            f"cannot serve health checks on {host}:{port}: {os.strerror(error.errno or 0)}; choose "
            "another with --health-check-addr"
        ) from error
    async with server:
        yield server.sockets[0].getsockname()[1]


def is_own_host(peer: Sequence[object]) -> bool:
    """Whether a socket address, as asyncio gives it, is this host's own."""
    address = ip_address(str(peer[0]).partition("%")[0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return (mapped or address).is_loopback


def _response(head: bytes, *, is_ready: bool, readiness: str, metrics: Callable[[], str | None]) -> bytes:
    method, _, rest = head.decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    content_type = "text/plain; charset=utf-8"
    if path not in {"/healthz", "/readyz", "/metrics"}:
        status, body = "404 Not Found", ""
    elif method not in {"GET", "HEAD"}:
        status, body = "405 Method Not Allowed", ""
    elif path == "/healthz":
        status, body = "200 OK", ""
    elif path == "/metrics":
        exposed = metrics()
        status, body = ("404 Not Found", "") if exposed is None else ("200 OK", exposed)
        content_type = CONTENT_TYPE
    else:
        status, body = ("200 OK" if is_ready else "503 Service Unavailable"), readiness
    payload = "" if method == "HEAD" else body
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{payload}"
    ).encode()
