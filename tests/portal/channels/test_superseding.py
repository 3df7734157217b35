"""A newer connection of a device or relay ends the older one, also when the message that says so is lost."""

import asyncio
import random

import pytest

from portal.channels.test_timers import VirtualClock, _beat
from support.portal import Peer, World, make_world, portal_running
from wardgate.portal.bus import Address, DirectedMessage, EncodingBus
from wardgate.portal.bus.messages import Superseded
from wardgate.portal.environment import Environment, InlineExecutor, NoOutbound
from wardgate.simulation.virtual_time import run_virtual


class LosingBus(EncodingBus):
    """Loses what tells a connection of a newer one."""

    def send(self, address: Address, message: DirectedMessage) -> None:
        if not isinstance(message, Superseded):
            super().send(address, message)


def _peer(world: World, kind: str) -> Peer:
    return world.relay() if kind == "relay" else world.client()


@pytest.mark.parametrize("kind", ["client", "relay"])
def test_an_older_connection_ends_within_a_minute_though_nobody_told_it(kind: str) -> None:
    async def scene() -> None:
        bus = LosingBus()
        environment = Environment(VirtualClock(), random.Random(7), InlineExecutor(), NoOutbound(), bus)
        async with portal_running(environment=environment) as portal:
            world = await make_world(portal)
            payload = {"stamp_secret": "ab" * 32} if kind == "relay" else None
            async with _peer(world, kind) as older:
                await older.join(payload)
                await asyncio.sleep(20)
                async with _peer(world, kind) as newer:
                    await newer.join(payload)
                    for _ in range(6):
                        await asyncio.sleep(10)
                        await _beat(newer)
                        older.send("heartbeat", {}, topic="phoenix")
                    assert await older.receive_close() == 1000
                    told = [frame["event"] for frame in older.frames if frame["topic"] != "phoenix"]
                    assert told[-1] == "phx_close"
                    assert ("disconnect" in told) == (kind == "client")
                    await _beat(newer)
                    account_id = None if kind == "relay" else world.account_id
                    assert len(bus.members(kind, account_id)) == 1

    run_virtual(scene())
