"""The resolver behind the sentinels: what the client answers itself, what the site answers, what goes to an upstream.

| query | outcome |
|---|---|
| not one question, a response, or not DNS at all | `Malformed`: no answer |
| use-application-dns.net, any type | NXDOMAIN: browsers then leave their own DNS over HTTPS off |
| A, AAAA of a name that a resource matches | its proxy addresses, TTL 1 s; empty if no matching resource has
the family |
| HTTPS of such a name | empty, so that A and AAAA are asked |
| SRV, TXT of such a name | `AskSite` of the most specific resource |
| PTR of an assigned proxy address | the name, TTL 1 s |
| everything else | `Recurse` |

Source: data-plane §4.5. Messages are dnspython's; synthesised ones carry no OPT record. Absent on purpose: transport,
cache and upstreams, which stand beside this module.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from wardgate.dns.plain_query import PlainQuery
from wardgate.dns.proxy_addresses import Proxies, ProxyAddresses
from wardgate.dns.upstream_answers import Unusable, parse_message
from wardgate.model.ids import ResourceId
from wardgate.model.name_pattern import NamePattern
from wardgate.model.resources import IpStack

PROXY_TTL_S: Final = 1  # data-plane §4.5: every query refreshes the gateway's view of the name
MAX_UDP_ANSWER: Final = 1212  # bytes: 1280 less IPv6, UDP and some room (data-plane §4.5)
MAX_MATCHED_NAMES: Final = 4096  # whose rules are remembered; ours
CANARY: Final = dns.name.from_text("use-application-dns.net.")
_CANARY_TEXT: Final = "use-application-dns.net"
_HEADER: Final = 12  # bytes
_MAX_LABEL: Final = 63  # bytes


@dataclass(frozen=True, slots=True)
class NameRule:
    """The names that one DNS resource covers."""

    resource_id: ResourceId
    pattern: NamePattern
    ip_stack: IpStack = IpStack.DUAL

    @property
    def has_ipv4(self) -> bool:
        return self.ip_stack is not IpStack.IPV6_ONLY

    @property
    def has_ipv6(self) -> bool:
        return self.ip_stack is not IpStack.IPV4_ONLY

    def addresses(self, proxies: Proxies) -> tuple[str, ...]:
        """Those of a name's proxy addresses that lead to this resource: 8, or 4 of a single family."""
        return tuple(
            map(str, (*(proxies.ipv4 if self.has_ipv4 else ()), *(proxies.ipv6 if self.has_ipv6 else ())))
        )


@dataclass(frozen=True, slots=True)
class Answered:
    """Answer to send. `name`: the resource name it was about, whose translations are due for renewal, if any."""

    message: dns.message.Message
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AskSite:
    """Forward the query unchanged to the DNS server of the gateway that serves this resource."""

    resource_id: ResourceId


@dataclass(frozen=True, slots=True)
class Recurse:
    """Forward the query unchanged to the upstream behind the sentinel."""


Resolution = Answered | AskSite | Recurse


class Malformed(Exception):
    """The datagram is no query with exactly one question; the sender's fault, drop it without an answer."""


