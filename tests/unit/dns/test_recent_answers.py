"""Answers given again to the same bytes."""

from wardgate.dns.recent_answers import MAX_ENTRIES, MAX_QUERY, RecentAnswers, with_id

QUERY = b"\x01\x02the query"
ANSWER = b"\x01\x02the answer"


def test_the_same_bytes_get_the_same_answer_with_their_own_id() -> None:
    recent = RecentAnswers()
    recent.remember(QUERY, ANSWER, is_udp=True)
    again = b"\xff\xfe" + QUERY[2:]
    found = recent.lookup(again, is_udp=True, now=0.0)

    assert found is not None
    assert with_id(again, found.body) == b"\xff\xfe" + ANSWER[2:]
    assert recent.lookup(QUERY + b"!", is_udp=True, now=0.0) is None
    assert recent.lookup(QUERY, is_udp=False, now=0.0) is None


def test_an_answer_is_given_until_it_would_read_differently() -> None:
    recent = RecentAnswers()
    recent.remember(QUERY, ANSWER, is_udp=True, until=5.0)

    assert recent.lookup(QUERY, is_udp=True, now=4.9) is not None
    assert recent.lookup(QUERY, is_udp=True, now=5.0) is None


def test_the_least_recently_given_goes_first_and_long_queries_are_not_kept() -> None:
    recent = RecentAnswers()
    queries = [number.to_bytes(4, "big") + b"?" for number in range(MAX_ENTRIES + 1)]
    for query in queries[:-1]:
        recent.remember(query, ANSWER, is_udp=True)
    recent.lookup(queries[0], is_udp=True, now=0.0)
    recent.remember(queries[-1], ANSWER, is_udp=True)
    recent.remember(bytes(MAX_QUERY + 1), ANSWER, is_udp=True)

    kept = [query for query in queries if recent.lookup(query, is_udp=True, now=0.0) is not None]
    assert kept == [queries[0], *queries[2:]]
    assert recent.lookup(bytes(MAX_QUERY + 1), is_udp=True, now=0.0) is None
