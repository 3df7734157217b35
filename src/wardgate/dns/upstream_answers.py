"""What a name server's answer is worth, and which servers have failed of late (RFC 2308 §7, RFC 9520).

Only NOERROR and NXDOMAIN end a search. Everything else, from SERVFAIL to bytes that are no message, is a
failure of that one server: the next is asked, and this one not again about the same question for `FAILURE_S`.
A server that stays silent is asked last meanwhile, whatever the question.
"""

import struct
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from wardgate.dns.message_cost import TooCostly, check_cost
from wardgate.model.addresses import IpAddress

FAILURE_S: Final = (
    5.0  # RFC 9520 §3.2 allows 1 s to 5 min; short, because a search that ends here is a user's
)
MAX_FAILURES: Final = 512  # remembered; the oldest goes first
MAX_TTL_S: Final = 3600.0  # ours: however long a zone says
MAX_NEGATIVE_TTL_S: Final = 300.0  # ours; RFC 2308 §5 allows up to three hours
MAX_ADDRESSES: Final = 64  # of one answer; ours

Question = tuple[dns.name.Name, dns.rdatatype.RdataType]


class Unusable(Exception):
    """The server did not help; the reason is for a log."""


class Unparsed(Unusable):
    """A message that would cost too much to parse; it may be passed on."""


def parse_message(
    datagram: bytes, *, ignore_trailing: bool = False, question_only: bool = False
) -> dns.message.Message:
    """Parse what a stranger sent, or only its header and question.

    Raises:
        Unparsed: it has more records or longer names than are parsed.
        Unusable: it is no DNS message.
    """
    try:
        if not question_only:
            check_cost(datagram)
        return dns.message.from_wire(datagram, ignore_trailing=ignore_trailing, question_only=question_only)
    except TooCostly as error:
        raise Unparsed(str(error)) from error
    except (dns.exception.DNSException, ValueError, struct.error, LookupError) as error:
        raise Unusable(str(error) or type(error).__name__) from error


def answer_of(datagram: bytes, query: dns.message.Message) -> dns.message.Message:
    """Parse an answer to this query, whatever it says.

    Raises:
        Unparsed: it is one, but would cost too much.
        Unusable: no message, or one about something else.
    """
    try:
        message = parse_message(datagram, ignore_trailing=True)
    except Unparsed:
        _expect_answer(parse_message(datagram, question_only=True), query)
        raise
    _expect_answer(message, query)
    return message


def _expect_answer(message: dns.message.Message, query: dns.message.Message) -> None:
    if not query.is_response(message):
        raise Unusable("the name server answered something else")


def final_answer_of(datagram: bytes, query: dns.message.Message) -> dns.message.Message:
    """Parse an answer that ends the search.

    Raises:
        Unparsed: it answers, with more than is parsed.
        Unusable: ask the next server.
    """
    message = answer_of(datagram, query)
    if message.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        raise Unusable(f"the name server answered {dns.rcode.to_text(message.rcode())}")
    if message.question != query.question:
        raise Unusable("the name server answered without the question")
    return message


@dataclass(frozen=True, slots=True)
class FoundAddresses:
    """Addresses at the end of the chain, none if there is no such name or none of this type; `ttl_s` 0: not
    to be kept.
    """

    addresses: tuple[str, ...]
    ttl_s: float


def addresses_of(answer: dns.message.Message) -> FoundAddresses:
    """Follow aliases to A or AAAA records.

    Raises:
        Unusable: the aliases go round, or contradict the response code.
    """
    if not isinstance(answer, dns.message.QueryMessage):
        raise Unusable("not an answer to a query")
    try:
        found = answer.resolve_chaining()
    except (dns.exception.DNSException, ValueError, LookupError) as error:
        raise Unusable(str(error) or type(error).__name__) from error
    if found.answer is not None:
        listed = tuple(record.address for record in list(found.answer)[:MAX_ADDRESSES])
        return FoundAddresses(listed, min(float(found.minimum_ttl), MAX_TTL_S))
    is_denied_by_zone = any(rrset.rdtype == dns.rdatatype.SOA for rrset in answer.authority)
    return FoundAddresses((), min(float(found.minimum_ttl), MAX_NEGATIVE_TTL_S) if is_denied_by_zone else 0.0)


class ServerFailures:
    """Failures of name servers, by server and question, and silences by server."""

    def __init__(self) -> None:
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def in_order(
        self, servers: Iterable[IpAddress], question: Question, *, now: float
    ) -> tuple[IpAddress, ...]:
        """Those worth asking, in the host's order, but the silent ones last."""
        asked = [server for server in dict.fromkeys(servers) if not self._has((server, question), now)]
        return tuple(sorted(asked, key=lambda server: self._has(server, now)))

    def handle_failure(self, server: IpAddress, question: Question, *, now: float) -> None:
        """The server answered, but not usefully."""
        self._note((server, question), now)

    def handle_silence(self, server: IpAddress, *, now: float) -> None:
        """The server did not answer in time, or could not be reached."""
        self._note(server, now)

    def handle_answer(self, server: IpAddress) -> None:
        self._until.pop(server, None)

    def _has(self, key: Hashable, now: float) -> bool:
        return self._until.get(key, now) > now

    def _note(self, key: Hashable, now: float) -> None:
        self._until[key] = now + FAILURE_S
        self._until.move_to_end(key)
        if len(self._until) > MAX_FAILURES:
            self._until.popitem(last=False)