class StubResolver:
    """Matches names against the current DNS resources' patterns and numbers those that match."""

    def __init__(self, proxies: ProxyAddresses) -> None:
        self._proxies = proxies
        self._rules: tuple[NameRule, ...] = ()
        # With many resources the search costs more than all else that a query does.
        self._matching = lru_cache(MAX_MATCHED_NAMES)(self._match)

    def set_rules(self, rules: tuple[NameRule, ...]) -> None:
        """Replace the rules; most specific pattern first, then greater id."""
        self._rules = rules
        self._matching.cache_clear()

    def matching(self, name: str) -> tuple[NameRule, ...]:
        """The rules that match a name (lower case, no trailing dot), most specific first."""
        return self._matching(name)

    def _match(self, name: str) -> tuple[NameRule, ...]:
        return tuple(rule for rule in self._rules if rule.pattern.matches(name))

    def leaves_to_upstream(self, query: PlainQuery) -> bool:
        """Whether `resolve` would say `Recurse`, of what can be told from the name alone."""
        if query.rdtype == dns.rdatatype.PTR or query.name == _CANARY_TEXT:
            return False
        return not self.matching(query.name)

    def resolve(self, query: dns.message.Message) -> Resolution:
        """Decide on a query that `parse_query` returned."""
        question = query.question[0]
        if question.name == CANARY:
            return Answered(answer_to(query, rcode=dns.rcode.NXDOMAIN))
        if question.rdtype == dns.rdatatype.PTR:
            return self._resolve_reverse(query)
        name = text_of(question.name)
        matching = self.matching(name)
        if not matching:
            return Recurse()
        match question.rdtype:
            case dns.rdatatype.A:
                addresses = map(
                    str, self._proxies.assign(name).ipv4 if any(r.has_ipv4 for r in matching) else ()
                )
                return Answered(answer_to(query, dns.rdatatype.A, *addresses), name)
            case dns.rdatatype.AAAA:
                addresses = map(
                    str, self._proxies.assign(name).ipv6 if any(r.has_ipv6 for r in matching) else ()
                )
                return Answered(answer_to(query, dns.rdatatype.AAAA, *addresses), name)
            case dns.rdatatype.HTTPS:
                return Answered(answer_to(query), name)
            case dns.rdatatype.SRV | dns.rdatatype.TXT:
                return AskSite(matching[0].resource_id)
            case _:
                return Recurse()

    def _resolve_reverse(self, query: dns.message.Message) -> Resolution:
        try:
            address = ip_address(dns.reversename.to_address(query.question[0].name))
        except (dns.exception.DNSException, ValueError):
            return Recurse()
        name = self._proxies.name_of(address)
        if name is None:
            return Recurse()
        return Answered(answer_to(query, dns.rdatatype.PTR, f"{name}."))


def parse_query(datagram: bytes) -> dns.message.Message:
    """Parse one query.

    Raises:
        Malformed: not a DNS message, a response, or not exactly one question.
    """
    try:
        message = parse_message(datagram)
    except Unusable as error:
        raise Malformed(str(error)) from error
    if message.flags & dns.flags.QR or len(message.question) != 1:
        raise Malformed("not a query with exactly one question")
    if not _is_spelt_out(datagram):
        raise Malformed("the name is a pointer into the message")
    return message


def _is_spelt_out(datagram: bytes) -> bool:
    """Whether the name asked for has no pointers (RFC 1035 §4.1.4): name servers write it in full in their answers,
    which are told by it.
    """
    at = _HEADER
    while 0 < (length := datagram[at]) <= _MAX_LABEL:
        at += 1 + length
    return length == 0


def answer_to(
    query: dns.message.Message,
    rdtype: dns.rdatatype.RdataType | None = None,
    *records: str,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
) -> dns.message.Message:
    """Synthesise an answer: id, opcode and RD copied, QR set, AA, RA and AD clear, no OPT (data-plane §4.5)."""
    answer = dns.message.Message(id=query.id)
    answer.flags = dns.flags.QR | (query.flags & dns.flags.RD) | dns.opcode.to_flags(query.opcode())
    answer.set_rcode(rcode)
    answer.question = list(query.question)
    if rdtype is not None and records:
        owner = query.question[0].name
        answer.answer = [dns.rrset.from_text(owner, PROXY_TTL_S, dns.rdataclass.IN, rdtype, *records)]
    return answer


def encode_answer(answer: dns.message.Message, *, is_udp: bool) -> bytes:
    """Encode an answer; one that is too long, over UDP above `MAX_UDP_ANSWER` bytes, keeps header and
    question only, with TC set.
    """
    try:
        encoded = answer.to_wire(max_size=65535)
    except dns.exception.TooBig:  # what came from an upstream may compress worse here than there
        return _truncated(answer)
    return cut_to_udp(encoded) if is_udp else encoded


def cut_to_udp(answer: bytes, *, limit: int = MAX_UDP_ANSWER) -> bytes:
    """Pass an encoded answer on unchanged if it fits into UDP, else reduce it to header and question with TC set."""
    if len(answer) <= limit:
        return answer
    return _truncated(dns.message.from_wire(answer, question_only=True))


def _truncated(message: dns.message.Message) -> bytes:
    cut = dns.message.Message(id=message.id)
    cut.flags = message.flags | dns.flags.TC
    cut.question = list(message.question)
    return cut.to_wire()


def text_of(name: dns.name.Name) -> str:
    """A name as everything outside this package writes it: lower case, without the trailing dot."""
    return name.to_text(omit_final_dot=True).lower()
