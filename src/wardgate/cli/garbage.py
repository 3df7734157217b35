"""How the collector of garbage treats a process of ours.

A pass of the collector is one stretch in which nobody is served. Almost nothing in a portal is garbage that
only the collector finds, but very much is walked through to find it: two hundred thousand objects of modules,
classes and routes, and as many of large accounts.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

_YOUNG_PASS_AFTER: Final = 3000
"""Objects more than were freed, instead of 700: grants that wait to be written down are that many for a moment and then
gone, and a pass would walk through them for nothing. What stays is walked through in quiet moments, before it comes to
that.
"""

_WORTH_A_PASS: Final = 1000
"""Objects more than were freed, for a quiet moment: a pass over them takes a millisecond."""

_MIDDLE_PASS_EVERY: Final = 0
"""Every second pass is over the middle generation too, so that it never is long; 10 is Python's own."""

_FULL_PASS_EVERY: Final = 7_000
"""Passes over the middle generation to one over all: 1000 × 7,000 objects more than were freed, instead of 70,000.

The load of an account with 10,000 people makes 60,000 objects that stay, and a connection makes 150: a pass over 5,000
of them takes a third of a second. What a connection was goes with its end and without the collector
(a test of `tests/interop/test_portal_over_sockets.py` holds it).
"""


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Leave out the passes while modules are loaded, nearly all of which stays: they are a tenth of that time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def collect_in_a_quiet_moment() -> None:
    """Look through what is young, if it is worth it."""
    if gc.get_count()[0] > _WORTH_A_PASS:
        gc.collect(1)


def settle() -> None:
    """Leave alone what is there now, as it lives as long as the process, and look through all else more rarely.

    Nothing is collected before: of what loading leaves, one object in a hundred is garbage, and the pass would take as
    long as the longest that it saves.
    """
    gc.set_threshold(_YOUNG_PASS_AFTER, _MIDDLE_PASS_EVERY, _FULL_PASS_EVERY)
    gc.freeze()
