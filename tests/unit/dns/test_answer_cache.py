import dns.message
import dns.rcode
import dns.rrset

from wardgate.dns.answer_cache import MAX_ENTRIES, AnswerCache


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
    assert found.id == query.id
    assert found.answer[0].ttl == 50


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
