"""The control socket answers whom the kernel names as entitled, within its bounds, and leaves nothing behind."""

import asyncio
import json
import os
import socket
import struct
from pathlib import Path

import pytest

from support.log_records import lines
from support.patience import PATIENCE_S
from wardgate.peer import control_socket as module
from wardgate.peer.control_socket import MAX_CONNECTIONS, MAX_LINE_BYTES, control_socket, may_ask
from wardgate.peer.status import Question, Refused, Why

MEMBERS = 4711


async def answer(question: Question) -> Why | Refused:
    return Why(outcome="no resource") if question.ask == "why" else Refused("there is no such question")


async def asked(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(line)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_question_is_answered_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    async with control_socket(path, answer):
        found = await asked(path, b'{"ask":"why","host":"wiki"}\n')
        assert (json.loads(found)["outcome"], found.count(b"\n")) == ("no resource", 1)
        assert path.stat().st_mode & 0o007 == 0
    assert not path.exists()


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"[1]\n", b'{"ask":7}\n', b"\xff\xfe\n", b'{"ask":"why","port":"x"}\n']
)
async def test_what_is_no_question_is_refused_in_words(tmp_path: Path, line: bytes) -> None:
    async with control_socket(tmp_path / "control.sock", answer):
        assert json.loads(await asked(tmp_path / "control.sock", line)) == {"error": "that is no question"}


async def test_a_line_without_an_end_is_not_collected(tmp_path: Path) -> None:
    async with control_socket(tmp_path / "control.sock", answer):
        assert await asked(tmp_path / "control.sock", b"x" * 4 * MAX_LINE_BYTES) == b""
        assert await asked(tmp_path / "control.sock", b'{"ask":"why"}\n')


async def test_only_so_many_may_ask_at_once(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with control_socket(path, answer):
        held = [await asyncio.open_unix_connection(str(path)) for _ in range(MAX_CONNECTIONS)]
        await asyncio.sleep(0)
        assert await asked(path, b'{"ask":"why"}\n') == b""
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        while not await asked(path, b'{"ask":"why"}\n'):  # noqa: ASYNC110 - the server notes the end in its own time
            await asyncio.sleep(0)


async def test_who_asks_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.01)
    async with control_socket(tmp_path / "control.sock", answer):
        assert await asked(tmp_path / "control.sock", b"") == b""


async def test_who_does_not_read_the_answer_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    answer_bytes = 8 << 20  # more than the kernel takes for a reader that does not read

    async def at_length(_question: Question) -> Refused:
        return Refused("x" * answer_bytes)

    path = tmp_path / "control.sock"
    async with control_socket(path, at_length):
        before = asyncio.all_tasks()
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1024)
        writer.write(b'{"ask":"why"}\n')
        async with asyncio.timeout(PATIENCE_S):
            while not asyncio.all_tasks() - before:  # noqa: ASYNC110 - nobody tells of another's connection
                await asyncio.sleep(0)
            while asyncio.all_tasks() - before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert len(await reader.read()) < answer_bytes
        writer.close()


async def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with control_socket(path, answer):
        assert await asked(path, b'{"ask":"why"}\n')


async def test_a_socket_that_another_process_serves_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "control.sock"
    async with control_socket(path, answer):
        async with control_socket(path, answer):
            pass
        assert await asked(path, b'{"ask":"why"}\n')
    assert any("another process has the control socket" in line for line, _ in lines(caplog.records))


async def test_without_a_place_for_it_the_process_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    async with control_socket(tmp_path / "file" / "control.sock", answer):
        pass
    assert any("there is no control socket" in line for line, _ in lines(caplog.records))


class _Connection:
    """What the kernel says of the process at the other end."""

    def __init__(self, uid: int, gid: int, *groups: int) -> None:
        self._uid, self._gid, self._groups = uid, gid, groups

    def getsockopt(self, _level: int, option: int, _length: int) -> bytes:
        if option == socket.SO_PEERCRED:
            return struct.pack("3i", 1, self._uid, self._gid)
        return struct.pack(f"{len(self._groups)}I", *self._groups)


@pytest.mark.parametrize(
    ("connection", "may"),
    [
        (_Connection(0, 0), True),
        (_Connection(os.geteuid(), 1), True),
        (_Connection(1234, MEMBERS), True),
        (_Connection(1234, 1234, 5, MEMBERS), True),
        (_Connection(1234, 1234, 5), False),
        (_Connection(1234, 1234), False),
    ],
)
def test_root_the_own_user_and_members_may_ask(
    connection: _Connection, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_group", lambda: MEMBERS)
    assert may_ask(connection) is may  # type: ignore[arg-type]


def test_without_the_group_nobody_else_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_group", lambda: None)
    assert not may_ask(_Connection(1234, 0, 0))  # type: ignore[arg-type]
