"""Flow records on the disk until they are uploaded (data-plane §5.8, control-plane-protocol §7.3).

```
<root>/<role>/<policy authorization>/token
                                     1790000000-0123456789abcdef.json
                                     1790000060-fedcba9876543210.refused
```

A thread of its own writes: what has come meanwhile goes into one file per authorization, so that a burst costs one
fsync and not one each (the published peers write a file per record). A file is `{"checksum": …, "payload": […]}` with
the CRC-32 of the payload, and appears whole or not at all: it is written under another name, brought to the disk, then
renamed. What the portal refuses for good is kept aside until its token ends. Directories are for their owner only,
since a token lies in each.

Everything is bounded: records that wait for the disk, bytes in all, and bytes of one authorization, so that a device
which opens flows without end loses its own records; what is there stays, what comes is lost. A disk that is full, or
may not be written, is said once, and lost records are counted until it can be written again.
"""

import contextlib
import json
import logging
import os
import queue
import secrets
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from wardgate.connect.flow_logging import KeepFlows, KeepToken, KeptFlow

MAX_WAITING: Final = 10_000  # records that wait for the writer (data-plane §9.4)
MAX_BYTES: Final = 256 * 1024 * 1024  # ours
SHARE: Final = 8  # one authorization has at most this part of all; ours
RECORDS_A_FILE: Final = 1_000
DRAIN_S: Final = 5.0  # at the end of the process (data-plane §9.4)
GRACE_S: Final = 60.0  # directories without a token are younger while one is made
TOKEN: Final = "token"  # noqa: S105 - a file's name
_RECORDS: Final = ".json"
_REFUSED: Final = ".refused"
_UNFINISHED: Final = ".unfinished"

log = logging.getLogger(__name__)

_Key = tuple[str, str]  # role, policy authorization


@dataclass(frozen=True, slots=True)
class Spooled:
    """Records of one authorization, oldest first, with the files that they lie in."""

    files: tuple[Path, ...]
    records: tuple[msgspec.Raw, ...]


@dataclass(slots=True)
class _Stored:
    """What lies on the disk, as far as bounds need it."""

    sizes: dict[Path, int] = field(default_factory=dict)
    of_one: defaultdict[Path, int] = field(default_factory=lambda: defaultdict(int))
    total: int = 0

    def add(self, path: Path, size: int) -> None:
        self.sizes[path] = size
        self.of_one[path.parent] += size
        self.total += size

    def remove(self, path: Path) -> None:
        size = self.sizes.pop(path, 0)
        self.total -= size
        self.of_one[path.parent] -= size
        if self.of_one[path.parent] <= 0:
            del self.of_one[path.parent]


