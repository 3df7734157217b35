"""One DNS query to one server over sockets that bypass the tunnel, or from a tunnel address through it
(data-plane §4.5).
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from wardgate.model.addresses import IpAddress
from wardgate.net.socket_mark import SOCKET_MARK, set_mark

TIMEOUT_S: Final = 5.0  # data-plane §4.5
_MAX_UDP_ANSWER: Final = 65535
_MAX_STRAYS: Final = 16  # datagrams about something else, before the server is given up
_HEADER: Final = 12  # bytes
_TYPE_AND_CLASS: Final = 4  # bytes
_RESPONSE: Final = b"\x80"  # the uppermost bit of the flags


@dataclass(frozen=True, slots=True)
class Route:
    """How a query leaves: `source` is a local address to bind (a tunnel address), `mark` the firewall mark or None."""

    source: str | None = None
    mark: int | None = SOCKET_MARK


DIRECT: Final = Route()


async def exchange(
    query: bytes,
    server: IpAddress,
    port: int = 53,
    *,
    is_udp: bool,
    route: Route = DIRECT,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """Send an encoded query and return the encoded answer; over UDP what answers another one is passed over
    (RFC 5452 §9.1).

    Raises:
        TimeoutError: no answer in time.
        OSError: the server cannot be reached.
    """
    async with asyncio.timeout(timeout_s):
        if is_udp:
            return await _exchange_udp(query, server, port, route)
        return await _exchange_tcp(query, server, port, route)


async def _exchange_udp(query: bytes, server: IpAddress, port: int, route: Route) -> bytes:
    async with _connected(socket.SOCK_DGRAM, server, port, route) as peer:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(peer, query)
        for _ in range(_MAX_STRAYS):
            answer = await loop.sock_recv(peer, _MAX_UDP_ANSWER)
            if may_answer(answer, query):
                return answer
        raise OSError("the server sent answers to other queries only")


def may_answer(answer: bytes, query: bytes) -> bool:
    """Whether it is an answer with the id and the question of a query with one question; a failure may come without the
    question.
    """
    if answer[:2] != query[:2] or not answer[2:3] >= _RESPONSE:
        return False
    end = query.find(b"\0", _HEADER) + 1
    asked, kind = query[_HEADER:end].lower(), query[end : end + _TYPE_AND_CLASS]
    answered = answer[_HEADER:end].lower(), answer[end : end + _TYPE_AND_CLASS]
    return answer[4:6] == b"\0\0" or answered == (asked, kind)


async def _exchange_tcp(query: bytes, server: IpAddress, port: int, route: Route) -> bytes:
    async with _connected(socket.SOCK_STREAM, server, port, route) as peer:
        reader, writer = await asyncio.open_connection(sock=peer)
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            await writer.drain()
            length = int.from_bytes(await reader.readexactly(2), "big")
            return await reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the server closed the connection before it had answered") from error
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def _connected(
    kind: socket.SocketKind, server: IpAddress, port: int, route: Route
) -> AsyncIterator[socket.socket]:
    with socket.socket(socket.AF_INET if server.version == 4 else socket.AF_INET6, kind) as peer:
        peer.setblocking(False)
        if route.mark is not None:
            set_mark(peer, route.mark)
        if route.source is not None:
            peer.bind((route.source, 0))
        await asyncio.get_running_loop().sock_connect(peer, (str(server), port))
        yield peer
