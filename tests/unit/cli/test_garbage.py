"""The collector of garbage in a process that loads much, or serves long."""

import gc
from collections.abc import Iterator

import pytest

from wardgate.cli.garbage import loading, settle


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
    assert settled_young * settled_middle < young * middle
    assert settled_young * settled_middle * settled_full > young * middle * full
