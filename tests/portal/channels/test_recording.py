"""`record_frames`: what is said on control channels is written down, without secrets, within bounds."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from portal.channels.test_authorization import grant
from support.portal import World
from wardgate.portal.channels import recording
from wardgate.portal.channels.recording import Recorder
from wardgate.wire.dialect import PeerKind
from wardgate.wire.transcript import check


@pytest.fixture
def directory(world: World, tmp_path: Path) -> Path:
    frames = tmp_path / "frames"
    world.portal.channels.recorder = Recorder(frames, world.portal.services.environment.clock)
    return frames


def files(directory: Path, kind: str) -> list[Path]:
    return sorted(directory.glob(f"*-{kind}-*.jsonl"))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_each_connection_has_its_transcript_which_the_reader_finds_sound(
    world: World, directory: Path
) -> None:
    async with world.relay() as relay, world.gateway() as gateway, world.client() as client:
        await relay.join({"stamp_secret": "ab" * 32})
        await gateway.join()
        await client.join()
        create, created = await grant(world, client, gateway)
    for kind, events in (
        ("client", {"init", "request_authorization", "authorization_created"}),
        ("gateway", {"init", "create_authorization", "authorization_created"}),
        ("relay", {"init", "phx_join"}),
    ):
        (file,) = files(directory, kind)
        written = lines(file)
        assert (written[0]["direction"], written[-1]["direction"]) == ("upgrade", "close")
        assert events <= {one["frame"].get("event") for one in written}
        assert check(file.read_text().splitlines()).findings == []
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    everything = "".join(file.read_text() for kind in PeerKind for file in files(directory, kind.value))
    for secret in (
        world.client_token,
        world.gateway_token,
        world.relay_token,
        "ab" * 32,
        create["client"]["preshared_key"],
        created["client_ice_credentials"]["password"],
        create["flow_logs_ingest_token"],
    ):
        assert secret not in everything


async def test_what_a_peer_says_wrongly_is_found(world: World, directory: Path) -> None:
    async with world.client() as client:
        await client.join()
        client.send("request_authorization", {"resource_id": "none"})
        await client.receive()
        client.send_text("{" + world.client_token)
        assert await client.is_quiet()
    (file,) = files(directory, "client")
    assert [one.severity for one in check(file.read_text().splitlines()).findings] == [
        "error",
        "note",
        "error",
    ]
    assert world.client_token not in file.read_text()


async def test_a_file_has_a_bound_and_says_that_it_is_cut(
    world: World, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_FILE_BYTES", 3000)
    async with world.client() as client:
        await client.join()
        for _ in range(50):
            assert await client.is_quiet()
    (file,) = files(directory, "client")
    assert file.stat().st_size < 3200
    assert check(file.read_text().splitlines()).is_cut


async def test_so_many_connections_are_recorded_and_the_next_are_served_without(
    world: World, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_FILES", 2)
    for number in range(4):
        async with world.client(external_id=f"c{number}") as client:
            await client.join()
    assert len(files(directory, "client")) == 2
    clock = world.portal.services.environment.clock
    world.portal.channels.recorder = Recorder(directory, clock)
    async with world.client() as client:
        await client.join()
    assert len(files(directory, "client")) == 2, "those of an earlier run count too"


async def test_a_full_disk_stops_the_transcript_and_not_the_connection(
    world: World, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.client() as client:
        await client.join()
        (pump,) = world.portal.channels._pumps
        assert pump._recording is not None

        class Full:
            def write(self, _text: str) -> int:
                raise OSError(28, "No space left on device")

            def close(self) -> None: ...

        pump._recording._file.close()  # type: ignore[union-attr]
        monkeypatch.setattr(pump._recording, "_file", Full())
        assert await client.is_quiet()
        assert await client.is_quiet()
