"""Cache of upstream answers; TTLs count down in what it returns (data-plane §4.5).

An answer serves the question that it was given to: the same name, type and class, with the same DO, CD and
AD. Signatures that nobody requested, data that the upstream was told not to validate, and the flag that it did
validate belong to that question alone. A query with EDNS options (a client's network, a cookie) is between its
sender and the upstream.

It lives as long as the shortest-lived record of the whole chain: a CNAME is as much part of the answer as the
address behind it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from wardgate.dns.plain_query import CacheKey, PlainQuery
from wardgate.dns.upstream_answers import Unusable, parse_message

MIN_TTL_S: Final = 5  # data-plane §4.5: shorter-lived answers are not stored
MAX_ENTRIES: Final = 2048  # ours

MAX_TTL_S: Final = 86_400  # ours, RFC 8767 §4 has a week: however long a zone says
PAYLOAD: Final = 1232  # bytes, what our OPT record says of UDP


class AnswerCache:
    """At most `MAX_ENTRIES` answers, the least recently used goes first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[CacheKey, _Entry] = OrderedDict()

    def lookup(self, query: dns.message.Message, *, now: float) -> "Cached | None":
        """Answer a query with one question from the cache, with its id and remaining TTLs; None if it cannot."""
        key = _key(query)
        entry = None if query.options else self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.expires_at:
            del self._entries[key]
            return None
        if isinstance(entry.answer, bytes):
            try:
                entry.answer = parse_message(entry.answer, ignore_trailing=True)
            except Unusable:  # who asked first was to see it as it is; nobody else
                del self._entries[key]
                return None
        self._entries.move_to_end(key)
        age_s = int(now - entry.stored_at)
        answer = dns.message.Message(id=query.id)
        answer.flags = entry.answer.flags & ~dns.flags.RD | query.flags & dns.flags.RD
        answer.question = list(query.question)
        if query.edns >= 0:
            answer.use_edns(0, query.ednsflags & dns.flags.DO, PAYLOAD)
        for section, stored in zip(answer.sections[1:], entry.answer.sections[1:], strict=True):
            section.extend(_aged(rrset, age_s) for rrset in stored)
        return Cached(answer, until=min(entry.stored_at + age_s + 1, entry.expires_at))

    def store(
        self, answer: dns.message.Message, *, query: dns.message.Message | None = None, now: float
    ) -> None:
        """Keep an upstream's answer if §4.5 allows it.

        `query`: what was asked; without it, what the answer repeats of that.
        """
        asked = answer if query is None else query
        if answer.rcode() != dns.rcode.NOERROR or answer.flags & dns.flags.TC or len(answer.question) != 1:
            return
        wanted = answer.question[0].rdtype
        ttl_s = min((rrset.ttl for rrset in answer.answer), default=0)
        if asked.options or ttl_s < MIN_TTL_S or all(rrset.rdtype != wanted for rrset in answer.answer):
            return
        self._keep(_key(asked), answer, ttl_s, now)

    def knows(self, query: PlainQuery) -> bool:
        """Whether `lookup` is worth its while."""
        return query.key in self._entries

    def store_unread(self, answer: bytes, *, query: PlainQuery, ttl_s: int, now: float) -> None:
        """Keep an upstream's answer as it came, to be parsed when it is asked for again.

        `ttl_s`: what `read_answer` says.
        """
        if ttl_s >= MIN_TTL_S:
            self._keep(query.key, answer, ttl_s, now)

    def _keep(self, key: CacheKey, answer: dns.message.Message | bytes, ttl_s: int, now: float) -> None:
        self._entries[key] = _Entry(answer, stored_at=now, expires_at=now + min(ttl_s, MAX_TTL_S))
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer, and when it would first read differently: a second older, or gone."""

    message: dns.message.Message
    until: float


@dataclass(slots=True)
class _Entry:
    answer: dns.message.Message | bytes
    stored_at: float
    expires_at: float


def _key(message: dns.message.Message) -> CacheKey:
    question = message.question[0]
    # In an answer AD is what the upstream says, not what was asked.
    bits = dns.flags.CD if message.flags & dns.flags.QR else dns.flags.CD | dns.flags.AD
    is_signed = message.ednsflags & dns.flags.DO
    name = question.name.to_digestable()
    return name, question.rdtype, question.rdclass, message.flags & bits, is_signed


def _aged(rrset: dns.rrset.RRset, age_s: int) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(rrset.name, max(rrset.ttl - age_s, 0), list(rrset))
