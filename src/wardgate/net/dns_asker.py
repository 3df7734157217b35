"""Many DNS queries to few servers over UDP, each answered by a call: no task, and no socket for each of them. A client
forwards with it what programs ask, a gateway what clients ask, and names are looked up with it.

What protects against a forged answer, sent by somebody who cannot read the query (RFC 5452):

* It has to come from the server's address and port: each socket is connected.
* It has to have the question, and the id that was drawn for it (16 bits; the id that the program chose stays here).
* It has to arrive at the port that the query left from, which the system draws for each socket (15 bits). A query
  leaves by one of up to `MAX_PORTS`. A port is open only while a query waits there, for `QUERIES_OF_A_PORT` at most,
  and for no new one after `PORT_S`: who finds it out by what the system answers to probes has no time left to try
  ids. Where one query follows the answer to another, each has a port of its own.
* Who has the same asked many times at once has one id to guess, not many: the same query joins the one under way,
  which goes out again, with its id from its port, if that was some time ago.
* After `MAX_STRAYS` datagrams that answer nothing on a port, all that wait there fail.
"""

import asyncio
import errno
import logging
import random
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wardgate.model.addresses import IpAddress
from wardgate.net.dns_exchange import TIMEOUT_S, Route, may_answer
from wardgate.net.socket_mark import set_mark

MAX_PORTS: Final = 8  # ours, open for new queries at once to one server
QUERIES_OF_A_PORT: Final = 64  # ours
PORT_S: Final = 1.0  # ours
MAX_STRAYS: Final = 16  # of one port; answers that came too late are none
AGAIN_S: Final = 0.5  # ours: programs that ask again believe a datagram lost
_DATAGRAMS_A_TURN: Final = 32  # ours: then the loop's other work has its turn
_MAX_DATAGRAM: Final = 65535
_ID: Final = 2  # bytes

_OF_THIS_QUERY: Final = frozenset(
    {errno.EMSGSIZE, errno.EAGAIN, errno.ENOBUFS}
)  # too long, no room: the port is well

Answered = Callable[[bytes | None, bool], None]
"""Called once, with the answer, or None and whether it is because the time is over. It has the id of the query."""

log = logging.getLogger(__name__)


