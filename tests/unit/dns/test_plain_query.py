"""Queries and answers that are read without the library, beside what the library says of them."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from wardgate.dns.answer_cache import AnswerCache
from wardgate.dns.plain_query import read_answer, read_query

NAME = "App.example."


def query(kind: str = "A", **options: object) -> dns.message.Message:
    return dns.message.make_query(NAME, kind, id=7, **options)  # type: ignore[arg-type]


def answer(asked: dns.message.Message, *records: tuple[str, int, str, str]) -> dns.message.Message:
    """Each record is owner, TTL, type and data."""
    made = dns.message.make_response(asked)
    for owner, ttl, kind, data in records:
        made.answer.append(dns.rrset.from_text(owner, ttl, "IN", kind, data))
    return made


GOOD = [(NAME, 300, "CNAME", "edge.example."), ("edge.example.", 60, "A", "192.0.2.1")]


DATA = {"A": "192.0.2.1", "AAAA": "2001:db8::1", "HTTPS": "1 .", "TYPE97": r"\# 1 00"}
"""65 is HTTPS, which as a letter is 97 in lower case."""


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("options", [{}, {"use_edns": 0}, {"want_dnssec": True}, {"flags": dns.flags.CD}])
def test_an_ordinary_query_reads_as_the_library_reads_it(kind: str, options: dict[str, object]) -> None:
    asked = query(kind, **options)
    read = read_query(asked.to_wire())
    assert read is not None
    assert (read.id, read.name, read.rdtype) == (7, "app.example", asked.question[0].rdtype)
    # An answer that one of them keeps serves the other.
    cache = AnswerCache()
    cache.store(answer(asked, (NAME, 60, kind, DATA[kind])), query=asked, now=0.0)
    assert cache.knows(read)


def spoiled(change: object) -> bytes:
    wire = bytearray(query().to_wire())
    assert callable(change)
    change(wire)
    return bytes(wire)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        query().to_wire()[:-1],
        query().to_wire() + b"\0",
        dns.message.make_response(query()).to_wire(),
        spoiled(lambda wire: wire.__setitem__(5, 2)),  # two questions
        spoiled(lambda wire: wire.__setitem__(2, 0x28)),  # an update
        spoiled(lambda wire: wire.__setitem__(12, 0xC0)),  # a pointer
        spoiled(lambda wire: wire.__setitem__(13, ord("\\"))),
        spoiled(lambda wire: wire.__setitem__(13, ord("."))),
        dns.message.make_query(".", "NS", id=7).to_wire(),
        query(use_edns=1).to_wire(),
        query(options=[dns.edns.GenericOption(10, b"a cookie")]).to_wire(),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_the_library(payload: bytes) -> None:
    assert read_query(payload) is None


def test_an_answer_is_good_for_as_long_as_its_shortest_lived_record() -> None:
    asked = query(use_edns=0)
    read = read_query(asked.to_wire())
    assert read is not None
    assert read_answer(answer(asked, *GOOD).to_wire(), read) == 60
    assert read_answer(answer(asked, *GOOD[:1]).to_wire(), read) == 0, "an alias that leads nowhere"
    assert read_answer(answer(asked, (NAME, 1 << 30, "A", "192.0.2.1")).to_wire(), read) == 1 << 30
    beyond = bytearray(answer(query(), (NAME, 60, "A", "192.0.2.1")).to_wire())
    beyond[-10] = 0x80  # the first byte of the TTL
    assert read_answer(bytes(beyond), read) == 0
    for flag in (dns.rcode.NXDOMAIN, dns.flags.TC):
        made = answer(asked, *GOOD)
        made.flags |= flag
        assert read_answer(made.to_wire(), read) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda wire: wire.__setitem__(1, 8),  # another id
        lambda wire: wire.__setitem__(2, wire[2] & 0x7F),  # no answer
        lambda wire: wire.__setitem__(5, 0),  # no question
        lambda wire: wire.__setitem__(13, ord("b")),  # another name
        lambda wire: wire.__setitem__(26, 28),  # another type
        lambda wire: wire.__setitem__(28, 3),  # another class
        lambda wire: wire.__setitem__(7, 2),  # more records than there are
        lambda wire: wire.__delitem__(-1),
        lambda wire: wire.__setitem__(-5, 3),  # an address of three bytes
        lambda wire: wire.__setitem__(29, 0x80),  # a label of no known kind
    ],
)
def test_what_may_be_no_answer_is_left_to_the_library(change: object) -> None:
    read = read_query(query().to_wire())
    assert read is not None
    wire = bytearray(answer(query(), (NAME, 60, "A", "192.0.2.1")).to_wire())
    assert callable(change)
    change(wire)
    assert read_answer(bytes(wire), read) is None


def test_an_answer_of_too_many_records_or_labels_is_left_to_the_library() -> None:
    read = read_query(query().to_wire())
    assert read is not None
    question = query().to_wire()[12:]
    header = struct.pack("!6H", 7, 0x8180, 1, 600, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH4x", 1, 1, 60, 4)
    assert read_answer(header + question + 600 * record, read) is None
    header = struct.pack("!6H", 7, 0x8180, 1, 100, 0, 0)
    record = 100 * b"\1a" + b"\0" + struct.pack("!HHIH4x", 1, 1, 60, 4)
    assert read_answer(header + question + 100 * record, read) is None


def test_an_answer_that_cannot_be_parsed_is_given_to_who_asked_and_to_nobody_else() -> None:
    asked = query()
    read = read_query(asked.to_wire())
    assert read is not None
    wire = answer(asked, (NAME, 60, "A", "192.0.2.1"), (NAME, 60, "MX", "10 mail.example.")).to_wire()
    broken = wire[:-1] + b"\x3f"  # a name that ends in the midst of a label
    ttl_s = read_answer(broken, read)
    assert ttl_s == 60
    cache = AnswerCache()
    cache.store_unread(broken, query=read, ttl_s=ttl_s, now=0.0)
    assert cache.knows(read)
    assert cache.lookup(asked, now=1.0) is None
    assert not cache.knows(read)
