"""What a Monday morning brings at once: a thousand clients, ten thousand resources, twenty thousand grants.

On virtual time: how long the machine takes for it does not count.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from support.portal import CLIENT_AGENT, GATEWAY_AGENT, Peer, World, make_world
from support.virtual_portal import playing
from wardgate.portal.access.tables import Policy, PolicyAuthorization, Resource
from wardgate.portal.app import Portal
from wardgate.portal.channels.endpoint import FLUSH_S
from wardgate.portal.channels.session import ALLOWANCES, JOINS_AT_ONCE, MAX_STALL_S
from wardgate.portal.devices.tables import Device
from wardgate.portal.store import Transaction
from wardgate.wire.dialect import PeerKind

pytestmark = pytest.mark.timeout(240)


def on_virtual_time(scene: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of what happens in a running portal with one account in it."""

    async def play(portal: Portal) -> None:
        async with portal.running():
            await scene(await make_world(portal))

    return playing(play, named=scene.__name__)


class Gated(Peer):
    """A peer that reads only while its gate is open; what the portal sends meanwhile waits in the portal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gate = asyncio.Event()
        self.gate.set()

    async def _take(self, event: dict[str, Any]) -> None:
        await self.gate.wait()
        await super()._take(event)


@on_virtual_time
async def test_a_thousand_clients_that_ask_one_gateway_at_once_are_all_granted(world: World) -> None:
    async with _gated_gateway(world) as gateway, AsyncExitStack() as stack:
        async with world.portal.services.store.writing() as tx:
            # They were here before: what a first connect takes is not the question.
            laptops = await tx.of(world.account_id).devices.insert_all(_devices(world, tx, 1_000))
        peers = [
            world.client(external_id=laptop.firezone_id, remote_ip=f"192.0.{number // 250}.{number % 250}")
            for number, laptop in enumerate(laptops)
        ]
        for number, peer in enumerate(peers, 1):
            await stack.enter_async_context(peer)
            await peer.join()
            if number % 500 == 0:
                await asyncio.sleep(1.0)  # the portal paces those who connect
        gateway.gate.clear()
        for peer in peers:
            peer.send("request_authorization", _ask(world.resource))
        for peer in peers:
            # Frames are taken in order: once this is answered, all is said to the gateway.
            assert await peer.is_quiet()
        gateway.gate.set()
        for _ in peers:
            await _acknowledge(gateway)
        for peer in peers:
            await peer.receive("authorization_created")
    assert world.portal.services.counters["closed_slow_reader"] == 0


@on_virtual_time
async def test_a_client_that_asks_for_a_thousand_resources_at_once_is_granted_all(world: World) -> None:
    resources = await _many_resources(world, 999)
    async with _gated_gateway(world) as gateway, world.client() as client:
        await client.join()
        gateway.gate.clear()
        for resource in (world.resource, *resources):
            client.send("request_authorization", _ask(resource))
        assert await client.is_quiet()
        gateway.gate.set()
        for _ in range(1_000):
            await _acknowledge(gateway)
        granted = {
            (await client.receive("authorization_created"))["payload"]["resource_id"] for _ in range(1_000)
        }
        assert len(granted) == 1_000


@on_virtual_time
async def test_a_client_with_ten_thousand_resources_gets_its_init(world: World) -> None:
    await _many_resources(world, 9_999)
    async with world.client() as client:
        assert len((await client.join())["resources"]) == 10_000


@on_virtual_time
async def test_a_gateway_with_twenty_thousand_grants_gets_its_init(world: World) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
    await _many_grants(world, clients=200, resources=await _many_resources(world, 100))
    await asyncio.sleep(1)
    async with world.gateway() as gateway:
        init = await gateway.join()
        assert len(init["authorizations"]) == 20_000
        assert await gateway.news() != []
    assert world.portal.services.counters["closed_slow_reader"] == 0


@on_virtual_time
async def test_a_reader_that_takes_nothing_is_ended_and_what_waited_for_it_is_freed(world: World) -> None:
    services = world.portal.services
    async with _gated_gateway(world) as gateway:
        gateway.gate.clear()
        for _ in range(100):
            gateway.send("heartbeat", {}, topic="phoenix")
        await asyncio.sleep(MAX_STALL_S - 1)
        assert world.portal.channels.counts()["gateway"] == 1
        await asyncio.sleep(1 + FLUSH_S + 0.1)
        assert world.portal.channels.counts()["gateway"] == 0
        assert services.counters["closed_slow_reader"] == 1
        assert b'wardgate_portal_channels_closed_total{by="portal",code="1008",kind="gateway"} 1.0' in (
            await world.portal.export_metrics()
        )
        gateway.gate.set()


@on_virtual_time
async def test_what_a_client_says_beyond_its_allowance_is_heard_as_the_allowance_refills(
    world: World,
) -> None:
    capacity, refill_per_s = ALLOWANCES[PeerKind.CLIENT]
    async with world.client() as client:
        await client.join()
        for _ in range(int(capacity + 10 * refill_per_s)):
            client.send("heartbeat", {}, topic="phoenix")
        await asyncio.sleep(1)
        assert client.waiting_frames > 8 * refill_per_s
        await asyncio.sleep(4)
        assert 5 * refill_per_s < client.waiting_frames < 7 * refill_per_s
        await asyncio.sleep(7)
        assert client.waiting_frames == 0
        assert world.portal.channels.counts()["client"] == 1


@on_virtual_time
async def test_a_client_that_joins_again_and_again_is_answered_once_a_second(world: World) -> None:
    beyond = 15
    async with world.client() as client:
        for _ in range(JOINS_AT_ONCE + beyond):
            client.send("phx_join", None)
        await asyncio.sleep(5)
        assert beyond - 6 <= client.waiting_frames <= beyond - 4
        await asyncio.sleep(beyond)
        assert client.waiting_frames == 0


@asynccontextmanager
async def _gated_gateway(world: World) -> AsyncIterator[Gated]:
    async with Gated(
        world.portal, "gateway", world.gateway_token, GATEWAY_AGENT, external_id="gateway-1"
    ) as gateway:
        await gateway.join()
        yield gateway


def _ask(resource: Resource) -> dict[str, Any]:
    return {"resource_id": str(resource.id), "connected_gateway_ids": []}


async def _acknowledge(gateway: Peer) -> dict[str, Any]:
    """Acknowledge the next grant, and return what it said."""
    create = await gateway.receive_until("create_authorization")
    gateway.send("authorization_created", {"ref": create["payload"]["ref"]})
    return create


async def _many_resources(world: World, count: int) -> list[Resource]:
    """Make resources that the world's client may use."""
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        resources = await tables.resources.insert_all(
            [
                Resource(
                    id=tx.new_id(),
                    account_id=world.account_id,
                    type="cidr",
                    name=f"net {number}",
                    address=f"10.{100 + number // 250}.{number % 250}.0/24",
                    site_id=world.site.id,
                )
                for number in range(count)
            ]
        )
        await tables.policies.insert_all(
            [
                Policy(
                    id=tx.new_id(), account_id=world.account_id, group_id=world.group.id, resource_id=one.id
                )
                for one in resources
            ]
        )
    return resources


