import pytest
from msgspec import UNSET

from wardgate.connect.filters import engine_filters
from wardgate.datapath import commands as c
from wardgate.wire import messages as m


def test_absent_bounds_mean_all_ports() -> None:
    assert engine_filters((m.Filter("udp", UNSET, UNSET),)) == (c.Filter("udp", 0, 65535),)


@pytest.mark.parametrize(
    ("first", "last", "cut"),
    [
        (80, 81, (80, 81)),
        (1, 65535, (1, 65535)),
        (-5, 80, (0, 80)),
        (80, 65536 + 443, (80, 65535)),
        (65536 + 22, 65536 + 23, (65535, 65535)),
    ],
)
def test_ports_beyond_their_bounds_are_cut_and_never_wrap(
    first: int, last: int, cut: tuple[int, int]
) -> None:
    [given] = engine_filters((m.Filter("tcp", first, last),))

    assert (given.first_port, given.last_port) == cut
