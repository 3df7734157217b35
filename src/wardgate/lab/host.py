"""One lab host: a network, mount and UTS namespace held by a process of ours.

A host has its own copy of /etc, its own /var/lib/wardgate, /run and /tmp-like state directory, so that
resolv.conf, hosts, machine id and backups made by the software under test never touch the real machine.
Programs run in it through `nsenter`. The holder, and every program started here, gets SIGKILL when the thread
that started it ends (PR_SET_PDEATHSIG): start them from a thread that lives as long as the lab.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_ETC_SKIPPED = ("alternatives", "apparmor.d", "apt", "dpkg", "init.d", "java", "systemd", "vim", "X11")
_CERTIFICATES = "ca-certificates.crt"
"""All of them in one file; beside it stand hundreds of links to each, which no host of the lab needs."""
_TOOLS = ("ip", "nft", "nsenter", "unshare", "mount", "hostname", "sysctl", "curl")
_PACKAGES = ("iproute2", "nftables", "util-linux", "mount", "hostname", "procps", "curl")
_PRESSURE = Path("/proc/pressure/cpu")
_STALLED_SHARE = 0.8
_HANGS_S = 180.0  # a command takes moments; while the kernel takes other namespaces down, those that change links wait
_libc = ctypes.CDLL(None, use_errno=True)


class LabUnavailable(Exception):
    """This machine cannot build a lab; the message says what is missing."""


class CommandFailed(Exception):
    """A command inside a host failed; the message holds its output."""

    def __init__(self, arguments: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"`{' '.join(arguments)}` exited with {code}: {output.strip() or 'no output'}")
        self.code = code
        self.output = output


def why_unavailable() -> str | None:
    """One sentence that names what a lab needs and this machine lacks, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root: run it with sudo"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun is missing: load the tun module (modprobe tun), or give the container the device"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"missing commands: {', '.join(missing)} (Debian: apt-get install {' '.join(_PACKAGES)})"
    probe = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "true"], capture_output=True, text=True, check=False
    )
    if probe.returncode != 0:
        return f"the kernel refuses new namespaces: {probe.stderr.strip()}"
    return None


class Host:
    """A namespace with a name. `run` waits for a command, `start` returns a running `Process`."""

    def __init__(self, name: str, state: Path) -> None:
        """Create the namespaces; `state` is a directory of the lab in which this host's files live."""
        self.name = name
        self.directory = state / name
        self.processes: list[Process] = []
        _copy_etc(self.directory / "etc", name)
        for folder in ("lib", "run", "log"):
            (self.directory / folder).mkdir(parents=True)
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "sleep", "infinity"],
            preexec_fn=_die_with_parent,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._holder.pid
        _wait_for_namespaces(self.pid)
        script = f"""set -e
            mount --bind {self.directory / "etc"} /etc
            mount -t tmpfs none /var/lib
            mkdir /var/lib/wardgate
            mount --bind {self.directory / "lib"} /var/lib/wardgate
            mount --bind {self.directory / "run"} /run
            hostname {name}
            ip link set lo up"""
        self.run("sh", "-c", script)

    @property
    def etc(self) -> Path:
        """This host's /etc as seen from outside."""
        return self.directory / "etc"

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs `arguments` in this host, from outside."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--", *arguments]

    def run(
        self, *arguments: str, text: str | None = None, timeout_s: float = _HANGS_S, check: bool = True
    ) -> str:
        """Run a command to its end and return its standard output. Raises CommandFailed."""
        done = subprocess.run(
            self.command(*arguments),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise CommandFailed(arguments, done.returncode, done.stderr + done.stdout)
        return done.stdout

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a long-running program; its output goes to a log file of the host."""
        log = (self.directory / "log" / f"{name}.log").open("ab")
        process = Process(name, self, self.command(*arguments), environment or {}, log)
        self.processes.append(process)
        return process

    def inside(self, action: Callable[[], _T]) -> _T:
        """Call `action` on a thread that has entered this host's network; sockets made there stay in it."""
        outcome: list[_T] = []
        failure: list[BaseException] = []

        def enter() -> None:
            try:
                with Path(f"/proc/{self.pid}/ns/net").open("rb") as namespace:
                    if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                outcome.append(action())
            except BaseException as error:  # noqa: BLE001  # carried over to the caller's thread
                failure.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def connect(self, address: str, port: int, timeout_s: float = 30) -> socket.socket:
        """A TCP connection that leaves from this host."""
        return self.inside(lambda: socket.create_connection((address, port), timeout=timeout_s))

    def set_resolver(self, *servers: str, search: str | None = None) -> None:
        lines = [f"nameserver {server}" for server in servers] + ([f"search {search}"] if search else [])
        (self.etc / "resolv.conf").write_text("\n".join(lines) + "\n")

    def add_hosts(self, names: Mapping[str, str]) -> None:
        """Append name → address lines to this host's /etc/hosts."""
        with (self.etc / "hosts").open("a") as hosts:
            hosts.writelines(f"{address} {name}\n" for name, address in names.items())

    def sysctl(self, **settings: int | str) -> None:
        """Set keys of /proc/sys/net; dots are written as double underscores."""
        for key, value in settings.items():
            self.run("sysctl", "-qw", f"net.{key.replace('__', '.')}={value}")

    def kill(self) -> None:
        """End every program and the namespaces with them, without waiting for it."""
        for process in self.processes:
            process.signal(signal.SIGKILL)
        self._holder.kill()

    def close(self) -> None:
        """End every program and the namespaces with them."""
        self.kill()
        for process in self.processes:
            process.kill()
        self._holder.wait()


class Process:
    """A program running in a host."""

    def __init__(
        self, name: str, host: Host, command: list[str], environment: Mapping[str, str], log: IO[bytes]
    ) -> None:
        self.name = name
        self.host = host
        self.log_path = Path(log.name)
        self._log_start = log.tell()
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            preexec_fn=_die_with_parent,
        )
        log.close()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    def log(self) -> str:
        """What this run has printed so far."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            self._popen.send_signal(number)

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM, then SIGKILL after the time-out; returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        except TimeoutError:
            return self.kill()

    def kill(self) -> int:
        self.signal(signal.SIGKILL)
        return self._popen.wait()

    def wait(self, timeout_s: float) -> int:
        """Wait for its end, as long as `wait_until`; its exit code. Raises TimeoutError."""
        wait_until(lambda: self.exit_code is not None, f"the end of {self.name}", timeout_s)
        return self._popen.wait()

    def cpu_seconds(self) -> float:
        """User and system time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(condition: Callable[[], _T], what: str, limit_s: float, every_s: float = 0.05) -> _T:
    """Poll until `condition` returns something true; its value.

    The limit is of a machine that has nothing else to do: time in which programs wait for a processor counts a fifth.

    Raises:
        TimeoutError: it names `what`.
    """
    started_at, stalled_before_s = time.monotonic(), _stalled_s()
    while True:
        value = condition()
        if value:
            return value
        elapsed_s = time.monotonic() - started_at
        stalled_s = min(_stalled_s() - stalled_before_s, elapsed_s)
        if elapsed_s - _STALLED_SHARE * stalled_s > limit_s:
            raise TimeoutError(f"{what}: not within {limit_s:g} s, of {elapsed_s:.0f} s on a busy machine")
        time.sleep(every_s)


