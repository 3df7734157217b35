"""Messages that would keep the process busy for seconds, from a few bytes a record."""

import struct
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rrset
import pytest

from wardgate.dns.message_cost import MAX_LABELS, MAX_RECORDS, TooCostly, check_cost
from wardgate.dns.stub_resolver import Malformed, parse_query
from wardgate.dns.upstream_answers import Unparsed, Unusable, answer_of

QUESTION = b"\3app\7example\0" + struct.pack("!HH", 1, 1)
BEHIND = 12 + len(QUESTION)
LONGEST = b"\1a" * 126 + b"\0"


def message(body: bytes, records: int, *, flags: int = 0x8180) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, 1, records, 0, 0) + QUESTION + body


def record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def pointer(at: int) -> bytes:
    return struct.pack("!H", 0xC000 | at)


def aliases(number: int) -> tuple[bytes, int]:
    """An alias of a longest name to itself, again and again: 14 bytes and 252 labels each."""
    more = record(pointer(BEHIND), 5, pointer(BEHIND + 2))
    return record(LONGEST, 16, b"\1x") + number * more, number + 1


def pointers() -> tuple[bytes, int]:
    """A name that leads from pointer to pointer thousands of times, and records of that name."""
    steps = 6_000
    first = record(b"\0", 16, b"".join(pointer(max(BEHIND + 11 + 2 * (at - 1), 12)) for at in range(steps)))
    last = BEHIND + 11 + 2 * (steps - 1)
    return first + 100 * record(pointer(last), 1, bytes(4)), 101


def unknown() -> tuple[bytes, int]:
    """Types whose data may hold names."""
    return 20 * record(b"\0", 999, b"\0"), 20


HOSTILE = [
    lambda: aliases(4_000),
    lambda: aliases(20),
    pointers,
    unknown,
    lambda: (5_000 * record(b"\0", 1, bytes(4)), 5_000),
]


@pytest.mark.parametrize("made", HOSTILE)
def test_what_costs_too_much_is_parsed_neither_as_a_query_nor_as_an_answer(
    made: Callable[[], tuple[bytes, int]],
) -> None:
    with pytest.raises(TooCostly):
        check_cost(message(*made()))
    asked = dns.message.make_query("app.example", "A", id=7)
    with pytest.raises(Unparsed):
        answer_of(message(*made()), asked)
    with pytest.raises(Malformed):
        parse_query(message(*made(), flags=dns.flags.RD))


def test_a_costly_answer_to_another_question_is_no_answer_at_all() -> None:
    with pytest.raises(Unusable) as told:
        answer_of(message(*aliases(4_000)), dns.message.make_query("other.example", "A", id=7))
    assert not isinstance(told.value, Unparsed)


def test_the_walk_ends_with_the_budget_whatever_the_message_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0

    class Counted(bytes):
        def __getitem__(self, at: object) -> int:  # type: ignore[override]
            nonlocal steps
            steps += 1
            return super().__getitem__(at)  # type: ignore[call-overload,no-any-return]

    for made in HOSTILE:
        steps = 0
        with pytest.raises(TooCostly):
            check_cost(Counted(message(*made())))
        assert steps < 4 * (MAX_LABELS + 12 * MAX_RECORDS)


@pytest.mark.parametrize(
    "body",
    [
        record(pointer(BEHIND), 1, bytes(4)),  # to itself
        record(pointer(BEHIND + 40), 1, bytes(4)),  # ahead
        record(b"\x20short", 1, b""),
        b"\0",
        b"",
    ],
)
def test_what_is_no_message_is_left_for_the_parser_to_refuse(body: bytes) -> None:
    check_cost(message(body, 1))
    with pytest.raises(Unusable) as told:
        answer_of(message(body, 1), dns.message.make_query("app.example", "A", id=7))
    assert not isinstance(told.value, Unparsed)


def test_what_name_servers_really_answer_costs_little() -> None:
    asked = dns.message.make_query("www.app.internal.example.com", "A", want_dnssec=True)
    answer = dns.message.make_response(asked)
    name = asked.question[0].name
    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "edge.cdn.example.net."))
    addresses = [f"192.0.2.{number}" for number in range(250)]
    answer.answer.append(dns.rrset.from_text("edge.cdn.example.net.", 60, "IN", "A", *addresses))
    signature = "A 8 3 60 20270101000000 20260101000000 7 example.net. " + "A" * 342 + "=="
    answer.answer.append(dns.rrset.from_text("edge.cdn.example.net.", 60, "IN", "RRSIG", signature))
    for server in range(13):
        answer.authority.append(
            dns.rrset.from_text("example.net.", 60, "IN", "NS", f"ns{server}.registrar.example.")
        )
    check_cost(answer.to_wire(max_size=65535))
    assert answer_of(answer.to_wire(max_size=65535), asked).answer
