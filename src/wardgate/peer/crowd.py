"""A crowd of peers in one process, as a portal sees it: real sockets, real frames, reconnects as peers pace them; no
tunnels and no devices. It measures what a portal on this host can carry.

    gateways    connect, and acknowledge whatever they are told to expect
    clients     connect at a rate; each may then ask for a resource, at a rate of all of them together
    hold        everybody stays and beats, and comes back when the portal does

What is measured is measured here, so what this process and the network need is in it: give it a core of its own.
How late its own timers were (`late`) tells how much of what was seen is its own. What lies between a request and the
gateway's message (`authorise`) is measured between the two frames in the kernel, without this process.
"""

import asyncio
import base64
import contextlib
import gc
import itertools
import random
import socket
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

from wardgate.connect.portal_session import PortalSession
from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.model.ids import ResourceId
from wardgate.net.portal_link import Decisions, Dial, PortalLink
from wardgate.net.timed_socket import TimedSocket
from wardgate.wire import messages as m
from wardgate.wire.control_channel import ChannelEvent, Joined, Lost, Received
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.reconnect import Reconnect
from wardgate.wire.upgrade import (
    ClientParameters,
    GatewayParameters,
    Refusal,
    build_upgrade_request,
    parse_refusal,
)
from wardgate.wire.user_agent import build_user_agent

_Thing = TypeVar("_Thing")

TICK_S: Final = 0.02
"""How often the crowd looks how late it is itself."""

