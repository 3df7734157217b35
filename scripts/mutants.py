#!/usr/bin/env python3
"""Plant the faults listed in tests/mutants/*.toml, one at a time, and report which gate of the tests finds each.

A fault is planted in a copy of the tree (.cache/mutants/, kept between runs so that a Rust fault costs an
incremental build), and the gate that its entry names is run there: tests in a fresh child of a process that has
imported other people's packages and nothing of the tree. A gate must pass without any fault first.
A fault that its gate lets through is shown to wider gates: the tests of its package, all unit and property
tests, the simulation; a Rust fault to all crates.

Outcomes: `found` by the gate named; `waited`, likewise, but the gate only ran into a time limit: it did so
twice and passed right after without the fault, so that a busy machine alone finds nothing; `elsewhere`, by a
wider gate only (name that one, or write the test); `SURVIVED`; `invalid`: the text to replace does not occur
exactly once, the fault does not compile, or the gate fails or is empty without it. Tests get several times
their usual limit.
Exit code: 0 when every fault was found somewhere, 1 when one survived or an entry is invalid, 2 for wrong usage.

Examples:
  make mutants                                      everything
  make mutants ARGS="--only 'core/*' --jobs 2"      one area
  scripts/mutants.py --only '*dns*' --list          what there is, without running anything
  scripts/mutants.py --only some-id --json out.json one fault, with the result for programs
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import fnmatch
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
LIST = Path("tests/mutants")
SERVER = ROOT / "scripts" / "pytest_server.py"
PRELOADED = LIST / "preloaded.txt"  # packages of others that a server of tests imports once
NOT_COPIED = {
    ".git",
    ".venv",
    ".cache",
    "target",
    "__pycache__",
    "bench-results",
    ".mypy_cache",
    ".ruff_cache",
}
GATE_LIMIT_S = 900  # each test has a limit of its own below this
TEST_LIMIT_S = 90
TIME_LIMITS = re.compile(r"Timeout \(>|TimeoutError|no end after")  # a test's, a wait's within it, a gate's
STOP_GRACE_S = 5
CARGO = "cargo:"
# The test of this list fails in any tree with a fault: that finds nothing.
WIDE_FOLDERS = ("tests/unit", "tests/portal", "tests/property")
SIMULATION = "tests/simulation"


class InvalidEntry(Exception):
    """An entry of the list cannot be planted or judged; the message says why."""


@dataclass(frozen=True)
class Mutant:
    """One fault of the list."""

    id: str
    area: str
    file: str
    before: str
    after: str
    fault: str
    gate: str

    @property
    def is_rust(self) -> bool:
        return self.gate.startswith(CARGO)


@dataclass(frozen=True)
class Result:
    """What became of one fault.

    `seconds`: of the gate that found it, or of all that did not; `detail`: the test that failed, or what is wrong.
    """

    id: str
    area: str
    fault: str
    outcome: str
    found_by: str | None
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Run:
    """How one gate ended: how many tests passed, whether any failed, and the end of its output."""

    passed: int
    failed: bool
    seconds: float
    output: str
    is_broken: bool = False  # it could not be run at all

    @property
    def has_timed_out(self) -> bool:
        return self.failed and TIME_LIMITS.search(self.output) is not None

    @property
    def why_useless(self) -> str:
        """Why the gate says nothing when there is no fault; empty: it passes."""
        if self.is_broken or self.failed:
            return f"fails without the fault\n{self.output}"
        return "" if self.passed else f"has no tests\n{self.output}"

    @property
    def first_failure(self) -> str:
        """The test that found the fault, as far as the output names it."""
        for pattern in (r"^FAILED (\S+)", r"^    (\S+)$"):  # pytest's summary, then cargo's
            if named := re.search(pattern, self.output, re.MULTILINE):
                return named[1]
        return ""


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        mutants = [one for one in load(options.root / LIST) if selected(one, options.only)]
    except InvalidEntry as invalid:
        print(f"mutants: {invalid}", file=sys.stderr)
        return 2
    if not mutants:
        print(f"mutants: no entry fits --only {' '.join(options.only)}; --list shows all", file=sys.stderr)
        return 2
    if options.list:
        for mutant in mutants:
            print(f"{mutant.area}/{mutant.id}\n    {mutant.fault}\n    {mutant.file}  ←  {mutant.gate}")
        print(f"{len(mutants)} faults")
        return 0
    campaign = Campaign(options.root, options.cache, options.jobs, mutants, is_wide=not options.gate_only)
    try:
        with signals_raise(signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            results = campaign.run()
    except Interrupted as interrupted:
        print(f"mutants: stopped by {interrupted.signal.name}", file=sys.stderr)
        return 128 + interrupted.signal
    print(table(results))
    if options.json is not None:
        options.json.write_text(
            json.dumps([asdict(one) for one in results], indent=2, ensure_ascii=False) + "\n"
        )
    return 1 if any(one.outcome in ("SURVIVED", "invalid") for one in results) else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mutants.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        metavar="GLOB",
        action="append",
        default=[],
        help="ids, or area/id, that fit a pattern of the shell; may be given several times",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=os.cpu_count() or 1, help="gates at once (here: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there as well")
    parser.add_argument(
        "--gate-only",
        action="store_true",
        help="show a fault to the gate that its entry names and no wider one",
    )
    parser.add_argument("--list", action="store_true", help="show the faults selected and run nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)  # for its own tests
    parser.add_argument("--cache", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    # Gates run in the copy: what leads there must not depend on where they stand.
    options.cache = (options.cache or options.root / ".cache" / "mutants").resolve()
    return options


def load(folder: Path) -> list[Mutant]:
    """Read every entry of the list. Raises InvalidEntry when one is badly formed or an id is taken twice."""
    mutants: list[Mutant] = []
    wanted = {"id", "file", "before", "after", "fault", "gate"}
    for path in sorted(folder.glob("*.toml")):
        try:
            entries = tomllib.loads(path.read_text()).get("mutant", [])
        except tomllib.TOMLDecodeError as error:
            raise InvalidEntry(f"{path.name}: {error}") from error
        for entry in entries:
            if entry.keys() != wanted or not all(isinstance(value, str) for value in entry.values()):
                raise InvalidEntry(
                    f"{path.name}: {entry.get('id', '?')}: wants the texts {', '.join(sorted(wanted))}"
                )
            mutants.append(Mutant(area=path.stem, **entry))
    for name, count in Counter(mutant.id for mutant in mutants).items():
        if count > 1:
            raise InvalidEntry(f"{name} is the id of {count} entries")
    return mutants


class Interrupted(BaseException):
    """The run was told to end; `signal` is what told it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def signals_raise(*signals: signal.Signals) -> Iterator[None]:
    """Make the first of these signals raise Interrupted in the main thread; those that follow must not
    disturb the clearing up.
    """

    def interrupt(number: int, _: object) -> None:
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(number)

    former = {one: signal.signal(one, interrupt) for one in signals}
    try:
        yield
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)


