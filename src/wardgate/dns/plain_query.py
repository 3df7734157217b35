"""The question of an ordinary query, and what its answer is worth, read without the library.

Most names that programs ask for are nobody's here: query and answer pass as they came, and the library would take ten
times as long over each of them as all else that is done. What is out of the ordinary is left to it: `read_query`
and `read_answer` return None for that, and never guess.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from wardgate.dns.message_cost import MAX_LABELS, MAX_RECORDS

_HEADER: Final = struct.Struct(
    "!6H"
)  # id, flags, then how many questions, answers, authorities, additional records
_FIXED: Final = struct.Struct("!HHIH")  # behind the owner of a record: type, class, TTL, length of its data
_POINTER: Final = 0xC0  # the upper bits of a length that is none (RFC 1035 §4.1.4)
_MAX_LABEL: Final = 63  # bytes, RFC 1035 §3.1
_MAX_NAME: Final = 255  # bytes, RFC 1035 §3.1
_TTLS: Final = 1 << 31  # what is not below counts as 0, RFC 2181 §8
_LABEL: Final = re.compile(rb"[A-Za-z0-9_-]{1,63}")  # of a name that reads the same in every notation

_QR: Final = 0x8000
_OPCODE: Final = 0x7800
_TC: Final = 0x0200
_AD: Final = 0x0020
_CD: Final = 0x0010
_RCODE: Final = 0x000F
_OPT: Final = 41
_DO: Final = 0x8000
_LENGTHS: Final = {1: 4, 28: 16}  # of an A record's and an AAAA record's data

CacheKey = tuple[bytes, int, int, int, int]
"""Name as it is encoded, in lower case; type, class; those of CD and AD that were set; DO."""


@dataclass(frozen=True, slots=True)
class PlainQuery:
    """`name`: in lower case, without the trailing dot; `end`: where the question ends."""

    id: int
    name: str
    rdtype: int
    end: int
    key: CacheKey


def read_query(payload: bytes) -> PlainQuery | None:
    """Read a query with one question and at most an OPT record without options; None if it is anything else."""
    try:
        number, flags, *counts = _HEADER.unpack_from(payload)
        if flags & (_QR | _OPCODE | _TC | _RCODE) or counts[:3] != [1, 0, 0] or counts[3] > 1:
            return None
        labels = []
        at = _HEADER.size
        while (length := payload[at]) != 0:
            label = payload[at + 1 : at + 1 + length]
            if _LABEL.fullmatch(label) is None or len(label) != length:
                return None
            labels.append(label)
            at += 1 + length
        at += 1
        if not labels or at - _HEADER.size > _MAX_NAME:
            return None
        name = payload[_HEADER.size : at].lower()
        rdtype, rdclass = payload[at] << 8 | payload[at + 1], payload[at + 2] << 8 | payload[at + 3]
        end = behind = at + 4
        is_signed = 0
        if counts[3]:
            kind, _, extended, length = _FIXED.unpack_from(payload, end + 1)
            if payload[end] != 0 or kind != _OPT or extended >> 16 or length:
                return None
            is_signed = extended & _DO
            behind = end + 1 + _FIXED.size
        if behind != len(payload):
            return None
    except (IndexError, struct.error):
        return None
    return PlainQuery(
        number,
        b".".join(labels).lower().decode("ascii"),
        rdtype,
        end,
        (name, rdtype, rdclass, flags & (_CD | _AD), is_signed),
    )


def read_answer(payload: bytes, query: PlainQuery) -> int | None:
    """Look through an answer to this query, from one record to the next, to its end.

    Returns:
        For how many seconds the answer is good, by the shortest-lived of its records; 0 if it is not one to keep (a
        failure, no such name, cut short, or without the type asked for). None if the library has to tell what it is.
    """
    try:
        number, flags, questions, *counts = _HEADER.unpack_from(payload)
        if (
            number != query.id
            or not flags & _QR
            or flags & _OPCODE
            or questions != 1
            or sum(counts) > MAX_RECORDS
        ):
            return None
        name, rdtype, rdclass, *_ = query.key
        at = _HEADER.size + len(name)
        if payload[_HEADER.size : at].lower() != name or payload[at : query.end] != struct.pack(
            "!HH", rdtype, rdclass
        ):
            return None
        at = query.end
        ttls, has_wanted = [], False
        labels = 0
        for index in range(sum(counts)):
            while 0 < (length := payload[at]) <= _MAX_LABEL:
                at += 1 + length
                labels += 1
            if labels > MAX_LABELS or 0 < length < _POINTER:
                return None
            at += 2 if length else 1
            kind, _, ttl, size = _FIXED.unpack_from(payload, at)
            at += _FIXED.size + size
            if _LENGTHS.get(kind, size) != size or (kind == _OPT and ttl >> 24):
                return None
            if index < counts[0]:
                ttls.append(ttl if ttl < _TTLS else 0)
                has_wanted |= kind == rdtype
        if at > len(payload):
            return None
    except (IndexError, struct.error):
        return None
    is_kept = has_wanted and not flags & (_RCODE | _TC)
    return min(ttls) if is_kept else 0