async def _many_grants(world: World, *, clients: int, resources: list[Resource]) -> None:
    """Give every one of so many new clients a grant of each resource at the world's gateway."""
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        (gateway,) = await tables.devices.load_all(tables.devices.c.type == "gateway")
        policies = await tables.policies.load_all()
        policy_of: dict[UUID, UUID] = {policy.resource_id: policy.id for policy in policies}
        devices = await tables.devices.insert_all(_devices(world, tx, clients))
        await tables.authorizations.insert_all(
            [
                PolicyAuthorization(
                    id=tx.new_id(),
                    account_id=world.account_id,
                    policy_id=policy_of[resource.id],
                    resource_id=resource.id,
                    initiating_device_id=device.id,
                    receiving_device_id=gateway.id,
                    token_id=world.client_token_id,
                    membership_id=world.membership.id,
                    initiator_remote_ip="192.0.2.7",
                    initiator_user_agent=CLIENT_AGENT,
                    receiver_remote_ip="192.0.2.8",
                    expires_at=tx.now + timedelta(hours=1),
                )
                for device in devices
                for resource in resources
            ]
        )


def _devices(world: World, tx: Transaction, count: int) -> list[Device]:
    return [
        Device(
            id=tx.new_id(),
            account_id=world.account_id,
            type="client",
            name="laptop",
            firezone_id=f"laptop-{number}",
            psk_base=bytes(32),
            actor_id=world.actor.id,
            ipv4=f"100.70.{number // 250}.{number % 250}",
            ipv6=f"fd00:2021:1111::7:{number:x}",
        )
        for number in range(count)
    ]
