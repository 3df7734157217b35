"""A snapshot read in slices is what the change feed tells from the start, at every position and on every database."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from support.patience import PATIENCE_S
from unit.portal.store.conftest import make_account
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.database.row_changes import RowChange, row_change
from wardgate.portal.devices.tables import Device, StaticDevicePoolMember
from wardgate.portal.environment import Environment
from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.sites.tables import Site
from wardgate.portal.snapshot.accounts import Accounts, evolve
from wardgate.portal.snapshot.entities import entity_of
from wardgate.portal.snapshot.loading import load_snapshot
from wardgate.portal.store import Feed, Store, Transaction

pytestmark = pytest.mark.slow

CONDITIONS: list[list[dict[str, Any]]] = [
    [],
    [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["192.0.2.0/24", "2001:db8::/32"]}],
    [{"property": "client_verified", "operator": "is", "values": ["true"]}],
    [{"property": "shoe_size", "operator": "is", "values": ["44"]}],  # not to be read
]
ADDRESSES = {
    "dns": "*.example.com",
    "cidr": "10.0.0.0/8",
    "ip": "10.0.0.1",
    "static_device_pool": None,
    "dynamic_device_pool": "*.devices.example.com",
}


@pytest.mark.parametrize("seed", range(4))
async def test_a_loaded_snapshot_is_the_one_that_whole_rows_make(
    store: Store, account_id: UUID, seed: int
) -> None:
    async with store.writing() as tx:
        await _insert_account(tx, account_id, random.Random(seed), scale=seed)
        await _insert_account(tx, await _other_account(tx), random.Random(seed + 100), scale=1)
    async with store.reading() as tx:
        loaded = await load_snapshot(tx.of(account_id), is_disabled=False)
        assert loaded == await _from_whole_rows(tx, account_id)
        assert loaded == await _from_the_feed(tx, account_id, 2**40)


async def test_every_slice_of_a_large_account_arrives(store: Store, account_id: UUID) -> None:
    async with store.writing() as tx:
        await _insert_account(tx, account_id, random.Random(7), scale=40)
    async with store.reading() as tx:
        tables = tx.of(account_id)
        assert await tables.memberships.count() > 1000
        assert await tables.policies.count() > 100
        loaded = await load_snapshot(tables, is_disabled=False)
        assert loaded == await _from_whole_rows(tx, account_id)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
async def test_slices_have_each_row_once_by_ascending_id(store: Store, account_id: UUID, size: int) -> None:
    async with store.writing() as tx:
        tables = tx.of(account_id)
        sites = [Site(id=tx.new_id(), account_id=account_id, name=f"site {number}") for number in range(6)]
        await tables.sites.insert_all(sites)
        slices = [rows async for rows in tables.sites.slices("name", size=size)]
    seen = [(UUID(id_), name) for rows in slices for id_, name in rows]
    assert seen == sorted((site.id, site.name) for site in sites)
    assert max(len(rows) for rows in slices) <= size


async def test_slices_have_no_row_of_another_account(store: Store, account_id: UUID) -> None:
    other_id = await make_account(store, "other")
    async with store.writing() as tx:
        await tx.of(other_id).sites.insert(Site(id=tx.new_id(), account_id=other_id, name="theirs"))
        assert [rows async for rows in tx.of(account_id).sites.slices("name", size=10)] == []


async def test_a_load_beside_writers_is_of_one_moment_and_then_catches_up(
    store: Store, environment: Environment, account_id: UUID
) -> None:
    rng = random.Random(3)
    async with store.writing() as tx:
        await _insert_account(tx, account_id, rng, scale=20)
    feed = Feed(store, environment)
    async with _changing(store, account_id, rng) as writer:
        for _ in range(3):
            accounts = Accounts(store, feed, environment)
            async with accounts.using(account_id) as view:
                snapshot, sequence = view.snapshot, view.sequence
            await accounts.close()
            async with store.reading() as tx:
                assert snapshot == await _from_the_feed(tx, account_id, sequence)
        accounts = Accounts(store, feed, environment)
        async with accounts.using(account_id) as view:
            writer.cancel()
            await asyncio.wait((writer,))
            last = await feed.position(account_id)
            arrival = _Arrival()
            view.attach(arrival)
            async with asyncio.timeout(PATIENCE_S):
                while view.sequence < last:
                    await arrival.next()
            async with store.reading() as tx:
                assert view.snapshot == await load_snapshot(tx.of(account_id), is_disabled=False)
                assert view.snapshot == await _from_whole_rows(tx, account_id)
        await accounts.close()
    feed.close()


class _Arrival:
    """A listener that waits for the next batch of changes."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def handle_changes(self, _changes: Sequence[RowChange]) -> None:
        self._event.set()

    def handle_view_lost(self) -> None:
        raise AssertionError("the view cannot follow the feed")

    async def next(self) -> None:
        self._event.clear()
        await self._event.wait()


@contextlib.asynccontextmanager
async def _changing(
    store: Store, account_id: UUID, rng: random.Random
) -> AsyncIterator["asyncio.Task[None]"]:
    """Change everything, again and again, until the task is cancelled."""

    async def change_all() -> None:
        while True:
            async with store.writing() as tx:
                await _change(tx, account_id, rng)
            await asyncio.sleep(0)

    writer = asyncio.create_task(change_all())
    try:
        yield writer
    finally:
        writer.cancel()
        results = await asyncio.gather(writer, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in results), results


