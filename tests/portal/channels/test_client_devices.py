"""Devices of clients that connect for the first time, many in the same moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

from support.portal import World
from wardgate.portal.channels.client_devices import ClientDevices, Saved
from wardgate.portal.devices.tables import Device
from wardgate.portal.store import Store, StoreError, Transaction
from wardgate.wire.upgrade import ClientParameters


def parameters(external_id: str, **others: Any) -> ClientParameters:
    return ClientParameters(external_id, "key", external_id, **others)


async def stored(world: World) -> list[Device]:
    async with world.portal.services.store.reading() as tx:
        return await tx.of(world.account_id).devices.load_all()


class CountedStore:
    """A store as these devices see it, their transactions counted; the first waits until it is let go on."""

    def __init__(self, world: World) -> None:
        self._store = world.portal.services.store
        self.start_sync = self._store.start_sync
        self.count = 0
        self.go_on = asyncio.Event()

    @contextlib.asynccontextmanager
    async def writing(self, **options: Any) -> AsyncIterator[Transaction]:
        self.count += 1
        if self.count == 1:
            await self.go_on.wait()
        async with self._store.writing(**options) as transaction:
            yield transaction


def devices_of(world: World) -> tuple[ClientDevices, CountedStore]:
    store = CountedStore(world)
    return ClientDevices(cast(Store, store), world.portal.services.environment.clock), store


async def test_those_who_wait_for_the_writer_share_its_transaction(world: World) -> None:
    devices, transactions = devices_of(world)
    saving = [asyncio.create_task(devices.save(world.actor, parameters("c0")))]
    while transactions.count == 0:  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0)
    saving += [asyncio.create_task(devices.save(world.actor, parameters(f"c{n}"))) for n in range(1, 7)]
    # Twice the same device, as when a peer has given up and come again.
    saving.append(asyncio.create_task(devices.save(world.actor, parameters("c6", device_serial="s"))))
    await asyncio.sleep(0)
    transactions.go_on.set()
    saved = await asyncio.gather(*saving)
    made = [one.device for one in saved]
    assert [one.is_new for one in saved] == [True] * 7 + [False]
    assert transactions.count == 2
    assert len({device.id for device in made}) == 7
    assert made[6].id == made[7].id
    assert {device.id: device.device_serial for device in await stored(world)} == {
        device.id: "s" if device.firezone_id == "c6" else None for device in made
    }
    assert len({device.ipv4 for device in made}) == 7


async def test_those_who_come_in_the_same_iteration_of_the_loop_share_a_transaction(world: World) -> None:
    devices, transactions = devices_of(world)
    transactions.go_on.set()
    saved = await asyncio.gather(*(devices.save(world.actor, parameters(f"c{n}")) for n in range(20)))
    assert transactions.count == 1
    assert [one.device.firezone_id for one in saved] == [f"c{n}" for n in range(20)]
    assert len({one.device.ipv6 for one in saved}) == 20
    assert {device.id: device for device in await stored(world)} == {
        one.device.id: one.device for one in saved
    }


async def test_one_that_cannot_be_stored_is_refused_alone(world: World) -> None:
    devices, transactions = devices_of(world)
    wanted = [parameters("c0"), parameters("c1"), replace(parameters("c2"), name="x" * 256), parameters("c3")]
    saving = [asyncio.create_task(devices.save(world.actor, one)) for one in wanted]
    await asyncio.sleep(0)
    transactions.go_on.set()
    outcomes = await asyncio.gather(*saving, return_exceptions=True)
    assert [isinstance(one, StoreError) for one in outcomes] == [False, False, True, False]
    assert {device.firezone_id for device in await stored(world)} == {"c0", "c1", "c3"}


async def test_who_leaves_in_the_middle_takes_nobody_along(world: World) -> None:
    devices, transactions = devices_of(world)
    saving = [asyncio.create_task(devices.save(world.actor, parameters(f"c{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    saving[0].cancel()
    saving[2].cancel()
    transactions.go_on.set()
    outcomes = await asyncio.gather(*saving, return_exceptions=True)
    assert [type(one) for one in outcomes] == [asyncio.CancelledError, Saved, asyncio.CancelledError]
    assert devices._waiting == {}
