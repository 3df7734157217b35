"""Whether what listens while a session is made has heard everything since before it was read."""

from uuid import UUID

import pytest

from support.pools import device_of
from support.portal import World, make_world
from wardgate.portal.bus.messages import GrantQueued
from wardgate.portal.channels.early import Early
from wardgate.portal.channels.journal import Journal

DEVICE = UUID("00000000-0000-4000-8000-000000000001")


async def test_who_listens_to_the_view_and_to_the_journal_has_heard_all(world: World) -> None:
    services, journal = world.portal.services, world.portal.journal
    async with services.accounts.using(world.account_id) as view:
        early = Early(journal, services.accounts.loaded(world.account_id))
        assert not early.has_heard_all(view)
        early.follow(DEVICE)
        assert early.has_heard_all(view)
        early.end()
        assert not early.has_heard_all(view)


async def test_where_no_view_was_there_something_was_missed(world: World) -> None:
    services = world.portal.services
    assert services.accounts.loaded(world.account_id) is None
    early = Early(world.portal.journal, None)
    early.follow(DEVICE)
    async with services.accounts.using(world.account_id) as view:
        assert not early.has_heard_all(view)


async def test_a_view_of_another_account_is_not_the_one(world: World) -> None:
    services = world.portal.services
    other = await make_world(world.portal, "other")
    async with services.accounts.using(world.account_id) as view, services.accounts.using(other.account_id):
        early = Early(world.portal.journal, services.accounts.loaded(other.account_id))
        early.follow(DEVICE)
        assert not early.has_heard_all(view)


@pytest.mark.parametrize("is_looked_at_after_it", [False, True])
async def test_a_grant_that_is_stored_before_the_journal_is_followed_is_there_if_it_is_looked_for_after_that(
    world: World, is_looked_at_after_it: bool
) -> None:
    services, journal = world.portal.services, world.portal.journal
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        await journal.flush()
        early = Early(journal, services.accounts.loaded(world.account_id))
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        await gateway.receive("create_authorization")
        await journal.flush()
        if is_looked_at_after_it:
            early.handle_look_up()
        early.follow((await device_of(world, "gateway-1")).id)
        async with services.accounts.using(world.account_id) as view:
            assert early.has_heard_all(view) == is_looked_at_after_it


async def test_a_grant_that_waits_when_the_journal_is_followed_is_heard_of(world: World) -> None:
    journal: Journal = world.portal.journal
    heard: list[object] = []
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        await journal.flush()
        early = Early(journal, world.portal.services.accounts.loaded(world.account_id))
        early.handle_message = heard.append  # type: ignore[method-assign, assignment]
        early.follow((await device_of(world, "gateway-1")).id)
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        await gateway.receive("create_authorization")
        early.end()
    assert [type(one) for one in heard] == [GrantQueued]
