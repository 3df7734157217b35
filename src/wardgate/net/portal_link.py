"""Keeps a control channel to the portal open: dials, passes frames, waits, dials again (control-plane-protocol §1.10).

What is said on the channel, how long to wait and what a refusal means is decided by the objects that the caller gives
(`wardgate.wire` has them); this module owns the socket and the time.

Sockets carry the firewall mark, so that the tunnel never carries its own control channel.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect

from wardgate.model.addresses import IpAddress
from wardgate.net.certificate_refusal import certificate_refusal
from wardgate.net.errors import NetError
from wardgate.net.socket_mark import set_mark

CONNECT_TIMEOUT_S: Final = 5.0  # TCP, all addresses at once (control-plane-protocol §1.10)
ATTEMPT_TIMEOUT_S: Final = 15.0  # TCP, TLS and upgrade together
MAX_FRAME: Final = 16 * 1024 * 1024  # bytes; a complete `init` of a large account fits

SAME_DEVICE: Final = (
    "another process has this device's id: started twice on this machine, or a cloned image with the "
    "same /etc/machine-id; "
    "stop it, or give one of them another --id"
)
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})

log = logging.getLogger(__name__)

_Event = TypeVar("_Event")
_Event_co = TypeVar("_Event_co", covariant=True)


class PortalUnreachable(NetError):
    """The retry budget is used up; the message says what the last attempt met."""


class PortalRefused(NetError):
    """The portal refused us for good (401)."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Dial:
    """Where to connect and what to send along."""

    url: str
    headers: tuple[tuple[str, str], ...]


class Channel(Protocol[_Event_co]):
    """One end of the channel, sans-IO; `poll_timeout` is None once it is over."""

    def handle_frame(self, frame: str, *, now: float) -> None: ...
    def handle_closed(self, *, detail: str = "") -> None: ...
    def handle_timeout(self, *, now: float) -> None: ...
    def poll_transmit(self) -> str | None: ...
    def poll_event(self) -> _Event_co | None: ...
    def poll_timeout(self) -> float | None: ...


