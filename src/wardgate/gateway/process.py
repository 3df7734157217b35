"""The gateway process: resolves names for its machine and serves DNS to clients inside the tunnel."""

import asyncio
import logging
from typing import Final

import msgspec
from dns.rcode import SERVFAIL

from wardgate.connect.deadlines import ClockOffset
from wardgate.datapath.events import AnyEvent
from wardgate.dns.stub_resolver import Malformed, answer_to, cut_to_udp, encode_answer, parse_query
from wardgate.gateway.look_ups import Resolve
from wardgate.gateway.machine import Gateway
from wardgate.model.addresses import GATEWAY_DNS_PORT, IpAddress
from wardgate.net.dns_listener import Query
from wardgate.net.name_lookup import NameLookup, NameServers, NoServerHelped
from wardgate.net.service_manager import notify_slow_stop
from wardgate.peer.machine import Configure
from wardgate.peer.status import Status
from wardgate.peer.tunnel_process import TunnelParts, TunnelProcess, clock_offset
from wardgate.wire.messages import Message

LOOKUP_TIMEOUT_S: Final = 10.0  # A and AAAA together (data-plane §5.4)
MAX_UDP_ANSWER: Final = 1200  # bytes, in-tunnel DNS (data-plane §5.7)
DRAIN_CHECK_S: Final = 0.5
STOP_S: Final = 15.0  # what the end takes after a drain; as `TimeoutStopSec=` of the unit

log = logging.getLogger(__name__)


class GatewayProcess(TunnelProcess[Resolve]):
    """Runs a gateway until it is told to stop."""

    def __init__(self, parts: TunnelParts, *, drain_s: float = 0.0) -> None:
        """Take the parts; `drain_s` is how long flows may continue after SIGTERM, 0 for not at all."""
        clock = clock_offset(parts.engine)
        self._drain_s = drain_s
        self._is_draining = False
        self._gateway = Gateway(
            parts.engine, clock=clock, prints_flows=parts.flow_logs.prints, counts_flows=drain_s > 0
        )
        self._servers = NameServers(parts.host_dns.system_resolvers)
        self._lookup = NameLookup(parts.host_dns.system_resolvers)
        super().__init__(parts, self._gateway, dns_port=GATEWAY_DNS_PORT)

    def status(self) -> Status:
        """See `TunnelProcess`."""
        shown = self._shown("gateway", self._tun.name)
        return msgspec.structs.replace(shown, grants=self._gateway.shown_grants())

    @property
    def is_ready(self) -> bool:
        return super().is_ready and not self._is_draining

    def notes(self) -> tuple[str, ...]:
        """See `TunnelProcess`."""
        return (*super().notes(), *(("draining",) if self._is_draining else ()))

    async def _wind_down(self) -> None:
        """Take no new grants and wait, at most `drain_s`, for the flows that are open to end."""
        if self._drain_s <= 0:
            return
        notify_slow_stop(self._drain_s + STOP_S)
        self._is_draining = True
        self._gateway.handle_drain()
        self._pump()
        log.info("draining", extra={"flows": self._flows_open()})
        try:
            async with asyncio.timeout(self._drain_s):
                while self._flows_open() > 0:  # noqa: ASYNC110 - no such event exists
                    await asyncio.sleep(DRAIN_CHECK_S)
        except TimeoutError:
            log.info("flows remain at the end of the drain", extra={"flows": self._flows_open()})

    def _flows_open(self) -> int:
        return self.counts().get("flows_open", 0)

    def _handle_message(self, message: Message) -> None:
        self._gateway.handle_message(message)

    def _handle_event(self, event: AnyEvent) -> None:
        self._gateway.handle_event(event)

    def _perform(self, action: Resolve) -> None:
        self._tasks.start(self._resolve(action), name="look-up")

    async def _resolve(self, wanted: Resolve) -> None:
        addresses: frozenset[IpAddress] | None
        self._forwarded += 1
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                addresses = await self._lookup.addresses(wanted.name)
        except (TimeoutError, NoServerHelped):
            self._unanswered += 1
            addresses = None
        self._gateway.handle_resolved(wanted.lookup_id, addresses)
        self._pump()

    def _bequeath(self) -> msgspec.Struct:
        return self._gateway.bequeath(self._engine.translated_flows())

    async def _set_up_host(self) -> None:
        await super()._set_up_host()
        log.info("forwarding and masquerading are set up")

    async def _serve(self, wanted: Configure) -> None:
        await self._listener.listen(self._tun.families.of((wanted.tun.ipv4, wanted.tun.ipv6)))

    async def _answer_query(self, query: Query) -> bytes | None:
        """Forward to the host's name servers, in order."""
        try:
            message = parse_query(query.payload)
        except Malformed:
            return None
        self._forwarded += 1
        try:
            answer = await self._servers.ask(message, query.payload, is_udp=query.is_udp)
        except NoServerHelped:
            self._unanswered += 1
            return encode_answer(answer_to(message, rcode=SERVFAIL), is_udp=query.is_udp)
        return cut_to_udp(answer, limit=MAX_UDP_ANSWER) if query.is_udp else answer

    def _handle_network_change(self) -> None:
        # Relays and peers notice the new address themselves; the old control channel would time out late.
        log.info("network change: reconnecting to the portal")
        self._portal.reconnect()

    def _handle_clock_step(self, clock: ClockOffset) -> None:
        self._gateway.handle_clock_step(clock)