async def _change(tx: Transaction, account_id: UUID, rng: random.Random) -> None:
    tables = tx.of(account_id)
    actor, group = rng.choice(await tables.actors.load_all()), rng.choice(await tables.groups.load_all())
    match rng.choice(["rename", "delete actor", "delete membership", "delete group", "resource", "grow"]):
        case "rename":
            await tables.actors.save(replace(actor, name=f"{actor.name}!", is_disabled=not actor.is_disabled))
        case "delete actor":
            await tables.actors.delete(actor.id)
        case "delete membership":
            for membership in (await tables.memberships.load_all())[::7]:
                await tables.memberships.delete(membership.id)
        case "delete group" if group.type == "static":
            await tables.groups.delete(group.id)
        case "resource":
            resource = rng.choice(await tables.resources.load_all())
            await tables.resources.save(replace(resource, name=f"{resource.name}!"))
        case _:
            await _insert_account(tx, account_id, rng, scale=1)


async def _other_account(tx: Transaction) -> UUID:
    account = (await tx.accounts.load_all())[0]
    other = replace(account, id=tx.new_id(), slug="other", key="other0")
    return (await tx.accounts.insert(other)).id


async def _from_whole_rows(tx: Transaction, account_id: UUID) -> Snapshot:
    """Build the snapshot from all columns of all rows."""
    tables = tx.of(account_id)
    repositories = (
        tables.actors,
        tables.groups,
        tables.memberships,
        tables.sites,
        tables.resources,
        tables.policies,
        tables.devices,
        tables.pool_members,
    )
    entities = [entity_of(row) for repository in repositories for row in await repository.load_all()]
    return Snapshot.of(entity for entity in entities if entity is not None)


async def _from_the_feed(tx: Transaction, account_id: UUID, sequence: int) -> Snapshot:
    """Build the snapshot from nothing but the changes up to a position."""
    changes = await tx.changes_after(account_id, 0, 1_000_000)
    return evolve(Snapshot(), [row_change(change) for change in changes if change.sequence <= sequence])


async def _insert_account(tx: Transaction, account_id: UUID, rng: random.Random, *, scale: int) -> None:
    """Add rows of every table that a snapshot knows, more of them the larger the scale; 0 is next to nothing."""
    tables = tx.of(account_id)

    def base() -> dict[str, Any]:
        return {"id": tx.new_id(), "account_id": account_id}

    def name() -> str:
        return f"{rng.getrandbits(64):x}"

    if await tables.groups.count() == 0:
        await tables.groups.insert(Group(**base(), name="Everyone", type="managed"))
    groups = await tables.groups.insert_all(
        [Group(**base(), name=name(), idp_id=rng.choice([None, name()])) for _ in range(1 + scale)]
    )
    actors = await tables.actors.insert_all(
        [
            Actor(**base(), type="account_user", name=name(), email=f"{name()}@example.com")
            if rng.random() < 0.8
            else Actor(**base(), type="service_account", name=name(), is_disabled=rng.random() < 0.5)
            for _ in range(1 + 2 * scale)
        ]
    )
    await tables.memberships.insert_all(
        [
            Membership(**base(), actor_id=actor.id, group_id=group.id)
            for actor in actors
            for group in groups
            if rng.random() < 0.5
        ]
    )
    sites = await tables.sites.insert_all([Site(**base(), name=name()) for _ in range(2)])
    resources = await tables.resources.insert_all(
        [_resource(base(), name(), rng, sites) for _ in range(1 + 6 * scale)]
    )
    pairs = {(rng.choice(groups).id, resource.id) for resource in resources for _ in range(rng.randint(0, 2))}
    await tables.policies.insert_all(
        [
            Policy(
                **base(),
                group_id=group_id,
                resource_id=resource_id,
                conditions=rng.choice(CONDITIONS),
                is_disabled=rng.random() < 0.2,
                description=name(),
            )
            for group_id, resource_id in sorted(pairs)
        ]
    )
    devices = await tables.devices.insert_all([_device(base(), name(), rng, actor) for actor in actors])
    await tables.pool_members.insert_all(
        [
            StaticDevicePoolMember(**base(), resource_id=pool.id, device_id=rng.choice(devices).id)
            for pool in resources
            if pool.type == "static_device_pool"
        ]
    )


def _resource(base: dict[str, Any], name: str, rng: random.Random, sites: list[Site]) -> Resource:
    kind = rng.choice(list(ADDRESSES))
    return Resource(
        **base,
        type=kind,
        name=name,
        address=ADDRESSES[kind],
        address_description=rng.choice([None, "what it is"]),
        ip_stack="ipv4_only" if kind == "dns" else None,
        filters=rng.choice([[], [{"protocol": "tcp", "ports": ["80", "443-500"]}, {"protocol": "icmp"}]]),
        site_id=None if kind.endswith("pool") else rng.choice([*sites[1:], sites[0]]).id,
    )


def _device(base: dict[str, Any], name: str, rng: random.Random, actor: Actor) -> Device:
    return Device(
        **base,
        type="client",
        name=name,
        firezone_id=name,
        actor_id=actor.id,
        psk_base=bytes(32),
        ipv4=name[:15],
        ipv6=name,
        hostname=rng.choice([None, name]),
    )
