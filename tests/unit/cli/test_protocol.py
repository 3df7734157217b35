"""`wardgate protocol replay`: what it prints and how it ends."""

import json
from pathlib import Path

import pytest

from wardgate.cli.main import main

VECTOR = Path(__file__).parents[2] / "vectors" / "control-channel" / "v2-direct.jsonl"


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_sound_transcript_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("protocol", "replay", str(VECTOR)) == 0
    told = capsys.readouterr().out
    assert "     1 client peer-to-portal request_authorization" in told or "request_authorization" in told
    assert ", 0 errors, " in told


def test_an_error_is_told_with_its_line_and_ends_with_8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "frames.jsonl"
    file.write_text(VECTOR.read_text() + '{"peer": "client", "direction": "sideways\\u001b[31m"}\n')
    number = len(file.read_text().splitlines())
    assert ended("protocol", "replay", str(file)) == 8
    told = capsys.readouterr().out
    assert f"line {number}: error: client: no such direction: sideways" in told
    assert "\x1b" not in told
    assert ended("protocol", "replay", str(file), "--json") == 8
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 1
    assert report["findings"][-1] == {
        "line": number,
        "severity": "error",
        "peer": "client",
        "event": "",
        "text": "no such direction: sideways\x1b[31m",
    }


def test_a_file_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("protocol", "replay", "/none/frames.jsonl") == 1
    assert "cannot read /none/frames.jsonl: No such file" in capsys.readouterr().err
