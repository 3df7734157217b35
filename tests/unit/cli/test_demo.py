"""The demo where there is no lab: the same story, told by the simulator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wardgate.cli import demo
from wardgate.cli.main import main


def test_the_simulated_story_is_told_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "demo", "--simulated", "--json")
    assert [step["ok"] for step in told["steps"]] == [True] * 8
    assert told["measures"].keys() == {"cold_connect_ms", "revocation_ms", "relay_failover_s"}
    assert told["measures"]["revocation_ms"] < 1000


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


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code in (0, None)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed
