"""The gateway as a process: drives the machine with a hosted engine, a link to the portal and the host's settings."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final, assert_never

from dns.rcode import SERVFAIL

from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.portal_session import PortalSession
from wardgate.datapath.engine import HostedEngine
from wardgate.datapath.engine_news import EngineStopped, follow_news
from wardgate.dns.stub_resolver import Malformed, answer_to, cut_to_udp, encode_answer, parse_query
from wardgate.gateway.machine import Configure, Gateway, Resolve, Send
from wardgate.model.addresses import GATEWAY_DNS_PORT, IpAddress
from wardgate.net.boot_clock import ClockNews, watch_clocks
from wardgate.net.dns_listener import DnsListener, Query
from wardgate.net.host_changes import HostChanges
from wardgate.net.host_dns import HostDns
from wardgate.net.name_lookup import NameLookup, NameServers, NoServerHelped
from wardgate.net.netlink import Kernel
from wardgate.net.network_path import NetworkPath
from wardgate.net.portal_link import PortalLink
from wardgate.net.reconciler import Reconciler, Setting
from wardgate.net.supervision import run_until_first_ends, stop_signal
from wardgate.net.tun_interface import TunInterface
from wardgate.supervision import Tasks
from wardgate.wire.control_channel import ChannelEvent, Joined, Lost, Received

LOOKUP_TIMEOUT_S: Final = 10.0  # A and AAAA together (data-plane §5.4)
MAX_UDP_ANSWER: Final = 1200  # bytes, in-tunnel DNS (data-plane §5.7)

log = logging.getLogger(__name__)


class GatewayProcess:
    """Owns nothing that it was given: the caller closes engine and TUN interface after `run`."""

    def __init__(
        self,
        *,
        engine: HostedEngine,
        session: PortalSession,
        kernel: Kernel,
        tun: TunInterface,
        settings: tuple[Setting[Any], ...],
        host_dns: HostDns,
        link: Callable[[Callable[[ChannelEvent], None]], PortalLink[ChannelEvent]],
    ) -> None:
        """Take the parts.

        Args:
            settings: what is wanted of the host beside the interface's.
            link: makes the link to the portal around a function that takes its events.
        """
        self._engine = engine
        self._session = session
        self._tun = tun
        self._host_dns = host_dns
        self._link = link(self._handle_channel_event)
        self.host: Final = Reconciler((*settings, *tun.settings))
        self._path = NetworkPath(kernel, lambda: self._link.portal_addresses)
        self._machine = Gateway(engine, clock=self._clock_offset())
        self._servers = NameServers(host_dns.system_resolvers)
        self._lookup = NameLookup(host_dns.system_resolvers)
        self._dns = DnsListener(self._answer_query, port=GATEWAY_DNS_PORT)
        self._wanted: asyncio.Queue[Configure] = asyncio.Queue()
        self._lookups = Tasks()

    @property
    def is_ready(self) -> bool:
        return self._machine.is_joined and self.host.is_ready

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then say goodbye.

        Raises:
            PortalRefused, PortalUnreachable, SessionEnded: the portal is gone for good.
            HostRefused, OSError: the host refuses a setting.
            EngineStopped: the engine's thread has ended, as when the TUN device was deleted.
        """
        self._engine.on_readable(self._pump)
        try:
            with HostChanges() as changes:
                await self.host.establish()
                log.info("forwarding and masquerading are set up")
                await run_until_first_ends(
                    self._link.run(),
                    self._configure_host(),
                    self._watch_host(changes),
                    follow_news(self._engine),
                    watch_clocks(self._handle_clock_news),
                    stop_signal(),
                )
        finally:
            with contextlib.suppress(EngineStopped):
                self._machine.handle_shutdown()
            await self._lookups.close()
            await self._dns.close()
            await self.host.undo()

    def _handle_channel_event(self, event: ChannelEvent) -> None:
        self._take_engine_events()
        match event:
            case Joined():
                self._session.handle_joined()
                self._machine.handle_joined()
                log.info("connected to the portal")
            case Received(message=message):
                self._machine.handle_message(message)
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
            self._machine.handle_event(event)

    def _carry_out(self) -> None:
        while (action := self._machine.poll_action()) is not None:
            match action:
                case Send(message=message):
                    self._session.send(message)
                    self._link.flush()
                case Configure():
                    self._wanted.put_nowait(action)
                case Resolve():
                    self._lookups.start(self._resolve(action), name="look-up")
                case _:
                    assert_never(action)

    async def _resolve(self, wanted: Resolve) -> None:
        addresses: frozenset[IpAddress] | None
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                addresses = await self._lookup.addresses(wanted.name)
        except (TimeoutError, NoServerHelped):
            addresses = None
        self._machine.handle_resolved(wanted.lookup_id, addresses)
        self._pump()

    async def _configure_host(self) -> None:
        while True:
            wanted = await self._wanted.get()
            self._tun.want(wanted.tun)
            await self.host.establish()
            await self._dns.listen(self._tun.families.of((wanted.tun.ipv4, wanted.tun.ipv6)))
            log.info("tunnel interface is up")

    async def _watch_host(self, changes: HostChanges) -> None:
        await self._path.has_moved()  # from here on
        while True:
            await changes.next()
            await self.host.check()
            if await self._path.has_moved():
                # Relays and peers find the new address by themselves; a connection over the old one is a long silence.
                log.info("network change: connecting to the portal again")
                self._session.reset_pacing()
                self._link.reconnect()

    def _handle_clock_news(self, news: ClockNews) -> None:
        if news.stepped_s:
            log.warning(
                "the wall clock was set; expiries are counted anew", extra={"by_s": round(news.stepped_s)}
            )
            self._machine.handle_clock_step(self._clock_offset())
        if news.is_long_sleep:
            log.info("the machine slept: connecting anew", extra={"slept_s": round(news.slept_s)})
            self._session.reset_pacing()
            self._link.reconnect()
        self._pump()

    def _clock_offset(self) -> ClockOffset:
        return ClockOffset(unix_at_zero=time.time() - self._engine.clock())

    async def _answer_query(self, query: Query) -> bytes | None:
        """The in-tunnel DNS server: forwards to the host's name servers, in their order."""
        try:
            message = parse_query(query.payload)
        except Malformed:
            return None
        try:
            answer = await self._servers.ask(message, query.payload, is_udp=query.is_udp)
        except NoServerHelped:
            return encode_answer(answer_to(message, rcode=SERVFAIL), is_udp=query.is_udp)
        return cut_to_udp(answer, limit=MAX_UDP_ANSWER) if query.is_udp else answer
