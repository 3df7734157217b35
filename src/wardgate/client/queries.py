"""DNS queries of the host's programs, from their arrival at a sentinel to their answer (data-plane §4.5).

What a name means is decided elsewhere; here, queries wait for name servers and gateways, and answers of
upstreams are cached.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

import dns.message
import dns.rcode

from wardgate.connect import log_fields as fields
from wardgate.dns.answer_cache import AnswerCache
from wardgate.dns.plain_query import PlainQuery, read_answer
from wardgate.dns.recent_answers import RecentAnswers
from wardgate.dns.stub_resolver import (
    Malformed,
    answer_to,
    cut_to_udp,
    encode_answer,
    parse_query,
)
from wardgate.dns.upstream_answers import Unparsed, Unusable, answer_of
from wardgate.dns.upstreams import Do53, Doh, Sentinels, Upstream, choose_upstreams
from wardgate.model.addresses import IpAddress
from wardgate.model.ids import ResourceId
from wardgate.wire import messages as m

MAX_SITE_QUERIES: Final = 128  # waiting per resource for its authorization (data-plane §4.3)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a query of a program. A `payload` of None means silence: the program has retried by now."""

    query_id: int
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class AskUpstream:
    """Forward a query; answer with `handle_answer`.

    `in_tunnel`: from our tunnel address, without the firewall mark.
    """

    query_id: int
    upstream: Upstream
    payload: bytes
    is_udp: bool
    in_tunnel: bool


@dataclass(frozen=True, slots=True)
class AskGateway:
    """Forward a query to the gateway's DNS server, from our tunnel address; answer with `handle_answer`."""

    query_id: int
    server: IpAddress
    payload: bytes
    is_udp: bool


QueryAction = Answer | AskUpstream | AskGateway


