"""The client process: serves DNS to the host's programs, and starts over when the network changes."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, assert_never

import msgspec

from wardgate.client.machine import Client
from wardgate.client.queries import Answer, AskGateway, AskUpstream
from wardgate.connect.deadlines import ClockOffset
from wardgate.datapath.engine import generate_private_key
from wardgate.datapath.events import AnyEvent
from wardgate.dns.upstreams import Doh
from wardgate.model.addresses import GATEWAY_DNS_PORT, IpAddress, parse_ip
from wardgate.net.boot_clock import ClockNews
from wardgate.net.dns_asker import DnsAsker
from wardgate.net.dns_exchange import DIRECT, Route, exchange
from wardgate.net.dns_listener import Query, Reply
from wardgate.net.doh_exchange import DohClient
from wardgate.net.name_lookup import NameLookup
from wardgate.net.supervision import on_hangup
from wardgate.peer.machine import Configure
from wardgate.peer.status import DnsView, Question, Refused, Status, Why
from wardgate.peer.tunnel_process import TunnelParts, TunnelProcess, clock_offset
from wardgate.wire.messages import Message

DNS_PORT: Final = 53
WHY_TIMEOUT_S: Final = 5.0  # for the portal and a gateway to answer
MAX_NAME: Final = 255  # characters
MAX_FORWARDED: Final = 1000  # queries at servers at once (data-plane §4.5)

log = logging.getLogger(__name__)


class ClientProcess(TunnelProcess[Answer | AskUpstream | AskGateway]):
    """Runs a client until it is told to stop."""

    def __init__(
        self, parts: TunnelParts, *, set_private_key: Callable[[str], None], is_internet_active: bool
    ) -> None:
        """`set_private_key` receives the new key after a network change, before the link dials again."""
        self._client = Client(
            parts.engine,
            is_internet_active=is_internet_active,
            clock=clock_offset(parts.engine),
            prints_flows=parts.flow_logs.prints,
        )
        self._host_dns = parts.host_dns
        self._set_private_key = set_private_key
        self._doh = DohClient(NameLookup(parts.host_dns.system_resolvers).addresses)
        self._next_query_id = 0
        self._asker = DnsAsker()
        self._waiting: dict[int, Reply] = {}
        self._tunnel_ipv4 = self._tunnel_ipv6 = ""
        self._timer: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        super().__init__(parts, self._client, dns_port=DNS_PORT)

    def status(self) -> Status:
        """See `TunnelProcess`."""
        return msgspec.structs.replace(
            self._shown("client", self._tun.name),
            resources=self._client.shown_resources(now=self._engine.clock()),
            grants=self._client.shown_grants(),
            dns=DnsView(
                self._host_dns.method, tuple(map(str, self._client.sentinels)), self._client.upstreams
            ),
        )

    async def _why(self, question: Question) -> Why | Refused:
        name = question.host.rstrip(".").lower()
        target: IpAddress | str = name
        with contextlib.suppress(ValueError):
            target = parse_ip(name)
        if not name or len(question.host) > MAX_NAME:
            return Refused("that is neither a name nor an address")

        def look() -> Why:
            found = self._client.why(
                target, protocol=question.protocol, port=question.port, now=self._engine.clock()
            )
            if found.connection is None:
                return found
            (connection,) = self._measured((found.connection,))
            return msgspec.structs.replace(found, connection=connection)

        why = look()
        if (
            why.resource is None
            or why.is_filtered
            or why.outcome == "authorized"
            or not why.is_portal_connected
            or not question.may_ask_portal
        ):
            return why
        self._client.ask_access(why.resource.id, target, now=self._engine.clock())
        self._carry_out()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WHY_TIMEOUT_S):
                while (why := look()).outcome == "no answer":
                    self._news.clear()
                    await self._news.wait()
        return msgspec.structs.replace(look(), was_asked=True)

    def reset(self) -> None:
        """The network changed: new key, new sockets, new connection to the portal (data-plane §1.11)."""
        log.info("network change: starting over")
        self._take_engine_events()
        private_key = generate_private_key()
        self._client.handle_reset(private_key, in_use=self._peers_in_use(), now=self._engine.clock())
        self._set_private_key(private_key)
        self._engine.rebind()
        self._asker.renew_ports()
        self._tasks.start(self._doh.renew(), name="end of DNS over HTTPS")
        self._portal.reconnect()
        self._carry_out()

    def _peers_in_use(self) -> frozenset[str]:
        measured = self._measured(self._client.shown_connections())
        return frozenset(
            one.peer_id for one in measured if one.figures is not None and not one.figures.is_idle
        )

    def _handle_message(self, message: Message) -> None:
        self._client.handle_message(message, now=self._engine.clock())
        self._news.set()

    def _handle_event(self, event: AnyEvent) -> None:
        self._client.handle_event(event, now=self._engine.clock())

    # ── the host ────────────────────────────────────────────────────────────────────────────────────────────

    def _bequeath(self) -> msgspec.Struct:
        return self._client.bequeath(self._peers_in_use())

    async def _read_host(self) -> None:
        self._client.handle_system_resolvers(await self._host_dns.system_resolvers())
        self._carry_out()

    async def _serve(self, wanted: Configure) -> None:
        self._tunnel_ipv4, self._tunnel_ipv6 = wanted.tun.ipv4, wanted.tun.ipv6
        sentinels = self._tun.families.of(wanted.tun.sentinels)
        await self._listener.listen(sentinels)
        # DNS settings last: no program should ask a sentinel that does not answer yet.
        self._want_dns(wanted)
        await self.host.establish()

    def _want_dns(self, wanted: Configure) -> None:
        self._host_dns.want(self._tun.families.of(wanted.tun.sentinels), wanted.search_domain)

    def _beside(self) -> tuple[Coroutine[Any, Any, None], ...]:
        return (on_hangup(self.reset),)

    def _handle_network_change(self) -> None:
        self.reset()

    async def _close(self) -> None:
        self._asker.close()
        await self._doh.close()

    def _handle_clock_step(self, clock: ClockOffset) -> None:
        self._client.handle_clock_step(clock)

    # ── timers ──────────────────────────────────────────────────────────────────────────────────────────────

    def _carry_out(self) -> None:
        super()._carry_out()
        self._arm_timer()

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_at = self._client.poll_timeout()
        if due_at is not None:
            delay_s = max(due_at - self._engine.clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._handle_timeout)

    def _handle_timeout(self) -> None:
        self._timer = None
        try:
            self._client.handle_timeout(now=self._engine.clock())
        finally:
            # The loop logs an exception of this step; the steps that follow must still run.
            self._pump()

    def _handle_clock_news(self, news: ClockNews) -> None:
        if news.slept_s:
            # The loop's timer was suspended with the machine: whatever fell due in the meantime is due now.
            self._handle_timeout()
        super()._handle_clock_news(news)

    # ── names ───────────────────────────────────────────────────────────────────────────────────────────────

    def _answer_at_once(self, query: Query) -> bytes | None:
        answer = self._client.answer_again(query.payload, is_udp=query.is_udp, now=self._engine.clock())
        if answer is not None:
            self._carry_out()
        return answer

    def _begin_query(self, query: Query, reply: Reply) -> None:
        query_id = self._next_query_id
        self._next_query_id += 1
        self._waiting[query_id] = reply
        self._client.handle_query(
            query_id,
            query.payload,
            sentinel=query.arrived_at,
            is_udp=query.is_udp,
            now=self._engine.clock(),
        )
        self._carry_out()

    async def _answer_query(self, query: Query) -> bytes | None:
        answered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def reply(answer: bytes | None) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._begin_query(query, reply)
        return await answered

    def _perform(self, action: Answer | AskUpstream | AskGateway) -> None:
        match action:
            case Answer(query_id=query_id, payload=payload):
                self._waiting.pop(query_id)(payload)
            case AskUpstream() | AskGateway():
                self._forward(action)
            case _:
                assert_never(action)

    def _forward(self, wanted: AskUpstream | AskGateway) -> None:
        self._forwarded += 1
        try:
            if len(self._tasks) + len(self._asker) >= MAX_FORWARDED:
                raise BlockingIOError("as many are asked as may be at once")
            self._ask(wanted)
        except OSError as error:
            log.debug("a server was not asked", extra={"error": str(error)})
            self._unanswered += 1
            self._client.handle_answer(wanted.query_id, None, now=self._engine.clock())

    def _ask(self, wanted: AskUpstream | AskGateway) -> None:
        if isinstance(wanted, AskUpstream) and isinstance(wanted.upstream, Doh):
            url = wanted.upstream.url
            self._tasks.start(self._await(wanted, self._doh.exchange(wanted.payload, url)), name="query")
            return
        server, port, route = self._way_of(wanted)
        if wanted.is_udp:
            answered = partial(self._handle_answer, wanted.query_id)
            self._asker.ask(wanted.payload, server, port, route=route, answered=answered)
        else:
            conversation = exchange(wanted.payload, server, port, route=route)
            self._tasks.start(self._await(wanted, conversation), name="query")

    async def _await(self, wanted: AskUpstream | AskGateway, conversation: Awaitable[bytes]) -> None:
        payload: bytes | None = None
        timed_out = False
        try:
            payload = await conversation
        except TimeoutError:
            timed_out = True
        except OSError as error:
            log.debug("a server did not answer", extra={"error": str(error)})
        self._handle_answer(wanted.query_id, payload, timed_out)

    def _handle_answer(self, query_id: int, payload: bytes | None, timed_out: bool) -> None:
        self._unanswered += payload is None
        self._client.handle_answer(query_id, payload, timed_out=timed_out, now=self._engine.clock())
        self._carry_out()

    def _way_of(self, wanted: AskUpstream | AskGateway) -> tuple[IpAddress, int, Route]:
        if isinstance(wanted, AskGateway):
            return wanted.server, GATEWAY_DNS_PORT, self._in_tunnel(wanted.server.version)
        assert not isinstance(wanted.upstream, Doh)
        server = wanted.upstream.address
        return server, DNS_PORT, self._in_tunnel(server.version) if wanted.in_tunnel else DIRECT

    def _in_tunnel(self, version: int) -> Route:
        return Route(source=self._tunnel_ipv4 if version == 4 else self._tunnel_ipv6, mark=None)
