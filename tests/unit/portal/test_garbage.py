"""The collector of garbage in a process that serves a portal."""

import gc
from collections.abc import Iterator

import pytest

from wardgate.portal.garbage import settle


@pytest.fixture(autouse=True)
def _unsettled() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_a_settled_process_has_what_was_there_out_of_the_way_and_full_passes_rarely() -> None:
    young, middle, full = gc.get_threshold()
    settle()
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[:2] == (young, middle)
    assert gc.get_threshold()[2] > full
