import json
import logging

import pytest

import wardgate
from wardgate.cli import logs


@pytest.fixture(autouse=True)
def _as_before() -> object:
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, logging.getLogger("wardgate").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("wardgate").setLevel(ours)


def test_lines_of_a_part_name_it_and_numbers_are_rounded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.PART, "relay")
    logs.set_up("text", logging.INFO)
    logging.getLogger("wardgate.x").info("connection established", extra={"took_s": 0.123456789})
    line = capsys.readouterr().err
    assert "[relay] connection established" in line
    assert "took_s=0.123\n" in line


def test_programs_get_the_part_as_a_field_and_numbers_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.PART, "relay")
    logs.set_up("json", logging.INFO)
    logging.getLogger("wardgate.x").info("hello", extra={"took_s": 0.123456789})
    record = json.loads(capsys.readouterr().err)
    assert (record["part"], record["event"], record["took_s"]) == ("relay", "hello", 0.123456789)


def test_the_first_line_says_what_begins_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("json", logging.INFO)
    logs.say_start("gateway")
    record = json.loads(capsys.readouterr().err)
    assert (record["event"], record["version"]) == ("gateway starts", wardgate.__version__)
    assert record["os"]
    assert record["kernel"]


def test_a_process_of_its_own_has_no_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(logs.PART, raising=False)
    logs.set_up("text", logging.INFO)
    logging.getLogger("wardgate.x").info("hello")
    assert "] hello" in capsys.readouterr().err.replace("[info     ] hello", "] hello")


def test_a_name_commands_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(logs.PART, raising=False)
    logs.set_up("text", logging.INFO)
    logging.getLogger("wardgate.x").info("access granted", extra={"resource": "wiki\x1b[2J\u202e\n"})
    line = capsys.readouterr().err
    assert "wiki\\x1b[2J\\u202e\\n" in line
    assert line.count("\n") == 1
