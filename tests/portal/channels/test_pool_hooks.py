"""What changes mean for two clients and the device pool between them (portal-domain §8.4, §8.5), row by row.

The laptop holds a grant to the nas through the pool. A row that names no frame says that the client hears nothing.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from support.hooks import Stage, told
from support.pools import Pair, add_member, caught_up, dynamic_pair, make_pool, static_pair
from support.portal import Peer, World
from wardgate.portal.devices.tables import StaticDevicePoolMember

Change = Callable[[Stage, Pair], Awaitable[object]]

UPDATED = ("resource_created_or_updated devices",)
DELETED = ("resource_deleted devices",)
RESET = (*DELETED, *UPDATED)
DENIED = ("client_device_access_denied forbidden",)
REJECTED = ("reject_access devices",)
SIGNED_OUT = ("disconnect token_expired", "phx_close")
WEB = [{"protocol": "tcp", "ports": ["443"]}]


@dataclass(frozen=True, slots=True)
class PoolHook:
    """`laptop`, `nas`: the frames that they receive, in order; both are shown the pool, being Ada's."""

    row: str
    change: Change
    laptop: tuple[str, ...] = ()
    nas: tuple[str, ...] = ()
    in_second_pool: bool = False
    is_dynamic: bool = False
    prepare: Change | None = None


async def remove_member(stage: Stage, pair: Pair) -> None:
    members, nas = stage.tables.pool_members, await stage.device("nas")
    await members.delete_where(members.c.resource_id == pair.pool.id, members.c.device_id == nas.id)


async def add_laptop(stage: Stage, pair: Pair) -> None:
    await stage.tables.pool_members.insert(
        StaticDevicePoolMember(
            id=stage.new_id(),
            account_id=stage.account_id,
            resource_id=pair.pool.id,
            device_id=(await stage.device("laptop")).id,
        )
    )


async def delete_nas(stage: Stage, _pair: Pair) -> None:
    await stage.tables.devices.delete((await stage.device("nas")).id)


def nas_saved(**changes: Any) -> Change:
    async def change(stage: Stage, _pair: Pair) -> None:
        await stage.save(await stage.device("nas"), **changes)

    return change


async def delete_grant(stage: Stage, _pair: Pair) -> None:
    (row,) = await stage.tables.authorizations.load_all()
    await stage.tables.authorizations.delete(row.id)


def pool(**changes: Any) -> Change:
    return lambda stage, pair: stage.save(pair.pool, **changes)


def policy(**changes: Any) -> Change:
    return lambda stage, pair: stage.save(pair.policy, **changes)


HOOKS = [
    PoolHook("member: insert", add_laptop, UPDATED, UPDATED),
    PoolHook("member: delete", remove_member, (*DENIED, *UPDATED), (*REJECTED, *UPDATED)),
    PoolHook(
        "member: delete, it is in another pool that is shown",
        remove_member,
        UPDATED,
        (*REJECTED, *UPDATED),
        in_second_pool=True,
    ),
    PoolHook("device of a member: delete", delete_nas, (*DENIED, *UPDATED), (*REJECTED, "phx_close")),
    PoolHook("device of a member: addresses", nas_saved(ipv4="100.64.9.9"), UPDATED, ("init",)),
    PoolHook("device of a member: name", nas_saved(name="NAS")),
    PoolHook("device of a member: latest session only", nas_saved(last_seen_version="9.9.9")),
    PoolHook(
        "pool: filters changed", pool(filters=WEB), UPDATED, ("resource_filters_updated devices", *UPDATED)
    ),
    PoolHook(
        "pool: name changed",
        pool(name="machines"),
        ("resource_created_or_updated machines",),
        ("resource_created_or_updated machines",),
    ),
    PoolHook(
        "pool: type changed",
        pool(type="dynamic_device_pool", address="*.lab.example"),
        (*DENIED, *UPDATED),
        (*REJECTED, *UPDATED),
    ),
    PoolHook(
        "pool: delete",
        lambda stage, pair: stage.tables.resources.delete(pair.pool.id),
        DELETED,
        (*REJECTED, *DELETED),
    ),
    PoolHook("policy: enabled → disabled", policy(is_disabled=True), DELETED, (*REJECTED, *DELETED)),
    PoolHook("policy: flow-log flag changed", policy(flow_log_uploads_enabled=False), RESET, REJECTED),
    PoolHook("policy authorization: delete", delete_grant, RESET, REJECTED),
    PoolHook(
        "host name: changed, still covered",
        nas_saved(hostname="n2.lab.example"),
        RESET,
        REJECTED,
        is_dynamic=True,
    ),
    PoolHook(
        "host name: changed, not covered any more",
        nas_saved(hostname="nas.attic.example"),
        DENIED,
        REJECTED,
        is_dynamic=True,
    ),
    PoolHook("host name: taken away", nas_saved(hostname=None), DENIED, REJECTED, is_dynamic=True),
    PoolHook(
        "device of a dynamic pool: delete", delete_nas, DENIED, (*REJECTED, "phx_close"), is_dynamic=True
    ),
    PoolHook(
        "pool: pattern changed",
        pool(address="*.attic.example"),
        (*DENIED, *UPDATED),
        (*REJECTED, *UPDATED),
        is_dynamic=True,
    ),
]


