"""The demo where there is no lab: the same story, told by the simulator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from wardgate.cli import demo
from wardgate.cli.main import main
from wardgate.lab import host as lab_host
from wardgate.lab.host import CommandFailed, why_unavailable
from wardgate.lab.installation import Installation
from wardgate.simulation import story


def test_the_simulated_story_is_told_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "demo", "--simulated", "--json")
    assert [step["ok"] for step in told["steps"]] == [True] * 8
    assert told["measures"].keys() == {"cold_connect_ms", "revocation_ms", "relay_failover_s"}
    assert 0 <= told["measures"]["revocation_ms"] < 1000
    assert told["error"] is None


def test_a_machine_without_a_lab_is_told_why_and_gets_the_simulator(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "why_unavailable", lambda: "network namespaces need root: run it with sudo")
    with pytest.raises(SystemExit) as ended:
        main(["demo"])
    printed = capsys.readouterr().out
    assert ended.value.code in (0, None)
    assert "network namespaces need root" in printed
    assert "DENIED: build-server → secret" in printed
    assert "All 8 steps done" in printed


@pytest.mark.parametrize("ago_s", [0.0, 0.0004, 0.003, 7.0])
def test_a_packet_from_before_the_deletion_is_not_told_as_a_negative_time(ago_s: float) -> None:
    assert demo.last_packet(1000.0, 1000.0 - ago_s).startswith("no packet of the download")


def test_a_packet_after_the_deletion_is_told_in_milliseconds() -> None:
    assert " 12 ms after" in demo.last_packet(1000.0, 1000.0121)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError("portal ready: not within 20 s"), "portal ready: not within 20 s"),
        (AssertionError(), "no reason was given"),
        (CommandFailed(["ip", "link"], 2, "first\nsecond\nthird\n"),
        "`ip link` exited with 2: first … third"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused (ConnectionRefusedError)"),
        (RuntimeError("the portal ended with 1: Traceback\n  frame\nOSError: full"),
        "OSError: full (RuntimeError)"),
        (KeyError("id"), "'id' (KeyError)"),
        (subprocess.TimeoutExpired("nft", 30), "timed out after 30 seconds (TimeoutExpired)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_json", [False, True])
def test_whatever_a_step_raises_is_one_line(
    error: Exception,
    told: str,
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_in_a_step(monkeypatch, error)
    code, out, err = end_of(capsys, "demo", "--simulated", *(["--json"] if as_json else []))
    assert code == 1
    assert err.startswith("wardgate: step 1 failed: ")
    assert err.endswith(f"{told}\n")
    assert err.count("\n") == 1
    if as_json:
        report = json.loads(out)
        assert (report["steps"][0]["ok"], f"wardgate: {report['error']}\n") == (False, err)
    else:
        assert "FAILED" in out


@pytest.fixture
def heeds_sigint() -> Iterator[None]:
    """A shell has what it runs in the background ignore SIGINT, the tests of a nightly run among it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_sigint")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_still_prints_its_object(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "tell", lambda *_: os.kill(os.getpid(), number))
    code, out, err = end_of(capsys, "demo", "--simulated", "--json")
    assert code == 130
    assert json.loads(out) == {"steps": [], "measures": {}, "error": "interrupted"}
    assert "Traceback" not in err


def test_ctrl_c_before_a_command_has_loaded_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wardgate.cli.main.importlib", SimpleNamespace(import_module=interrupted))
    assert end_of(capsys, "demo") == (130, "", "wardgate: interrupted\n")


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_host.os, "geteuid", lambda: 0)
    monkeypatch.setattr(lab_host.Path, "exists", lambda _: True)
    monkeypatch.setattr(lab_host.shutil, "which", lambda tool: None if tool == "sysctl" else f"/bin/{tool}")
    reason = why_unavailable()
    assert reason is not None
    assert reason.startswith("missing commands: sysctl (")
    assert "procps" in reason


@pytest.mark.parametrize(
    ("printed", "told"),
    [("", "ended"), ('{"bytes": 12', "ended"), (subprocess.TimeoutExpired("curl", 330),
    "no end within 330 s")],
)  # fmt: skip
def test_a_download_that_was_killed_is_an_outcome(printed: str | Exception, told: str) -> None:
    def killed(*_arguments: str, **_options: object) -> str:
        if isinstance(printed, str):
            return printed
        raise printed

    lab = object.__new__(Installation)
    lab.client_site = SimpleNamespace(host=SimpleNamespace(run=killed))  # type: ignore[assignment]
    error = lab.fetch("http://10.20.0.100/get").error
    assert error is not None
    assert told in error


def fail_in_a_step(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def tell(step: story.Step, _say: story.Show, _measures: dict[str, float]) -> None:
        with step("Build"):
            raise error

    monkeypatch.setattr(story, "tell", tell)


def end_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code in (0, None)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed
