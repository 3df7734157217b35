"""Clean-up deletes what is over, and nothing else."""

from dataclasses import replace
from datetime import timedelta

import pytest

from support.portal import World, make_world, portal_running
from wardgate.portal.jobs import clean_up
from wardgate.portal.store.rows import PolicyAuthorization


@pytest.mark.parametrize(("age_s", "deleted"), [(29, 0), (31, 1)])
async def test_grants_go_half_a_minute_after_their_end(age_s: int, deleted: int) -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        await _grant_that_ended(world, age_s)
        assert await clean_up.clean_authorizations(portal.services, {}) == deleted


async def test_expired_credentials_go_and_others_stay() -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        async with portal.services.store.writing() as tx:
            tokens = tx.of(world.account_id).client_tokens
            row = await tokens.load(world.client_token_id)
            assert row is not None
            await tokens.insert(replace(row, id=tx.new_id(), expires_at=tx.now - timedelta(seconds=1)))
        assert await clean_up.clean_credentials(portal.services, {}) == 1
        async with portal.services.store.reading() as tx:
            assert await tx.of(world.account_id).client_tokens.load(world.client_token_id) is not None


async def test_logs_go_when_they_are_too_old_and_the_feed_keeps_counting() -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        services = portal.services
        position = await services.feed.position(world.account_id)
        assert await clean_up.clean_logs(services, {}) == 0
        async with services.store.writing() as tx:
            assert await tx.delete_logs_before(tx.now + timedelta(seconds=1)) > position
        async with services.store.writing() as tx:
            await tx.of(world.account_id).sites.save(replace(world.site, name="Hamburg"))
        async with services.store.reading() as tx:
            (change,) = await tx.changes_after(world.account_id, position, 10)
        assert change.sequence == position + 1


async def _grant_that_ended(world: World, age_s: int) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        devices = {device.type: device.id for device in await tables.devices.load_all()}
        await tables.authorizations.insert(
            PolicyAuthorization(
                id=tx.new_id(),
                account_id=world.account_id,
                policy_id=world.policy.id,
                resource_id=world.resource.id,
                initiating_device_id=devices["client"],
                receiving_device_id=devices["gateway"],
                token_id=world.client_token_id,
                membership_id=world.membership.id,
                initiator_remote_ip="192.0.2.7",
                initiator_user_agent="test",
                receiver_remote_ip=None,
                expires_at=tx.now - timedelta(seconds=age_s),
            )
        )
