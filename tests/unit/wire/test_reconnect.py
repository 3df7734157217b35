import random

import pytest

from wardgate.wire.reconnect import MAX_DELAY_S, GiveUp, Reconnect, RetryIn


class Halfway:
    """A random source that always draws the middle: no jitter."""

    def random(self) -> float:
        return 0.5

    def getrandbits(self, bits: int, /) -> int:
        return 0


def delays(pacing: Reconnect, count: int) -> list[float]:
    made = [pacing.next_attempt() for _ in range(count)]
    return [one.delay_s for one in made if isinstance(one, RetryIn)]


def test_before_the_first_join_it_tries_every_second_for_fifteen_seconds() -> None:
    pacing = Reconnect(budget_s=None, rng=Halfway())
    assert delays(pacing, 15) == [1.0] * 15
    assert pacing.next_attempt() == GiveUp(15.0)


def test_retry_after_replaces_the_delay_and_costs_no_budget() -> None:
    pacing = Reconnect(budget_s=None, rng=Halfway())
    for _ in range(100):
        assert pacing.next_attempt(retry_after_s=7) == RetryIn(7)
    assert delays(pacing, 20) == [1.0] * 15


@pytest.mark.parametrize(("asked_s", "waited_s"), [(-5, 0.0), (1e12, 3600.0)])
def test_retry_after_is_kept_within_reason(asked_s: float, waited_s: float) -> None:
    assert Reconnect(budget_s=None, rng=Halfway()).next_attempt(retry_after_s=asked_s) == RetryIn(waited_s)


def test_after_a_join_delays_grow_by_half_up_to_a_minute() -> None:
    pacing = Reconnect(budget_s=None, rng=Halfway())
    pacing.handle_joined()
    assert delays(pacing, 4) == [0.5, 0.75, 1.125, 1.6875]
    assert max(delays(pacing, 5000)) == MAX_DELAY_S


def test_the_later_budget_counts_delays_and_a_join_renews_it() -> None:
    pacing = Reconnect(budget_s=2.0, rng=Halfway())
    pacing.handle_joined()
    assert delays(pacing, 2) == [0.5, 0.75]
    assert pacing.next_attempt() == GiveUp(1.25)
    pacing.handle_joined()
    assert delays(pacing, 2) == [0.5, 0.75]


def test_reset_starts_over_without_going_back_to_the_initial_phase() -> None:
    pacing = Reconnect(budget_s=None, rng=Halfway())
    pacing.handle_joined()
    delays(pacing, 5)
    pacing.reset()
    assert delays(pacing, 1) == [0.5]


def test_peers_that_lost_the_portal_together_do_not_come_back_together() -> None:
    first = set()
    for seed in range(50):
        pacing = Reconnect(budget_s=None, rng=random.Random(seed))
        pacing.handle_joined()
        first.update(delays(pacing, 1))
    assert len(first) == 50
    assert min(first) >= 0.25
    assert max(first) <= 0.75
