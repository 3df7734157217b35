from ipaddress import ip_address

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from wardgate.dns.upstream_answers import (
    FAILURE_S,
    MAX_ADDRESSES,
    MAX_FAILURES,
    MAX_NEGATIVE_TTL_S,
    MAX_TTL_S,
    FoundAddresses,
    ServerFailures,
    Unusable,
    addresses_of,
    answer_of,
    final_answer_of,
)

FIRST, SECOND, THIRD = map(ip_address, ("192.0.2.1", "192.0.2.2", "2001:db8::3"))
ASKED = (dns.name.from_text("app.example."), dns.rdatatype.A)
OTHER = (dns.name.from_text("other.example."), dns.rdatatype.A)
SOA = "ns.example. admin.example. 1 3600 600 86400 60"


def query() -> dns.message.QueryMessage:
    return dns.message.make_query("app.example", "A", id=7)


def answer(
    *records: tuple[str, int, str, str], rcode: str = "NOERROR", ttl_of_soa: int | None = None
) -> bytes:
    made = dns.message.make_response(query())
    made.set_rcode(dns.rcode.from_text(rcode))
    for owner, ttl, rdtype, *data in records:
        made.answer.append(dns.rrset.from_text(owner, ttl, "IN", rdtype, *data))
    if ttl_of_soa is not None:
        made.authority.append(dns.rrset.from_text("example.", ttl_of_soa, "IN", "SOA", SOA))
    return made.to_wire(max_size=65535)


def found(encoded: bytes) -> FoundAddresses:
    return addresses_of(final_answer_of(encoded, query()))


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "YXDOMAIN", "NOTAUTH"])
def test_only_noerror_and_nxdomain_end_a_search(rcode: str) -> None:
    with pytest.raises(Unusable, match=rcode):
        final_answer_of(answer(rcode=rcode), query())
    for end in ("NOERROR", "NXDOMAIN"):
        final_answer_of(answer(rcode=end), query())


def test_a_refusal_is_still_an_answer_to_pass_on() -> None:
    assert answer_of(answer(rcode="REFUSED"), query()).rcode() == dns.rcode.REFUSED


def without_question(encoded: bytes) -> bytes:
    made = dns.message.from_wire(encoded)
    made.question = []
    return made.to_wire()


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\0" * 11,
        b"nonsense that is longer than a header",
        answer()[:-3],
        dns.message.make_response(dns.message.make_query("app.example", "A", id=8)).to_wire(),
        dns.message.make_response(dns.message.make_query("evil.example", "A", id=7)).to_wire(),
        dns.message.make_response(dns.message.make_query("app.example", "AAAA", id=7)).to_wire(),
        query().to_wire(),  # the query itself, reflected
        without_question(answer()),
        # a name that points at itself
        answer()[:12] + b"\xc0\x0c\0\1\0\1",
        # says one record more than there is
        answer()[:6] + b"\0\1" + answer()[8:],
    ],
)
def test_what_is_no_answer_to_the_query_is_a_failure_of_its_server(encoded: bytes) -> None:
    with pytest.raises(Unusable):
        final_answer_of(encoded, query())


def test_the_chain_is_followed_and_its_shortest_ttl_counts() -> None:
    chain = answer(
        ("app.example.", 300, "CNAME", "b.example."),
        ("b.example.", 20, "CNAME", "c.example."),
        ("c.example.", 600, "A", "192.0.2.7"),
    )
    assert found(chain) == FoundAddresses(("192.0.2.7",), 20.0)


def test_aliases_that_go_round_are_a_failure() -> None:
    with pytest.raises(Unusable):
        found(
            answer(("app.example.", 60, "CNAME", "b.example."), ("b.example.", 60, "CNAME", "app.example."))
        )


def test_addresses_of_a_name_that_does_not_exist_are_a_failure() -> None:
    with pytest.raises(Unusable):
        found(answer(("app.example.", 60, "A", "192.0.2.7"), rcode="NXDOMAIN"))


def test_records_of_other_names_are_no_addresses() -> None:
    assert found(answer(("evil.example.", 60, "A", "192.0.2.66"))).addresses == ()


def test_a_huge_answer_is_cut_and_a_long_lived_one_ends() -> None:
    many = tuple(f"10.0.{number // 256}.{number % 256}" for number in range(500))
    result = found(answer(("app.example.", 2**31 - 1, "A", *many)))
    assert len(result.addresses) == MAX_ADDRESSES
    assert result.ttl_s == MAX_TTL_S


def test_a_negative_answer_is_kept_as_long_as_its_zone_says_and_not_without_a_zone() -> None:
    assert found(answer(rcode="NXDOMAIN", ttl_of_soa=30)) == FoundAddresses((), 30.0)
    assert found(answer(ttl_of_soa=3600)) == FoundAddresses((), 60.0)  # the SOA's minimum
    assert found(answer()) == FoundAddresses((), 0.0)
    assert MAX_NEGATIVE_TTL_S < MAX_TTL_S


def test_a_server_that_failed_is_left_out_for_this_question_only_and_five_seconds_only() -> None:
    failures = ServerFailures()
    failures.handle_failure(FIRST, ASKED, now=10.0)
    assert failures.in_order((FIRST, SECOND), ASKED, now=10.0) == (SECOND,)
    assert failures.in_order((FIRST, SECOND), OTHER, now=10.0) == (FIRST, SECOND)
    assert failures.in_order((FIRST, SECOND), ASKED, now=10.0 + FAILURE_S) == (FIRST, SECOND)
    assert FAILURE_S <= 5.0


def test_a_silent_server_is_asked_last_until_it_answers() -> None:
    failures = ServerFailures()
    failures.handle_silence(FIRST, now=10.0)
    assert failures.in_order((FIRST, SECOND, THIRD), OTHER, now=11.0) == (SECOND, THIRD, FIRST)
    failures.handle_answer(FIRST)
    assert failures.in_order((FIRST, SECOND, THIRD), OTHER, now=11.0) == (FIRST, SECOND, THIRD)


def test_failures_are_remembered_within_a_bound() -> None:
    failures = ServerFailures()
    for number in range(MAX_FAILURES + 1):
        failures.handle_failure(FIRST, (dns.name.from_text(f"n{number}.example."), ASKED[1]), now=0.0)
    assert failures.in_order((FIRST,), (dns.name.from_text("n0.example."), ASKED[1]), now=0.0) == (FIRST,)
    assert failures.in_order((FIRST,), (dns.name.from_text("n1.example."), ASKED[1]), now=0.0) == ()
