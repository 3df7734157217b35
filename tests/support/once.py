"""What tests fetch or build once and keep: processes that want it at the same time wait for the first of them."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone_at(place: Path) -> Iterator[None]:
    """Let no other process of the tests be between here and the end of the block for this file or directory."""
    place.parent.mkdir(parents=True, exist_ok=True)
    # Beside it: what makes it may empty it first.
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
