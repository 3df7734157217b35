"""Addresses of names: hosts file first, then the host's name servers over sockets that bypass the tunnel.

The gateway resolves DNS resources with it and forwards what clients ask at the site; the client finds its
portal. A cache of 512 answers honours TTLs (data-plane §5.4). Names are taken as absolute; search domains are
the asking program's business.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype

from wardgate.dns.upstream_answers import (
    FoundAddresses,
    Question,
    ServerFailures,
    Unparsed,
    Unusable,
    addresses_of,
    final_answer_of,
)
from wardgate.model.addresses import SENTINEL_IPV4, SENTINEL_IPV6, IpAddress, parse_ip
from wardgate.model.host_name import ascii_name
from wardgate.net.dns_asker import DnsAsker
from wardgate.net.dns_exchange import DIRECT, Route, exchange
from wardgate.net.host_text import read_host_text

CACHE_ENTRIES: Final = 512
TRY_S: Final = 2.0  # per server and try
TRIES: Final = 2

log = logging.getLogger(__name__)


class NoServerHelped(OSError):
    """No name server gave an answer that ends the search."""


class NameServers:
    """The host's name servers, asked one after the other.

    `addresses` is called at each search, since a host's servers change.
    """

    def __init__(
        self, addresses: Callable[[], Awaitable[tuple[IpAddress, ...]]], *, route: Route = DIRECT
    ) -> None:
        self._addresses = addresses
        self._route = route
        self._asker = DnsAsker(timeout_s=TRY_S)
        self._failures = ServerFailures()

    async def ask(self, query: dns.message.Message, payload: bytes, *, is_udp: bool) -> bytes:
        """Return the first answer that ends the search, as it came.

        Args:
            query: has one question.
            payload: how it goes out.

        Raises:
            NoServerHelped: none did.
        """
        asked = query.question[0]
        question = (asked.name, asked.rdtype)
        servers = self._failures.in_order(_without_sentinels(await self._addresses()), question, now=_now())
        for _ in range(TRIES):
            # Only silence is worth another try: a datagram may have been lost.
            silent: list[IpAddress] = []
            for server in servers:
                try:
                    return await self._ask_one(payload, query, server, is_udp=is_udp)
                except Unusable as error:
                    self._failures.handle_failure(server, question, now=_now())
                    log.debug("a name server did not help", extra={"error": str(error)})
                except OSError as error:
                    silent.append(server)
                    self._failures.handle_silence(server, now=_now())
                    log.debug(
                        "a name server did not help", extra={"error": str(error) or type(error).__name__}
                    )
            servers = tuple(silent)
        raise NoServerHelped(f"no name server helped with {asked.name.to_text(omit_final_dot=True)}")

    async def _ask_one(
        self, payload: bytes, query: dns.message.Message, server: IpAddress, *, is_udp: bool
    ) -> bytes:
        answer = await self._exchange(payload, server, is_udp=is_udp)
        with contextlib.suppress(Unparsed):  # whoever forwards it need not read it
            final_answer_of(answer, query)
        self._failures.handle_answer(server)
        return answer

    async def _exchange(self, query: bytes, server: IpAddress, *, is_udp: bool) -> bytes:
        if is_udp:
            return await self._asker.exchange(query, server, route=self._route)
        return await exchange(query, server, route=self._route, timeout_s=TRY_S)


class NameLookup:
    """Looks names up as the host would."""

    def __init__(
        self,
        name_servers: Callable[[], Awaitable[tuple[IpAddress, ...]]],
        *,
        hosts: Path = Path("/etc/hosts"),
        route: Route = DIRECT,
    ) -> None:
        self._servers = NameServers(name_servers, route=route)
        self._hosts = hosts
        self._cache: OrderedDict[Question, tuple[frozenset[IpAddress], float]] = OrderedDict()

    async def addresses(self, name: str) -> frozenset[IpAddress]:
        """A and AAAA of a name; a family that cannot be looked up counts as having none if the other has some.

        Raises:
            NoServerHelped: nothing was found, and a server that was not heard may know more.
        """
        try:
            return frozenset({parse_ip(name.strip("[]"))})
        except ValueError:
            pass
        try:
            compared = ascii_name(name)
            absolute = dns.name.from_text(compared)
        except (dns.exception.DNSException, ValueError):
            return frozenset()
        listed = self._listed({name.lower().removesuffix("."), compared})
        if listed:
            return listed
        families = await asyncio.gather(
            self._query((absolute, dns.rdatatype.A)),
            self._query((absolute, dns.rdatatype.AAAA)),
            return_exceptions=True,
        )
        found: frozenset[IpAddress] = frozenset()
        failure: BaseException | None = None
        for family in families:
            if isinstance(family, BaseException):
                failure = family
            else:
                found |= family
        if failure is not None and not (found and isinstance(failure, OSError)):
            raise failure
        return found

    def _listed(self, wanted: set[str]) -> frozenset[IpAddress]:
        try:
            lines = read_host_text(self._hosts).splitlines()
        except OSError:
            return frozenset()
        found: set[IpAddress] = set()
        for line in lines:
            address, *names = line.partition("#")[0].split() or [""]
            if not wanted.isdisjoint(map(str.lower, names)):
                try:
                    found.add(parse_ip(address))
                except ValueError:
                    continue
        return frozenset(found)

    async def _query(self, question: Question) -> frozenset[IpAddress]:
        known = self._cache.get(question)
        if known is not None and known[1] > _now():
            self._cache.move_to_end(question)
            return known[0]
        found = await self._ask(question)
        addresses = frozenset(map(parse_ip, found.addresses))
        if found.ttl_s > 0:
            self._cache[question] = (addresses, _now() + found.ttl_s)
            self._cache.move_to_end(question)
            if len(self._cache) > CACHE_ENTRIES:
                self._cache.popitem(last=False)
        return addresses

    async def _ask(self, question: Question) -> FoundAddresses:
        query = dns.message.make_query(*question)
        payload = query.to_wire()
        try:
            answer = final_answer_of(await self._servers.ask(query, payload, is_udp=True), query)
            if answer.flags & dns.flags.TC:
                answer = final_answer_of(await self._servers.ask(query, payload, is_udp=False), query)
            return addresses_of(answer)
        except Unusable as error:
            raise NoServerHelped(str(error)) from error


def _without_sentinels(servers: tuple[IpAddress, ...]) -> tuple[IpAddress, ...]:
    """Leave out a client's resolver, which may be about to ask us, unless the host has no other."""
    others = tuple(
        server
        for server in servers
        if server not in (SENTINEL_IPV4 if server.version == 4 else SENTINEL_IPV6)
    )
    return others or servers


def _now() -> float:
    return asyncio.get_running_loop().time()
