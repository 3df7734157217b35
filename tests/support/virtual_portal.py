"""A portal that is not running, on virtual time: whoever plays on it decides what runs, and a week takes as
long as what happens in it.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from wardgate.portal.app import Portal
from wardgate.portal.bus import EncodingBus
from wardgate.portal.environment import Environment, InlineExecutor, NoOutbound
from wardgate.portal.keys import Keys
from wardgate.portal.mail.message import Mailer
from wardgate.portal.settings import PortalSettings
from wardgate.simulation.virtual_time import run_virtual

STARTED_AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class VirtualClock:
    """Wall time that follows the loop's."""

    def now(self) -> datetime:
        return STARTED_AT + timedelta(seconds=self.monotonic() - 1000.0)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def playing(
    scene: Callable[[Portal], Coroutine[Any, Any, None]], *, named: str, mailer: Mailer | None = None
) -> Callable[[], None]:
    """Make a test of a scene."""

    def test() -> None:
        run_virtual(_play(scene, mailer))

    test.__name__ = named
    return test


async def _play(scene: Callable[[Portal], Coroutine[Any, Any, None]], mailer: Mailer | None) -> None:
    rng = random.Random(7)
    environment = Environment(VirtualClock(), rng, InlineExecutor(), NoOutbound(), EncodingBus(), mailer)
    portal = await Portal.open(PortalSettings(), Keys.derive(b"k" * 32), environment)
    try:
        await scene(portal)
    finally:
        await portal.close()