ANSWER_S: Final = 30.0
"""How long answers are waited for after the last request."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the crowd does.

    Attributes:
        url: the portal, as peers are given it.
        client_token, gateway_token: one for all of a kind; gateways need one of a site.
        connects_per_s: how fast clients come.
        resource_id: what clients ask for; None to ask for nothing.
        requests: how many in all, `requests_per_s` of them a second.
        hold_s: how long everybody stays after that.
    """

    url: str
    client_token: str
    gateway_token: str | None
    clients: int
    gateways: int
    connects_per_s: float
    resource_id: UUID | None
    requests: int
    requests_per_s: float
    hold_s: float
    product_version: str


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of so many, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Percentiles | None":
        """Return None for nothing."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return cls(
            len(ordered), *(round(1e3 * one, 2) for one in (statistics.median(ordered), p99, ordered[-1]))
        )


@dataclass(slots=True)
class Report:
    """What was seen.

    Attributes:
        connect: from dialling to `init`, of clients.
        authorise: from a client's request to the gateway's message, from the kernel having the one frame to its
            having the other.
        granted: from a client's request to its answer.
        refused: answers to upgrades other than 101, by status and code.
        failed: requests that were denied, by reason.
        unanswered: requests without an answer.
        lost: connections that ended, by why; `returned` came back.
        away: of clients that came back, from the end of one connection to the next one's `init`.
        absent: clients that were not connected at the end.
        late: of this process, how late a timer was; the portal's part of `connect` and `granted` is about so much
            less.
    """

    connect: Percentiles | None = None
    authorise: Percentiles | None = None
    granted: Percentiles | None = None
    refused: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    returned: int = 0
    away: Percentiles | None = None
    absent: int = 0
    late: Percentiles | None = None


class Crowd:
    """Carries out one plan.

    Raises, from `run`, in an `ExceptionGroup`: `PortalRefused`, `PortalUnreachable`, `SessionEnded` of the first peer
    for which it is final.
    """

    def __init__(self, plan: Plan, *, rng: random.Random, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.rng = rng
        self._say = say
        self.connect_s: list[float] = []
        self.authorise_s: list[float] = []
        self.granted_s: list[float] = []
        self.asked_at: dict[str, float] = {}  # by the client's public key
        # When a gateway was told that a grant has ended, by the loop's clock.
        self.rejected_at: list[float] = []
        self.refused: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.returned = 0
        self.away_s: list[float] = []
        self.late_s: list[float] = []
        self._away = 0
        self._answered = asyncio.Event()
        self._clients = [_Client(self, number) for number in range(plan.clients)]
        self._by_key = {client.public_key: client for client in self._clients}
        self._gateways = [_Gateway(self, number) for number in range(plan.gateways)]

    async def run(self) -> Report:
        plan = self.plan
        async with self.gathered():
            if plan.resource_id is not None:
                await self.ask(plan.resource_id, requests=plan.requests, per_s=plan.requests_per_s)
            if plan.hold_s:
                self._say(f"all stay for {plan.hold_s:g} s")
                await asyncio.sleep(plan.hold_s)
            return self.report()

    @contextlib.asynccontextmanager
    async def gathered(self) -> AsyncIterator[None]:
        """Let everybody connect, and stay for the length of the block."""
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._watch_itself())]
            for gateway in self._gateways:
                running.append(group.create_task(gateway.link.run()))
            await _all(gateway.is_here for gateway in self._gateways)
            if self._gateways:
                self._say(f"{len(self._gateways)} gateways are connected")
            async for client in _paced(self._clients, self.plan.connects_per_s):
                running.append(group.create_task(client.link.run()))
            await _all(client.is_here for client in self._clients)
            self._say(f"{len(self._clients)} clients are connected")
            yield
            for task in running:
                task.cancel()

    def report(self) -> Report:
        """Return what was seen so far."""
        return Report(
            Percentiles.of(self.connect_s),
            Percentiles.of(self.authorise_s),
            Percentiles.of(self.granted_s),
            dict(sorted(self.refused.items())),
            dict(sorted(self.failed.items())),
            len(self.asked_at),
            dict(sorted(self.lost.items())),
            self.returned,
            Percentiles.of(self.away_s),
            sum(not client.is_here.is_set() for client in self._clients),
            Percentiles.of(self.late_s),
        )

    def left(self, public_key: str) -> None:
        """Take note that a peer has lost the portal, and with it the answer to what it had asked."""
        self._away += 1
        if public_key in self.asked_at:
            self.failed["lost the portal meanwhile"] += 1
            self.answered(public_key)

    def came_back(self) -> None:
        """Take note of one that is there again, and say when it was the last."""
        self.returned += 1
        self._away -= 1
        if not self._away:
            self._say("all are back")

    async def _watch_itself(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_at = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.late_s.append(loop.time() - due_at)

    def told(self, public_key: str, gateway: TimedSocket | None) -> None:
        """Take note that a gateway was told of what a client had asked: from the kernel having the one frame to its
        having the other, so that what keeps this process from reading is not the portal's.
        """
        client = self._by_key[public_key].timed if public_key in self.asked_at else None
        if client is not None and gateway is not None:
            self.authorise_s.append(gateway.received_at - client.sent_at)

    def answered(self, public_key: str) -> float | None:
        """Take note of an answer; return how long it took, None if nothing was asked."""
        asked_at = self.asked_at.pop(public_key, None)
        if not self.asked_at:
            self._answered.set()
        return None if asked_at is None else asyncio.get_running_loop().time() - asked_at

    async def ask(self, resource_id: UUID, *, requests: int, per_s: float) -> None:
        """Let clients ask in turn, and wait for the answers."""
        with collector_at_rest():
            await self._ask(resource_id, requests=requests, per_s=per_s)

    async def _ask(self, resource_id: UUID, *, requests: int, per_s: float) -> None:
        clients = itertools.cycle(self._clients)
        async for _number in _paced(range(requests), per_s):
            # Whoever still waits for an answer, or has lost the portal, is left out.
            for client in itertools.islice(clients, len(self._clients)):
                if client.is_here.is_set() and client.public_key not in self.asked_at:
                    client.ask(ResourceId(resource_id))
                    break
            else:
                self.failed["nobody free to ask"] += 1
        if self.asked_at:
            self._answered.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), ANSWER_S)
        self._say(f"{len(self.granted_s)} requests are granted")


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """Keep the collector of garbage away while something is measured: one pass over two thousand peers takes a quarter
    of a second, in which none of them hears anything.
    """
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Peer:
    """What clients and gateways of a crowd share: a link, and when it was last dialled."""

    kind: PeerKind

    def __init__(self, crowd: Crowd, number: int, token: str) -> None:
        self.crowd = crowd
        self.is_here = asyncio.Event()
        self.public_key = base64.b64encode(crowd.rng.randbytes(32)).decode()
        self.external_id = f"bench-{self.kind.value}-{number}"
        self._token = token
        self._dialled_at = 0.0
        self._known_dial: Dial | None = None
        self._lost_at: float | None = None
        pacing = Reconnect(budget_s=None, rng=crowd.rng)
        self._session = PortalSession(Dialect(self.kind), reconnect=pacing)
        self.link: PortalLink[ChannelEvent] = PortalLink(
            Decisions(
                dial=self._dial,
                open_channel=self._session.open_channel,
                look_up=_look_up,
                read_refusal=self._read_refusal,
                next_delay_s=self._session.next_delay_s,
                handle=self._handle,
            ),
            mark=None,
            make_socket=TimedSocket if crowd.plan.resource_id is not None else socket.socket,
        )

    @property
    def timed(self) -> TimedSocket | None:
        """Its socket, if it is to ask or be told of what others ask."""
        return self.link.socket if isinstance(self.link.socket, TimedSocket) else None

    def send(self, message: m.Message) -> None:
        self._session.send(message)
        self.link.flush()

    def _dial(self) -> Dial:
        self._dialled_at = asyncio.get_running_loop().time()
        if self._known_dial is None:
            self._known_dial = self._make_dial()
        return self._known_dial

    def _make_dial(self) -> Dial:
        plan, name = self.crowd.plan, self.external_id
        parameters = (
            ClientParameters(name, self.public_key, name)
            if self.kind is PeerKind.CLIENT
            else GatewayParameters(name, self.public_key, name)
        )
        agent = build_user_agent(
            self.kind,
            os_name="bench",
            os_version="1",
            product_version=plan.product_version,
            arch="any",
            kernel="none",
        )
        request = build_upgrade_request(
            base_url=plan.url, parameters=parameters, token=self._token, user_agent=agent
        )
        return Dial(request.url, request.headers)

    def _read_refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
        refusal = parse_refusal(status, headers, body, now=datetime.now(UTC))
        self.crowd.refused[f"{status} {refusal.code or ''}".strip()] += 1
        return refusal

    def _handle(self, event: ChannelEvent) -> None:
        match event:
            case Joined():
                self._session.handle_joined()
            case Lost():
                if self.is_here.is_set():
                    self._lost_at = asyncio.get_running_loop().time()
                    self.crowd.left(self.public_key)
                self.is_here.clear()
                self.crowd.lost[event.reason.value] += 1
                self._session.handle_lost(event)
            case Received(message=m.ClientInit() | m.GatewayInit()):
                self._handle_init(now=asyncio.get_running_loop().time())
            case Received(message=message):
                self._handle_message(message)

    def _handle_init(self, *, now: float) -> None:
        is_client = self.kind is PeerKind.CLIENT
        if self._lost_at is not None:
            self.crowd.came_back()
            if is_client:
                self.crowd.away_s.append(now - self._lost_at)
            self._lost_at = None
        self.is_here.set()
        if is_client:
            self.crowd.connect_s.append(now - self._dialled_at)

    def _handle_message(self, message: m.Message) -> None: ...


class _Client(_Peer):
    kind = PeerKind.CLIENT

    def __init__(self, crowd: Crowd, number: int) -> None:
        super().__init__(crowd, number, crowd.plan.client_token)

    def ask(self, resource_id: ResourceId) -> None:
        self.crowd.asked_at[self.public_key] = asyncio.get_running_loop().time()
        self.send(m.RequestAuthorization(resource_id))

    def _handle_message(self, message: m.Message) -> None:
        match message:
            case m.AuthorizationCreated():
                took_s = self.crowd.answered(self.public_key)
                if took_s is not None:
                    self.crowd.granted_s.append(took_s)
            case m.AuthorizationCreationFailed(reason=reason):
                self.crowd.answered(self.public_key)
                self.crowd.failed[reason] += 1
            case _:
                pass


class _Gateway(_Peer):
    kind = PeerKind.GATEWAY

    def __init__(self, crowd: Crowd, number: int) -> None:
        assert crowd.plan.gateway_token is not None
        super().__init__(crowd, number, crowd.plan.gateway_token)

    def _handle_message(self, message: m.Message) -> None:
        if isinstance(message, m.CreateAuthorization):
            self.crowd.told(message.client.public_key, self.timed)
            self.send(m.AuthorizationAcknowledged(message.ref))
        elif isinstance(message, m.RejectAccess):
            self.crowd.rejected_at.append(asyncio.get_running_loop().time())


async def _look_up(host: str) -> list[IpAddress]:
    """Ask the system's resolver: there is no tunnel that could be in its way."""
    try:
        return [parse_ip(host)]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
        return list(dict.fromkeys(parse_ip(str(address[0])) for *_rest, address in found))


async def _paced(things: Iterable[_Thing], per_s: float) -> AsyncIterator[_Thing]:
    """Yield one after another at a rate; what is late is not left out."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    for number, thing in enumerate(things):
        delay_s = began_at + number / per_s - loop.time()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        elif number % 16 == 0:
            await asyncio.sleep(0)
        yield thing


async def _all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()