class Refusal(Protocol):
    """An answer other than 101, as the caller reads it."""

    @property
    def is_fatal(self) -> bool: ...
    @property
    def retry_after_s(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Decisions(Generic[_Event]):
    """What the link asks its caller.

    Attributes:
        dial: where to connect next; asked before every attempt.
        open_channel: makes the channel of a new socket; `now` is the running loop's clock.
        look_up: addresses of a host name, outside the tunnel.
        read_refusal: reads status, headers (lower case) and body of an answer other than 101.
        next_delay_s: seconds until the next attempt, None to give up; the argument is the portal's `Retry-After`.
        handle: takes each event of the channel; what it raises ends the link.
    """

    dial: Callable[[], Dial]
    open_channel: Callable[[float], Channel[_Event]]
    look_up: Callable[[str], Awaitable[Iterable[IpAddress]]]
    read_refusal: Callable[[int, Mapping[str, str], bytes], Refusal]
    next_delay_s: Callable[[float | None], float | None]
    handle: Callable[[_Event], None]


MakeSocket = Callable[[int, int], socket.socket]
"""Makes a socket of an address family and a type."""


class PortalLink(Generic[_Event]):
    """Runs until it is cancelled, refused or out of budget.

    Attributes:
        socket: the one to the portal, also when it is closed; None before the first.
    """

    def __init__(
        self, decisions: Decisions[_Event], *, mark: int | None, make_socket: MakeSocket = socket.socket
    ) -> None:
        self._decisions = decisions
        self._mark = mark
        self._make_socket = make_socket
        self.socket: socket.socket | None = None
        self._conversation: _Conversation[_Event] | None = None
        self._reconnect_wanted = asyncio.Event()
        self.portal_addresses: tuple[IpAddress, ...] = ()  # as last looked up

    def flush(self) -> None:
        """The channel has something to send."""
        if self._conversation is not None:
            self._conversation.flush()

    def reconnect(self) -> None:
        """Drop the connection, or the pause before the next attempt, and dial at once."""
        self._reconnect_wanted.set()
        if self._conversation is not None:
            self._conversation.leave()

    async def run(self) -> None:
        """Keep the channel open.

        Raises:
            PortalRefused: the portal answered 401.
            PortalUnreachable: `next_delay_s` gave up.
        """
        while True:
            self._reconnect_wanted.clear()
            retry_after_s, complaint = await self._attempt()
            if self._reconnect_wanted.is_set():
                continue
            delay_s = self._decisions.next_delay_s(retry_after_s)
            if delay_s is None:
                raise PortalUnreachable(complaint)
            log.info(
                "no connection to the portal", extra={"reason": complaint, "retry_in_s": round(delay_s, 2)}
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reconnect_wanted.wait(), delay_s)

    async def _attempt(self) -> tuple[float | None, str]:
        """Dial and converse; returns the portal's `Retry-After` and why there is no connection any more."""
        dial = self._decisions.dial()
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                websocket = await self._open(dial)
        except websockets.InvalidStatus as error:
            response = error.response
            headers = {name.lower(): value for name, value in response.headers.raw_items()}
            refusal = self._decisions.read_refusal(response.status_code, headers, bytes(response.body or b""))
            if refusal.is_fatal:
                raise PortalRefused(str(getattr(refusal, "detail", "") or "no reason given")) from error
            complaint = f"{_host(dial.url)} answered HTTP {response.status_code}"
            if response.status_code == HTTPStatus.CONFLICT:
                complaint += f": {SAME_DEVICE}"
            return refusal.retry_after_s, complaint
        except TimeoutError:
            return None, f"{_host(dial.url)} does not answer"
        except (OSError, websockets.WebSocketException, EOFError) as error:
            return None, f"{_host(dial.url)}: {_words(error)}"
        try:
            return None, await self._converse(websocket)
        finally:
            await websocket.close()

    async def _open(self, dial: Dial) -> ClientConnection:
        parts = urlsplit(dial.url)
        assert parts.hostname is not None
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        addresses = list(await self._decisions.look_up(parts.hostname))
        if not addresses:
            raise OSError(f"the name {parts.hostname} has no address")
        self.portal_addresses = tuple(addresses)
        connected = await _connect_first(addresses, port, self._mark, self._make_socket)
        self.socket = connected
        agent = next((value for name, value in dial.headers if name.lower() == "user-agent"), None)
        try:
            return await connect(
                dial.url,
                sock=connected,
                additional_headers=[pair for pair in dial.headers if pair[0].lower() != "user-agent"],
                user_agent_header=agent,
                compression=None,
                open_timeout=None,
                ping_interval=None,  # the channel has heartbeats of its own
                close_timeout=1.0,
                max_size=MAX_FRAME,
                proxy=None,
            )
        except BaseException:
            connected.close()
            raise

    async def _converse(self, websocket: ClientConnection) -> str:
        channel = self._decisions.open_channel(asyncio.get_running_loop().time())
        self._conversation = conversation = _Conversation(websocket, channel, self._decisions.handle)
        if self._reconnect_wanted.is_set():
            conversation.leave()
        reading = asyncio.create_task(conversation.read())
        tending = asyncio.create_task(conversation.tend())
        try:
            ended, _ = await asyncio.wait((reading, tending), return_when=asyncio.FIRST_COMPLETED)
            for one in ended:
                reason = one.result()
            return reason
        finally:
            self._conversation = None
            conversation.end()
            reading.cancel()
            tending.cancel()
            await asyncio.gather(reading, tending, return_exceptions=True)


class _Conversation(Generic[_Event]):
    """What is said on one socket, until the channel is lost: one task reads, another does what is due or wanted.

    Either takes a turn: it hands over what has happened, and sends what is to be said.
    """

    def __init__(
        self, websocket: ClientConnection, channel: Channel[_Event], handle: Callable[[_Event], None]
    ) -> None:
        self._websocket = websocket
        self._channel = channel
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Lock()
        self._is_in_turn = False
        self._is_leaving = False
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._timer: asyncio.TimerHandle | None = None
        self._reason = ""

    def flush(self) -> None:
        """The channel has something to send; who has the turn sends it anyway."""
        if not self._is_in_turn:
            self._wanted.set()

    def leave(self) -> None:
        """Lose the channel."""
        self._is_leaving = True
        self._wanted.set()

    def end(self) -> None:
        """Nothing is due any more."""
        if self._timer is not None:
            self._timer.cancel()

    async def read(self) -> str:
        """Take in frames; return why the channel was lost."""
        channel, websocket, loop = self._channel, self._websocket, self._loop
        try:
            while channel.poll_timeout() is not None:
                frame = await websocket.recv()
                if isinstance(frame, str):
                    channel.handle_frame(frame, now=loop.time())
                    await self._turn()
        except websockets.ConnectionClosed as error:
            return self._lose(_words(error))
        return self._reason or "the channel was lost"

    async def tend(self) -> str:
        """Do what is due or wanted; return why the channel was lost."""
        channel = self._channel
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if self._is_leaving:
                    return self._lose("reconnecting")
                channel.handle_timeout(now=self._loop.time())
                await self._turn()
                if channel.poll_timeout() is None:
                    return self._reason or "the channel was lost"
        except websockets.ConnectionClosed as error:
            return self._lose(_words(error))

    async def _turn(self) -> None:
        async with self._turns:
            self._is_in_turn = True
            try:
                self._hand_over()
                while (frame := self._channel.poll_transmit()) is not None:
                    await self._websocket.send(frame)
            finally:
                self._is_in_turn = False
        self._set_timer()

    def _hand_over(self) -> None:
        while (event := self._channel.poll_event()) is not None:
            self._handle(event)
            self._reason = str(getattr(getattr(event, "reason", None), "value", "")) or self._reason

    def _set_timer(self) -> None:
        """Look again when something is due, or before that: the time is not set anew each time that it moves on."""
        due_at = self._channel.poll_timeout()
        if due_at is None or (self._timer is not None and self._timer.when() <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due_at, self._due)

    def _due(self) -> None:
        self._timer = None
        self._wanted.set()

    def _lose(self, detail: str) -> str:
        self._channel.handle_closed(detail=detail)
        self._hand_over()
        return self._reason or detail


async def _connect_first(
    addresses: list[IpAddress], port: int, mark: int | None, make_socket: MakeSocket
) -> socket.socket:
    """Connect to all addresses at once; the first that succeeds wins.

    Raises:
        OSError: none did; the error of the first address.
    """
    if len(addresses) == 1:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await _connect(addresses[0], port, mark, make_socket)
    attempts = [asyncio.create_task(_connect(address, port, mark, make_socket)) for address in addresses]
    winner: socket.socket | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            for finished in asyncio.as_completed(attempts):
                with contextlib.suppress(OSError):
                    winner = await finished
                    return winner
        raise attempts[0].exception() or OSError("no address answers")
    finally:
        await _discard(attempts, winner)


async def _discard(attempts: list["asyncio.Task[socket.socket]"], winner: socket.socket | None) -> None:
    """Cancel what still runs and close every other connection."""
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, socket.socket) and outcome is not winner:
            outcome.close()


async def _connect(address: IpAddress, port: int, mark: int | None, make_socket: MakeSocket) -> socket.socket:
    peer = make_socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if mark is not None:
            set_mark(peer, mark)
        await asyncio.get_running_loop().sock_connect(peer, (str(address), port))
    except BaseException:
        peer.close()
        raise
    return peer


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified ({certificate_refusal(error)})"
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return "it does not speak TLS on this port; write ws:// for a portal without TLS, or give the port that has it"
    if isinstance(error, websockets.InvalidMessage):
        return "it does not speak HTTP on this port; write wss:// if it speaks TLS there"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()  # asyncio's own text repeats the address
    return str(error) or type(error).__name__
