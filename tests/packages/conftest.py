"""What is installed on other machines: built as `make packages` does, and installed into a bare Debian system."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.once import alone_at

ROOT = Path(__file__).parents[2]
WORK = ROOT / "dist" / "work"
SUITE = platform.freedesktop_os_release().get("VERSION_CODENAME", "trixie")
"""The Debian of this machine: what is built here needs a C library as new as its own."""
ADDED = ("curl", "ca-certificates", "nftables", "iproute2", "systemd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "packages" in item.path.parts:
            item.add_marker(pytest.mark.timeout(900))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="only root can install packages"))


@pytest.fixture(scope="session")
def dist() -> Path:
    """Build everything whose inputs have changed; `WARDGATE_DIST` names a directory in which that was done."""
    if "WARDGATE_DIST" in os.environ:
        return Path(os.environ["WARDGATE_DIST"])
    built_in = WORK / "packages.run"
    with alone_at(built_in):
        # Once a run: checksums are written each time, and another process may read them by then.
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
        if not run or not built_in.exists() or built_in.read_text() != run:
            subprocess.run([sys.executable, ROOT / "scripts" / "package.py"], check=True)
            built_in.write_text(run)
    return ROOT / "dist"


class System:
    """A bare Debian system in a directory, without a running systemd; it shares this machine's network."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self, *command: str, text: str = "", check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, without a terminal, and with nothing of this process's environment."""
        variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environment}
        inside = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
        done = subprocess.run(
            [
                *("setsid", "-w", "unshare", "--mount", "--pid", "--fork", "sh", "-c", inside, self.root),
                *("env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command),
            ],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def files(self) -> set[str]:
        """Return everything in it but what tools of the system keep for themselves: backups, caches, logs."""
        kept = (
            "/proc",
            "/dev",
            "/tmp",
            "/run",
            "/var/log",
            "/var/cache",
            "/var/lib/dpkg",
            "/etc/systemd/system/multi-user",
        )
        found = (f"/{path.relative_to(self.root)}" for path in self.root.rglob("*"))
        return {path for path in found if not path.startswith(kept) and not path.endswith("-")}


@pytest.fixture(scope="session")
def _debian() -> Path:
    made = WORK / f"debian-{SUITE}"
    with alone_at(made):
        if not made.exists():
            draft = WORK / "debian.draft"
            shutil.rmtree(draft, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={','.join(ADDED)}", SUITE, str(draft)]
            subprocess.run(command, check=True, capture_output=True)
            draft.rename(made)
    return made


@pytest.fixture
def debian(_debian: Path, tmp_path: Path) -> Iterator[System]:
    """A fresh system: what a test writes lies over the common one."""
    upper, work, root = (tmp_path / name for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        directory.mkdir()
    options = f"lowerdir={_debian},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
    try:
        yield System(root)
    finally:
        subprocess.run(["umount", root], check=True)
