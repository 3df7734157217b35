"""`wardgate up` on one host: everything starts, what ends is started again, Ctrl-C ends it all, the next
start continues.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wardgate.lab import Internet
from wardgate.lab.host import Host, Process, wait_until

WARDGATE = str(Path(sys.executable).parent / "wardgate")
LINK = re.compile(r"http://\S+/home/sign_in/link/(\S+)")
CLIENT = re.compile(r"sudo wardgate client --api-url (\S+) --token-path (\S+)")


@pytest.fixture
def host() -> Iterator[Host]:
    with Internet() as internet:
        made = internet.host("box")
        made.run("ip", "link", "set", "lo", "up")
        yield made


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Host, Process]]:
    """One that runs, for tests that leave it as it was."""
    with Internet() as internet:
        box = internet.host("box")
        up = _up(box, "up")
        yield box, up
        _end(box, up)


def test_up_runs_everything_and_a_second_start_continues(host: Host) -> None:
    first = _up(host, "first")
    link, client = _told(first)
    assert host.run("curl", "-s", "http://127.0.0.1:8080/readyz").startswith('{"status": "ready"')
    assert client == ("ws://127.0.0.1:8080", "/etc/wardgate/client-token")
    kept = host.directory / "lib" / "peers" / "client-token"
    token = kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert token.strip() not in first.log()
    _end(host, first)

    second = _up(host, "second")
    second_link, second_client = _told(second)
    assert second_link != link
    assert second_client == client
    assert kept.read_text() == token
    _end(host, second)


def test_a_relay_that_dies_is_started_again(running: tuple[Host, Process]) -> None:
    host, up = running
    (relay,) = _children(host, "relay")
    host.run("kill", "-9", str(relay))
    (again,) = wait_until(
        lambda: [pid for pid in _children(host, "relay") if pid != relay], "a new relay", 45
    )
    wait_until(lambda: up.log().count("connected to the portal") == 3, "the relay's new connection", 45)
    assert _children(host, "relay") == [again]


def test_nothing_outlives_a_parent_that_is_killed(host: Host) -> None:
    up = _up(host, "up")
    assert len(_children(host, "portal") + _children(host, "relay") + _children(host, "gateway")) == 3
    up.kill()
    wait_until(
        lambda: not any(_children(host, name) for name in ("portal", "relay", "gateway")),
        "the end of all",
        45,
    )


def test_only_the_gateway_may_change_the_network(running: tuple[Host, Process]) -> None:
    host, _ = running
    net_admin = 1 << 12
    for name in ("portal", "relay", "gateway"):
        (pid,) = _children(host, name)
        effective = re.search(r"CapEff:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
        assert effective is not None
        assert bool(int(effective[1], 16) & net_admin) is (name == "gateway"), name


def test_a_taken_port_ends_it_with_a_clear_line(running: tuple[Host, Process]) -> None:
    host, _ = running
    second = host.start("second", WARDGATE, "up", "--data-dir", "/tmp/other", "--listen", "127.0.0.1:8080")
    assert second.wait(30) == 1
    assert "cannot listen on 127.0.0.1:8080: Address already in use" in second.log()
    assert "Traceback" not in second.log()


def _up(host: Host, name: str) -> Process:
    process = host.start(name, WARDGATE, "up", "--public-address", "127.0.0.1", "--listen", "127.0.0.1:8080")
    try:
        wait_until(
            lambda: process.log().count("connected to the portal") >= 2, "relay and gateway online", 60
        )
    except TimeoutError as error:
        raise AssertionError(process.log()) from error
    return process


def _told(process: Process) -> tuple[str, tuple[str, str]]:
    link, client = LINK.search(process.log()), CLIENT.search(process.log())
    assert link is not None
    assert client is not None
    return link[1], (client[1], client[2])


def _end(host: Host, process: Process) -> None:
    process.signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "Traceback" not in process.log()
    for name in ("portal", "relay", "gateway"):
        assert _children(host, name) == []


def _children(host: Host, name: str) -> list[int]:
    """Return the processes in this host's network that run a command of ours as `up`'s child."""
    own = Path(f"/proc/{host.pid}/ns/net").readlink()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            network = (folder / "ns" / "net").readlink()
        except (OSError, ValueError):
            continue
        if network == own and b"wardgate.cli.main" in arguments and name.encode() in arguments:
            found.append(int(folder.name))
    return found
