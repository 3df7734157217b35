"""A database whose disk is full, whose file is gone or damaged: what callers, peers, people and probes are told."""

import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.browser import caller, make_api_token
from support.migrated_file import migrated_file
from support.portal import Refused, World, make_world, portal_running
from wardgate.portal.data_directory import DataDirectoryUnusable, require_database
from wardgate.portal.database.sqlite_driver import InlineConnection
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import PostgresServer, SqliteFile

pytestmark = pytest.mark.one_database  # about files

COMPLAINT = "the database does not answer as it should"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = PortalSettings(
        database_url=migrated_file(tmp_path / "wardgate.db"), connect_capacity=1000.0, api_capacity=1e6
    )
    async with portal_running(settings) as portal:
        if not isinstance(portal.services.settings.database, SqliteFile):
            pytest.fail("this is about a file")
        yield await make_world(portal)


@pytest.fixture(autouse=True)
def sqlite_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDGATE_TESTS_DATABASE", "sqlite")


async def test_a_file_that_vanished_is_told_to_everybody_and_logged_once(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token, _ = await make_api_token(world)
    file, away = tmp_path / "wardgate.db", tmp_path / "elsewhere.db"
    file.rename(away)
    await _everybody_is_asked_to_come_back(world, token)
    complaints = [one for one in caplog.records if one.message == COMPLAINT and one.levelno == logging.ERROR]
    assert len(complaints) == 1
    assert not file.exists()
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR and one.exc_info]
    away.rename(file)
    assert await _readiness(world) == (200, "ready")


async def test_another_file_in_its_place_is_not_taken_for_it(world: World, tmp_path: Path) -> None:
    token, _ = await make_api_token(world)
    file = tmp_path / "wardgate.db"
    shutil.copy(file, tmp_path / "copy.db")
    (tmp_path / "copy.db").replace(file)
    await _everybody_is_asked_to_come_back(world, token)


async def test_a_full_disk_is_told_and_the_portal_is_ready_when_there_is_room_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = await make_api_token(world)

    async def commit(_self: InlineConnection) -> None:
        """Refuse as SQLite does when the log cannot grow; reading goes on."""
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as full:
        full.setattr(InlineConnection, "commit", commit)
        async with caller(world.portal, token) as api:
            answer = await api.post("/sites", json={"site": {"name": "Oslo"}})
        assert await _readiness(world) == (503, "database_unavailable")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert await _readiness(world) == (200, "ready")
    async with caller(world.portal, token) as api:
        assert (await api.post("/sites", json={"site": {"name": "Oslo"}})).status_code == 201


async def test_a_damaged_file_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token, _ = await make_api_token(world)

    def begin(_self: InlineConnection, _statement: str, *, looks: bool) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(InlineConnection, "begin", begin)
    await _everybody_is_asked_to_come_back(world, token)
    monkeypatch.undo()


def test_a_key_without_its_database_is_no_new_installation(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "wardgate.db")
    require_database(tmp_path, file)
    (tmp_path / "secret.key").write_bytes(bytes(32))
    with pytest.raises(DataDirectoryUnusable, match=r"wardgate\.db is gone: restore .* --new-database"):
        require_database(tmp_path, file)
    with pytest.raises(DataDirectoryUnusable, match=r"other\.db is gone"):
        require_database(tmp_path, SqliteFile(tmp_path / "elsewhere" / "other.db"))
    require_database(tmp_path, PostgresServer("postgresql://db.example/wardgate"))
    require_database(tmp_path, None)
    file.path.touch()
    require_database(tmp_path, file)


async def _everybody_is_asked_to_come_back(world: World, token: str) -> None:
    for _ in range(3):
        async with caller(world.portal, token) as api:
            answer = await api.get("/sites")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.headers["content-type"] == "application/problem+json"
        async with caller(world.portal) as browser:
            page = await browser.get("/acme/sign_in/link/none")
            assert (page.status_code, page.headers["retry-after"]) == (503, "5")
        with pytest.raises(Refused) as refused:
            await world.client().__aenter__()
        assert (refused.value.refusal.status, refused.value.refusal.headers["retry-after"]) == (503, "5")
        assert await _readiness(world) == (503, "database_unavailable")


async def _readiness(world: World) -> tuple[int, str]:
    async with caller(world.portal) as probe:
        answer = await probe.get("/readyz")
    return answer.status_code, answer.json()["status"]
