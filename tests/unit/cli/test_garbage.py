"""The collector of garbage in a process that loads much, or serves long."""

import gc
from collections.abc import Iterator

import pytest

from wardgate.cli.garbage import collect_in_a_quiet_moment, loading, settle


@pytest.fixture(autouse=True)
def _unsettled() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_no_pass_interrupts_the_loading_of_a_program_and_they_come_again_after_it() -> None:
    def fail() -> None:
        with loading():
            assert not gc.isenabled()
            raise ImportError

    assert gc.isenabled()
    with pytest.raises(ImportError):
        fail()
    assert gc.isenabled()


def test_who_has_turned_the_collector_off_finds_it_off() -> None:
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_settled_process_has_what_was_there_out_of_the_way_short_passes_and_full_ones_rarely() -> None:
    young, middle, full = 700, 10, 10  # Python's own; another test may have settled this process
    gc.set_threshold(young, middle, full)
    settle()
    settled_young, settled_middle, settled_full = gc.get_threshold()
    assert gc.get_freeze_count() > 10_000
    assert settled_young * (settled_middle + 2) < young * (middle + 1)
    assert 1000 * settled_full > young * middle * full


def test_a_quiet_moment_is_used_if_there_is_something_to_look_through() -> None:
    gc.set_threshold(100_000)
    gc.collect()
    collect_in_a_quiet_moment()
    assert gc.get_count()[0] < 500  # nothing was done, and this took little
    kept = [[] for _ in range(1500)]
    assert gc.get_count()[0] > 1000
    collect_in_a_quiet_moment()
    assert gc.get_count()[0] < 1000
    assert len(kept) == 1500
