"""A running portal with one account in it."""

from collections.abc import AsyncIterator

import pytest

from support.portal import World, make_world, portal_running
from wardgate.portal.app import Portal


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with portal_running() as running:
        yield running


@pytest.fixture
async def world(portal: Portal) -> World:
    return await make_world(portal)
