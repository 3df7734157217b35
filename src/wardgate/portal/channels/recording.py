"""Writes down what is said on control channels (`wardgate portal --record-frames DIR`): a file for each connection,
secrets taken out, as `wardgate.wire.transcript` describes and `wardgate protocol replay` reads.

Meant for a while, to look at one peer: every frame is parsed once more and written at once. Files and connections
are bounded; beyond that, and when the disk takes no more, the portal goes on and nothing is written.
"""

import json
import logging
import os
from collections.abc import Mapping
from io import TextIOBase
from pathlib import Path
from typing import Any, Final

from wardgate.portal.environment import Clock
from wardgate.wire.dialect import Dialect
from wardgate.wire.transcript import redacted_frame, redacted_upgrade

log = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_FILES: Final = 1000
"""In the directory, those of earlier runs included: then somebody has to look at them."""


class Recorder:
    """Begins the transcripts of one process in a directory, which is made if it is not there.

    Raises:
        OSError: the directory cannot be made or read.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._clock = clock
        self._files = sum(one.suffix == ".jsonl" for one in directory.iterdir())
        self._has_told = False

    def begin(
        self, dialect: Dialect, path: str, query: str, headers: Mapping[str, str]
    ) -> "Recording | None":
        """Begin the transcript of a connection that was let in; None if there are too many."""
        if self._files >= MAX_FILES:
            self._tell("no more control channels are recorded: there are enough files")
            return None
        now = self._clock.now()
        name = f"{now:%Y%m%dT%H%M%S.%f}-{dialect.kind.value}"
        for number in range(MAX_FILES):
            file = self._directory / f"{name}-{number}.jsonl"
            try:
                descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            except OSError as error:
                self._tell("control channels cannot be recorded", error=str(error))
                return None
            self._files += 1
            recording = Recording(os.fdopen(descriptor, "w", encoding="utf-8"), dialect, self._clock)
            recording.write("upgrade", redacted_upgrade(path, query, headers))
            return recording
        return None

    def _tell(self, message: str, **fields: str) -> None:
        if not self._has_told:
            self._has_told = True
            log.warning(message, extra={"directory": str(self._directory), **fields})


class Recording:
    """The transcript of one connection."""

    def __init__(self, file: TextIOBase, dialect: Dialect, clock: Clock) -> None:
        self._file: TextIOBase | None = file
        self._dialect = dialect
        self._clock = clock
        self._began_at_s = clock.monotonic()
        self._bytes = 0

    def received(self, text: str) -> None:
        if self._file is not None:
            self.write("peer-to-portal", redacted_frame(text))

    def sent(self, text: str) -> None:
        if self._file is not None:
            self.write("portal-to-peer", redacted_frame(text))

    def closed(self, code: int | None, *, by: str) -> None:
        self.write("close", {"code": code, "by": by})
        self._end()

    def write(self, direction: str, frame: Any) -> None:
        if self._file is None:
            return
        line = json.dumps(
            {
                "at_s": round(self._clock.monotonic() - self._began_at_s, 4),
                "peer": self._dialect.kind.value,
                "generation": f"v{int(self._dialect.generation)}",
                "direction": direction,
                "frame": frame,
            }
        )
        self._bytes += len(line) + 1
        is_cut = self._bytes > MAX_FILE_BYTES and direction != "cut"
        try:
            if not is_cut:
                # At once: what is looked for may be what ends the process.
                self._file.write(f"{line}\n")
                self._file.flush()
        except OSError as error:
            log.warning("the transcript of a control channel ends here", extra={"error": str(error)})
            self._end()
        if is_cut:
            self.write("cut", None)
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                log.debug("a transcript could not be closed")
