"""The client as a process: drives the machine with a hosted engine, a link to the portal, the host's DNS and routes."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final, assert_never

from wardgate.client.machine import Answer, AskGateway, AskUpstream, Client, Configure, Send
from wardgate.connect.portal_session import PortalSession
from wardgate.datapath.engine import HostedEngine, generate_private_key
from wardgate.datapath.engine_news import EngineStopped, follow_news
from wardgate.dns.upstreams import Doh
from wardgate.model.addresses import GATEWAY_DNS_PORT
from wardgate.net.boot_clock import ClockNews, watch_clocks
from wardgate.net.dns_exchange import DIRECT, Route, exchange
from wardgate.net.dns_listener import DnsListener, Query
from wardgate.net.doh_exchange import DohClient
from wardgate.net.host_changes import HostChanges
from wardgate.net.host_dns import HostDns
from wardgate.net.name_lookup import NameLookup
from wardgate.net.netlink import Kernel
from wardgate.net.network_path import NetworkPath
from wardgate.net.portal_link import PortalLink
from wardgate.net.reconciler import Reconciler, Setting
from wardgate.net.service_manager import notify
from wardgate.net.supervision import on_hangup, run_until_first_ends, stop_signal
from wardgate.net.tun_interface import TunInterface
from wardgate.supervision import Tasks
from wardgate.wire.control_channel import ChannelEvent, Joined, Lost, Received

MAX_FORWARDED: Final = 1000  # queries at servers at once (data-plane §4.5)

log = logging.getLogger(__name__)


class ClientProcess:
    """Owns nothing that it was given: the caller closes engine and TUN interface after `run`."""

    def __init__(
        self,
        *,
        engine: HostedEngine,
        session: PortalSession,
        kernel: Kernel,
        tun: TunInterface,
        host_dns: HostDns,
        settings: tuple[Setting[Any], ...],
        link: Callable[[Callable[[ChannelEvent], None]], PortalLink[ChannelEvent]],
        set_private_key: Callable[[str], None],
        is_internet_active: bool,
    ) -> None:
        """Take the parts.

        Args:
            settings: what else is wanted of the host.
            link: makes the link to the portal around a function that takes its events.
            set_private_key: told the new key after a network change, before the link dials again.
        """
        self._engine = engine
        self._session = session
        self._tun = tun
        self._host_dns = host_dns
        self._set_private_key = set_private_key
        self._link = link(self._handle_channel_event)
        self.host: Final = Reconciler((*settings, *tun.settings, *host_dns.settings))
        self._path = NetworkPath(kernel, lambda: self._link.portal_addresses)
        self._machine = Client(engine, is_internet_active=is_internet_active)
        self._listener = DnsListener(self._answer_query)
        self._doh = DohClient(NameLookup(host_dns.system_resolvers).addresses)
        self._next_query_id = 0
        self._waiting: dict[int, asyncio.Future[bytes | None]] = {}
        self._forwarded = Tasks()
        self._wanted: asyncio.Queue[Configure] = asyncio.Queue()
        self._tunnel_ipv4 = self._tunnel_ipv6 = ""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_ready(self) -> bool:
        return self._machine.is_joined and self.host.is_ready

    async def run(self, *, until_configured: bool = False) -> None:
        """Serve until SIGTERM or SIGINT, then say goodbye. `until_configured`: only until the tunnel is up.

        Raises:
            PortalRefused, PortalUnreachable, SessionEnded: the portal is gone for good.
            HostRefused, OSError: the host refuses a setting.
            EngineStopped: the engine's thread has ended, as when the TUN device was deleted.
        """
        self._engine.on_readable(self._pump)
        try:
            with HostChanges() as changes:
                await self.host.establish()  # also undoes what a run that crashed has left
                self._machine.handle_system_resolvers(await self._host_dns.system_resolvers())
                await run_until_first_ends(
                    self._link.run(),
                    self._configure_host(is_once=until_configured),
                    self._watch_host(changes),
                    follow_news(self._engine),
                    watch_clocks(self._handle_clock_news),
                    on_hangup(self.reset),
                    stop_signal(),
                )
        finally:
            with contextlib.suppress(EngineStopped):
                self._machine.handle_shutdown()
            await self._forwarded.close()
            await self.host.undo()
            await self._listener.close()
            await self._doh.close()

    def reset(self) -> None:
        """The network changed: new key, new sockets, new connection to the portal (data-plane §1.11)."""
        log.info("network change: starting over")
        self._take_engine_events()
        private_key = generate_private_key()
        self._machine.handle_reset(private_key)
        self._set_private_key(private_key)
        self._engine.rebind()
        self._session.reset_pacing()
        self._link.reconnect()
        self._carry_out()

    def _handle_channel_event(self, event: ChannelEvent) -> None:
        self._take_engine_events()
        match event:
            case Joined():
                self._session.handle_joined()
                self._machine.handle_joined()
                log.info("connected to the portal")
            case Received(message=message):
                self._machine.handle_message(message, now=self._engine.clock())
            case Lost():
                self._machine.handle_portal_lost()
                self._session.handle_lost(event)
            case _:
                assert_never(event)
        self._carry_out()

    def _pump(self) -> None:
        self._take_engine_events()
        self._carry_out()

    def _take_engine_events(self) -> None:
        # Before anything else is handled: a message may be about a peer whose end is already queued here.
        for event in self._engine.drain_events():
            self._machine.handle_event(event, now=self._engine.clock())

    def _carry_out(self) -> None:
        while (action := self._machine.poll_action()) is not None:
            match action:
                case Send(message=message):
                    self._session.send(message)
                    self._link.flush()
                case Configure():
                    self._wanted.put_nowait(action)
                case Answer(query_id=query_id, payload=payload):
                    waiting = self._waiting.pop(query_id)
                    if not waiting.done():
                        waiting.set_result(payload)
                case AskUpstream() | AskGateway():
                    self._forward(action)
                case _:
                    assert_never(action)
        self._arm_timer()

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_at = self._machine.poll_timeout()
        if due_at is not None:
            delay_s = max(due_at - self._engine.clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._handle_timeout)

    def _handle_clock_news(self, news: ClockNews) -> None:
        if not news.slept_s:
            return
        # The loop's timer stood still with the machine: what has fallen due meanwhile is due now.
        self._handle_timeout()
        if news.is_long_sleep:
            log.info("the machine slept: connecting anew", extra={"slept_s": round(news.slept_s)})
            self._session.reset_pacing()
            self._link.reconnect()

    def _handle_timeout(self) -> None:
        self._timer = None
        try:
            self._machine.handle_timeout(now=self._engine.clock())
        finally:
            # A fault in one step is logged by the loop; the steps after it come all the same.
            self._pump()

    async def _answer_query(self, query: Query) -> bytes | None:
        query_id = self._next_query_id
        self._next_query_id += 1
        waiting: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting[query_id] = waiting
        self._machine.handle_query(
            query_id,
            query.payload,
            sentinel=query.arrived_at,
            is_udp=query.is_udp,
            now=self._engine.clock(),
        )
        self._carry_out()
        return await waiting

    def _forward(self, wanted: AskUpstream | AskGateway) -> None:
        if len(self._forwarded) >= MAX_FORWARDED:
            self._machine.handle_answer(wanted.query_id, None, now=self._engine.clock())
            return
        self._forwarded.start(self._ask(wanted), name="query")

    async def _ask(self, wanted: AskUpstream | AskGateway) -> None:
        payload: bytes | None = None
        timed_out = False
        try:
            payload = await self._exchange(wanted)
        except TimeoutError:
            timed_out = True
        except OSError as error:
            log.debug("a server did not answer", extra={"error": str(error)})
        self._machine.handle_answer(wanted.query_id, payload, timed_out=timed_out, now=self._engine.clock())
        self._carry_out()

    async def _exchange(self, wanted: AskUpstream | AskGateway) -> bytes:
        if isinstance(wanted, AskGateway):
            route = self._in_tunnel(wanted.server.version)
            return await exchange(
                wanted.payload, wanted.server, GATEWAY_DNS_PORT, is_udp=wanted.is_udp, route=route
            )
        if isinstance(wanted.upstream, Doh):
            return await self._doh.exchange(wanted.payload, wanted.upstream.url)
        server = wanted.upstream.address
        route = self._in_tunnel(server.version) if wanted.in_tunnel else DIRECT
        return await exchange(wanted.payload, server, is_udp=wanted.is_udp, route=route)

    def _in_tunnel(self, version: int) -> Route:
        return Route(source=self._tunnel_ipv4 if version == 4 else self._tunnel_ipv6, mark=None)

    async def _configure_host(self, *, is_once: bool) -> None:
        is_first = True
        while True:
            wanted = await self._wanted.get()
            self._tun.want(wanted.tun)
            await self.host.establish()
            self._tunnel_ipv4, self._tunnel_ipv6 = wanted.tun.ipv4, wanted.tun.ipv6
            sentinels = self._tun.families.of(wanted.tun.sentinels)
            await self._listener.listen(sentinels)
            # Names last: nobody should ask a sentinel that does not answer yet.
            self._host_dns.want(sentinels, wanted.search_domain)
            await self.host.establish()
            if is_first:
                is_first = False
                notify("READY=1")
                log.info("tunnel interface is up")
                if is_once:
                    return

    async def _watch_host(self, changes: HostChanges) -> None:
        await self._path.has_moved()  # from here on
        while True:
            await changes.next()
            await self.host.check()
            self._machine.handle_system_resolvers(await self._host_dns.system_resolvers())
            self._carry_out()
            if await self._path.has_moved():
                self.reset()