def selected(mutant: Mutant, patterns: list[str]) -> bool:
    names = (mutant.id, f"{mutant.area}/{mutant.id}")
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns for name in names)


def plant(mutant: Mutant, root: Path) -> str:
    """The file's text with the fault in it. Raises InvalidEntry when it does not fit the present tree."""
    path = root / mutant.file
    if not path.is_file():
        raise InvalidEntry(f"{mutant.file} does not exist")
    text = path.read_text()
    if (count := text.count(mutant.before)) != 1:
        raise InvalidEntry(f"the text to replace occurs {count} times in {mutant.file}")
    faulty = text.replace(mutant.before, mutant.after)
    if faulty == text:
        raise InvalidEntry("the fault changes nothing")
    if path.suffix == ".py":
        try:
            compile(faulty, mutant.file, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise InvalidEntry(f"the fault does not compile: {error}") from error
    return faulty


class Campaign:
    """All faults selected, spread over workers that own a copy of the tree each."""

    def __init__(
        self, root: Path, cache: Path, jobs: int, mutants: list[Mutant], *, is_wide: bool = True
    ) -> None:
        self._root, self._cache, self._jobs = root, cache, jobs
        self._mutants = mutants
        self._is_wide = is_wide
        self._running = Running()
        self._lock = threading.Lock()
        self._done = 0
        self._free: list[Workplace] = []
        self._unfaulted: dict[str, Run] = {}

    def run(self) -> list[Result]:
        """Results in the list's order. Progress goes to standard error."""
        work = list(chores(self._mutants))
        with contextlib.ExitStack() as held:
            jobs = min(self._jobs, len(work))
            threads_each = max(1, (os.cpu_count() or 1) // jobs)
            for number in range(jobs):
                self._free.append(
                    held.enter_context(
                        workplace(self._root, self._cache / str(number), threads_each, self._running)
                    )
                )
            pool = held.enter_context(ThreadPoolExecutor(jobs))
            try:
                found = [one for results in pool.map(self._chore, work) for one in results]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._running.stop()
                raise
        order = {mutant.id: number for number, mutant in enumerate(self._mutants)}
        return sorted(found, key=lambda result: order[result.id])

    def _chore(self, chore: list[list[Mutant]]) -> list[Result]:
        with self._lock:
            # Everything in Rust is one chore, and the first: it goes where the last run built it, others stay away.
            place = self._free.pop(0 if chore[0][0].is_rust else -1)
        try:
            return [result for group in chore for result in self._group(place, group)]
        finally:
            with self._lock:
                self._free.append(place)

    def _group(self, place: Workplace, group: list[Mutant]) -> Iterator[Result]:
        """Faults with one gate in common: it must pass once without any of them."""
        useless = self._without_fault(place, group[0].gate).why_useless
        for mutant in group:
            invalid = verdict(mutant, "invalid", detail=f"the gate {useless}") if useless else None
            result = invalid or self._judge(place, mutant)
            self._tell(result)
            yield result

    def _judge(self, place: Workplace, mutant: Mutant) -> Result:
        started = time.monotonic()
        notes = []
        try:
            for number, gate in enumerate(place.gates(mutant) if self._is_wide else [mutant.gate]):
                run = self._with_fault(place, mutant, gate)
                if not run.failed:
                    continue
                if number and (useless := self._without_fault(place, gate).why_useless):
                    notes.append(f"`{gate}` {useless}")
                    continue
                outcome = "elsewhere" if number else "found"
                if run.has_timed_out:
                    run = self._with_fault(place, mutant, gate)
                    if not run.failed or (run.has_timed_out and place.run(gate).failed):
                        notes.append(f"`{gate}` ran into a time limit, but not for the fault")
                        continue
                    if run.has_timed_out and not number:
                        outcome = "waited"
                return verdict(
                    mutant, outcome, gate, run.seconds, "\n".join([run.first_failure, *notes]).strip()
                )
        except InvalidEntry as invalid:
            return verdict(mutant, "invalid", detail=str(invalid))
        return verdict(mutant, "SURVIVED", None, time.monotonic() - started, "\n".join(notes))

    def _with_fault(self, place: Workplace, mutant: Mutant, gate: str) -> Run:
        with place.planted(mutant):
            run = place.run(gate)
        if run.is_broken:
            raise InvalidEntry(f"`{gate}` cannot be run with the fault\n{run.output}")
        return run

    def _without_fault(self, place: Workplace, gate: str) -> Run:
        """How a gate ends on the tree as it is, run when first asked for."""
        if gate not in self._unfaulted:
            self._unfaulted[gate] = place.run(gate)
        return self._unfaulted[gate]

    def _tell(self, result: Result) -> None:
        with self._lock:
            self._done += 1
            by = f"by {result.found_by} " if result.found_by else ""
            print(
                f"[{self._done}/{len(self._mutants)}] {result.outcome:9} {result.area}/{result.id} "
                f"{by}({result.seconds:.1f} s)",
                *(
                    ["    " + result.detail.replace("\n", "\n    ")]
                    if result.detail and result.outcome != "found"
                    else []
                ),
                sep="\n",
                file=sys.stderr,
                flush=True,
            )


def verdict(
    mutant: Mutant, outcome: str, found_by: str | None = None, seconds: float = 0.0, detail: str = ""
) -> Result:
    return Result(mutant.id, mutant.area, mutant.fault, outcome, found_by, seconds, detail)


def chores(mutants: Iterable[Mutant]) -> Iterator[list[list[Mutant]]]:
    """What one worker does in one go: groups of faults with a gate in common; all Rust is one, for one build
    directory.
    """
    groups: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        groups.setdefault(mutant.gate, []).append(mutant)
    if rust := [group for gate, group in groups.items() if gate.startswith(CARGO)]:
        yield rust
    yield from ([group] for gate, group in groups.items() if not gate.startswith(CARGO))


@dataclass
class Workplace:
    """One worker's copy of the tree and what its gates are run with."""

    tree: Path
    target: Path
    threads: int
    running: Running
    server: PytestServer | None = None

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        path = self.tree / mutant.file
        faulty = plant(mutant, self.tree)
        whole = path.read_text()
        replace_text(path, faulty)
        try:
            yield
        finally:
            replace_text(path, whole)

    def gates(self, mutant: Mutant) -> list[str]:
        """The named gate, then wider ones."""
        if mutant.is_rust:
            return list(
                dict.fromkeys([mutant.gate, f"{CARGO}{mutant.gate.removeprefix(CARGO).split()[0]}", CARGO])
            )
        parts = Path(mutant.file).parts
        package = (
            Path("tests", "unit", *parts[2:-1]) if parts[:2] == ("src", "wardgate") else Path("tests/unit")
        )
        while not (self.tree / package).is_dir():
            package = package.parent
        own = [str(package)] if package != Path("tests/unit") else []
        wide = [folder for folder in WIDE_FOLDERS if (self.tree / folder).is_dir()]
        wider = [f"{' '.join(wide)} --ignore=tests/unit/mutants"] if wide else []
        if (self.tree / SIMULATION).is_dir():
            wider.append(SIMULATION)
        return list(dict.fromkeys([mutant.gate, *own, *wider]))

    def run(self, gate: str) -> Run:
        if gate.startswith(CARGO):
            return self._cargo(shlex.split(gate.removeprefix(CARGO)))
        return self._pytest(shlex.split(gate))

    def _pytest(self, arguments: list[str]) -> Run:
        wide = any((self.tree / one).is_dir() for one in arguments) and self.threads > 1
        arguments = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", *arguments]
        if wide:
            command = [sys.executable, "-m", "pytest", *arguments, "-n", str(self.threads)]
            ended = self._execute(command, self.tree)
        else:
            # Packages of which one part is a plugin: their own assertions are nobody's concern here.
            quiet = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
            ended = self.running.execute(lambda output: self._server().start([*quiet, *arguments], output))
        # 5: nothing collected, which a fault cannot bring about; any other: pytest itself, its arguments, or
        # somebody who killed it.
        passed = sum(int(number) for number in re.findall(r"(\d+) passed", ended.output))
        return Run(passed, ended.code in (1, 2), ended.seconds, ended.tail, ended.code not in (0, 1, 2, 5))

    def _cargo(self, arguments: list[str]) -> Run:
        chosen = ["-p", arguments[0]] if arguments else ["--workspace"]
        command = ["cargo", "test", "--locked", "--quiet", *chosen]
        built = self._execute([*command, "--no-run"], self.tree / "native")
        if built.code != 0:
            return Run(0, True, built.seconds, built.tail, is_broken=True)
        ended = self._execute([*command, *arguments[1:]], self.tree / "native")
        passed = sum(int(number) for number in re.findall(r"(\d+) passed", ended.output))
        return Run(passed, ended.code != 0, built.seconds + ended.seconds, ended.tail, ended.code < 0)

    def _execute(self, command: list[str], directory: Path) -> Ended:
        return self.running.execute(
            lambda output: subprocess.Popen(
                command,
                cwd=directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )

    def _server(self) -> PytestServer:
        if self.server is None or not self.server.is_alive:
            self.server = PytestServer(self.tree, self._environment())
        return self.server

    def close(self) -> None:
        if self.server is not None:
            self.server.close()

    def _environment(self) -> dict[str, str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.tree / "src"),  # before the editable install of the tree this is a copy of
            "PYTHONHASHSEED": "0",
            "PYTEST_TIMEOUT": str(TEST_LIMIT_S),
            "PATH": f"{os.environ.get('PATH', '')}:{Path.home() / '.cargo' / 'bin'}",
            "CARGO_TARGET_DIR": str(self.target),
            "CARGO_BUILD_JOBS": str(self.threads),
        }
        environment.pop("PYTEST_ADDOPTS", None)
        return environment


@dataclass(frozen=True)
class Ended:
    """A process that ended; `code` is 1 when it was stopped at the limit."""

    code: int
    output: str
    seconds: float

    @property
    def tail(self) -> str:
        return "\n".join(self.output.strip().splitlines()[-15:])


class Process(Protocol):
    """The head of a group of processes."""

    @property
    def pid(self) -> int: ...

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises subprocess.TimeoutExpired."""
        ...


class PytestServer:
    """A process that has imported what tests need of others, and runs pytest in children (`pytest_server.py`)."""

    def __init__(self, tree: Path, environment: dict[str, str]) -> None:
        # Its imports are other people's: it must not find the tree.
        without_tree = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
        command = [sys.executable, str(SERVER), str(tree), str(tree / PRELOADED)]
        self._process = subprocess.Popen(
            command,
            env=without_tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def start(self, arguments: list[str], output: IO[str]) -> Forked:
        assert self._process.stdin is not None
        line = json.dumps({"arguments": arguments, "output": output.name})
        self._process.stdin.write(line.encode() + b"\n")
        return Forked(self, self.told(None)["pid"])

    def told(self, timeout: float | None) -> dict[str, int]:
        """Return what the server says next. Raises subprocess.TimeoutExpired, and Stopped when it has ended."""
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("pytest", timeout or 0)
        line = out.readline()
        if not line:
            raise Stopped
        told: dict[str, int] = json.loads(line)
        return told

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@dataclass(eq=False)
class Forked:
    """One run of a server."""

    server: PytestServer
    pid: int
    code: int | None = None
    lock: threading.Lock = field(
        default_factory=threading.Lock
    )  # its worker waits, and who ends the whole run

    def wait(self, timeout: float | None = None) -> int:
        if not self.lock.acquire(timeout=-1 if timeout is None else timeout):
            raise subprocess.TimeoutExpired("pytest", timeout or 0)
        try:
            if self.code is None:
                self.code = self.server.told(timeout)["code"]
            return self.code
        finally:
            self.lock.release()


class Running:
    """The processes under way, each the head of a group of its own."""

    def __init__(self) -> None:
        self._processes: set[Process] = set()
        self._lock = threading.Lock()
        self._is_stopped = False

    def execute(self, start: Callable[[IO[str]], Process]) -> Ended:
        """Run to the end, or to the limit. Raises Stopped when the whole run is over.

        Args:
            start: begins a process that writes to this file.
        """
        started = time.monotonic()
        # A file: a pipe would be held open by what a test started in a session of its own and left behind.
        with tempfile.NamedTemporaryFile("w+", errors="replace") as output:
            process = self._start(start, output)
            try:
                code, remark = process.wait(GATE_LIMIT_S), ""
            except subprocess.TimeoutExpired:
                self._end(process)
                code, remark = 1, f"\nno end after {GATE_LIMIT_S} s"
            finally:
                self._processes.discard(process)
            if self._is_stopped:
                raise Stopped
            output.seek(0)
            return Ended(code, output.read() + remark, time.monotonic() - started)

    def _start(self, start: Callable[[IO[str]], Process], output: IO[Any]) -> Process:
        with self._lock:
            if self._is_stopped:
                raise Stopped
            process = start(output)
            self._processes.add(process)
            return process

    def stop(self) -> None:
        """End what runs and start nothing more."""
        with self._lock:
            self._is_stopped = True
            under_way = list(self._processes)
        for process in under_way:
            self._end(process)

    def _end(self, process: Process) -> None:
        """Let it clear up, which pytest does when interrupted; then end what is left of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Stopped(Exception):
    """The run is over: nothing more is started."""


@contextlib.contextmanager
def workplace(root: Path, place: Path, threads: int, running: Running) -> Iterator[Workplace]:
    """A worker's copy, brought up to date; only one run at a time may have it."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"mutants: waiting for another run to leave {place}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        tree = place / "tree"
        copy_tree(root, tree)
        environment = tree / ".venv"
        if (root / ".venv").exists() and not environment.is_symlink():
            environment.symlink_to(root / ".venv")
        own = Workplace(tree, place / "target", threads, running)
        try:
            yield own
        finally:
            own.close()


def copy_tree(root: Path, copy: Path) -> None:
    """Make `copy` equal, touching only what differs: builds go by the times of files."""
    wanted = set(files_of(root))
    for name in set(files_of(copy)) - wanted:
        (copy / name).unlink()
    for name in wanted:
        source, target = root / name, copy / name
        data = source.read_bytes()
        if not target.exists() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_bytes(data)
            shutil.copymode(source, target)
            drop_bytecode(target)


def files_of(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_COPIED]
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                yield str(path.relative_to(root))


def replace_text(path: Path, text: str) -> None:
    path.write_text(text)
    drop_bytecode(path)


def drop_bytecode(path: Path) -> None:
    """Bytecode goes by whole seconds and size: a fault planted within the second would not be seen."""
    if path.suffix == ".py":
        for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            cached.unlink()


def table(results: list[Result]) -> str:
    """A line for each fault, and totals per area."""
    width = max(len(f"{one.area}/{one.id}") for one in results)
    lines = ["", f"{'fault':{width}}  outcome    seconds  found by"]
    lines += [
        f"{f'{one.area}/{one.id}':{width}}  {one.outcome:9}  {one.seconds:7.1f}  "
        f"{one.found_by or first_line(one.detail)}"
        for one in results
    ]
    columns = ("found", "waited", "elsewhere", "SURVIVED", "invalid")
    lines += ["", f"{'area':12}" + "".join(f"{name:>11}" for name in columns) + f"{'all':>11}"]
    areas = list(dict.fromkeys(one.area for one in results))
    tests: list[tuple[str, Callable[[Result], bool]]] = [
        (area, lambda one, area=area: one.area == area) for area in areas
    ]
    for name, belongs in [*tests, ("all", lambda _: True)]:
        counted = Counter(one.outcome for one in results if belongs(one))
        lines.append(
            f"{name:12}" + "".join(f"{counted[column]:>11}" for column in columns) + f"{counted.total():>11}"
        )
    return "\n".join(lines)


def first_line(text: str) -> str:
    return text.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
