"""Names of devices in dynamic pools: programs' queries for them, and what the portal answers (data-plane §4.5).

A and AAAA of a name that a pool covers are answered from what the portal has resolved, with TTL 1 s; a name that it
has not resolved yet is asked for, and the query waits for 5 s. Other types of such a name are empty. Which device a
name means, and whether there is one, is the portal's to say, for each client by what it may use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import dns.message
import dns.rcode
import dns.rdatatype

from wardgate.client.pool_table import DeviceAddresses, DeviceTarget, PoolTable
from wardgate.client.queries import Queries
from wardgate.dns.stub_resolver import answer_to, text_of
from wardgate.model.ids import ResourceId
from wardgate.wire import messages as m

WAIT_S: Final = 5.0  # data-plane §4.5
MAX_WAITING: Final = 256  # ours; programs choose the names, the one that has waited longest fails

_FAMILIES: Final = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}


class PoolNames:
    """Answers queries for names in dynamic pools."""

    def __init__(
        self,
        queries: Queries,
        pools: PoolTable,
        *,
        send: Callable[[m.Message], None],
        is_joined: Callable[[], bool],
    ) -> None:
        """`send` queues a message to the portal, which is connected while `is_joined`."""
        self._queries: Final = queries
        self._pools: Final = pools
        self._send: Final = send
        self._is_joined: Final = is_joined
        self._waiting: dict[_Question, _Waiting] = {}

    def handle_query(self, query_id: int, message: dns.message.Message, *, now: float) -> bool:
        """Take an open query if a pool covers its name; return whether it does."""
        name = text_of(message.question[0].name)
        pool_id = self._pools.pool_of_name(name)
        if pool_id is None:
            return False
        family = _FAMILIES.get(message.question[0].rdtype)
        known = self._pools.resolved(pool_id, name)
        if family is None:
            self._queries.answer(query_id, answer_to(message))
        elif known is not None:
            self._answer(query_id, message, known)
        elif not self._is_joined():
            self._queries.fail(query_id)
        else:
            self._wait(_Question(pool_id, name, family), _Waiting(query_id, message, now + WAIT_S))
        return True

    def handle_resolved(self, message: m.DevicePoolDomainResolved) -> tuple[DeviceTarget, ...]:
        """Answer who has asked for a name; return what its pool does not lead to any more."""
        name = message.domain.lower()
        addresses = DeviceAddresses(message.ipv4, message.ipv6)
        ended = self._pools.handle_resolved(message.resource_id, name, addresses)
        for waiting in self._take(message.resource_id, name):
            if ended is None:
                self._queries.fail(waiting.query_id)
            else:
                self._answer(waiting.query_id, waiting.message, addresses)
        return ended or ()

    def handle_failed(self, message: m.DevicePoolDomainResolutionFailed) -> None:
        """Tell who has asked that there is no such name, or that nobody knows."""
        rcode = dns.rcode.NXDOMAIN if message.reason == "not_found" else dns.rcode.SERVFAIL
        for waiting in self._take(message.resource_id, message.domain.lower()):
            self._queries.fail(waiting.query_id, rcode)

    def fail_all_waiting(self) -> None:
        """The portal is out of reach: it will not answer."""
        for question in list(self._waiting):
            self._queries.fail(self._waiting.pop(question).query_id)

    def forget_all(self) -> None:
        """Every open query has been answered by somebody else."""
        self._waiting.clear()

    def handle_timeout(self, *, now: float) -> None:
        for question, waiting in list(self._waiting.items()):
            if waiting.until > now:
                break  # they are in the order in which they began to wait
            del self._waiting[question]
            self._queries.fail(waiting.query_id)

    def poll_timeout(self) -> float | None:
        first = next(iter(self._waiting.values()), None)
        return None if first is None else first.until

    def _wait(self, question: "_Question", waiting: "_Waiting") -> None:
        """Ask the portal. Who asks the same once more does it instead of the former, who has given up."""
        is_asked = any(question._replace(family=family) in self._waiting for family in _FAMILIES.values())
        former = self._waiting.pop(question, None)
        if former is not None:
            self._queries.drop(former.query_id)
        elif len(self._waiting) >= MAX_WAITING:
            self._queries.fail(self._waiting.pop(next(iter(self._waiting))).query_id)
        self._waiting[question] = waiting
        if not is_asked:
            self._send(m.ResolveDevicePoolDomain(question.pool_id, question.name))

    def _take(self, pool_id: ResourceId, name: str) -> list["_Waiting"]:
        questions = (_Question(pool_id, name, family) for family in _FAMILIES.values())
        return [self._waiting.pop(question) for question in questions if question in self._waiting]

    def _answer(self, query_id: int, message: dns.message.Message, addresses: DeviceAddresses) -> None:
        rdtype = message.question[0].rdtype
        address = addresses.ipv4 if rdtype == dns.rdatatype.A else addresses.ipv6
        self._queries.answer(query_id, answer_to(message, rdtype, str(address)))


class _Question(NamedTuple):
    pool_id: ResourceId
    name: str
    family: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    query_id: int
    message: dns.message.Message
    until: float
