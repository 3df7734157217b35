from hypothesis import given
from hypothesis import strategies as st

from wardgate.net.fair_shares import FairShares


def test_one_greedy_holder_gets_half_and_the_next_finds_something_free() -> None:
    shares = FairShares(100)
    assert sum(shares.take("greedy") for _ in range(1000)) == 50
    assert shares.refused == 950
    assert shares.take("modest")


def test_what_is_given_back_can_be_taken_again() -> None:
    shares = FairShares(4)
    assert [shares.take("a") for _ in range(3)] == [True, True, False]
    shares.give_back("a")
    assert shares.take("a")
    assert len(shares) == 2


def test_a_holders_own_limit_counts_however_much_is_free() -> None:
    shares = FairShares(100, at_most=3)
    assert [shares.take("a") for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=300))
def test_never_more_than_the_pool_is_out_and_a_newcomer_is_always_served(
    steps: list[tuple[int, bool]],
) -> None:
    shares, held = FairShares(20), dict.fromkeys(range(6), 0)
    for holder, takes in steps:
        if takes:
            held[holder] += shares.take(holder)
        elif held[holder]:
            held[holder] -= 1
            shares.give_back(holder)
        assert len(shares) == sum(held.values()) < 20
        if not held[holder]:
            assert shares.take(holder)
            shares.give_back(holder)
