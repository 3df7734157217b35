"""Real files in a directory of the test's own; the writer's thread is waited for by ending it."""

import json
import logging
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.flow_records import ONE, OTHER, UNIX, kept_flow, kept_token
from support.log_records import lines
from wardgate.connect.flow_logging import KeepFlows, KeepToken
from wardgate.peer import flow_spool
from wardgate.peer.flow_spool import MAX_WAITING, FlowSpool, Spooled


def written(root: Path, *what: KeepFlows | KeepToken, max_bytes: int = 1 << 20) -> FlowSpool:
    """A spool that was given all this at once, and has written it."""
    spool = FlowSpool(root, max_bytes=max_bytes)
    for one in what:
        spool.put(one)
    spool.start()
    spool.settle()
    return spool


def flows(*numbers: int, authorization_id: str = ONE) -> KeepFlows:
    return KeepFlows(tuple(kept_flow(number, authorization_id) for number in numbers))


def ports(spooled: Spooled) -> list[int]:
    return [json.loads(bytes(record))["inner_src_port"] for record in spooled.records]


def test_records_lie_in_a_file_of_their_authorization_with_a_checksum(tmp_path: Path) -> None:
    written(tmp_path, kept_token(), flows(1, 2), flows(3))
    (file,) = tmp_path.glob(f"responder/{ONE}/*.json")
    assert file.name[10] == "-"
    assert len(file.stem) == 10 + 1 + 16
    content = file.read_bytes()
    payload = content[content.index(b"[") : -1]
    assert json.loads(content) == {"checksum": zlib.crc32(payload), "payload": json.loads(payload)}
    assert len(json.loads(payload)) == 3
    assert (tmp_path / "responder" / ONE / "token").read_text() == kept_token().token


def test_only_the_owner_may_read_what_lies_there(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    written(root, kept_token(), flows(1))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert len(modes) == 5


def test_records_without_a_token_are_not_wanted(tmp_path: Path) -> None:
    spool = written(tmp_path, kept_token(), flows(1, authorization_id=OTHER))
    assert spool.authorizations() == []
    assert spool.counts()["flow_records_dropped"] == 0


def test_a_later_process_finds_what_an_earlier_one_has_left(tmp_path: Path) -> None:
    written(tmp_path, kept_token(), flows(1))
    directory = tmp_path / "responder" / ONE
    (directory / "1-half.unfinished").write_text("{")
    spool = written(tmp_path, flows(2))
    assert not list(directory.glob("*.unfinished"))
    assert spool.authorizations() == [directory]
    assert sorted(ports(spool.read(directory, at_most=10))) == [1, 2]
    size = sum(path.stat().st_size for path in directory.glob("*.json"))
    assert spool.counts()["flow_spool_bytes"] == size


def test_a_damaged_file_is_removed_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = written(tmp_path, kept_token(), flows(1))
    directory = tmp_path / "responder" / ONE
    (good,) = directory.glob("*.json")
    for number, damaged in enumerate((b"", b"{}", b"[" * 5000, good.read_bytes().replace(b"443", b"444"))):
        (directory / f"000000000{number}-x.json").write_bytes(damaged)
    assert ports(spool.read(directory, at_most=10)) == [1]
    assert [line for line, _ in lines(caplog.records)] == ["a damaged file of flow records was removed"] * 4
    assert list(directory.glob("*.json")) == [good]


def test_whole_files_are_read_up_to_a_number_of_records(tmp_path: Path) -> None:
    for numbers in ((1, 2), (3, 4), (5,)):
        spool = written(tmp_path, kept_token(), flows(*numbers))
    directory = tmp_path / "responder" / ONE
    for number, file in enumerate(sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)):
        file.rename(directory / f"{number:010d}-x.json")
    assert ports(spool.read(directory, at_most=1)) == [1, 2], "a file that is larger comes alone"
    assert ports(spool.read(directory, at_most=3)) == [1, 2]
    first = spool.read(directory, at_most=4)
    assert ports(first) == [1, 2, 3, 4]
    spool.remove(first.files)
    assert ports(spool.read(directory, at_most=4)) == [5]


