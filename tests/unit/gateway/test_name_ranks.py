import random

import pytest

from wardgate.gateway.name_ranks import NameRanks
from wardgate.model.name_pattern import NamePattern


def pattern(address: str) -> NamePattern | None:
    try:
        return NamePattern.parse(address)
    except ValueError:
        return None


def ranked(*addresses: str) -> tuple[NameRanks, int]:
    """Return the ranks, and how often all were numbered anew."""
    ranks = NameRanks()
    return ranks, sum(ranks.add(address, pattern(address)) for address in addresses)


def numbered(number: int) -> str:
    """A name that ranks before those of smaller numbers: patterns are compared from their end."""
    return f"{number:04}"[::-1] + ".corp.example"


WIDENING = (
    "app.corp.example",
    "?.corp.example",
    "*.corp.example",
    "**.corp.example",
    "*.example",
    "un..readable",
)


@pytest.mark.parametrize("seed", range(20))
def test_the_most_specific_pattern_ranks_first_in_whatever_order_they_come(seed: int) -> None:
    ranks, _ = ranked(*random.Random(seed).sample(WIDENING, len(WIDENING)))
    places = [ranks[address] for address in WIDENING]
    assert places == sorted(set(places))  # none shares another's


def test_resources_with_one_pattern_share_its_rank_until_the_last_is_gone() -> None:
    ranks, _ = ranked("*.corp.example", "app.corp.example", "*.corp.example")
    before = ranks["*.corp.example"]
    ranks.remove("*.corp.example", pattern("*.corp.example"))
    assert ranks["*.corp.example"] == before
    ranks.remove("*.corp.example", pattern("*.corp.example"))
    with pytest.raises(KeyError):
        ranks["*.corp.example"]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_names_in_their_order_move_none_of_those_before(is_reversed: bool) -> None:
    numbers = reversed(range(2000)) if is_reversed else range(2000)
    _, renumberings = ranked(*map(numbered, numbers))
    assert renumberings == 0


def test_the_worst_order_moves_the_others_once_in_forty_names() -> None:
    # Each name comes between the last two, where the room halves each time.
    low, high = 0, 2000
    names = []
    while low < high:
        names += [numbered(low), numbered(high)]
        low, high = low + 1, high - 1
    ranks, renumberings = ranked(*names)
    assert 0 < renumberings <= len(names) / 38
    assert sorted(names, key=ranks.__getitem__) == sorted(names, key=lambda name: name[::-1], reverse=True)
