"""Clean-up deletes what is over, and nothing else."""

import asyncio
import itertools
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import insert

from support.api_requests import newest_api_requests
from support.portal import World, make_world, portal_running
from unit.portal.store.conftest import make_api_request
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.database.feed import FeedBroken
from wardgate.portal.database.transaction import DELETED_AT_ONCE
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.installation.tables import JOBS
from wardgate.portal.jobs import clean_up
from wardgate.portal.logs.decision_log import append_decisions, newest_decisions
from wardgate.portal.logs.tables import API_REQUEST_LOGS, Decision
from wardgate.portal.schema.change_feed import CHANGES, Change
from wardgate.portal.schema.row_building import values_of
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.api_calls import append_api_requests
from wardgate.portal.sign_in.tables import OneTimePasscode


async def test_old_entries_are_deleted_a_slice_at_a_time_until_none_is_left() -> None:
    async with portal_running() as portal:
        services = portal.services
        world = await make_world(portal)
        total = 2 * DELETED_AT_ONCE + 10
        async with services.store.writing() as transaction:
            request = make_api_request(transaction, world.account_id)
            old = replace(request, inserted_at=transaction.now - clean_up.LOG_RETENTION - timedelta(days=1))
            row = {name: value for name, value in values_of(old).items() if name != "seq"}
            await transaction.execute(
                insert(API_REQUEST_LOGS.table),
                [{**row, "log_id": f"a{number:023x}"} for number in range(total)],
            )
            await append_api_requests(transaction, [request])
        async with services.store.writing() as transaction:
            inserted_at = API_REQUEST_LOGS.c.inserted_at
            assert await transaction.delete_oldest(inserted_at, old.inserted_at) == 0
            slice_ = await transaction.delete_oldest(inserted_at, transaction.now - clean_up.LOG_RETENTION)
            assert slice_ == DELETED_AT_ONCE
        assert await clean_up.clean_logs(services, {}) == total - DELETED_AT_ONCE
        async with services.store.reading() as transaction:
            assert len(await newest_api_requests(transaction.of(world.account_id), limit=10)) == 1


@pytest.mark.parametrize(("age_s", "deleted"), [(29, 0), (31, 1)])
async def test_grants_go_half_a_minute_after_their_end(age_s: int, deleted: int) -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        await _grant_that_ended(world, age_s)
        assert await clean_up.clean_authorizations(portal.services, {}) == deleted


async def test_of_grants_that_a_client_asked_for_again_the_latest_stays_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        async with world.gateway() as gateway, world.client() as client:
            await gateway.join()
            await client.join()
            for _ in range(3):
                client.send("request_authorization", {"resource_id": str(world.resource.id)})
                create = (await gateway.receive("create_authorization"))["payload"]
                gateway.send("authorization_created", {"ref": create["ref"]})
                await gateway.receive("phx_reply")
                await client.receive("authorization_created")
            before = await _grants(world)
            assert await clean_up.clean_superseded_grants(portal.services, {}) == 0, "the latest is too young"
            monkeypatch.setattr(clean_up, "SETTLED_AFTER", timedelta(seconds=-1))
            assert await clean_up.clean_superseded_grants(portal.services, {}) == 2
            assert await _grants(world) == before[-1:]
            assert await gateway.is_quiet()
            assert await client.is_quiet()
            async with portal.services.store.writing() as transaction:
                await transaction.of(world.account_id).authorizations.delete(before[-1].id)
            assert (await gateway.receive())["event"] == "reject_access"
            assert await clean_up.clean_superseded_grants(portal.services, {}) == 0


async def test_a_grant_of_another_ground_or_with_a_later_end_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_up, "SETTLED_AFTER", timedelta(seconds=-1))
    async with portal_running() as portal:
        world = await make_world(portal)
        await _grant_that_ended(world, 0)
        async with portal.services.store.writing() as transaction:
            tables = transaction.of(world.account_id)
            (one,) = await tables.authorizations.load_all()
            token = await tables.client_tokens.load(world.client_token_id)
            assert token is not None
            other_token = await tables.client_tokens.insert(replace(token, id=transaction.new_id()))
            group = await tables.groups.insert(replace(world.group, id=transaction.new_id(), name="Others"))
            other_policy = await tables.policies.insert(
                replace(world.policy, id=transaction.new_id(), group_id=group.id)
            )
            later = one.expires_at + timedelta(hours=1)
            for change in (
                {"token_id": other_token.id},
                {"policy_id": other_policy.id},
                {"membership_id": None},
                {"receiving_device_id": one.initiating_device_id},
                {"expires_at": later},
            ):
                await tables.authorizations.insert(replace(one, id=transaction.new_id(), **change))
        assert await clean_up.clean_superseded_grants(portal.services, {}) == 1
        kept = await _grants(world)
        assert one.id not in {grant.id for grant in kept}, "the one that ends earlier"
        async with portal.services.store.writing() as transaction:
            await transaction.of(world.account_id).authorizations.insert(
                replace(one, id=transaction.new_id())
            )
        assert await clean_up.clean_superseded_grants(portal.services, {}) == 0, "the latest ends earlier"


async def test_expired_credentials_go_and_others_stay() -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        async with portal.services.store.writing() as tx:
            tokens = tx.of(world.account_id).client_tokens
            row = await tokens.load(world.client_token_id)
            assert row is not None
            await tokens.insert(replace(row, id=tx.new_id(), expires_at=tx.now - timedelta(seconds=1)))
            for age in (-60, 60):
                passcode = OneTimePasscode(
                    id=tx.new_id(),
                    account_id=world.account_id,
                    actor_id=world.actor.id,
                    code_hash="$argon2id$",
                    expires_at=tx.now + timedelta(seconds=age),
                )
                await tx.of(world.account_id).one_time_passcodes.insert(passcode)
        assert await clean_up.clean_credentials(portal.services, {}) == 2
        async with portal.services.store.reading() as tx:
            assert await tx.of(world.account_id).one_time_passcodes.count() == 1
            assert await tx.of(world.account_id).client_tokens.load(world.client_token_id) is not None


