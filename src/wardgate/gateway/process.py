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
from wardgate.peer.machine import Configure
from wardgate.peer.status import Status
from wardgate.peer.tunnel_process import TunnelParts, TunnelProcess, clock_offset
from wardgate.wire.messages import Message

LOOKUP_TIMEOUT_S: Final = 10.0  # A and AAAA together (data-plane §5.4)
MAX_UDP_ANSWER: Final = 1200  # bytes, in-tunnel DNS (data-plane §5.7)

log = logging.getLogger(__name__)


class GatewayProcess(TunnelProcess[Resolve]):
    """Runs a gateway until it is told to stop."""

    def __init__(self, parts: TunnelParts) -> None:
        clock = clock_offset(parts.engine)
        self._gateway = Gateway(parts.engine, clock=clock, prints_flows=parts.flow_logs.prints)
        self._servers = NameServers(parts.host_dns.system_resolvers)
        self._lookup = NameLookup(parts.host_dns.system_resolvers)
        super().__init__(parts, self._gateway, dns_port=GATEWAY_DNS_PORT)

    def status(self) -> Status:
        """See `TunnelProcess`."""
        shown = self._shown("gateway", self._tun.name)
        return msgspec.structs.replace(shown, grants=self._gateway.shown_grants())

    def _handle_message(self, message: Message) -> None:
        self._gateway.handle_message(message)

    def _handle_event(self, event: AnyEvent) -> None:
        self._gateway.handle_event(event)

    def _perform(self, action: Resolve) -> None:
        self._tasks.start(self._resolve(action), name="look-up")

    async def _resolve(self, wanted: Resolve) -> None:
        addresses: frozenset[IpAddress] | None
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                addresses = await self._lookup.addresses(wanted.name)
        except (TimeoutError, NoServerHelped):
            addresses = None
        self._gateway.handle_resolved(wanted.lookup_id, addresses)
        self._pump()

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
        try:
            answer = await self._servers.ask(message, query.payload, is_udp=query.is_udp)
        except NoServerHelped:
            return encode_answer(answer_to(message, rcode=SERVFAIL), is_udp=query.is_udp)
        return cut_to_udp(answer, limit=MAX_UDP_ANSWER) if query.is_udp else answer

    def _handle_network_change(self) -> None:
        # Relays and peers notice the new address themselves; the old control channel would time out late.
        log.info("network change: reconnecting to the portal")
        self._portal.reconnect()

    def _handle_clock_step(self, clock: ClockOffset) -> None:
        self._gateway.handle_clock_step(clock)
