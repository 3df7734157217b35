"""Device pools in a world: two clients of Ada, one of which the other reaches through a pool."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from support.patience import PATIENCE_S
from support.portal import Peer, World
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.database.row_changes import RowChange
from wardgate.portal.devices.tables import Device, StaticDevicePoolMember

REQUESTS = {1: "create_flow", 2: "request_authorization"}
FAILURES = {1: "flow_creation_failed", 2: "authorization_creation_failed"}


@dataclass(slots=True)
class Pair:
    """An initiator, a target, and the pool that leads from one to the other."""

    world: World
    pool: Resource
    policy: Policy
    laptop: Peer
    nas: Peer
    generation: int
    init: dict[str, Any]  # of the laptop

    def ask(self, **address: str) -> None:
        """Ask for the pool at an address, as the laptop."""
        request = {"resource_id": str(self.pool.id), "connected_gateway_ids": [], **address}
        self.laptop.send(REQUESTS[self.generation], request)

    async def grant(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Let the laptop reach the nas; return what the nas and what the laptop was told."""
        self.ask(ipv4=(await self.device("nas")).ipv4)
        to_target = await self.nas.receive("client_device_access_authorized")
        to_initiator = await self.laptop.receive("client_device_access_authorized")
        return to_target["payload"], to_initiator["payload"]

    async def denial(self, **address: str) -> dict[str, Any]:
        self.ask(**address)
        denied: dict[str, Any] = (await self.laptop.receive("client_device_access_denied"))["payload"]
        return denied

    async def device(self, external_id: str) -> Device:
        return await device_of(self.world, external_id)


@contextlib.asynccontextmanager
async def static_pair(world: World, generation: int = 2, **target: Any) -> AsyncIterator[Pair]:
    """Two joined clients, the nas a member of a static pool that Ada's group is granted.

    `target`: options of its connection.
    """
    async with world.client(external_id="nas"):
        pool, policy = await make_pool(world, "static_device_pool")
        await add_member(world, pool, "nas")
    async with _pair(world, pool, policy, generation, target) as pair:
        yield pair


@contextlib.asynccontextmanager
async def dynamic_pair(world: World, generation: int = 2) -> AsyncIterator[Pair]:
    """Two joined clients, the nas called NAS.lab.example, and the pool *.lab.example that Ada's group is granted."""
    async with world.client(external_id="nas"):
        await rename(world, "nas", "NAS.lab.example")
        pool, policy = await make_pool(world, "dynamic_device_pool", address="*.lab.example")
    async with _pair(world, pool, policy, generation, {}) as pair:
        yield pair


@contextlib.asynccontextmanager
async def _pair(
    world: World, pool: Resource, policy: Policy, generation: int, target: dict[str, Any]
) -> AsyncIterator[Pair]:
    async with world.client(external_id="laptop"):
        pass  # both devices are there, so that nothing of the preparation is news to the pair
    await caught_up(world)
    async with (
        world.client(external_id="nas", generation=generation, **target) as nas,
        world.client(external_id="laptop", generation=generation) as laptop,
    ):
        await nas.join()
        yield Pair(world, pool, policy, laptop, nas, generation, await laptop.join())


async def caught_up(world: World) -> None:
    """Wait until the account's view has taken in everything committed."""
    services = world.portal.services
    position = await services.feed.position(world.account_id)
    seen = _Seen()
    async with services.accounts.using(world.account_id) as view:
        view.attach(seen)
        while view.sequence < position:
            await seen.next()
        view.detach(seen)


class _Seen:
    """Hears of every batch that a view has taken in."""

    def __init__(self) -> None:
        self._batch = asyncio.Event()

    def handle_changes(self, _changes: Sequence[RowChange]) -> None:
        self._batch.set()

    def handle_view_lost(self) -> None:
        raise AssertionError("the view cannot follow the feed")

    async def next(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._batch.wait()
        self._batch.clear()


async def make_pool(world: World, type_: str, **fields: Any) -> tuple[Resource, Policy]:
    """Make a pool, and the policy that grants it to Ada's group."""
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        pool = await tables.resources.insert(
            Resource(id=tx.new_id(), account_id=world.account_id, type=type_, name="devices", **fields)
        )
        policy = await tables.policies.insert(
            Policy(id=tx.new_id(), account_id=world.account_id, group_id=world.group.id, resource_id=pool.id)
        )
    return pool, policy


async def add_member(world: World, pool: Resource, external_id: str) -> StaticDevicePoolMember:
    device = await device_of(world, external_id)
    async with world.portal.services.store.writing() as tx:
        return await tx.of(world.account_id).pool_members.insert(
            StaticDevicePoolMember(
                id=tx.new_id(), account_id=world.account_id, resource_id=pool.id, device_id=device.id
            )
        )


async def rename(world: World, external_id: str, hostname: str | None) -> None:
    """Give a device its host name, as admins do."""
    device = await device_of(world, external_id)
    async with world.portal.services.store.writing() as tx:
        await tx.of(world.account_id).devices.save(replace(device, hostname=hostname))


async def device_of(world: World, external_id: str) -> Device:
    async with world.portal.services.store.reading() as tx:
        devices = tx.of(world.account_id).devices
        device = await devices.find(devices.c.firezone_id == external_id)
    assert device is not None
    return device
