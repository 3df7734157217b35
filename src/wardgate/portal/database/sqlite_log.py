"""Whether a SQLite file and the write-ahead log beside it belong together.

A log that outlived a crash is replayed into whatever file lies beside it. If that file is of another moment (an old
copy was put in its place, and the log forgotten), the two make a database that never was. SQLite cannot tell; here
what the two make is looked at before anything is written to the file:

- each commit in the log says how many pages the database has (https://www.sqlite.org/fileformat2.html): none
  of them says what the file's first page says, then they are strangers;
- the result is no whole database;
- an account's counter is not that of its last change, though one transaction writes both.
"""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from wardgate.portal.database.errors import Unusable

_LOG_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_LOST: Final = """
    SELECT count(*) FROM change_counters WHERE sequence <> (
        SELECT coalesce(max(sequence), change_counters.sequence) FROM changes
        WHERE changes.account_id = change_counters.account_id
    )
"""


def require_matching_log(path: Path) -> None:
    """Check a database that was not closed in order; one without a log costs nothing.

    Raises:
        Unusable: file and log are of different moments, or the file is damaged.
    """
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or log.stat().st_size == 0:
        return
    if not _is_whole(path, log):
        raise Unusable(
            f"{path} and {log.name} do not belong together, or are damaged: was an old copy put in place of the"
            f" database, and the log forgotten? Nothing was changed. Move {log.name} and {path.name}-shm away if the"
            " copy is the one that you want, or restore a backup (`wardgate restore`)"
        )


def _is_whole(path: Path, log: Path) -> bool:
    sizes = set(_committed_sizes(log))
    try:
        # Read-only: the log is looked through, and not yet written to the file.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            if sizes and pages not in sizes:
                return False
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
            return faults == ["ok"] and connection.execute(_LOST).fetchone() == (0,)
    except sqlite3.DatabaseError:
        return False


def _committed_sizes(log: Path) -> Iterator[int]:
    """Yield how many pages the database has after each commit; nothing if not even the first is whole.

    Of the later ones a torn one may be among them: more sizes only make the check more lenient.
    """
    with log.open("rb") as file:
        head = file.read(_LOG_HEADER_BYTES)
        if len(head) < _LOG_HEADER_BYTES:
            return
        page_bytes, salts = struct.unpack(">I", head[8:12])[0], head[16:24]
        sums: _Sums | None = _Sums(is_big_endian=head[3] & 1 == 1)
        assert sums is not None
        sums.add(head[:24])
        while True:
            frame, page = file.read(_FRAME_HEADER_BYTES), file.read(page_bytes)
            if len(page) < page_bytes or frame[8:16] != salts:
                return
            size = struct.unpack(">I", frame[4:8])[0]
            if sums is not None:
                sums.add(frame[:8])
                sums.add(page)
                if sums.written != frame[16:24]:
                    return
                sums = None if size else sums
            if size:
                yield size


class _Sums:
    """The running checksum of a log (fileformat2.html)."""

    def __init__(self, *, is_big_endian: bool) -> None:
        self._order = ">" if is_big_endian else "<"
        self._first = self._second = 0

    def add(self, content: bytes) -> None:
        words = struct.unpack(f"{self._order}{len(content) // 4}I", content)
        for first, second in zip(words[::2], words[1::2], strict=True):
            self._first = (self._first + first + self._second) & 0xFFFFFFFF
            self._second = (self._second + second + self._first) & 0xFFFFFFFF

    @property
    def written(self) -> bytes:
        return struct.pack(">II", self._first, self._second)
