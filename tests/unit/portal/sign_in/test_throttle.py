"""Tries are counted by key, and strangers cannot make the portal keep ever more of them."""

import pytest

from wardgate.portal.sign_in import throttle as module
from wardgate.portal.sign_in.throttle import Throttle


def test_the_last_try_is_the_most_th_and_each_extends_the_window() -> None:
    throttle = Throttle(most=3, window_s=10)
    assert [throttle.take("ada", now=now) for now in (0, 9, 18)] == [0, 0, 0]
    assert throttle.take("ada", now=20) == 8
    assert throttle.take("bob", now=20) == 0
    assert throttle.take("ada", now=28) == 0


def test_a_success_forgets_the_tries() -> None:
    throttle = Throttle(most=1, window_s=10)
    assert throttle.take("ada", now=0) == 0
    assert throttle.take("ada", now=0) > 0
    throttle.reset("ada")
    assert throttle.take("ada", now=0) == 0


def test_a_flood_of_addresses_is_forgotten_and_not_the_one_at_which_somebody_guesses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 64)
    monkeypatch.setattr(module, "_PRUNE_AT", 16)
    throttle = Throttle(most=5, window_s=900)
    for _ in range(5):
        assert throttle.take("ada", now=0) == 0
    for number in range(10_000):
        assert throttle.take(number, now=1) == 0
        assert len(throttle._tries) <= 64
    assert throttle.take("ada", now=2) > 0
