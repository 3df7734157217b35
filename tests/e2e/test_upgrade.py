"""Upgrade in place: a process makes room for the next version's, and no TCP connection through it notices much.

The upgrade of a Debian package sends SIGUSR2, by `systemctl reload` (deploy/debian/service/postinst). Here the next
version is the same one.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from wardgate.lab.host import Process, wait_until
from wardgate.lab.installation import WEB4, Installation

STALL_S = 2.0  # the product's own limit
# Until the next process is ready, where nothing else runs; a machine that takes longer is as much slower.
LOADING_S = 1.0
STARTED_S = 60.0  # until the next process is ready, while nothing is interrupted
NAME = "app.internal.example"
RATE = 400_000  # bytes a second


@pytest.fixture
def upgraded(cone: Installation) -> Iterator[Installation]:
    """What has taken over is ended at the end; the lab knows its predecessors only."""
    yield cone
    for process in (cone.client, cone.gateway):
        for pid in successors(process):
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGTERM)
                wait_until(lambda: not is_alive(pid), "the next process gone", limit_s=30)  # noqa: B023


@pytest.mark.parametrize("kind", ["client", "gateway"])
@pytest.mark.timeout(240)
def test_a_download_from_an_address_and_one_from_a_name_outlive_an_upgrade(
    upgraded: Installation, kind: str
) -> None:
    lab = upgraded
    process: Process = getattr(lab, kind)
    downloads = [
        lab.fetch_in_background(f"http://{host}/slow?num=8000000&rate={RATE}") for host in (WEB4, NAME)
    ]
    # Each of them: who begins to connect while nobody is there is told so.
    wait_until(lambda: len(connections(lab)) == len(downloads), "both connections", limit_s=30)
    wait_until(lambda: lab.gateway_site.udp_bytes_to(lab.client_site.public4) > RATE, "downloads", limit_s=30)
    process.signal(signal.SIGUSR2)
    assert process.wait(STARTED_S) == 0
    for download in downloads:
        done = download.wait(limit_s=90)
        assert (done.error, done.bytes) == (None, 8_000_000)
        assert done.longest_gap_s < STALL_S * max(1.0, loading_s(process) / LOADING_S), process.log()[-3_000:]
    assert successors(process), process.log()[-3_000:]
    again = lab.fetch(f"http://{NAME}/get")
    assert again.error is None


def connections(lab: Installation) -> list[str]:
    """Of clients to the web server."""
    return lab.web.run("ss", "-Htn", "state", "established", "sport", "=", ":80").splitlines()


def successors(process: Process) -> list[int]:
    return [int(pid) for pid in re.findall(r"another process goes on pid=(\d+)", process.log())]


def loading_s(process: Process) -> float:
    """How long the next process took to load its code, while nothing was interrupted."""
    starting, goes_on = (
        next(line for line in reversed(process.log().splitlines()) if what in line).split()[0]
        for what in ("starting a process that takes over", "another process goes on")
    )
    return (datetime.fromisoformat(goes_on) - datetime.fromisoformat(starting)).total_seconds()


def is_alive(pid: int) -> bool:
    """A process that has ended may wait for whoever asks how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
