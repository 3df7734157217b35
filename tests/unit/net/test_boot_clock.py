from collections.abc import Iterable

import pytest

from wardgate.net import boot_clock
from wardgate.net.boot_clock import ClockComparison, ClockNews, ClockReading, read_clocks, watch_clocks


def reading(*, at: float, asleep: float = 0.0, wall: float = 1_800_000_000.0) -> ClockReading:
    """`at`: seconds that the machine has run; `wall`: the wall time at which it started."""
    return ClockReading(boot=at + asleep, monotonic=at, wall=wall + at + asleep)


def news(*readings: ClockReading) -> list[ClockNews | None]:
    first, *later = readings
    comparison = ClockComparison(first)
    return [comparison.compare(reading) for reading in later]


def test_clocks_that_run_alike_are_no_news() -> None:
    assert news(reading(at=5), reading(at=7), reading(at=5000)) == [None, None]


def test_a_sleep_is_told_once_with_its_length_and_is_no_step_of_the_wall_clock() -> None:
    told = news(reading(at=5), reading(at=7, asleep=3600), reading(at=9, asleep=3600))

    assert told == [ClockNews(slept_s=3600.0, stepped_s=0.0), None]
    assert told[0] is not None
    assert told[0].is_long_sleep


def test_a_short_sleep_is_told_and_is_not_long() -> None:
    [told] = news(reading(at=5), reading(at=7, asleep=2))

    assert told is not None
    assert (told.slept_s, told.is_long_sleep) == (2.0, False)


def test_a_wall_clock_that_was_set_is_told_once_in_either_direction() -> None:
    start = 1_800_000_000.0
    told = news(
        reading(at=5),
        reading(at=7, wall=start + 90),
        reading(at=9, wall=start + 90),
        reading(at=11, wall=start - 10),
    )

    assert told == [ClockNews(0.0, 90.0), None, ClockNews(0.0, -100.0)]


def test_a_slow_drift_adds_up() -> None:
    told = news(*(reading(at=n, wall=1_800_000_000.0 + n * 0.3) for n in range(5)))

    assert [each is not None for each in told] == [False, False, False, True]


def test_a_sleep_from_which_the_wall_clock_comes_back_wrong_is_both() -> None:
    [told] = news(reading(at=5), reading(at=7, asleep=100, wall=1_800_000_000.0 - 30))

    assert told == ClockNews(slept_s=100.0, stepped_s=-30.0)


def test_the_machines_own_clocks_are_no_news_to_each_other() -> None:
    assert ClockComparison(read_clocks()).compare(read_clocks()) is None


async def test_the_watch_calls_for_each_piece_of_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_clock, "CHECK_S", 0)
    told: list[ClockNews] = []

    with pytest.raises(StopAsyncIteration):
        await watch_clocks(
            told.append,
            read=_one_by_one(
                [reading(at=0), reading(at=2), reading(at=4, asleep=50), reading(at=6, asleep=50)]
            ),
        )

    assert told == [ClockNews(slept_s=50.0, stepped_s=0.0)]


class _one_by_one:  # noqa: N801 - reads as the function that it is
    def __init__(self, readings: Iterable[ClockReading]) -> None:
        self._readings = iter(readings)

    def __call__(self) -> ClockReading:
        for each in self._readings:
            return each
        raise StopAsyncIteration
