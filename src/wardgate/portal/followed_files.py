"""Files that others replace while the portal runs: when a change is complete enough to be read.

They are looked at from time to time and have changed when they differ from what was last taken and have been
the same twice: a renewal that writes one file first and another a moment later is one change, and nobody
reads half a file.
"""

from pathlib import Path

_Stamp = tuple[tuple[int, int, int] | None, ...]


class FollowedFiles:
    """Knows the files as they were last taken; at first, as they are now."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._taken = self._stamp()

    def take_change(self) -> bool:
        """Look at the files; tell, once, whether they have changed and have stayed the same since the last look."""
        before, self._seen = self._seen, self._stamp()
        if self._seen == self._taken or self._seen != before:
            return False
        self._taken = self._seen
        return True

    def _stamp(self) -> _Stamp:
        return tuple(_stamp_of(path) for path in self._paths)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