class DnsAsker:
    """Asks; the caller bounds how many queries wait."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S, rng: random.Random | None = None) -> None:
        self._timeout_s = timeout_s
        self._rng = random.SystemRandom() if rng is None else rng
        self._servers: dict[_Server, list[_Port]] = {}
        self._joinable: dict[tuple[_Server, bytes], Waiting] = {}
        self._due: OrderedDict[Waiting, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Queries on their way."""
        return len(self._due)

    def ask(
        self, query: bytes, server: IpAddress, port: int = 53, *, route: Route, answered: Answered
    ) -> "Waiting":
        """Send an encoded query with one question; `answered` is called later.

        Returns:
            What `forget` takes.

        Raises:
            OSError: it cannot be sent, and `answered` will not be called.
        """
        now = asyncio.get_running_loop().time()
        to = server, port, route
        known = self._joinable.get((to, query[_ID:]))
        if known is not None:
            if now >= known.sent_at + AGAIN_S:
                known.sent_at = now
                self._send(known.query, known.port)
            known.askers.append((query[:_ID], answered))
            return known
        chosen = self._choose(to, now)
        number = self._draw(chosen)
        waiting = Waiting(to, number + query[_ID:], chosen, now, [(query[:_ID], answered)])
        self._send(waiting.query, chosen)
        chosen.taken[number] = waiting
        chosen.open += 1
        self._joinable[to, query[_ID:]] = waiting
        self._due[waiting] = now + self._timeout_s
        if self._timer is None:
            self._arm()
        return waiting

    async def exchange(self, query: bytes, server: IpAddress, port: int = 53, *, route: Route) -> bytes:
        """As `ask`, for a task: return the answer.

        Raises:
            TimeoutError: no answer in time.
            OSError: the server cannot be reached, or sends answers to other queries only.
        """
        told: asyncio.Future[tuple[bytes | None, bool]] = asyncio.get_running_loop().create_future()

        def answered(answer: bytes | None, timed_out: bool) -> None:
            if not told.done():
                told.set_result((answer, timed_out))

        waiting = self.ask(query, server, port, route=route, answered=answered)
        try:
            answer, timed_out = await told
        finally:
            self.forget(waiting, answered)
        if timed_out:
            raise TimeoutError("the server did not answer")
        if answer is None:
            raise OSError("the server cannot be reached, or sent answers to other queries only")
        return answer

    def forget(self, waiting: "Waiting", answered: Answered) -> None:
        """Who asked does not wait any more; nothing happens if it has been told already."""
        waiting.askers = [asker for asker in waiting.askers if asker[1] is not answered]
        if not waiting.askers and waiting in self._due:
            self._end(waiting, None)

    def close(self) -> None:
        """Give up; what waits fails."""
        for ports in list(self._servers.values()):
            for port in list(ports):
                self._fail(port)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def renew_ports(self) -> None:
        """The network has changed: what is asked from now on leaves by new sockets, also what has been asked before."""
        self._joinable.clear()
        for ports in self._servers.values():
            for port in ports:
                port.until = 0.0

    # ── ports ───────────────────────────────────────────────────────────────────────────────────────────────

    def _choose(self, to: "_Server", now: float) -> "_Port":
        ports = self._servers.setdefault(to, [])
        usable = [port for port in ports if now < port.until and len(port.taken) < QUERIES_OF_A_PORT]
        if len(usable) >= MAX_PORTS:
            return usable[self._rng.randrange(len(usable))]
        try:
            opened = _Port(_connected(*to), to, now + PORT_S)
        except OSError:
            if not ports:
                del self._servers[to]
            raise
        ports.append(opened)
        asyncio.get_running_loop().add_reader(opened.socket, self._receive, opened)
        return opened

    def _draw(self, port: "_Port") -> bytes:
        """An id that no query of this port has had."""
        while (drawn := self._rng.getrandbits(16).to_bytes(_ID, "big")) in port.taken:
            pass
        return drawn

    def _receive(self, port: "_Port") -> None:
        for _ in range(_DATAGRAMS_A_TURN):
            if port.is_closed:
                return
            try:
                answer = port.socket.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:  # nobody listens there, or no way leads there
                log.debug("a name server cannot be reached", extra={"error": str(error)})
                self._fail(port)
                return
            waiting = port.taken.get(answer[:_ID])
            if waiting is not None and may_answer(answer, waiting.query):
                self._end(waiting, answer)
            elif waiting is not None or answer[:_ID] not in port.taken:
                port.strays += 1
                if port.strays > MAX_STRAYS:
                    log.debug("a name server sent answers to other queries only")
                    self._fail(port)

    def _send(self, query: bytes, port: "_Port") -> None:
        try:
            port.socket.send(query)
        except OSError as error:
            if error.errno in _OF_THIS_QUERY:
                self._close_unused(port)
            else:  # it may be about what was sent before
                self._fail(port)
            raise

    def _fail(self, port: "_Port") -> None:
        port.until = 0.0
        for waiting in [one for one in port.taken.values() if one is not None]:
            self._end(waiting, None)
        self._close_unused(port)

    def _close_unused(self, port: "_Port") -> None:
        if port.open or port.is_closed:
            return
        port.is_closed = True
        asyncio.get_running_loop().remove_reader(port.socket)
        port.socket.close()
        ports = self._servers[port.to]
        ports.remove(port)
        if not ports:
            del self._servers[port.to]

    # ── queries ─────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, waiting: "Waiting", answer: bytes | None, *, timed_out: bool = False) -> None:
        port = waiting.port
        port.taken[waiting.query[:_ID]] = None
        port.open -= 1
        if self._joinable.get((waiting.to, waiting.query[_ID:])) is waiting:
            del self._joinable[waiting.to, waiting.query[_ID:]]
        del self._due[waiting]
        self._close_unused(port)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number, answered in waiting.askers:
            answered(None if answer is None else number + answer[_ID:], timed_out)

    def _arm(self) -> None:
        first = next(iter(self._due.values()), None)
        self._timer = (
            None if first is None else asyncio.get_running_loop().call_at(first, self._handle_timeout)
        )

    def _handle_timeout(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer = None
        try:
            while self._due and next(iter(self._due.values())) <= now:
                self._end(next(iter(self._due)), None, timed_out=True)
        finally:
            if self._timer is None:
                self._arm()


_Server = tuple[IpAddress, int, Route]


@dataclass(slots=True, eq=False)
class _Port:
    """`taken`: ids that have been used, with the query that waits for its answer; `open`: how many do."""

    socket: socket.socket
    to: _Server
    until: float
    taken: dict[bytes, "Waiting | None"] = field(default_factory=dict)
    open: int = 0
    strays: int = 0
    is_closed: bool = False


@dataclass(slots=True, eq=False)
class Waiting:
    """A query on its way. `query` as it was sent; `askers`: the ids that programs chose, and whom to tell."""

    to: _Server
    query: bytes
    port: _Port
    sent_at: float
    askers: list[tuple[bytes, Answered]]


def _connected(server: IpAddress, port: int, route: Route) -> socket.socket:
    family = socket.AF_INET if server.version == 4 else socket.AF_INET6
    ((*_, address), *_) = socket.getaddrinfo(
        str(server), port, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if route.mark is not None:
            set_mark(made, route.mark)
        if route.source is not None:
            made.bind((route.source, 0))
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made