class FlowSpool:
    """Writes from a thread of its own; the other methods touch the disk too and are for threads."""

    def __init__(self, root: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Nothing is touched before `start`."""
        self._root: Final = root
        self._max_bytes: Final = max_bytes
        self._queue: Final[queue.Queue[KeepFlows | KeepToken | None]] = queue.Queue()
        self._waiting = 0
        self._lock: Final = threading.Lock()
        self._stored = _Stored()
        self._tokens: dict[_Key, bool] = {}
        self._lost = 0
        self._written = 0
        self._complaint: str | None = None
        self._thread = threading.Thread(target=self._write_all, name="flow-log-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Write what waits, for 5 s at most, and end the thread."""
        self._queue.put(None)
        self._thread.join(DRAIN_S)

    def settle(self) -> None:
        """Wait until everything that was put so far is on the disk, or lost."""
        self._queue.join()

    def counts(self) -> dict[str, int]:
        """What `/metrics` says."""
        return {
            "flow_records_spooled": self._written,
            "flow_records_dropped": self._lost,
            "flow_spool_bytes": self._stored.total,
        }

    def put(self, what: KeepFlows | KeepToken) -> None:
        """Write it soon; too many records at once are dropped and counted."""
        records = len(what.flows) if isinstance(what, KeepFlows) else 0
        with self._lock:
            if records and self._waiting + records > MAX_WAITING:
                self._lost += records
                return
            self._waiting += records
        self._queue.put(what)

    # ── for the uploader ────────────────────────────────────────────────────────────────────────────────────

    def authorizations(self) -> list[Path]:
        """The directories of all authorizations that have records, those with the oldest first."""
        found = []
        for directory in self._directories():
            files = _files(directory, _RECORDS)
            if files:
                found.append((files[0].name, directory))
        return [directory for _, directory in sorted(found)]

    def token(self, directory: Path) -> str | None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (directory / TOKEN).read_text()
        return None

    def read(self, directory: Path, *, at_most: int) -> Spooled:
        """Read the oldest records, whole files; at least one file. Damaged files are removed."""
        files: list[Path] = []
        records: list[msgspec.Raw] = []
        for path in _files(directory, _RECORDS):
            if records and len(records) >= at_most:
                break
            try:
                found = _decode(path.read_bytes())
            except OSError:
                continue
            except ValueError:
                log.warning("a damaged file of flow records was removed", extra={"file": path.name})
                self.remove([path])
                continue
            if records and len(records) + len(found) > at_most:
                break
            files.append(path)
            records += found
        return Spooled(tuple(files), tuple(records))

    def remove(self, files: Iterable[Path]) -> None:
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()
            with self._lock:
                self._stored.remove(path)

    def set_aside(self, files: Iterable[Path]) -> None:
        """The portal refuses these for good; they stay until their token ends."""
        for path in files:
            aside = path.with_suffix(_REFUSED)
            with contextlib.suppress(OSError):
                path.rename(aside)
                with self._lock:
                    size = self._stored.sizes.get(path, 0)
                    self._stored.remove(path)
                    self._stored.add(aside, size)

    def prune(self, has_ended: Callable[[str], bool], *, now: float) -> None:
        """Remove the directories whose token `has_ended` or, after a minute, is missing. `now` is Unix time."""
        for directory in self._directories():
            token = self.token(directory)
            if token is None:
                with contextlib.suppress(OSError):
                    if now - directory.stat().st_mtime > GRACE_S:
                        self._remove_directory(directory)
            elif has_ended(token):
                self._remove_directory(directory)

    def _directories(self) -> Iterator[Path]:
        for role in ("initiator", "responder"):
            with contextlib.suppress(OSError):
                yield from sorted(path for path in (self._root / role).iterdir() if path.is_dir())

    def _remove_directory(self, directory: Path) -> None:
        with contextlib.suppress(OSError):
            for path in list(directory.iterdir()):
                self.remove([path])
            directory.rmdir()
        with self._lock:
            self._tokens.pop((directory.parent.name, directory.name), None)

    # ── the writer ──────────────────────────────────────────────────────────────────────────────────────────

    def _write_all(self) -> None:
        with contextlib.suppress(OSError):
            self._take_stock()
        is_over = False
        while not is_over:
            waiting = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.append(self._queue.get_nowait())
            is_over = None in waiting
            try:
                self._write_some(waiting)
            except Exception:
                log.exception("flow records could not be written")  # those that follow are another matter
            with self._lock:
                self._waiting -= sum(len(what.flows) for what in waiting if isinstance(what, KeepFlows))
            for _ in waiting:
                self._queue.task_done()

    def _write_some(self, waiting: list[KeepFlows | KeepToken | None]) -> None:
        flows: defaultdict[_Key, list[KeptFlow]] = defaultdict(list)
        for what in waiting:
            if isinstance(what, KeepToken):
                with self._complaining(0):
                    self._keep_token(what)
            elif isinstance(what, KeepFlows):
                for flow in what.flows:
                    flows[flow.role, flow.authorization_id].append(flow)
        for key, group in flows.items():
            for start in range(0, len(group), RECORDS_A_FILE):
                part = group[start : start + RECORDS_A_FILE]
                with self._complaining(len(part)):
                    self._keep_flows(key, part)

    def _take_stock(self) -> None:
        """Learn what an earlier process has left; what it did not finish goes."""
        for directory in self._directories():
            for path in directory.iterdir():
                if path.suffix == _UNFINISHED:
                    path.unlink(missing_ok=True)
                elif path.name != TOKEN:
                    with self._lock, contextlib.suppress(OSError):
                        self._stored.add(path, path.stat().st_size)

    @contextlib.contextmanager
    def _complaining(self, records: int) -> Iterator[None]:
        """Log what the disk refuses, once, and count the records that are lost by it."""
        try:
            yield
        except OSError as error:
            self._complain(f"{self._root}: {error.strerror or error}")
            self._lose(records)

    def _complain(self, complaint: str) -> None:
        if self._complaint != complaint:
            self._complaint = complaint
            log.warning("flow records cannot be kept and are lost", extra={"reason": complaint})

    def _lose(self, count: int) -> None:
        with self._lock:
            self._lost += count

    def _keep_token(self, kept: KeepToken) -> None:
        directory = self._root / kept.role / kept.authorization_id
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for one in (directory, directory.parent, self._root):
            one.chmod(0o700)
        _write(directory / TOKEN, kept.token.encode())
        with self._lock:
            self._tokens[kept.role, kept.authorization_id] = True

    def _keep_flows(self, key: _Key, flows: list[KeptFlow]) -> None:
        role, authorization_id = key
        directory = self._root / role / authorization_id
        if key not in self._tokens and not (directory / TOKEN).exists():
            return  # its policy wants no records
        content = _encode(flows)
        has_room = (
            self._stored.total + len(content) <= self._max_bytes
            and self._stored.of_one.get(directory, 0) + len(content) <= self._max_bytes // SHARE
        )
        if not has_room:
            self._complain("the spool is full: is the portal out of reach?")
            self._lose(len(flows))
            return
        path = directory / f"{int(time.time()):010d}-{secrets.token_hex(8)}{_RECORDS}"
        _write(path, content)
        with self._lock:
            self._stored.add(path, len(content))
            self._written += len(flows)
        if self._complaint is not None:
            log.info("flow records are kept again", extra={"lost": self._lost})
            self._complaint = None


def _files(directory: Path, suffix: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in directory.iterdir() if path.suffix == suffix)
    return []


def _encode(flows: list[KeptFlow]) -> bytes:
    payload = msgspec.json.encode([flow.record for flow in flows])
    return b'{"checksum":%d,"payload":%b}' % (zlib.crc32(payload), payload)


class _File(msgspec.Struct):
    checksum: int
    payload: msgspec.Raw


def _decode(content: bytes) -> list[msgspec.Raw]:
    """Return the records of a file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        file = msgspec.json.decode(content, type=_File)
        if zlib.crc32(bytes(file.payload)) != file.checksum:
            raise ValueError("the checksum is wrong")
        return msgspec.json.decode(file.payload, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, json.JSONDecodeError) as error:
        raise ValueError(str(error)) from None


def _write(path: Path, content: bytes) -> None:
    """Have the file there whole, with mode 0600, even if the power goes."""
    unfinished = path.with_suffix(_UNFINISHED)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
