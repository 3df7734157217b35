from collections.abc import AsyncIterator

import httpx2
import pytest

from support.browser import caller, operator_link, sign_in_link
from support.portal import World, make_world, portal_running
from wardgate.portal.app import Portal


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with portal_running() as running:
        yield running


@pytest.fixture
async def world(portal: Portal) -> World:
    return await make_world(portal)


@pytest.fixture
async def visitor(portal: Portal) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser that is not signed in."""
    async with caller(portal) as client:
        yield client


@pytest.fixture
async def admin(visitor: httpx2.AsyncClient, world: World) -> httpx2.AsyncClient:
    """The browser, signed in."""
    await visitor.get(await sign_in_link(world))
    return visitor


@pytest.fixture
async def operator(portal: Portal) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser in which the operator is signed in."""
    async with caller(portal) as client:
        answer = await client.get(await operator_link(portal))
        assert answer.headers["location"] == "/operator"
        yield client
