"""Cache of upstream answers, by name and type; TTLs count down in what it returns (data-plane §4.5)."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

MIN_TTL_S: Final = 5  # data-plane §4.5: shorter-lived answers are not stored
MAX_ENTRIES: Final = 2048  # ours

_Key = tuple[dns.name.Name, dns.rdatatype.RdataType]


class AnswerCache:
    """At most `MAX_ENTRIES` answers, the least recently used goes first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()

    def lookup(self, query: dns.message.Message, *, now: float) -> dns.message.Message | None:
        """Answer a query with one question from the cache, with its id and remaining TTLs; None if it cannot."""
        key = _key(query)
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.expires_at:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        age_s = int(now - entry.stored_at)
        answer = dns.message.Message(id=query.id)
        answer.flags = entry.answer.flags
        answer.question = list(query.question)
        for section, stored in zip(answer.sections[1:], entry.answer.sections[1:], strict=True):
            section.extend(_aged(rrset, age_s) for rrset in stored)
        return answer

    def store(self, answer: dns.message.Message, *, now: float) -> None:
        """Keep an upstream's answer if §4.5 allows it."""
        if answer.rcode() != dns.rcode.NOERROR or answer.flags & dns.flags.TC or len(answer.question) != 1:
            return
        wanted = answer.question[0].rdtype
        ttls = [rrset.ttl for rrset in answer.answer if rrset.rdtype == wanted]
        if not ttls or min(ttls) < MIN_TTL_S:
            return
        key = _key(answer)
        self._entries[key] = _Entry(answer, stored_at=now, expires_at=now + min(ttls))
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: dns.message.Message
    stored_at: float
    expires_at: float


def _key(message: dns.message.Message) -> _Key:
    question = message.question[0]
    return question.name, question.rdtype


def _aged(rrset: dns.rrset.RRset, age_s: int) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(rrset.name, max(rrset.ttl - age_s, 0), list(rrset))
