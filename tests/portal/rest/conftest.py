from collections.abc import AsyncIterator

import httpx2
import pytest

from support.browser import caller, make_api_token
from support.portal import World, make_world, portal_running
from wardgate.portal.app import Portal
from wardgate.portal.settings import PortalSettings


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with portal_running(PortalSettings(api_capacity=100_000.0, connect_capacity=1000.0)) as running:
        yield running


@pytest.fixture
async def world(portal: Portal) -> World:
    return await make_world(portal)


@pytest.fixture
async def api(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    token, _ = await make_api_token(world)
    async with caller(world.portal, token) as client:
        yield client


@pytest.fixture
async def operator(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(world.portal, world.operator_token) as client:
        yield client


@pytest.fixture
async def foreign(portal: Portal, world: World) -> World:
    """Another account of the same installation."""
    return await make_world(portal, "other")
