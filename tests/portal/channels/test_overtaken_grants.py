"""A grant that a change overtakes between its decision and its row: every row of the tables of hooks at every
point on the way.

What would have taken a stored grant along must not leave one behind: no row, nothing in force at the
receiver, and the client knows that it has to ask again. What would have left it alone must not stop it. See
`test_hooks` and `test_pool_hooks` for the rows.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import pytest

from portal.channels import test_hooks, test_pool_hooks
from portal.channels.test_pool_hooks import PoolHook
from support.gates import Gates, gates_of
from support.hooks import Hook, Stage
from support.patience import PATIENCE_S
from support.pools import Pair, add_member, caught_up, dynamic_pair, make_pool, static_pair
from support.portal import Peer, World
from wardgate.portal.app import Portal
from wardgate.portal.jobs.clean_up import delete_in_slices
from wardgate.portal.sites.tables import Site


class Point(Enum):
    """Where the change comes."""

    BEFORE_THE_VIEW_KNOWS = "committed before the request, while the view is behind"
    BEHIND = "while the grant waits for the journal, and the view learns of it only afterwards"
    QUEUED = "while the grant waits for the journal, before the receiver has acknowledged"
    ACKNOWLEDGED = "while the grant waits for the journal, after the receiver has acknowledged"
    COMMITTED = "after the commit, before anybody is told of it"


ABOUT_ROWS = {"policy authorization: delete", "policy authorization: insert"}
"""There is no row yet."""

WITHOUT_RECEIVER = {"gateway token: delete"}
"""The receiver is gone, and nobody is left to acknowledge."""

MOVED_ON: list[Hook] = [
    Hook(
        "client token: ends earlier",
        lambda s: _token_ends(s, s.transaction.now + timedelta(hours=1)),
        gateway=test_hooks.REJECTED,
    ),
    Hook("device: gateway moved to another site", lambda s: _move_gateway(s), gateway=test_hooks.REJECTED),
]
"""What takes no stored grant along, but what no grant that is stored afterwards may ignore."""

HOOKS = [
    hook
    for hook in (
        *MOVED_ON,
        *test_hooks.ACCOUNTS,
        *test_hooks.PEOPLE,
        *test_hooks.DEVICES,
        *test_hooks.POLICIES,
        *test_hooks.RESOURCES,
    )
    if hook.has_grant and hook.row not in ABOUT_ROWS | WITHOUT_RECEIVER
]
ENDS_WITH_THE_ROWS = {"account: delete"}
"""Takes rows along without a word to receivers, whose sockets it ends: the job that follows deletes what is left."""


@pytest.fixture
def gates(portal: Portal) -> Iterator[Gates]:
    with gates_of(portal) as gates:
        yield gates


@pytest.mark.parametrize("point", Point, ids=lambda point: point.name)
@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.row)
async def test_a_change_that_takes_grants_along_leaves_none_behind(
    hook: Hook, point: Point, world: World, gates: Gates
) -> None:
    kept: dict[str, Any] = {}

    async def step(what: Callable[[Stage], Awaitable[object]]) -> None:
        async with world.portal.services.store.writing() as transaction:
            await what(Stage(world, transaction, kept))

    if hook.prepare is not None:
        await step(hook.prepare)
    options = {} if hook.client_agent is None else {"user_agent": hook.client_agent}
    async with world.gateway() as gateway, world.client(**options) as client:
        await gateway.join()
        await client.join()
        await settle(world)

        async def request() -> None:
            client.send("request_authorization", {"resource_id": str(world.resource.id)})
            await gateway.receive("create_authorization")

        def acknowledge() -> None:
            gateway.send("authorization_created", {"ref": gateway.frames[-1]["payload"]["ref"]})

        await race(point, gates, world, request, acknowledge, lambda: step(hook.change))
        await client.news()
        await gateway.news()
        if hook.row in ENDS_WITH_THE_ROWS:
            await delete_in_slices(
                world.portal.services,
                lambda transaction: transaction.accounts.delete_remains(world.account_id),
            )
        is_live = not (set(test_hooks.REJECTED) <= set(hook.gateway) or hook.row in ENDS_WITH_THE_ROWS)
        if hook in MOVED_ON and point is Point.COMMITTED:
            is_live = True
        assert (len(await rows(world)), is_in_force(gateway), is_told(client, world)) == (
            int(is_live),
            is_live,
            is_live,
        )


POOL_HOOKS = [hook for hook in test_pool_hooks.HOOKS if hook.row not in ABOUT_ROWS]
ASKED_BY_ADDRESS = {"device of a member: addresses"}
"""The client asked for an address that is another device's now, or nobody's: it had better ask again."""


@pytest.mark.parametrize("point", Point, ids=lambda point: point.name)
@pytest.mark.parametrize("hook", POOL_HOOKS, ids=lambda hook: hook.row)
async def test_a_change_that_takes_grants_of_a_pool_along_leaves_none_behind(
    hook: PoolHook, point: Point, world: World, gates: Gates
) -> None:
    if hook.in_second_pool:
        async with world.client(external_id="nas"):
            other, _ = await make_pool(world, "static_device_pool")
            await add_member(world, other, "nas")
    pairing = dynamic_pair if hook.is_dynamic else static_pair
    async with pairing(world) as pair:
        await settle(world)
        nas = await pair.device("nas")

        async def request() -> None:
            pair.ask(ipv4=nas.ipv4)
            await pair.nas.receive("client_device_access_authorized")

        async def change() -> None:
            async with world.portal.services.store.writing() as transaction:
                await hook.change(Stage(world, transaction), pair)

        await race(point, gates, world, request, _acknowledged_by_its_session, change)
        await pair.laptop.news()
        await pair.nas.news()
        is_live = not set(test_pool_hooks.REJECTED) <= set(hook.nas)
        if hook.row in ASKED_BY_ADDRESS and point is not Point.COMMITTED:
            is_live = False
        assert (len(await rows(world)), is_open_to(pair), has_been_told(pair)) == (
            int(is_live),
            is_live,
            is_live,
        )


async def _token_ends(stage: Stage, at: datetime) -> None:
    tokens = stage.tables.client_tokens
    token = await tokens.load(stage.world.client_token_id)
    assert token is not None
    await tokens.save(replace(token, expires_at=at))


async def _move_gateway(stage: Stage) -> None:
    site = Site(id=stage.new_id(), account_id=stage.account_id, name="Graz")
    await stage.tables.sites.insert(site)
    await stage.save(await stage.device("gateway-1"), site_id=site.id)


async def race(
    point: Point,
    gates: Gates,
    world: World,
    request: Callable[[], Awaitable[None]],
    acknowledge: Callable[[], None],
    change: Callable[[], Awaitable[None]],
) -> None:
    """Let the change overtake the request at this point; returns when everybody has heard of everything."""
    match point:
        case Point.BEFORE_THE_VIEW_KNOWS:
            gates.feed.close()
            await change()
            await request()
            acknowledge()
            await world.portal.journal.flush()
            gates.feed.open()
        case Point.BEHIND:
            gates.begin.close()
            gates.feed.close()
            await request()
            acknowledge()
            await gates.begin.reached()
            await change()
            gates.begin.open()
            await world.portal.journal.flush()
            gates.feed.open()
        case Point.QUEUED | Point.ACKNOWLEDGED:
            gates.begin.close()
            await request()
            if point is Point.ACKNOWLEDGED:
                acknowledge()
            await gates.begin.reached()
            await change()
            await caught_up(world)
            if point is Point.QUEUED:
                acknowledge()
            gates.begin.open()
        case Point.COMMITTED:
            gates.committed.close()
            await request()
            acknowledge()
            await gates.committed.reached()
            await change()
            await caught_up(world)
            gates.committed.open()
    await settle(world)


async def settle(world: World) -> None:
    """Wait until everything is stored and the view has taken it in."""
    async with asyncio.timeout(PATIENCE_S):
        await world.portal.journal.flush()
        await caught_up(world)


async def rows(world: World) -> list[Any]:
    async with world.portal.services.store.reading() as transaction:
        return list(await transaction.of(world.account_id).authorizations.load_all())


def is_in_force(gateway: Peer) -> bool:
    """Tell what a gateway does that believes what it was told last."""
    in_force = False
    for frame in gateway.frames:
        match frame["event"]:
            case "create_authorization":
                in_force = True
            case "init":
                in_force = bool(frame["payload"]["authorizations"])
            case "reject_access" | "disconnect" | "phx_close":
                in_force = False
            case _:
                pass
    return in_force


def is_told(client: Peer, world: World) -> bool:
    """Tell whether a client believes that it has access, and does not know that it has to ask again."""
    told = False
    for frame in client.frames:
        match frame["event"]:
            case "authorization_created":
                told = True
            case "authorization_creation_failed" | "disconnect" | "phx_close":
                told = False
            case "resource_deleted" if frame["payload"] == str(world.resource.id):
                told = False
            case _:
                pass
    return told


def is_open_to(pair: Pair) -> bool:
    """Tell what the device that was asked for does."""
    is_open = False
    for frame in pair.nas.frames:
        match frame["event"]:
            case "client_device_access_authorized":
                is_open = True
            case "init":
                is_open = bool(frame["payload"]["authorizations"])
            case "reject_access" | "disconnect" | "phx_close":
                is_open = False
            case _:
                pass
    return is_open


def has_been_told(pair: Pair) -> bool:
    told = False
    for frame in pair.laptop.frames:
        match frame["event"]:
            case "client_device_access_authorized":
                told = True
            case "client_device_access_denied" | "disconnect" | "phx_close":
                told = False
            case "resource_deleted" if frame["payload"] == str(pair.pool.id):
                told = False
            case _:
                pass
    return told


def _acknowledged_by_its_session() -> None:
    """A client's session acknowledges when it has pushed."""
