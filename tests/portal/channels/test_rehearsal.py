"""What a process does for nobody before it answers, so that its first client does not wait for it."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import exc

from support.portal import World, make_world, portal_running
from wardgate.portal.database.prepared import prepared_select
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import SqliteFile


@pytest.mark.one_database  # a file of its own
async def test_the_first_client_finds_the_statements_of_its_connect_put_together(tmp_path: Path) -> None:
    # Each process, and each of these portals on a file, puts them together for itself.
    settings = PortalSettings(database_url=SqliteFile(tmp_path / "wardgate.db"))
    async with portal_running(settings) as portal:
        world = await make_world(portal)
        assert await _put_together_for_a_client(world) > 0
    async with portal_running(settings) as portal:
        await portal.channels.rehearse()
        assert await _put_together_for_a_client(replace(world, portal=portal)) == 0


async def test_a_database_that_is_away_does_not_keep_a_portal_from_starting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[None] = []

    async def fail() -> None:
        tried.append(None)
        raise exc.OperationalError(None, None, Exception("away"))

    monkeypatch.setattr(world.portal.channels._known_clients, "rehearse", fail)
    await world.portal.channels.rehearse()
    assert len(tried) == 1
    async with world.client() as client:
        assert await client.join()


async def _put_together_for_a_client(world: World) -> int:
    before = prepared_select.cache_info().misses
    async with world.client() as client:
        await client.join()
        return prepared_select.cache_info().misses - before