class Queries:
    """Open queries by id; each ends with exactly one `Answer`."""

    def __init__(self, emit: Callable[[QueryAction], None], recent: RecentAnswers) -> None:
        """`emit` queues an action; `recent` gets to know the answers that need no upstream."""
        self._emit: Final = emit
        self._recent: Final = recent
        self._cache = AnswerCache()
        self._sentinels = Sentinels()
        self._open: dict[int, _Query] = {}
        self._waiting: dict[ResourceId, deque[int]] = {}
        self._forgotten = 0

    @property
    def sentinels(self) -> tuple[IpAddress, ...]:
        """Addresses of the resolver, in order of preference; none before the first interface."""
        return tuple(self._sentinels.mapping)

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The servers behind the sentinels: addresses, and URLs of DNS over HTTPS."""
        return tuple(
            one.url if isinstance(one, Doh) else str(one.address) for one in self._sentinels.mapping.values()
        )

    def set_upstreams(self, interface: m.ClientInterface, *, system: tuple[IpAddress, ...]) -> None:
        """Choose the name servers behind the sentinels; `system` are the host's own."""
        legacy = (_host_of(upstream.address) for upstream in interface.upstream_dns)
        upstreams = choose_upstreams(
            do53=[upstream.ip for upstream in interface.upstream_do53] or legacy,
            doh=[upstream.url for upstream in interface.upstream_doh],
            system=system,
        )
        if set(upstreams) != set(self._sentinels.mapping.values()):
            self.forget_answers()
        self._sentinels.update(upstreams)

    def begin(
        self, query_id: int, payload: bytes, *, sentinel: IpAddress, is_udp: bool, now: float
    ) -> dns.message.Message | None:
        """Return the parsed query, or None if it is done already: answered from the cache, or malformed."""
        try:
            message = parse_query(payload)
        except Malformed as error:
            log.debug("query dropped", extra={fields.REASON: str(error)})
            self._emit(Answer(query_id, None))
            return None
        self._open[query_id] = _Query(payload, sentinel, is_udp, self._forgotten, message)
        cached = self._cache.lookup(message, now=now)
        if cached is None:
            return message
        self.answer(query_id, cached.message, until=cached.until)
        return None

    def forward(
        self,
        query_id: int,
        payload: bytes,
        query: PlainQuery,
        *,
        sentinel: IpAddress,
        is_udp: bool,
        carries: Callable[[IpAddress], bool],
    ) -> bool:
        """Instead of `begin` and `ask_upstream`, for a name that is nobody's here; False: do `begin`, the answer may
        be in the cache.
        """
        if self._cache.knows(query):
            return False
        self._open[query_id] = _Query(payload, sentinel, is_udp, self._forgotten, plain=query)
        self.ask_upstream(query_id, carries=carries)
        return True

    def answer(
        self, query_id: int, message: dns.message.Message, *, name: str | None = None, until: float = inf
    ) -> None:
        """Finish a query by what this host knows; `name`: the resource name that it was about, `until`: when
        the answer would first read differently.
        """
        query = self._open[query_id]
        encoded = encode_answer(message, is_udp=query.is_udp)
        self._recent.remember(query.payload, encoded, is_udp=query.is_udp, name=name, until=until)
        self._end(query_id, encoded)

    def ask_upstream(self, query_id: int, *, carries: Callable[[IpAddress], bool]) -> None:
        """Forward a query to the name server behind its sentinel, in the tunnel if that `carries` it."""
        query = self._open[query_id]
        upstream = self._sentinels.mapping.get(query.sentinel)
        if upstream is None:
            self.fail(query_id)
            return
        in_tunnel = isinstance(upstream, Do53) and upstream.is_custom and carries(upstream.address)
        self._emit(AskUpstream(query_id, upstream, query.payload, query.is_udp, in_tunnel))

    def ask_gateway(self, query_id: int, *, ipv4: IpAddress, ipv6: IpAddress) -> None:
        """Forward a query to a gateway, at its tunnel address of the sentinel's family."""
        query = self._open[query_id]
        server = ipv4 if query.sentinel.version == 4 else ipv6
        self._emit(AskGateway(query_id, server, query.payload, query.is_udp))

    def wait_for(self, resource_id: ResourceId, query_id: int) -> None:
        """Keep a query until a gateway serves the resource; if too many wait, the oldest one fails."""
        waiting = self._waiting.setdefault(resource_id, deque())
        waiting.append(query_id)
        if len(waiting) > MAX_SITE_QUERIES:
            self.fail(waiting.popleft())

    def take_waiting(self, resource_id: ResourceId) -> tuple[int, ...]:
        """Remove and return the queries that waited for the resource."""
        return tuple(self._waiting.pop(resource_id, ()))

    def fail_waiting(self, resource_id: ResourceId) -> None:
        for query_id in self.take_waiting(resource_id):
            self.fail(query_id)

    def fail_all_waiting(self) -> None:
        for resource_id in list(self._waiting):
            self.fail_waiting(resource_id)

    def fail_all(self) -> None:
        self._waiting.clear()
        for query_id in list(self._open):
            self.fail(query_id)

    def fail(self, query_id: int, rcode: dns.rcode.Rcode = dns.rcode.SERVFAIL) -> None:
        """Finish a query with an answer that nobody is to remember."""
        query = self._open[query_id]
        self._end(query_id, encode_answer(answer_to(query.parsed(), rcode=rcode), is_udp=query.is_udp))

    def drop(self, query_id: int) -> None:
        """End a query without an answer: the program asks once more meanwhile."""
        self._end(query_id, None)

    def handle_answer(self, query_id: int, payload: bytes | None, *, timed_out: bool, now: float) -> None:
        """Finish an `AskUpstream` or `AskGateway`; None if it failed."""
        query = self._open.get(query_id)
        if query is None:
            return
        if payload is None and timed_out and query.is_udp:
            self._end(query_id, None)  # the program has retried by now
            return
        if payload is None:
            self.fail(query_id)
            return
        ttl_s = None if query.plain is None else read_answer(payload, query.plain)
        may_keep = query.forgotten == self._forgotten
        try:
            if query.plain is not None and ttl_s is not None:
                if may_keep:
                    self._cache.store_unread(payload, query=query.plain, ttl_s=ttl_s, now=now)
            else:
                message = query.parsed()
                answer = answer_of(payload, message)
                if may_keep:
                    self._cache.store(answer, query=message, now=now)
        except Unparsed as error:
            log.debug("an answer is passed on unread", extra={fields.REASON: str(error)})
        except Unusable as error:
            log.debug("an answer is of no use", extra={fields.REASON: str(error)})
            self.fail(query_id)
            return
        self._end(query_id, cut_to_udp(payload) if query.is_udp else payload)

    def forget_answers(self) -> None:
        """Names may resolve differently now; what has been asked so far is answered, and not kept."""
        self._forgotten += 1
        self._cache.clear()
        self._recent.clear()

    def _end(self, query_id: int, payload: bytes | None) -> None:
        del self._open[query_id]
        self._emit(Answer(query_id, payload))


@dataclass(frozen=True, slots=True)
class _Query:
    """With a `message`, or `plain` and only parsed where that is needed. `forgotten`: how often answers had been
    forgotten when it came.
    """

    payload: bytes
    sentinel: IpAddress
    is_udp: bool
    forgotten: int
    message: dns.message.Message | None = None
    plain: PlainQuery | None = None

    def parsed(self) -> dns.message.Message:
        return parse_query(self.payload) if self.message is None else self.message


def _host_of(address: str) -> str:
    """The host of `192.0.2.53:53` or `[2001:db8::53]:53`."""
    return address.rpartition(":")[0].strip("[]")
