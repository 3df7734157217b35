"""What the product's programs log while a scene is played: no warning and no error that the scene does not expect
(docs/scenarios.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wardgate.lab.host import Host

_PROGRAMS = frozenset({"portal", "relay", "gateway", "client", "up"})
_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z \[(?P<level>warning|error|critical) *\] (?P<said>.*)$")
_BROKEN = re.compile(r"^(?:Traceback \(most recent call last\)|thread '.*' .*panicked at )")


@dataclass(frozen=True)
class Complaint:
    """`program` is that of the log file, such as `gateway`, on the lab's host `host`."""

    host: str
    program: str
    said: str
    is_error: bool

    def __str__(self) -> str:
        return f"{self.program} on {self.host}: {self.said}"


class SceneLogs:
    """Reads on from where each log file ended when the scene began; files are those of the hosts it is shown."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._read = {path: path.stat().st_size for host in hosts for path in _files(host)}

    def complaints(self, hosts: Iterable[Host]) -> list[Complaint]:
        """What has been logged since the last call, or the beginning."""
        return [line for host in hosts for path in _files(host) for line in self._new(host, path)]

    def _new(self, host: Host, path: Path) -> Iterator[Complaint]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            added = file.read()
        added = added[: added.rfind(b"\n") + 1]  # the rest of a line follows
        self._read[path] = self._read.get(path, 0) + len(added)
        for line in added.decode(errors="replace").splitlines():
            found = _LINE.match(line)
            if found is not None:
                yield Complaint(host.name, path.stem, found["said"], found["level"] != "warning")
            elif _BROKEN.match(line):
                yield Complaint(host.name, path.stem, line, is_error=True)


def _files(host: Host) -> list[Path]:
    return sorted(path for path in (host.directory / "log").glob("*.log") if path.stem in _PROGRAMS)
