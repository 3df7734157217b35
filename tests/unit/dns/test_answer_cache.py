from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns.edns import GenericOption, OptionType
from dns.flags import AD, CD, DO

from wardgate.dns.answer_cache import MAX_ENTRIES, MAX_TTL_S, AnswerCache


def answer(
    name: str = "a.example.", ttl: int = 60, rcode: dns.rcode.Rcode = dns.rcode.NOERROR
) -> dns.message.Message:
    made = dns.message.make_response(dns.message.make_query(name, "A"))
    made.answer.append(dns.rrset.from_text(name, ttl, "IN", "A", "192.0.2.1"))
    made.set_rcode(rcode)
    return made


def test_a_cached_answer_carries_the_querys_id_and_the_remaining_ttl() -> None:
    cache = AnswerCache()
    cache.store(answer(), now=100.0)
    query = dns.message.make_query("A.example.", "A")
    found = cache.lookup(query, now=110.5)

    assert found is not None
    assert found.message.id == query.id
    assert found.message.answer[0].ttl == 50
    assert found.until == 111.0


def test_an_answer_leaves_when_its_shortest_ttl_is_over() -> None:
    cache = AnswerCache()
    cache.store(answer(ttl=60), now=0.0)

    assert cache.lookup(dns.message.make_query("a.example.", "A"), now=60.0) is None


def test_short_lived_failed_and_empty_answers_are_not_kept() -> None:
    cache = AnswerCache()
    cache.store(answer(ttl=4), now=0.0)
    cache.store(answer(rcode=dns.rcode.NXDOMAIN), now=0.0)
    cache.store(dns.message.make_response(dns.message.make_query("a.example.", "A")), now=0.0)

    assert cache.lookup(dns.message.make_query("a.example.", "A"), now=0.0) is None


def test_the_least_recently_used_answer_goes_first() -> None:
    cache = AnswerCache()
    for number in range(MAX_ENTRIES):
        cache.store(answer(f"n{number}.example."), now=0.0)
    cache.lookup(dns.message.make_query("n0.example.", "A"), now=0.0)
    cache.store(answer("last.example."), now=0.0)

    assert cache.lookup(dns.message.make_query("n0.example.", "A"), now=0.0) is not None
    assert cache.lookup(dns.message.make_query("n1.example.", "A"), now=0.0) is None


def test_an_alias_that_lives_shorter_than_what_it_leads_to_ends_the_answer() -> None:
    cache = AnswerCache()
    made = dns.message.make_response(dns.message.make_query("www.example.", "A"))
    made.answer.append(dns.rrset.from_text("www.example.", 10, "IN", "CNAME", "blue.example."))
    made.answer.append(dns.rrset.from_text("blue.example.", 3600, "IN", "A", "192.0.2.1"))
    cache.store(made, now=0.0)

    assert cache.lookup(dns.message.make_query("www.example.", "A"), now=9.0) is not None
    assert cache.lookup(dns.message.make_query("www.example.", "A"), now=10.0) is None


def test_an_alias_too_short_lived_keeps_the_answer_out() -> None:
    cache = AnswerCache()
    made = dns.message.make_response(dns.message.make_query("www.example.", "A"))
    made.answer.append(dns.rrset.from_text("www.example.", 4, "IN", "CNAME", "blue.example."))
    made.answer.append(dns.rrset.from_text("blue.example.", 3600, "IN", "A", "192.0.2.1"))
    cache.store(made, now=0.0)

    assert cache.lookup(dns.message.make_query("www.example.", "A"), now=0.0) is None


def test_nothing_is_kept_longer_than_a_day() -> None:
    cache = AnswerCache()
    cache.store(answer(ttl=2**31 - 1), now=0.0)

    assert cache.lookup(asked(), now=MAX_TTL_S - 1) is not None
    assert cache.lookup(asked(), now=MAX_TTL_S) is None


def asked(
    *, do: bool = False, flags: int = 0, rdclass: str = "IN", options: tuple[GenericOption, ...] = ()
) -> dns.message.Message:
    made = dns.message.make_query("a.example.", "A", rdclass=rdclass, options=list(options) or None)
    if do:
        made.want_dnssec(True)
    made.flags |= flags
    return made


@pytest.mark.parametrize("other", [{"do": True}, {"flags": CD}, {"flags": AD}, {"rdclass": "CH"}])
def test_an_answer_serves_only_queries_that_asked_for_the_same(other: dict[str, Any]) -> None:
    for first, second in ((asked(), asked(**other)), (asked(**other), asked())):
        cache = AnswerCache()
        cache.store(answer(), query=first, now=0.0)
        assert cache.lookup(first, now=1.0) is not None
        assert cache.lookup(second, now=1.0) is None


def test_unchecked_data_stays_with_who_asked_for_it_even_where_only_the_answer_is_known() -> None:
    cache = AnswerCache()
    unchecked = answer()
    unchecked.flags |= CD
    cache.store(unchecked, now=0.0)

    assert cache.lookup(asked(), now=1.0) is None
    assert cache.lookup(asked(flags=CD), now=1.0) is not None


def test_a_query_with_edns_gets_an_opt_record_and_one_without_none() -> None:
    cache = AnswerCache()
    signed = asked(do=True)
    for query in (signed, asked()):
        cache.store(answer(), query=query, now=0.0)
    with_edns, without = cache.lookup(signed, now=1.0), cache.lookup(asked(), now=1.0)

    assert with_edns is not None
    assert (with_edns.message.edns, with_edns.message.ednsflags & DO) == (0, DO)
    assert without is not None
    assert without.message.edns == -1


def test_queries_with_edns_options_are_between_their_sender_and_the_upstream() -> None:
    cache = AnswerCache()
    for_a_network = asked(options=(GenericOption(OptionType.ECS, b"\0\1\x18\0\xc0\0\2"),))
    cache.store(answer(), query=for_a_network, now=0.0)
    assert cache.lookup(asked(), now=0.0) is None
    cache.store(answer(), query=asked(), now=0.0)
    assert cache.lookup(for_a_network, now=0.0) is None