WIKI = ("resource_created_or_updated wiki",)
NOWHERE = [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["203.0.113.0/24"]}]
ANYWHERE = [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["0.0.0.0/0"]}]


def ada(**changes: Any) -> Change:
    return lambda stage, _pair: stage.save(stage.world.actor, **changes)


async def delete_laptop(stage: Stage, _pair: Pair) -> None:
    await stage.tables.devices.delete((await stage.device("laptop")).id)


async def verify(stage: Stage, _pair: Pair) -> None:
    await stage.save(await stage.device("laptop"), verified_at=stage.transaction.now)


async def unverify(stage: Stage, _pair: Pair) -> None:
    await stage.save(await stage.device("laptop"), verified_at=None)


async def give_to_others(stage: Stage, pair: Pair) -> None:
    await stage.save(pair.policy, group_id=(await stage.group()).id)


async def give_another_resource(stage: Stage, pair: Pair) -> None:
    await stage.save(pair.policy, resource_id=(await stage.resource("wiki")).id)


CAUSES_AT_GATEWAYS = [
    PoolHook(
        "account: enabled → disabled",
        lambda s, _: s.account(is_disabled=True),
        SIGNED_OUT,
        (*REJECTED, *SIGNED_OUT),
    ),
    PoolHook(
        "account: delete",
        lambda s, _: s.transaction.accounts.delete(s.account_id),
        SIGNED_OUT,
        SIGNED_OUT,
    ),
    PoolHook("actor: enabled → disabled", ada(is_disabled=True), SIGNED_OUT, (*REJECTED, *SIGNED_OUT)),
    PoolHook(
        "actor: delete",
        lambda s, _: s.tables.actors.delete(s.world.actor.id),
        SIGNED_OUT,
        (*REJECTED, *SIGNED_OUT),
    ),
    PoolHook(
        "client token: delete",
        lambda s, _: s.tables.client_tokens.delete(s.world.client_token_id),
        SIGNED_OUT,
        (*REJECTED, *SIGNED_OUT),
    ),
    PoolHook("device that asks: delete", delete_laptop, ("phx_close",), REJECTED),
    PoolHook("device that asks: verified_at set → null", unverify, RESET, REJECTED, prepare=verify),
    PoolHook(
        "group: delete, its policy is orphaned",
        lambda s, _: s.tables.groups.delete(s.world.group.id),
        DELETED,
        (*REJECTED, *DELETED),
    ),
    PoolHook(
        "membership: delete",
        lambda s, _: s.tables.memberships.delete(s.world.membership.id),
        DELETED,
        (*REJECTED, *DELETED),
    ),
    PoolHook(
        "policy: delete",
        lambda s, pair: s.tables.policies.delete(pair.policy.id),
        DELETED,
        (*REJECTED, *DELETED),
    ),
    PoolHook(
        "policy: conditions changed, they hold", policy(conditions=ANYWHERE), RESET, (*REJECTED, *RESET)
    ),
    PoolHook(
        "policy: conditions changed, they fail", policy(conditions=NOWHERE), DELETED, (*REJECTED, *DELETED)
    ),
    PoolHook("policy: group changed to one of others", give_to_others, DELETED, (*REJECTED, *DELETED)),
    PoolHook(
        "policy: resource changed", give_another_resource, (*DELETED, *WIKI), (*REJECTED, *DELETED, *WIKI)
    ),
]
"""What `test_hooks` has for gateways, at a device of a pool. Both devices are Ada's, and so is the token of both."""


@pytest.mark.parametrize("hook", [*HOOKS, *CAUSES_AT_GATEWAYS], ids=lambda hook: hook.row)
async def test_a_change_reaches_both_ends(hook: PoolHook, world: World) -> None:
    async with granted(hook, world) as pair:
        async with world.portal.services.store.writing() as transaction:
            await hook.change(Stage(world, transaction), pair)
        await caught_up(world)
        assert await news(pair, pair.laptop) == hook.laptop
        assert await news(pair, pair.nas) == hook.nas


@contextlib.asynccontextmanager
async def granted(hook: PoolHook, world: World) -> AsyncIterator[Pair]:
    """The laptop holds a grant to the nas, and nothing is news to either."""
    if hook.in_second_pool:
        async with world.client(external_id="nas"):
            other, _ = await make_pool(world, "static_device_pool")
            await add_member(world, other, "nas")
    pairing = dynamic_pair if hook.is_dynamic else static_pair
    async with pairing(world) as pair:
        if hook.prepare is not None:
            async with world.portal.services.store.writing() as transaction:
                await hook.prepare(Stage(world, transaction), pair)
            await caught_up(world)
        await pair.grant()
        await caught_up(world)
        yield pair


async def news(pair: Pair, peer: Peer) -> tuple[str, ...]:
    names = {str(pair.pool.id): "devices", str(pair.world.resource.id): "net"}
    heard = [told(frame, names) for frame in await peer.news()]
    return tuple(
        [one for one in heard if not one.endswith(" net")]
    )  # which goes with its group and membership too
