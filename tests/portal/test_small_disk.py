"""A data directory on a disk that fills up while the portal runs on it: a real one of some megabytes, in memory."""

import logging
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any

import pytest

from support.browser import caller, make_api_token, sign_in_link
from support.portal import Peer, Refused, World, make_world, portal_running
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import SqliteFile

pytestmark = pytest.mark.one_database  # about a file

COMPLAINT = "the database does not answer as it should"

if os.geteuid() != 0:
    pytest.skip("no small disk on this machine: mounting one needs root", allow_module_level=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, too small for much."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "wardgate-test", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
async def world(disk: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("WARDGATE_TESTS_DATABASE", "sqlite")
    settings = PortalSettings(
        database_url=SqliteFile(disk / "wardgate.db"), connect_capacity=1000.0, api_capacity=1e6
    )
    async with portal_running(settings) as portal:
        yield await make_world(portal)


async def test_a_disk_that_fills_up_is_told_to_everybody_until_there_is_room_again(
    world: World, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token, _ = await make_api_token(world)
    link = await sign_in_link(world)
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        await world.portal.journal.flush()
        assert await _status(world, token) == 201
        with caplog.at_level(logging.WARNING):
            _fill(disk / "ballast")
            for _ in range(3):
                async with caller(world.portal, token) as api:
                    answer = await api.post("/sites", json={"site": {"name": "Oslo"}})
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert answer.headers["content-type"] == "application/problem+json"
                async with caller(world.portal) as browser:
                    page = await browser.get(link)
                assert (page.status_code, page.headers["retry-after"]) == (503, "5")
                assert "try again" in page.text.lower(), page.text
                await _is_not_granted(world, client, gateway)
                assert await _readiness(world) == (503, "database_unavailable")
        # Nobody's request is a line of its own.
        assert [one.message for one in caplog.records] == [COMPLAINT]
        (disk / "ballast").unlink()
        assert await _readiness(world) == (200, "ready")
        assert await _status(world, token) == 201
        await _is_granted(world, client, gateway)
    async with world.portal.services.store.reading() as transaction:
        assert len(await transaction.of(world.account_id).authorizations.load_all()) == 1


async def test_who_connects_while_the_disk_is_full_comes_back_later(world: World, disk: Path) -> None:
    _fill(disk / "ballast")
    with pytest.raises(Refused) as refused:
        async with world.client() as client:
            pytest.fail(f"joined: {await client.join()}")
    assert (refused.value.refusal.status, refused.value.refusal.headers["retry-after"]) == (503, "5")
    (disk / "ballast").unlink()
    async with world.client() as client:
        assert (await client.join())["resources"]


async def _is_not_granted(world: World, client: Peer, gateway: Peer) -> None:
    """The gateway is asked while the grant is written, as always; then it is told to forget it, and the
    client hears of no grant.
    """
    told = await _ask(world, client, gateway)
    assert "reject_access" in [frame["event"] for frame in [*told, *await gateway.news()]]
    frames = await client.news()
    assert "authorization_created" not in [frame["event"] for frame in frames]


async def _is_granted(world: World, client: Peer, gateway: Peer) -> None:
    await _ask(world, client, gateway)
    assert "authorization_created" in [frame["event"] for frame in await client.news()]


async def _ask(world: World, client: Peer, gateway: Peer) -> list[dict[str, Any]]:
    """Return what the gateway hears before its acknowledgement is answered: the write may have failed by then."""
    client.send("request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": []})
    offer = await gateway.receive_until("create_authorization")
    gateway.send("authorization_created", {"ref": offer["payload"]["ref"]})
    told = [await gateway.receive()]
    while told[-1]["event"] != "phx_reply":
        told.append(await gateway.receive())
    await world.portal.journal.flush()
    return told


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
        _write_for_ever(ballast)


def _write_for_ever(file: RawIOBase) -> None:
    while True:
        file.write(bytes(4096))


async def _status(world: World, token: str) -> int:
    async with caller(world.portal, token) as api:
        answer = await api.post("/sites", json={"site": {"name": f"Site {os.urandom(4).hex()}"}})
    return answer.status_code


async def _readiness(world: World) -> tuple[int, str]:
    async with caller(world.portal) as probe:
        answer = await probe.get("/readyz")
    return answer.status_code, answer.json()["status"]
