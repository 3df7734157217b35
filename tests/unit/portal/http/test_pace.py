"""What lets through so many, and tells the others when to come back."""

from collections import Counter

from wardgate.portal.http.rate_limit import Pace


def test_so_many_pass_at_once_and_then_so_many_a_second() -> None:
    pace = Pace(at_once=10, per_s=5, longest_s=60)
    assert [pace.take(now=100.0) for _ in range(10)] == [0.0] * 10
    assert pace.take(now=100.0) > 0
    passed = sum(pace.take(now=100.0 + step / 100) == 0 for step in range(1, 1001))
    assert 49 <= passed <= 51


def test_a_crowd_is_called_back_one_after_another() -> None:
    pace = Pace(at_once=100, per_s=50, longest_s=60)
    waits = [wait for _ in range(1100) if (wait := pace.take(now=0.0)) > 0]
    assert len(waits) == 1000
    assert 19.9 < max(waits) < 20.1
    assert set(Counter(int(wait) for wait in waits).values()) <= set(range(1, 52))


def test_whoever_comes_back_when_told_passes() -> None:
    pace = Pace(at_once=100, per_s=50, longest_s=60)
    waiting = [(0.0, number) for number in range(2000)]
    tries = Counter[int]()
    while waiting:
        waiting.sort()
        now, number = waiting.pop(0)
        tries[number] += 1
        wait_s = pace.take(now=now)
        if wait_s > 0:
            waiting.append((now + wait_s, number))
    assert max(tries.values()) <= 3
    assert now <= 2000 / 50 + 3


def test_nobody_is_told_to_wait_longer_than_the_bound() -> None:
    pace = Pace(at_once=1, per_s=1, longest_s=5)
    waits = [pace.take(now=0.0) for _ in range(100)]
    assert max(waits) <= 5
    assert len({wait for wait in waits if wait}) >= 4, "beyond the bound they are spread anew"


def test_where_fewer_are_let_through_they_are_called_back_at_their_pace() -> None:
    pace = Pace(at_once=1, per_s=100, longest_s=60)
    assert [round(pace.call_back(now=0.0, per_s=10.0), 6) for _ in range(3)] == [0.1, 0.2, 0.3]
    assert round(pace.call_back(now=0.0, per_s=1000.0), 6) == 0.31
