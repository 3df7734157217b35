from collections.abc import AsyncIterator

import pytest

from support.letterbox import Letterbox
from support.portal import World, make_world, portal_running


@pytest.fixture
def letterbox() -> Letterbox:
    return Letterbox()


@pytest.fixture
async def world(letterbox: Letterbox) -> AsyncIterator[World]:
    """A running portal, background work included, whose mail ends in the letterbox."""
    async with portal_running(mailer=letterbox) as portal:
        yield await make_world(portal)