class Stopwatch:
    """Measures as `wait_until` does: time in which programs wait for a processor counts a fifth."""

    def __init__(self) -> None:
        self._started_at, self._stalled_before_s = time.time(), _stalled_s()

    def seconds_until(self, at: float) -> float:
        """From its making until a moment in Unix seconds that has passed; negative: that came first."""
        elapsed_s = at - self._started_at
        return elapsed_s - min(self.stalled_seconds(), _STALLED_SHARE * max(elapsed_s, 0.0))

    def stalled_seconds(self) -> float:
        """What does not count of the time since its making."""
        return _STALLED_SHARE * max(_stalled_s() - self._stalled_before_s, 0.0)


def _stalled_s() -> float:
    """Seconds since boot in which some program was ready to run and no processor was free (Linux PSI); else 0."""
    try:
        return int(_PRESSURE.read_text().partition("total=")[2].split()[0]) / 1e6
    except (OSError, ValueError, IndexError):  # a kernel without it: every second counts
        return 0.0


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_for_namespaces(pid: int) -> None:
    ours = Path("/proc/self/ns/uts").readlink()

    def entered() -> bool:
        with contextlib.suppress(OSError):
            # uts is unshared together with the others, and `sleep` runs only after all of it is done.
            return (
                Path(f"/proc/{pid}/ns/uts").readlink() != ours
                and Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
            )
        return False

    wait_until(entered, "new namespaces", limit_s=30, every_s=0.002)


def _copy_etc(target: Path, name: str) -> None:
    target.parent.mkdir(parents=True)
    shutil.copytree(
        "/etc",
        target,
        symlinks=True,
        ignore=_skipped,
    )
    for file in ("resolv.conf", "hosts", "machine-id"):
        (target / file).unlink(missing_ok=True)
    (target / "resolv.conf").write_text("")
    (target / "hosts").write_text(f"127.0.0.1 localhost {name}\n::1 localhost\n")
    (target / "machine-id").write_text(uuid.uuid4().hex + "\n")


def _skipped(folder: str, names: list[str]) -> list[str]:
    if folder == "/etc/ssl/certs":
        return [name for name in names if name != _CERTIFICATES]
    return list(_ETC_SKIPPED) if folder == "/etc" else []
