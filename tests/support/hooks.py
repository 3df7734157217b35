"""A scene for hooks: everybody is connected, the client holds a grant at the gateway, and a change is made
through the store.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from support.pools import caught_up
from support.portal import Peer, World
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.devices.tables import Device
from wardgate.portal.people.tables import Group, Membership
from wardgate.portal.schema.row import Row
from wardgate.portal.store import AccountTables, Transaction


@dataclass(slots=True)
class Stage:
    """What a change is made with: the world, an open transaction, and what a `prepare` has kept in `kept`."""

    world: World
    transaction: Transaction
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def tables(self) -> AccountTables:
        return self.transaction.of(self.world.account_id)

    @property
    def account_id(self) -> UUID:
        return self.world.account_id

    def new_id(self) -> UUID:
        return self.transaction.new_id()

    async def device(self, external_id: str) -> Device:
        devices = self.tables.devices
        device = await devices.find(devices.c.firezone_id == external_id)
        assert device is not None
        return device

    async def account(self, **changes: Any) -> None:
        account = await self.transaction.accounts.load(self.account_id)
        assert account is not None
        await self.transaction.accounts.save(replace(account, **changes))

    async def save(self, row: Row, **changes: Any) -> None:
        """Change a row as it is stored now."""
        repository: Any = getattr(self.tables, row.table)
        await repository.save(replace(await repository.load(row.id), **changes))

    async def resource(self, name: str, **fields: Any) -> Resource:
        defaults = {"type": "ip", "address": "10.9.0.1", "site_id": self.world.site.id}
        return await self.tables.resources.insert(
            Resource(id=self.new_id(), account_id=self.account_id, name=name, **{**defaults, **fields})
        )

    async def group(self, name: str = "Staff", *, with_ada: bool = False) -> Group:
        group = await self.tables.groups.insert(
            Group(id=self.new_id(), account_id=self.account_id, name=name)
        )
        if with_ada:
            await self.join(group)
        return group

    async def join(self, group: Group) -> Membership:
        return await self.tables.memberships.insert(
            Membership(
                id=self.new_id(),
                account_id=self.account_id,
                actor_id=self.world.actor.id,
                group_id=group.id,
            )
        )

    async def policy(self, group: Group, resource: Resource, **fields: Any) -> Policy:
        return await self.tables.policies.insert(
            Policy(
                account_id=self.account_id,
                group_id=group.id,
                resource_id=resource.id,
                **{"id": self.new_id(), **fields},
            )
        )


Step = Callable[[Stage], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Hook:
    """One row of the tables of hooks.

    Attributes:
        row: what happens, in the words of the table.
        change: makes it happen, in one transaction.
        client, gateway: the frames that they receive of it, in order; see `told`.
        prepare: what must be there before anybody connects.
        has_grant: the client has asked for the world's resource, and holds a grant.
        client_agent: of the client; none: a current one.
    """

    row: str
    change: Step
    client: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    prepare: Step | None = None
    has_grant: bool = True
    client_agent: str | None = None


async def play(hook: Hook, world: World) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make the change and return what the client and the gateway received of it."""
    async with before(hook, world) as (client, gateway, change):
        names = await _names(world)
        await change()
        return (
            tuple([told(one, names) for one in await client.news()]),
            tuple([told(one, names) for one in await gateway.news()]),
        )


@contextlib.asynccontextmanager
async def before(hook: Hook, world: World) -> AsyncIterator[tuple[Peer, Peer, Callable[[], Awaitable[None]]]]:
    """Yield the client, the gateway, and what makes the change; nothing else is news to either."""
    kept: dict[str, Any] = {}
    if hook.prepare is not None:
        await _step(hook.prepare, world, kept)
    options = {} if hook.client_agent is None else {"user_agent": hook.client_agent}
    async with world.gateway() as gateway, world.client(**options) as client:
        await gateway.join()
        await client.join()
        await caught_up(world)
        if hook.has_grant:
            await _grant(world, client, gateway)
            await caught_up(world)

        async def change() -> None:
            await _step(hook.change, world, kept)
            await caught_up(world)

        yield client, gateway, change


def told(frame: dict[str, Any], names: dict[str, str]) -> str:
    """Name a frame: its event, then the resource or reason that it is about."""
    event, payload = frame["event"], frame["payload"]
    match event:
        case "resource_deleted":
            return f"{event} {names[payload]}"
        case "resource_created_or_updated" | "resource_updated":
            return f"{event} {payload.get('name', 'Internet')}"
        case "reject_access" | "create_authorization" | "authorization_created":
            resource_id = payload.get("resource_id") or payload["resource"]["id"]
            return f"{event} {names[resource_id]}"
        case "resource_filters_updated":
            return f"{event} {names[payload['id']]}"
        case "client_device_access_denied":
            assert payload["ipv4"]
            assert payload["ipv6"]
            return f"{event} {payload['reason']}"
        case "disconnect":
            return f"{event} {payload['reason']}"
        case _:
            return str(event)


async def _step(step: Step, world: World, kept: dict[str, Any]) -> None:
    async with world.portal.services.store.writing() as transaction:
        await step(Stage(world, transaction, kept))


async def _grant(world: World, client: Peer, gateway: Peer) -> None:
    client.send("request_authorization", {"resource_id": str(world.resource.id)})
    offered = await gateway.receive("create_authorization")
    gateway.send("authorization_created", {"ref": offered["payload"]["ref"]})
    await gateway.receive("phx_reply")
    await client.receive("authorization_created")


async def _names(world: World) -> dict[str, str]:
    async with world.portal.services.store.reading() as transaction:
        return {str(row.id): row.name for row in await transaction.of(world.account_id).resources.load_all()}
