"""Addresses of names: hosts file first, then the host's name servers over sockets that bypass the tunnel.

The gateway resolves DNS resources with it, the client finds its portal. A cache of 512 answers honours TTLs (data-plane §5.4).
Names are taken as absolute; search domains are the asking program's business.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.net.dns_exchange import DIRECT, Route, exchange
from wardgate.net.host_text import read_host_text

CACHE_ENTRIES: Final = 512
TRY_S: Final = 2.0  # per server and try
TRIES: Final = 2

log = logging.getLogger(__name__)


class NameLookup:
    """Looks names up as the host would. `name_servers` is asked at each look-up, since a host's servers change."""

    def __init__(
        self,
        name_servers: Callable[[], Awaitable[tuple[IpAddress, ...]]],
        *,
        hosts: Path = Path("/etc/hosts"),
        route: Route = DIRECT,
    ) -> None:
        self._name_servers = name_servers
        self._hosts = hosts
        self._route = route
        self._cache = dns.resolver.LRUCache(CACHE_ENTRIES)

    async def addresses(self, name: str) -> frozenset[IpAddress]:
        """A and AAAA of a name; a family that cannot be looked up counts as having none."""
        try:
            return frozenset({parse_ip(name.strip("[]"))})
        except ValueError:
            pass
        listed = self._listed(name)
        if listed:
            return listed
        try:
            absolute = dns.name.from_text(name)
        except dns.exception.DNSException:
            return frozenset()
        ipv4, ipv6 = await asyncio.gather(
            self._query(absolute, dns.rdatatype.A), self._query(absolute, dns.rdatatype.AAAA)
        )
        return ipv4 | ipv6

    def _listed(self, name: str) -> frozenset[IpAddress]:
        wanted = name.lower().removesuffix(".")
        try:
            lines = read_host_text(self._hosts).splitlines()
        except OSError:
            return frozenset()
        found: set[IpAddress] = set()
        for line in lines:
            address, *names = line.partition("#")[0].split() or [""]
            if wanted in map(str.lower, names):
                try:
                    found.add(parse_ip(address))
                except ValueError:
                    continue
        return frozenset(found)

    async def _query(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> frozenset[IpAddress]:
        key = (name, rdtype, dns.rdataclass.IN)
        answer = self._cache.get(key)
        if answer is None:
            answer = await self._ask(name, rdtype)
            if answer is None:
                return frozenset()
            self._cache.put(key, answer)
        return frozenset(parse_ip(record.address) for record in answer.rrset or ())

    async def _ask(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.resolver.Answer | None:
        query = dns.message.make_query(name, rdtype)
        servers = await self._name_servers()
        for server in servers * TRIES:
            try:
                response = await self._exchange(query, server)
                return dns.resolver.Answer(name, rdtype, dns.rdataclass.IN, response)
            except dns.resolver.NXDOMAIN:
                return None
            except (OSError, dns.exception.DNSException, EOFError) as error:
                log.debug("a name server did not help", extra={"error": str(error) or type(error).__name__})
        return None

    async def _exchange(self, query: dns.message.Message, server: IpAddress) -> dns.message.QueryMessage:
        encoded = query.to_wire()
        response = dns.message.from_wire(
            await exchange(encoded, server, is_udp=True, route=self._route, timeout_s=TRY_S),
            ignore_trailing=True,
        )
        if response.flags & dns.flags.TC:
            response = dns.message.from_wire(
                await exchange(encoded, server, is_udp=False, route=self._route, timeout_s=TRY_S)
            )
        if not isinstance(response, dns.message.QueryMessage) or not query.is_response(response):
            raise OSError("the name server answered something else")
        return response
