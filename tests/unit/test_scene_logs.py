"""What a scene of tests/e2e finds in the logs of its programs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from e2e.scene_logs import SceneLogs

NOW = "2026-11-30T03:00:00.000000Z"


@pytest.fixture
def host(tmp_path: Path) -> Any:
    (tmp_path / "log").mkdir()
    return SimpleNamespace(name="office", directory=tmp_path)


def write(host: Any, program: str, text: str) -> None:
    with (host.directory / "log" / f"{program}.log").open("a") as file:
        file.write(text)


def test_warnings_errors_and_traces_of_the_products_programs_are_told_once(host: Any) -> None:
    write(host, "gateway", f"{NOW} [warning  ] of the scene before\n")
    logs = SceneLogs([host])
    write(host, "gateway", f"{NOW} [info     ] access granted\n{NOW} [warning  ] odd why=[error]\n")
    write(host, "client", f"{NOW} [error    ] bad\nTraceback (most recent call last):\n  File\n")
    write(host, "relay", "thread 'wardgate-relay' panicked at src/lib.rs:1:1:\n")
    write(host, "web-80", "Traceback (most recent call last):\n")
    complaints = logs.complaints([host])
    assert [one.is_error for one in complaints] == [True, True, False, True]
    assert [str(one) for one in complaints] == [
        "client on office: bad",
        "client on office: Traceback (most recent call last):",
        "gateway on office: odd why=[error]",
        "relay on office: thread 'wardgate-relay' panicked at src/lib.rs:1:1:",
    ]
    assert logs.complaints([host]) == []


def test_half_a_line_waits_for_its_other_half(host: Any) -> None:
    logs = SceneLogs([host])
    write(host, "up", f"{NOW} [warni")
    assert logs.complaints([host]) == []
    write(host, "up", "ng  ] odd\n")
    assert [one.said for one in logs.complaints([host])] == ["odd"]
