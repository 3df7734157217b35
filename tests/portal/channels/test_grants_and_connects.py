"""Connections that are made while grants to them are on their way to the store, and while what they rest on changes."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from portal.channels.test_authorization import grant
from support.gates import Gates, gates_of
from support.pools import caught_up, device_of, static_pair
from support.portal import Peer, World, make_world, portal_running
from support.postgres import postgres_database
from wardgate.portal.access.tables import Policy
from wardgate.portal.app import Portal
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import PostgresServer, Store

Step = Callable[[], Awaitable[None]]

VERIFIED = [{"property": "client_verified", "operator": "is", "values": ["true"]}]


@pytest.fixture
def gates(portal: Portal) -> Iterator[Gates]:
    with gates_of(portal) as gates:
        yield gates


async def test_a_gateway_that_comes_back_is_told_of_a_grant_that_is_not_stored_yet(
    world: World, gates: Gates
) -> None:
    async with world.client() as client:
        await client.join()
        async with offered_but_not_stored(world, gates, client):
            pass
        async with world.gateway() as gateway:
            init = await gateway.join()
            assert resources_in(init) == [str(world.resource.id)]
            gates.begin.open()
            await world.portal.journal.flush()
            assert [frame["event"] for frame in await gateway.news()] == ["resource_updated"]


async def test_a_client_is_told_of_an_acknowledged_grant_only_once_it_is_stored(
    world: World, gates: Gates
) -> None:
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        await world.portal.journal.flush()
        gates.begin.close()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        offer = await gateway.receive("create_authorization")
        gateway.send("authorization_created", {"ref": offer["payload"]["ref"]})
        await gateway.news()
        early = await client.news()
        gates.begin.open()
        await world.portal.journal.flush()
        assert early == []
        assert [frame["event"] for frame in await client.news()] == ["authorization_created"]


async def test_a_grant_that_fails_after_the_gateway_has_come_back_is_withdrawn(
    world: World, gates: Gates
) -> None:
    async with world.client() as client:
        await client.join()
        async with offered_but_not_stored(world, gates, client):
            pass
        async with world.gateway() as gateway:
            assert resources_in(await gateway.join()) == [str(world.resource.id)]
            await disable_the_policy(world)
            gates.begin.open()
            await world.portal.journal.flush()
            assert "reject_access" in [frame["event"] for frame in await gateway.news()]


async def test_a_grant_that_fails_while_the_gateway_connects_is_not_in_its_init(
    world: World, gates: Gates
) -> None:
    async with world.client() as client:
        await client.join()
        async with offered_but_not_stored(world, gates, client):
            pass
        async with world.gateway() as gateway:
            await disable_the_policy(world)
            gates.begin.open()
            await world.portal.journal.flush()
            assert resources_in(await gateway.join()) == []


async def test_a_grant_that_is_stored_while_the_gateway_connects_is_in_its_init(
    world: World, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = world.portal.channels
    read = endpoint._read_again

    async def load_and_then_store(*arguments: Any) -> Any:
        loaded = await read(*arguments)
        gates.begin.open()
        await world.portal.journal.flush()
        return loaded

    async with world.client() as client:
        await client.join()
        async with offered_but_not_stored(world, gates, client):
            pass
        monkeypatch.setattr(endpoint, "_read_again", load_and_then_store)
        async with world.gateway() as gateway:
            assert resources_in(await gateway.join()) == [str(world.resource.id)]


async def test_a_grant_to_a_client_that_fails_while_it_connects_is_not_in_its_init(
    world: World, gates: Gates
) -> None:
    async with static_pair(world) as pair:
        await world.portal.journal.flush()
        gates.begin.close()
        pair.ask(ipv4=(await pair.device("nas")).ipv4)
        await pair.nas.receive("client_device_access_authorized")
        async with world.client(external_id="nas") as again:
            async with world.portal.services.store.writing() as tx:
                policies = tx.of(world.account_id).policies
                await policies.save(replace(pair.policy, is_disabled=True))
            gates.begin.open()
            await world.portal.journal.flush()
            assert (await again.join())["authorizations"] == []


async def test_a_client_that_is_unverified_while_it_connects_is_shown_nothing_for_verified_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.client():
        await world.portal.journal.flush()
    await set_verified(world, is_verified=True)
    async with world.portal.services.store.writing() as tx:
        await tx.of(world.account_id).policies.save(replace(world.policy, conditions=VERIFIED))
    accounts = world.portal.services.accounts
    using = accounts.using

    @contextlib.asynccontextmanager
    async def unverify_first(account_id: Any) -> AsyncIterator[Any]:
        # The device has been read, the account's view has not been entered yet.
        await set_verified(world, is_verified=False)
        async with using(account_id) as view:
            yield view

    with monkeypatch.context() as patched:
        # Nobody listens while it is read, as where the account's view is not there yet.
        patched.setattr(accounts, "loaded", lambda _account_id: None)
        patched.setattr(accounts, "using", unverify_first)
        async with world.client() as client:
            assert (await client.join())["resources"] == []


@pytest.fixture(params=["_connect", "_read_again"])
async def while_loading(
    request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[Step], None]]:
    """Let something happen after a session's grants have been loaded, before the session is made of them: a client's
    together with its token, where the account's view is there already, and everybody's by themselves, where it is not.
    """
    endpoint = world.portal.channels

    def let(happen: Step) -> None:
        monkeypatch.setattr(
            endpoint, request.param, _followed_by(getattr(endpoint, request.param), world, happen)
        )

    accounts = world.portal.services.accounts
    if request.param == "_read_again":
        monkeypatch.setattr(accounts, "loaded", lambda _account_id: None)
        yield let
        return
    async with accounts.using(world.account_id), world.client():
        """Its device is there."""
    async with accounts.using(world.account_id):
        yield let


async def test_a_token_that_is_deleted_while_its_session_is_made_ends_it(
    world: World, while_loading: Callable[[Step], None]
) -> None:
    async def delete_the_token() -> None:
        async with world.portal.services.store.writing() as tx:
            await tx.of(world.account_id).client_tokens.delete(world.client_token_id)

    while_loading(delete_the_token)
    async with world.client() as client:
        assert await client.receive_close() == 1000


async def test_a_new_device_is_read_once_and_hears_all_the_same_that_its_token_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def delete_the_token() -> None:
        async with world.portal.services.store.writing() as tx:
            await tx.of(world.account_id).client_tokens.delete(world.client_token_id)

    async def read_again(*_arguments: Any) -> Any:
        raise AssertionError("it was read a second time")

    endpoint = world.portal.channels
    monkeypatch.setattr(endpoint, "_connect", _followed_by(endpoint._connect, world, delete_the_token))
    monkeypatch.setattr(endpoint, "_read_again", read_again)
    async with world.portal.services.accounts.using(world.account_id), world.client() as client:
        assert await client.receive_close() == 1000


async def test_a_client_that_is_unverified_while_its_session_is_made_is_shown_nothing_for_verified_ones(
    world: World, while_loading: Callable[[Step], None]
) -> None:
    async with world.client():
        await world.portal.journal.flush()
    await set_verified(world, is_verified=True)
    async with world.portal.services.store.writing() as tx:
        await tx.of(world.account_id).policies.save(replace(world.policy, conditions=VERIFIED))
    while_loading(lambda: set_verified(world, is_verified=False))
    async with world.client() as client:
        assert (await client.join())["resources"] == []


async def test_a_grant_that_is_revoked_while_its_gateway_is_loaded_is_not_in_its_init(
    world: World, while_loading: Callable[[Step], None]
) -> None:
    async with world.client() as client:
        await client.join()
        async with world.gateway() as gateway:
            await gateway.join()
            await grant(world, client, gateway)
        while_loading(lambda: disable_the_policy(world))
        async with world.gateway() as gateway:
            assert resources_in(await gateway.join()) == []


def _followed_by(load: Callable[..., Awaitable[Any]], world: World, happen: Step) -> Callable[..., Any]:
    async def load_and_let_happen(*arguments: Any) -> Any:
        loaded = await load(*arguments)
        await happen()
        await caught_up(world)
        return loaded

    return load_and_let_happen


@pytest.mark.timeout(120)  # a database server starts first, on a machine that may be busy
@pytest.mark.one_database  # about two portals on PostgreSQL
async def test_another_portals_change_counts_before_this_ones_view_knows_of_it() -> None:
    async with postgres_database() as url:
        settings = PortalSettings(database_url=PostgresServer(url), connect_capacity=1000.0)
        async with portal_running(settings) as portal:
            world = await make_world(portal)
            theirs = await Store.open(portal.services.settings.database, portal.services.environment)
            async with world.client() as client, world.gateway() as gateway:
                await client.join()
                await gateway.join()
                for _ in range(3):
                    await portal.journal.flush()
                    await caught_up(world)
                    await set_policy(theirs, world, is_disabled=True)
                    client.send("request_authorization", {"resource_id": str(world.resource.id)})
                    await client.receive_until("authorization_creation_failed")
                    await portal.journal.flush()
                    async with theirs.reading() as tx:
                        assert await tx.of(world.account_id).authorizations.load_all() == []
                    told = [frame["event"] for frame in await gateway.news()]
                    assert told in ([], ["create_authorization", "reject_access"])
                    await set_policy(theirs, world, is_disabled=False)
                    await caught_up(world)
                    await client.news()
            await theirs.close()


@contextlib.asynccontextmanager
async def offered_but_not_stored(world: World, gates: Gates, client: Peer) -> AsyncIterator[None]:
    """A gateway is offered a grant that waits for the journal; then it leaves."""
    async with world.gateway() as gateway:
        await gateway.join()
        await world.portal.journal.flush()
        gates.begin.close()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        await gateway.receive("create_authorization")
        yield


def resources_in(init: dict[str, Any]) -> list[str]:
    return [one["resource_id"] for one in init["authorizations"]]


async def disable_the_policy(world: World) -> None:
    await set_policy(world.portal.services.store, world, is_disabled=True)


async def set_policy(store: Store, world: World, *, is_disabled: bool) -> None:
    async with store.writing() as tx:
        policies = tx.of(world.account_id).policies
        policy = await policies.load(world.policy.id)
        assert isinstance(policy, Policy)
        await policies.save(replace(policy, is_disabled=is_disabled))


async def set_verified(world: World, *, is_verified: bool) -> None:
    device = await device_of(world, "client-1")
    async with world.portal.services.store.writing() as tx:
        await tx.of(world.account_id).devices.save(
            replace(device, verified_at=tx.now if is_verified else None)
        )
