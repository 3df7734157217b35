"""UDP and TCP sockets that receive DNS queries on given addresses and hand them to one function.

The client binds its sentinels (local to the TUN interface) at port 53, the gateway its tunnel addresses at port 53535.

Queries and TCP connections are pools of fair shares by the asker's address: on a gateway that is a client,
which can neither take the descriptors nor the connections of the others. A connection is served one query at
a time, so what it pipelines waits in its own buffer; one that is idle, or does not read its answers, is
closed.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from wardgate.model.addresses import IpAddress
from wardgate.net.fair_shares import FairShares
from wardgate.supervision import Tasks

MAX_TCP_CONNECTIONS: Final = 10  # of one asker at one address (data-plane §4.5)
MAX_TCP_CONNECTIONS_OF_ALL: Final = 256  # ours
MAX_QUERIES: Final = 1000  # being answered, of all askers (data-plane §4.5)
_TCP_IDLE_S: Final = 30.0  # ours
_DATAGRAMS_A_TURN: Final = 32  # ours: then the loop's other work has its turn
_MAX_DATAGRAM: Final = 65535
_ATTEMPTS: Final = 3
_ATTEMPT_INTERVAL_S: Final = 0.1  # data-plane §5.1: an address may need a moment until it can be bound

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """One query as received; `arrived_at` is our address that it was sent to, `source` the asker's."""

    arrived_at: IpAddress
    payload: bytes
    is_udp: bool
    source: str = ""


Handler = Callable[[Query], Awaitable[bytes | None]]  # None: no answer
Reply = Callable[[bytes | None], None]  # the same
Begin = Callable[[Query, Reply], None]
_Address = tuple[str, int] | tuple[str, int, int, int]
AtOnce = Callable[[Query], bytes | None]  # None: ask the handler


def _no_immediate_answer(_: Query) -> None:
    return None


class DnsListener:
    """Serves a set of addresses; `listen` moves to another set and keeps what both have in common."""

    def __init__(
        self,
        handler: Handler,
        *,
        at_once: AtOnce = _no_immediate_answer,
        begin: Begin | None = None,
        port: int = 53,
    ) -> None:
        """`at_once` answers what it can without waiting: such a query costs no task and no share. `begin` stands in for
        the `handler` where a query came over UDP, without a task for each: it calls back once, now or later.
        """
        self._handler = handler
        self._known_at_once = at_once
        self._begin = begin
        self._port = port
        self._queries = FairShares(MAX_QUERIES)
        self._services: dict[str, _Service] = {}
        self._arrived = 0

    def counts(self) -> dict[str, int]:
        """Queries that came, and of these those of askers that had their share, over UDP and TCP."""
        return {"dns_queries": self._arrived, "dns_refused": self._queries.refused}

    def _at_once(self, query: Query) -> bytes | None:
        self._arrived += 1
        return self._known_at_once(query)

    async def listen(self, addresses: tuple[str, ...]) -> None:
        """Serve exactly these addresses.

        Raises:
            OSError: an address cannot be bound, after three attempts.
        """
        for address in [address for address in self._services if address not in addresses]:
            await self._services.pop(address).close()
        for address in addresses:
            if address not in self._services:
                self._services[address] = await self._open(address)

    async def close(self) -> None:
        await self.listen(())

    async def _open(self, address: str) -> "_Service":
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await _Service.open(
                    address, self._port, self._handler, self._at_once, self._begin, self._queries
                )
            except OSError:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_ATTEMPT_INTERVAL_S)
        raise AssertionError("the last attempt raises or returns")


class _Service:
    """UDP and TCP of one address."""

    def __init__(
        self, address: str, handler: Handler, at_once: AtOnce, begin: Begin | None, queries: FairShares
    ) -> None:
        self._address = ipaddress.ip_address(address)
        self._handler = handler
        self._at_once = at_once
        self._begin = begin
        self._queries = queries
        self._connections = FairShares(MAX_TCP_CONNECTIONS_OF_ALL, at_most=MAX_TCP_CONNECTIONS)
        self._tasks = Tasks()
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @classmethod
    async def open(
        cls,
        address: str,
        port: int,
        handler: Handler,
        at_once: AtOnce,
        begin: Begin | None,
        queries: FairShares,
    ) -> "_Service":
        service = cls(address, handler, at_once, begin, queries)
        datagrams = service._socket = socket.socket(_family(address), socket.SOCK_DGRAM)
        datagrams.setblocking(False)
        try:
            datagrams.bind((address, port))
            service._server = await asyncio.start_server(
                service._converse, address, port, family=_family(address)
            )
        except OSError:
            datagrams.close()
            raise
        asyncio.get_running_loop().add_reader(datagrams, service._receive, datagrams)
        return service

    async def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._server is not None:
            self._server.close()
        await self._tasks.close()

    def _receive(self, datagrams: socket.socket) -> None:
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                payload, source = datagrams.recvfrom(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:  # an answer sent before could not be delivered
                log.debug("an answer could not be delivered", extra={"error": str(error)})
                continue
            query = Query(self._address, payload, is_udp=True, source=source[0])
            answer = self._at_once(query)
            if answer is not None:
                self._send(answer, source)
            elif self._queries.take(query.source):
                if self._begin is None:
                    self._tasks.start(self._answer_datagram(query, source), name="query")
                else:
                    self._begin(query, partial(self._reply, query.source, source))

    def _reply(self, holder: str, source: _Address, answer: bytes | None) -> None:
        self._queries.give_back(holder)
        if answer is not None:
            self._send(answer, source)

    async def _answer_datagram(self, query: Query, source: _Address) -> None:
        try:
            answer = await self._handler(query)
        finally:
            self._queries.give_back(query.source)
        if answer is not None:
            self._send(answer, source)

    def _send(self, answer: bytes, source: _Address) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(answer, source)
        except OSError as error:  # no room, or the asker is gone: it asks again
            log.debug("an answer could not be sent", extra={"error": str(error)})

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str(writer.get_extra_info("peername", ("",))[0])
        if not self._connections.take(source):
            writer.close()
            return
        try:
            with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, OSError):
                await self._serve_stream(source, reader, writer)
        finally:
            self._connections.give_back(source)
            # What its other end has not read by now is not worth a descriptor.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _serve_stream(
        self, source: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            async with asyncio.timeout(_TCP_IDLE_S):
                length = int.from_bytes(await reader.readexactly(2), "big")
                payload = await reader.readexactly(length)
            query = Query(self._address, payload, is_udp=False, source=source)
            answer = self._at_once(query)
            if answer is None:
                if not self._queries.take(source):
                    return
                try:
                    answer = await self._handler(query)
                finally:
                    self._queries.give_back(source)
            if answer is None:
                return
            writer.write(len(answer).to_bytes(2, "big") + answer)
            async with asyncio.timeout(_TCP_IDLE_S):
                await writer.drain()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
