"""Simulated processes: the machines and engines that ship, driven by the simulation's clock, network and links.

A driver here does what the real one does with sockets: after each input it drains actions, datagrams, packets and
events until nothing is left, then arms one timer.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any, Final
from uuid import UUID

from wardgate_native import RelayEngine, TunnelEngine

import wardgate
from wardgate.client.machine import Client
from wardgate.client.queries import Answer, AskGateway, AskUpstream, QueryAction
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.flow_logging import KeepFlows, KeepToken, KeptFlow, UploadFlows
from wardgate.datapath import events as e
from wardgate.datapath.engine import SimulatedEngine, public_key
from wardgate.datapath.programmable import Programmable
from wardgate.gateway.look_ups import Resolve
from wardgate.gateway.machine import Gateway
from wardgate.model.addresses import IpAddress
from wardgate.model.ids import ResourceId
from wardgate.net.portal_link import ATTEMPT_TIMEOUT_S
from wardgate.peer.machine import Configure, Send, TunnelMachine
from wardgate.portal.http.asgi import App
from wardgate.simulation.control_link import ControlLink
from wardgate.simulation.network import Datagram, Nat, SimHost, SimNetwork
from wardgate.simulation.pool_part import PoolPart
from wardgate.wire import messages as m
from wardgate.wire.control_channel import ControlChannel, Joined, Lost, Received
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.ingest_tokens import IngestClaims, parse_ingest_token
from wardgate.wire.reconnect import GiveUp, Reconnect
from wardgate.wire.upgrade import (
    ClientParameters,
    ConnectParameters,
    GatewayParameters,
    RelayParameters,
    build_upgrade_request,
    parse_refusal,
)
from wardgate.wire.user_agent import build_user_agent

PORTAL_URL: Final = "ws://portal.sim:8080/"
RELAY_PORT: Final = 3478
PEER_PORT: Final = 52625
SYSTEM_RESOLVER: Final = IPv4Address("203.0.113.53")  # nobody answers there
_MAX_ROUNDS: Final = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessContext:
    """What every simulated process stands in."""

    network: SimNetwork
    portal: Callable[[], App | None]  # None: the portal is down
    unix_at_zero: float
    resolve: Callable[[str], frozenset[IpAddress]]  # the private zone, as gateways see it
    rng: random.Random
    links: list[ControlLink] = field(
        default_factory=list
    )  # every connection to the portal, also given up ones


@dataclass
class Cable:
    """How a host hangs on the network."""

    ip: str
    nat: Nat | None = None
    latency_s: float = 0.01
    loss: float = 0.0

    @property
    def public_ip(self) -> str:
        """The address under which the portal sees it."""
        return self.ip if self.nat is None else self.nat.public_ip


class Peer(ABC):
    """The control channel's life, common to all peers: connect, join, lose, come back."""

    kind: PeerKind

    def __init__(self, name: str, context: ProcessContext, cable: Cable, token: str) -> None:
        self.name = name
        self.cable = cable
        self.is_stopped = False
        self.has_given_up = False  # ended because no portal answered; a service manager would start it again
        self.joined_at: float | None = None  # since when the portal reaches it
        self._world = context
        self._loop = asyncio.get_running_loop()
        self._token = token
        self._user_agent = build_user_agent(
            self.kind, os_name="Debian", os_version="12", product_version=wardgate.__version__, arch="x86_64"
        )
        self._channel: ControlChannel | None = None
        self._link: ControlLink | None = None
        self._pacing = Reconnect(budget_s=None, rng=random.Random(context.rng.random()))  # noqa: S311  # replays by seed
        self._timer: asyncio.TimerHandle | None = None
        self._attempt: asyncio.TimerHandle | None = None  # ends an attempt to connect that nobody answers
        self._is_pumping = False
        self._host: SimHost = context.network.attach(
            name, cable.ip, self._handle_datagram, nat=cable.nat, latency_s=cable.latency_s, loss=cable.loss
        )

    @property
    def is_joined(self) -> bool:
        return self._channel is not None and self._channel.is_joined

    def start(self) -> None:
        self._connect()

    def kill(self) -> None:
        """SIGKILL: nothing is said to anybody; the operating system closes the connection."""
        self._stop()
        if self._link is not None:
            self._link.close()

    def cut_portal(self) -> None:
        """The way to the portal swallows everything until the peer notices and reconnects."""
        self.joined_at = None
        if self._link is not None:
            self._link.cut()

    def reset_portal(self) -> None:
        """The connection to the portal breaks, and both ends notice at once."""
        if self._link is not None:
            self._link.reset()

    # LinkOwner

    def handle_link_up(self) -> None:
        self._end_attempt()
        self._channel = self._new_channel()
        self._pump()

    def handle_link_refused(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._end_attempt()
        refusal = parse_refusal(status, headers, body, now=self._wall())
        if refusal.is_fatal:
            self._exit(f"refused: {refusal}")
        else:
            self._retry(refusal.retry_after_s)

    def handle_link_frame(self, frame: str) -> None:
        if self._channel is not None:
            self._channel.handle_frame(frame, now=self._loop.time())
            self._pump()

    def handle_link_closed(self) -> None:
        self._end_attempt()
        if self._channel is not None:
            self._channel.handle_closed()
            self._pump()
        elif not self.is_stopped:
            self._retry(None)

    # For the kinds of peer

    @abstractmethod
    def _parameters(self) -> ConnectParameters: ...

    @abstractmethod
    def _new_channel(self) -> ControlChannel: ...

    @abstractmethod
    def _handle_joined(self) -> None: ...

    @abstractmethod
    def _handle_message(self, message: m.Message) -> None: ...

    @abstractmethod
    def _handle_portal_lost(self) -> None: ...

    @abstractmethod
    def _handle_datagram(self, datagram: Datagram) -> None: ...

    @abstractmethod
    def _drain(self) -> bool:
        """Move what engine and machine have to say; whether anything moved."""

    @abstractmethod
    def _handle_timeout(self, now: float) -> None: ...

    @abstractmethod
    def _poll_timeout(self) -> float | None: ...

    def _pump(self) -> None:
        """Drain everything until it is quiet, then arm the timer."""
        if self._is_pumping or self.is_stopped:
            return
        self._is_pumping = True
        try:
            for _ in range(_MAX_ROUNDS):
                if not (self._drain_channel() | self._drain()):
                    break
            else:
                raise RuntimeError(f"{self.name} never comes to rest")
        finally:
            self._is_pumping = False
        self._arm()

    def _drain_channel(self) -> bool:
        channel, moved = self._channel, False
        if channel is None:
            return False
        while (frame := channel.poll_transmit()) is not None:
            assert self._link is not None
            self._link.send(frame)
            moved = True
        while (event := channel.poll_event()) is not None:
            moved = True
            match event:
                case Joined():
                    self._pacing.handle_joined()
                    self.joined_at = self._loop.time()
                    self._handle_joined()
                case Received(message=message):
                    self._handle_message(message)
                case Lost():
                    self._lose(event)
        return moved

    def _lose(self, lost: Lost) -> None:
        self._channel = None
        self.joined_at = None
        if self._link is not None:
            self._link.close()
        self._handle_portal_lost()
        if lost.is_fatal:
            self._exit(str(lost.reason.value))
        else:
            self._retry(None)

    def _exit(self, reason: str) -> None:
        log.info("%s ends: %s", self.name, reason)
        self._stop()

    def _stop(self) -> None:
        self.is_stopped = True
        self._channel = None
        self._world.network.detach(self._host)
        self._end_attempt()
        if self._timer is not None:
            self._timer.cancel()

    def _retry(self, retry_after_s: float | None) -> None:
        attempt = self._pacing.next_attempt(retry_after_s=retry_after_s)
        if isinstance(attempt, GiveUp):
            self.has_given_up = True
            self._exit("the portal cannot be reached")
        elif not self.is_stopped:
            self._loop.call_later(attempt.delay_s, self._connect)

    def _connect(self) -> None:
        if self.is_stopped:
            return
        app = self._world.portal()
        if app is None:
            self._retry(None)
            return
        request = build_upgrade_request(
            base_url=PORTAL_URL, parameters=self._parameters(), token=self._token, user_agent=self._user_agent
        )
        self._link = ControlLink(
            app, request, source_ip=self.cable.public_ip, latency_s=self.cable.latency_s, owner=self
        )
        self._world.links.append(self._link)
        self._attempt = self._loop.call_later(ATTEMPT_TIMEOUT_S, self._handle_no_answer)

    def _handle_no_answer(self) -> None:
        """As the driver of a real peer does: nobody has answered, the next attempt may fare better."""
        assert self._link is not None
        self._attempt = None
        self._link.close()
        self._retry(None)

    def _end_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadlines = [
            self._poll_timeout(),
            self._channel.poll_timeout() if self._channel is not None else None,
        ]
        due = [deadline for deadline in deadlines if deadline is not None]
        if due and not self.is_stopped:
            self._timer = self._loop.call_at(max(min(due), self._loop.time()), self._fire)

    def _fire(self) -> None:
        now = self._loop.time()
        try:
            if self._channel is not None:
                self._channel.handle_timeout(now=now)
            self._handle_timeout(now)
        finally:
            # A fault in one step is logged by the loop; it must not stop this peer's clock.
            self._pump()

    def _wall(self) -> datetime:
        return datetime.fromtimestamp(self._world.unix_at_zero + self._loop.time(), UTC)


class SimRelay(Peer):
    """A relay process."""

    kind = PeerKind.RELAY

    def __init__(self, name: str, context: ProcessContext, cable: Cable, token: str) -> None:
        super().__init__(name, context, cable, token)
        self._stamp_secret = context.rng.randbytes(32).hex()
        self._engine = RelayEngine(
            stamp_secret=self._stamp_secret,
            ipv4=cable.ip,
            ipv6=None,
            port=RELAY_PORT,
            first_port=49152,
            last_port=65535,
            seed=context.rng.randbytes(32),
            unix_at_zero=context.unix_at_zero,
        )

    def stats(self) -> dict[str, int]:
        return self._engine.stats()

    def _parameters(self) -> ConnectParameters:
        return RelayParameters(ipv4=IPv4Address(self.cable.ip), port=RELAY_PORT, name=self.name)

    def _new_channel(self) -> ControlChannel:
        return ControlChannel(Dialect(PeerKind.RELAY), now=self._loop.time(), stamp_secret=self._stamp_secret)

    def _handle_joined(self) -> None:
        pass

    def _handle_message(self, message: m.Message) -> None:
        pass

    def _handle_portal_lost(self) -> None:
        pass

    def _handle_datagram(self, datagram: Datagram) -> None:
        self._engine.handle_network([datagram], now=self._loop.time())
        self._pump()

    def _drain(self) -> bool:
        datagrams = self._engine.poll_transmit()
        for datagram in datagrams:
            self._world.network.send(self._host, datagram)
        return bool(datagrams)

    def _handle_timeout(self, now: float) -> None:
        self._engine.handle_timeout(now=now)

    def _poll_timeout(self) -> float | None:
        return self._engine.poll_timeout()


class TunnelPeer(Peer):
    """What client and gateway have in common: machine, tunnel engine, packets to and from the inside."""

    role: str
    _machine: TunnelMachine[Any]

    def __init__(self, name: str, context: ProcessContext, cable: Cable, token: str) -> None:
        super().__init__(name, context, cable, token)
        self.on_packet: Callable[[bytes], None] = lambda _packet: None
        self.on_flow: Callable[[KeptFlow], None] = lambda _flow: None
        self.tokens: dict[str, IngestClaims] = {}  # of authorizations whose flows are recorded
        self.paths: Counter[str] = Counter()  # paths selected, by kind
        self.path_to: dict[str, str] = {}  # peer → kind of the path in use
        self._private_key = _private_key(context.rng)
        self._engine = TunnelEngine(
            role=self.role,
            private_key=self._private_key,
            seed=context.rng.randbytes(32),
            listen_port=PEER_PORT,
            unix_at_zero=context.unix_at_zero,
        )
        self._program = SimulatedEngine(self._engine, self._loop.time)

    def between(self, engine: Programmable) -> Programmable:
        """What stands between machine and engine: nothing, unless a test plants a fault there."""
        return engine

    @abstractmethod
    def held(self) -> set[tuple[UUID, UUID]]:
        """Client and resource of every grant to this peer."""

    def rejected(self) -> dict[tuple[UUID, UUID], float]:
        """Client and resource of every grant that the portal has taken back since, and when it had been given."""
        return {}

    def send_packet(self, packet: bytes) -> None:
        """A packet from the operating system into the tunnel."""
        self._engine.handle_tun([packet], now=self._loop.time())
        self._pump()

    def stats(self) -> dict[str, int]:
        return self._engine.stats()

    def shut_down(self) -> None:
        """SIGTERM: goodbyes, then the end."""
        self._machine.handle_shutdown()
        self._pump()
        self.kill()

    @abstractmethod
    def _handle_event(self, event: e.AnyEvent) -> None: ...

    @abstractmethod
    def _perform(self, action: Any) -> None:
        """Carry out an action of this kind of machine."""

    def _new_channel(self) -> ControlChannel:
        return ControlChannel(Dialect(self.kind), now=self._loop.time())

    def _handle_joined(self) -> None:
        self._machine.handle_joined()

    def _handle_portal_lost(self) -> None:
        self._machine.handle_portal_lost()

    def _handle_datagram(self, datagram: Datagram) -> None:
        self._engine.handle_network([datagram], now=self._loop.time())
        self._pump()

    def _handle_timeout(self, now: float) -> None:
        self._engine.handle_timeout(now=now)

    def _poll_timeout(self) -> float | None:
        return self._engine.poll_timeout()

    def _drain(self) -> bool:
        moved = self._drain_engine()
        for event in self._program.drain_events():
            moved = True
            self._handle_event(event)
        while (action := self._machine.poll_action()) is not None:
            moved = True
            if isinstance(action, KeepFlows):
                for flow in action.flows:
                    self.on_flow(flow)
            elif isinstance(action, KeepToken):
                self.tokens[action.authorization_id] = parse_ingest_token(action.token)
            elif isinstance(action, UploadFlows):
                pass  # reports of peers are the portal's tests' to upload
            elif not isinstance(action, Send):
                self._perform(action)
            elif self._channel is not None:
                self._channel.send(action.message)
        return moved

    def _drain_engine(self) -> bool:
        datagrams, packets = self._engine.poll_transmit(), self._engine.poll_tun()
        for source, destination, payload in datagrams:
            local = source if not source.startswith("0.0.0.0:") else f"{self.cable.ip}:{PEER_PORT}"
            self._world.network.send(self._host, (local, destination, payload))
        for packet in packets:
            self.on_packet(packet)
        return bool(datagrams or packets)


class SimGateway(TunnelPeer):
    kind = PeerKind.GATEWAY
    role = "gateway"

    def __init__(self, name: str, context: ProcessContext, cable: Cable, token: str) -> None:
        super().__init__(name, context, cable, token)
        clock = ClockOffset(context.unix_at_zero)
        self._machine = self._gateway = Gateway(self.between(self._program), clock=clock)
        self._told_at: dict[tuple[UUID, UUID], float] = {}
        self._rejected: set[tuple[UUID, UUID]] = set()

    def held(self) -> set[tuple[UUID, UUID]]:
        return {(client_id, resource_id) for client_id, resource_id in self._gateway.held()}

    def rejected(self) -> dict[tuple[UUID, UUID], float]:
        return {pair: self._told_at[pair] for pair in self._rejected if pair in self._told_at}

    def _parameters(self) -> ConnectParameters:
        return GatewayParameters(f"sim-{self.name}", public_key(self._private_key), self.name)

    def _handle_message(self, message: m.Message) -> None:
        match message:
            case m.GatewayInit():
                self._rejected.clear()
            case m.CreateAuthorization(client=client, resource=resource):
                self._told_at[client.id, resource.id] = self._loop.time()
                self._rejected.discard((client.id, resource.id))
            case m.RejectAccess(client_id=client_id, resource_id=resource_id):
                self._rejected.add((client_id, resource_id))
        self._gateway.handle_message(message)

    def _handle_event(self, event: e.AnyEvent) -> None:
        self._gateway.handle_event(event)

    def _perform(self, action: Configure | Resolve) -> None:
        # There is no interface to configure.
        if isinstance(action, Resolve):
            self._loop.call_later(0.002, self._resolved, action.lookup_id, action.name)

    def _resolved(self, lookup_id: int, name: str) -> None:
        self._gateway.handle_resolved(lookup_id, self._world.resolve(name))
        self._pump()


@dataclass
class _Queries:
    next_id: int = 0
    waiting: dict[int, Callable[[bytes | None], None]] = field(default_factory=dict)


class SimClient(TunnelPeer):
    kind = PeerKind.CLIENT
    role = "client"

    def __init__(self, name: str, context: ProcessContext, cable: Cable, token: str) -> None:
        super().__init__(name, context, cable, token)
        self.configuration: Configure | None = None
        clock = ClockOffset(context.unix_at_zero)
        self._machine = self._client = Client(self.between(self._program), clock=clock)
        self._client.handle_system_resolvers((SYSTEM_RESOLVER,))
        self._queries = _Queries()
        self.pools = PoolPart()

    @property
    def resource_ids(self) -> frozenset[str]:
        """What this client is shown."""
        return frozenset(str(status.resource_id) for status in self._client.status(now=self._loop.time()))

    def held(self) -> set[tuple[UUID, UUID]]:
        return self.pools.held(unix_now=self._wall().timestamp())

    def ask_for_device(self, pool_id: UUID, ipv4: str) -> asyncio.Future[str] | None:
        """Ask for any device by any pool, as a client may that does not mind what it is shown; return nothing
        while there is no connection.
        """
        if self._channel is None or not self._channel.is_joined:
            return None
        answer = self.pools.expect(pool_id, ipv4)
        self._channel.send(m.RequestAuthorization(ResourceId(pool_id), ipv4=ipv4))
        self._pump()
        return answer

    def ask(self, query: bytes, answered: Callable[[bytes | None], None]) -> None:
        """A DNS query of a program on this host to its first sentinel."""
        sentinels = self._client.sentinels
        if not sentinels:
            answered(None)
            return
        query_id = self._queries.next_id
        self._queries.next_id += 1
        self._queries.waiting[query_id] = answered
        self._client.handle_query(query_id, query, sentinel=sentinels[0], is_udp=True, now=self._loop.time())
        self._pump()

    def _parameters(self) -> ConnectParameters:
        return ClientParameters(f"sim-{self.name}", public_key(self._private_key), self.name)

    def _handle_message(self, message: m.Message) -> None:
        # The grants told of count even where the client has forgotten them with a connection.
        self.pools.handle_message(message)
        self._client.handle_message(message, now=self._loop.time())

    def _handle_event(self, event: e.AnyEvent) -> None:
        if isinstance(event, e.PathSelected):
            self.paths[event.kind] += 1
            self.path_to[event.peer_id] = event.kind
        self._client.handle_event(event, now=self._loop.time())

    def _perform(self, action: Configure | QueryAction) -> None:
        match action:
            case Configure():
                self.configuration = action
            case Answer(query_id=query_id, payload=payload):
                self._queries.waiting.pop(query_id)(payload)
            case AskUpstream(query_id=query_id) | AskGateway(query_id=query_id):
                # The simulated internet has no public name server: such queries fail, which the story never needs.
                self._client.handle_answer(query_id, None, now=self._loop.time())

    def _handle_timeout(self, now: float) -> None:
        super()._handle_timeout(now)
        self._client.handle_timeout(now=now)

    def _poll_timeout(self) -> float | None:
        timeouts = super()._poll_timeout(), self._client.poll_timeout()
        return min((timeout for timeout in timeouts if timeout is not None), default=None)


def _private_key(rng: random.Random) -> str:
    return base64.b64encode(rng.randbytes(32)).decode()
