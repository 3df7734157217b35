import pytest

from wardgate.connect.filters import engine_filters
from wardgate.wire import messages as m


def bounds(*filters: m.Filter) -> list[tuple[int, int]]:
    return [(one.first_port, one.last_port) for one in engine_filters(filters)]


def test_absent_bounds_are_all_ports() -> None:
    assert bounds(m.Filter("tcp"), m.Filter("udp", 53), m.Filter("icmp")) == [
        (0, 65535),
        (53, 65535),
        (0, 65535),
    ]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (443, 443, (443, 443)),
        (-5, 80, (0, 80)),
        (60000, 70000, (60000, 65535)),
        (0, 65536, (0, 65535)),  # 65536 is no port 0
        (65536 + 22, 65536 + 22, (65535, 0)),  # nor is 65558 port 22
        (-10, -1, (65535, 0)),
        (80, 79, (80, 79)),
    ],
)
def test_bounds_beyond_the_ports_there_are_are_cut_and_never_wrap(
    first: int, last: int, expected: tuple[int, int]
) -> None:
    [(lowest, highest)] = bounds(m.Filter("tcp", first, last))
    assert (lowest, highest) == expected
    assert 0 <= lowest <= 65535
    assert 0 <= highest <= 65535


def test_a_filter_that_admits_no_port_is_not_left_out() -> None:
    """Without any filter the resource would admit everything."""
    assert len(engine_filters((m.Filter("tcp", 70000, 80000),))) == 1