async def test_logs_go_when_they_are_too_old_and_the_feed_keeps_counting() -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        services = portal.services
        position = await services.feed.position(world.account_id)
        assert await clean_up.clean_logs(services, {}) == 0
        async with services.store.writing() as tx:
            assert await tx.delete_oldest(CHANGES.c.committed_at, tx.now + timedelta(seconds=1)) >= position
        async with services.store.writing() as tx:
            await tx.of(world.account_id).sites.save(replace(world.site, name="Hamburg"))
        async with services.store.reading() as tx:
            (change,) = await tx.changes_after(world.account_id, position, 10)
        assert change.sequence == position + 1


async def test_changes_that_only_readers_of_the_feed_read_go_after_a_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        services = portal.services
        await _grant_that_ended(world, 0)
        assert await clean_up.clean_logs(services, {}) == 0, "all are young"
        before = await _changes(world)
        internal = [change for change in before if change.audience == "internal"]
        assert "policy_authorizations" in {change.object for change in internal}
        monkeypatch.setattr(clean_up, "FEED_RETENTION", timedelta(seconds=-1))
        assert await clean_up.clean_logs(services, {}) == len(internal)
        assert await _changes(world) == [change for change in before if change.audience == "audit"]
        with pytest.raises(FeedBroken):
            await anext(services.feed.follow(world.account_id, internal[0].sequence - 1))


async def test_decisions_are_kept_as_long_as_the_operator_says() -> None:
    for retention_s, left in ((86_400, 1), (3600, 0)):
        async with portal_running(PortalSettings(decision_retention_s=retention_s)) as portal:
            world = await make_world(portal)
            async with portal.services.store.writing() as tx:
                await append_decisions(tx, [decision(world, decided_at=tx.now - timedelta(hours=2))])
            await clean_up.clean_logs(portal.services, {})
            async with portal.services.store.reading() as tx:
                assert len(await newest_decisions(tx.of(world.account_id), limit=10)) == left


@pytest.mark.parametrize("kind", ["grants", "jobs"])
async def test_rows_of_which_there_are_many_go_a_slice_at_a_time(kind: str) -> None:
    at_once = clean_up.ROWS_AT_ONCE if kind == "grants" else DELETED_AT_ONCE
    total = 2 * at_once + 10
    async with portal_running() as portal:
        world, store = await make_world(portal), portal.services.store
        if kind == "grants":
            await _grants_that_ended(world, total)
        else:
            await _jobs_that_finished(world, total)
        clean = clean_up.clean_authorizations if kind == "grants" else clean_up.clean_jobs
        left = []
        async with store.reading() as transaction:
            is_serial = transaction.dialect == "sqlite"

        async def count() -> None:
            async with store.reading(is_long=True) as transaction:
                if kind == "grants":
                    left.append(await transaction.of(world.account_id).authorizations.count())
                else:
                    left.append((await JobQueue(transaction).counts())["completed"])

        cleaning = asyncio.create_task(clean(portal.services, {}))
        while not cleaning.done():
            await count()
        assert await cleaning == total
        await count()
    if is_serial:
        steps = [before - after for before, after in itertools.pairwise([total, *left])]
        assert max(steps) <= at_once, "others had their turn between two slices"
    else:  # a server may delete two slices while a question is on its way
        assert any(0 < one < total for one in left), "others had their turn"
    assert left[-1] == 0


def decision(world: World, *, decided_at: datetime) -> Decision:
    return Decision(
        account_id=world.account_id,
        log_id="d" + "0" * 23,
        outcome="denied",
        reason="forbidden",
        actor_id=world.actor.id,
        actor_name="Ada",
        device_id=world.site.id,
        resource_id=world.resource.id,
        resource_name="net",
        policy_id=None,
        gateway_id=None,
        authorization_id=None,
        expires_at=None,
        explanation={},
        decided_at=decided_at,
    )


async def _jobs_that_finished(world: World, number: int) -> None:
    async with world.portal.services.store.writing() as transaction:
        now = transaction.now
        row = {"kind": "send_mail", "arguments": {}, "state": "completed", "attempt": 1, "max_attempts": 3}
        ended = now - clean_up.JOB_RETENTION - timedelta(seconds=1)
        times = {"run_at": ended, "inserted_at": ended, "updated_at": ended, "finished_at": ended}
        await transaction.execute(
            insert(JOBS.table), [{"id": transaction.new_id(), **row, **times} for _ in range(number)]
        )


async def _changes(world: World) -> list[Change]:
    async with world.portal.services.store.reading() as transaction:
        return await transaction.changes_after(world.account_id, 0, 1000)


async def _grants(world: World) -> list[PolicyAuthorization]:
    """Return all, the latest at the end."""
    async with world.portal.services.store.reading() as transaction:
        grants = await transaction.of(world.account_id).authorizations.load_all()
    return sorted(grants, key=lambda one: one.inserted_at)


async def _grants_that_ended(world: World, number: int) -> None:
    await _grant_that_ended(world, 31)
    async with world.portal.services.store.writing() as transaction:
        grants = transaction.of(world.account_id).authorizations
        (one,) = await grants.load_all()
        await grants.insert_all([replace(one, id=transaction.new_id()) for _ in range(number - 1)])


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
