"""One DNS query to one server over TCP, past the tunnel or from a tunnel address through it (data-plane §4.5); and what
answers a query. Over UDP: `dns_asker`.
"""

import asyncio
import socket
from dataclasses import dataclass
from typing import Final

from wardgate.model.addresses import IpAddress
from wardgate.net.socket_mark import SOCKET_MARK, set_mark

TIMEOUT_S: Final = 5.0  # data-plane §4.5
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
    route: Route = DIRECT,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """Send an encoded query and return what comes back: the caller looks whether it answers.

    Raises:
        TimeoutError: no answer in time.
        OSError: the server cannot be reached.
    """
    async with asyncio.timeout(timeout_s):
        with socket.socket(
            socket.AF_INET if server.version == 4 else socket.AF_INET6, socket.SOCK_STREAM
        ) as peer:
            peer.setblocking(False)
            if route.mark is not None:
                set_mark(peer, route.mark)
            if route.source is not None:
                peer.bind((route.source, 0))
            await asyncio.get_running_loop().sock_connect(peer, (str(server), port))
            return await _converse(query, peer)


async def _converse(query: bytes, peer: socket.socket) -> bytes:
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