def test_the_disk_that_cannot_be_written_is_said_once_and_records_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    written(tmp_path, kept_token())
    refuse_writing(monkeypatch, OSError(28, "No space left on device"))
    spool = written(tmp_path, flows(1, 2), *(flows(number, authorization_id=ONE) for number in range(3, 6)))
    put(spool, flows(6))
    monkeypatch.undo()
    put(spool, flows(7))
    said = lines(caplog.records)
    assert said == [
        ("flow records cannot be kept and are lost", {"reason": f"{tmp_path}: No space left on device"}),
        ("flow records are kept again", {"lost": 6}),
    ]
    assert spool.counts()["flow_records_dropped"] == 6
    assert ports(spool.read(tmp_path / "responder" / ONE, at_most=9)) == [7]


def test_a_place_that_does_not_exist_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    spool = written(Path("/proc/nowhere"), kept_token(), flows(1), flows(2))
    assert [line for line, _ in lines(caplog.records)] == ["flow records cannot be kept and are lost"]
    assert spool.authorizations() == []


def test_one_authorization_fills_its_share_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    room = 8 * 1000
    spool = written(tmp_path, kept_token(), kept_token(OTHER), max_bytes=room)
    for number in range(20):
        put(spool, flows(number))
    size = sum(path.stat().st_size for path in (tmp_path / "responder" / ONE).glob("*.json"))
    assert 700 < size <= 1000
    put(spool, flows(1, authorization_id=OTHER))
    assert len(spool.authorizations()) == 2
    assert lines(caplog.records)[0][1] == {"reason": "the spool is full: is the portal out of reach?"}
    assert spool.counts()["flow_records_dropped"] > 0


def test_what_waits_for_the_disk_is_bounded(tmp_path: Path) -> None:
    spool = FlowSpool(tmp_path)
    spool.put(kept_token())
    for _ in range(MAX_WAITING // 100 + 3):
        spool.put(flows(*range(100)))
    assert spool.counts()["flow_records_dropped"] == 300
    spool.start()
    spool.close()
    assert spool.counts()["flow_records_spooled"] == MAX_WAITING


def test_records_that_the_portal_refuses_are_kept_aside(tmp_path: Path) -> None:
    spool = written(tmp_path, kept_token(), flows(1))
    directory = tmp_path / "responder" / ONE
    spool.set_aside(spool.read(directory, at_most=1).files)
    assert spool.authorizations() == []
    assert len(list(directory.glob("*.refused"))) == 1
    assert spool.counts()["flow_spool_bytes"] > 0


def test_a_directory_goes_with_its_token(tmp_path: Path) -> None:
    spool = written(tmp_path, kept_token(), kept_token(OTHER), flows(1), flows(1, authorization_id=OTHER))
    ended = kept_token().token
    spool.prune(lambda token: token == ended, now=UNIX)
    assert [path.name for path in spool.authorizations()] == [OTHER]
    assert not (tmp_path / "responder" / ONE).exists()
    (tmp_path / "responder" / OTHER / "token").unlink()
    made_at = (tmp_path / "responder" / OTHER).stat().st_mtime
    spool.prune(lambda _: False, now=made_at + 59)
    assert len(spool.authorizations()) == 1
    spool.prune(lambda _: False, now=made_at + 61)
    assert spool.authorizations() == []
    assert spool.counts()["flow_spool_bytes"] == 0


def put(spool: FlowSpool, *what: KeepFlows | KeepToken) -> None:
    for one in what:
        spool.put(one)
    spool.settle()


def refuse_writing(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    real: Callable[[Path, bytes], None] = flow_spool._write

    def write(path: Path, content: bytes) -> Any:
        if path.name != "token":
            raise error
        return real(path, content)

    monkeypatch.setattr(flow_spool, "_write", write)
