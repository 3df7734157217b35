"""An account's end: scheduled, reminded of, called off, carried out."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from support.browser import caller, make_api_token, sign_in_link
from support.letterbox import Letterbox
from support.portal import Refused, World, make_world
from wardgate.portal.installation import account_lifecycle
from wardgate.portal.installation import repositories as account_repositories
from wardgate.portal.installation.account_lifecycle import Author, LifecycleError, Locked, WrongSlug
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.installation.tables import Account, Job
from wardgate.portal.jobs import account_deletion
from wardgate.portal.tables import metadata

ADA = Author("Ada")
ADMIN = "admin@acme.example"


async def test_scheduling_disables_the_account_and_tells_its_admins(
    world: World, letterbox: Letterbox
) -> None:
    after = await scheduled(world)
    assert after.is_disabled
    assert after.scheduled_deletion_at == after.updated_at + timedelta(days=7)
    received = await letterbox.receive()
    assert received.recipients == (ADMIN,)
    assert received.message.subject == "acme will be deleted"
    assert "decided by Ada" in received.message.text
    (reminder,) = await jobs_of(world, account_lifecycle.REMIND)
    assert reminder.run_at == after.scheduled_deletion_at - timedelta(hours=48)


async def test_scheduling_cuts_everybody_off_and_admins_can_still_sign_in(world: World) -> None:
    token, _ = await make_api_token(world)
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        await scheduled(world)
        assert (await client.receive_until("disconnect"))["payload"] == {"reason": "token_expired"}
    for peer, status, code in (
        (world.client(), 401, "invalid_token"),
        (world.gateway(), 403, "account_disabled"),
    ):
        with pytest.raises(Refused) as refused:
            async with peer:
                pass
        assert (refused.value.refusal.status, refused.value.refusal.code) == (status, code)
    async with caller(world.portal, token) as api:
        assert (await api.get("/account")).status_code == 401
    async with caller(world.portal) as browser:
        await browser.get(await sign_in_link(world))
        assert (await browser.get("/acme/account")).status_code == 200


@pytest.mark.parametrize(
    ("changes", "typed", "refusal"),
    [
        ({}, "other", WrongSlug),
        ({}, "", WrongSlug),
        ({"is_disabled": True}, "acme", LifecycleError),
        ({"lock_enabled_at": True}, "acme", Locked),
    ],
)
async def test_scheduling_is_refused(
    world: World, letterbox: Letterbox, changes: dict[str, bool], typed: str, refusal: type[LifecycleError]
) -> None:
    before = await saved(world, **changes)
    with pytest.raises(refusal):
        await scheduled(world, typed)
    assert await account_of(world) == before
    assert letterbox.taken == []


async def test_a_repeated_request_changes_nothing(world: World, letterbox: Letterbox) -> None:
    first = await scheduled(world, " ACME ")
    with pytest.raises(LifecycleError):
        await scheduled(world)
    assert await account_of(world) == first
    assert len(await jobs_of(world, account_lifecycle.REMIND)) == 1


async def test_cancelling_enables_the_account_forgets_the_jobs_and_tells_the_admins(
    world: World, letterbox: Letterbox
) -> None:
    before = await account_of(world)
    await scheduled(world)
    await letterbox.receive()
    after = await cancelled(world)
    assert after is not None
    assert replace(after, updated_at=before.updated_at) == before
    assert (await letterbox.receive()).message.subject == "acme will not be deleted"
    assert await jobs_of(world, account_lifecycle.REMIND) == []
    with pytest.raises(LifecycleError):
        await cancelled(world)
    async with world.gateway() as gateway:
        await gateway.join()


async def test_only_the_operator_cancels_the_deletion_of_a_locked_account(world: World) -> None:
    await scheduled(world)
    await saved(world, lock_enabled_at=True)
    with pytest.raises(Locked):
        await cancelled(world)
    assert not (await cancelled(world, Author(account_lifecycle.OPERATOR, is_operator=True))).is_disabled


async def test_the_reminder_is_for_a_deletion_that_is_near_and_still_wanted(
    world: World, letterbox: Letterbox
) -> None:
    arguments = {"account_id": str(world.account_id)}
    await scheduled(world)
    await letterbox.receive()
    await account_deletion.remind_of_deletion(world.portal.services, arguments)  # five days too early
    await due_in(world, timedelta(hours=47))
    await account_deletion.remind_of_deletion(world.portal.services, arguments)
    assert (await letterbox.receive()).message.subject == "acme will be deleted in two days"
    await cancelled(world)
    await letterbox.receive()
    await account_deletion.remind_of_deletion(world.portal.services, arguments)
    assert len(letterbox.taken) == 3


async def test_a_due_account_is_swept_deleted_with_everything_and_its_admins_are_told(
    world: World, letterbox: Letterbox
) -> None:
    services = world.portal.services
    other = await make_world(world.portal, "other")
    async with world.client() as client:
        await client.join()
    async with caller(world.portal) as browser:
        await browser.get(await sign_in_link(world))
    await scheduled(world)
    await letterbox.receive()
    await due_in(world, timedelta(seconds=-1))
    await account_deletion.sweep_accounts(services, {})
    received = await letterbox.receive()
    assert (received.recipients, received.message.subject) == ((ADMIN,), "acme has been deleted")
    while await left_of(world):  # noqa: ASYNC110 - the runner tells nobody
        await asyncio.sleep(0.01)
    async with services.store.reading() as transaction:
        assert await transaction.accounts.load(world.account_id) is None
        assert await transaction.accounts.load(other.account_id) is not None
        for table in metadata.sorted_tables:
            if "account_id" in table.c and table.name not in ("changes", "change_counters"):
                rows = await transaction.execute(table.select().where(table.c.account_id == world.account_id))
                assert rows.first() is None, table.name
        changes = await transaction.of(world.account_id).changes(limit=10)
        accounts = await transaction.execute(metadata.tables["accounts"].select())
        assert [row.id for row in accounts] == [other.account_id]
    assert [(one.object, one.operation) for one in changes] == [("accounts", "delete")]
    assert await jobs_of(world, account_lifecycle.REMIND) == []


async def test_a_deletion_that_was_interrupted_goes_on_with_the_next_sweep(
    world: World, letterbox: Letterbox
) -> None:
    services = world.portal.services
    await scheduled(world)
    await letterbox.receive()
    await due_in(world, timedelta(seconds=-1))
    # As far as the first transaction: then the process was killed.
    async with services.store.writing() as transaction:
        assert await account_lifecycle.delete_if_due(transaction, services.settings, world.account_id)
    assert (await letterbox.receive()).message.subject == "acme has been deleted"
    with pytest.raises(Refused) as refused:
        async with world.gateway():
            pass
    assert (refused.value.refusal.status, refused.value.refusal.code) == (401, "invalid_token")

    await account_deletion.sweep_accounts(services, {})
    while await left_of(world):  # noqa: ASYNC110 - the runner tells nobody
        await asyncio.sleep(0.01)
    assert len(letterbox.taken) == 2  # scheduled, deleted: nobody is told twice
    async with services.store.reading(is_long=True) as transaction:
        assert await account_lifecycle.due_for_deletion(transaction) == []


async def test_everybody_else_writes_between_two_slices_of_a_deletion(
    world: World, letterbox: Letterbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_repositories, "DELETED_WITH_ACCOUNT_AT_ONCE", 1)
    services = world.portal.services
    async with services.store.writing() as transaction:
        for number in range(30):
            site = replace(world.site, id=transaction.new_id(), name=f"site {number}")
            await transaction.of(world.account_id).sites.insert(site)
    await scheduled(world)
    await letterbox.receive()
    await due_in(world, timedelta(seconds=-1))
    deleting = asyncio.create_task(
        account_deletion.delete_account(services, {"account_id": str(world.account_id)})
    )
    left = []
    while not deleting.done():
        async with services.store.writing() as transaction:
            await transaction.touch()
        left.append(await left_of(world))
    await deleting
    assert len(set(left)) > 15


async def test_an_account_whose_deletion_was_cancelled_after_the_sweep_stays(
    world: World, letterbox: Letterbox
) -> None:
    await scheduled(world)
    await due_in(world, timedelta(seconds=-1))
    await cancelled(world)
    await account_deletion.delete_account(world.portal.services, {"account_id": str(world.account_id)})
    assert await account_of(world) is not None


async def test_a_sweep_enqueues_an_account_once(world: World) -> None:
    await scheduled(world)
    await due_in(world, timedelta(seconds=-1))
    services = world.portal.services
    async with services.store.writing() as transaction:
        assert await account_lifecycle.due_for_deletion(transaction) == [world.account_id]
        assert await account_lifecycle.enqueue_deletion(transaction, world.account_id)
        assert not await account_lifecycle.enqueue_deletion(transaction, world.account_id)
    await account_deletion.sweep_accounts(services, {})
    async with services.store.reading() as transaction:
        jobs = await JobQueue(transaction).load(limit=100)
    assert [job.kind for job in jobs].count(account_lifecycle.DELETE) == 1


async def test_gateways_and_pages_of_a_deleted_account_end(world: World, letterbox: Letterbox) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
        await scheduled(world)
        await due_in(world, timedelta(seconds=-1))
        await account_deletion.delete_account(world.portal.services, {"account_id": str(world.account_id)})
        await gateway.receive_close()
    async with caller(world.portal) as browser:
        answer = await browser.get("/acme")
        assert (answer.status_code, answer.headers["location"]) == (303, "/acme/sign_in?redirect_to=%2Facme")


async def scheduled(world: World, typed: str = "acme") -> Account:
    services = world.portal.services
    async with services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        return await account_lifecycle.schedule_deletion(
            transaction, services.settings, account, typed_slug=typed, author=ADA
        )


async def cancelled(world: World, author: Author = ADA) -> Account:
    services = world.portal.services
    async with services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        return await account_lifecycle.cancel_deletion(transaction, services.settings, account, author=author)


async def due_in(world: World, left: timedelta) -> None:
    async with world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        await transaction.accounts.save(replace(account, scheduled_deletion_at=transaction.now + left))


async def saved(world: World, **flags: bool) -> Account:
    """Set flags of the account; a moment is now."""
    async with world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        changes = {name: transaction.now if name.endswith("_at") else on for name, on in flags.items()}
        return await transaction.accounts.save(replace(account, **changes))


async def account_of(world: World) -> Account:
    async with world.portal.services.store.reading() as transaction:
        account = await transaction.accounts.load(world.account_id)
    assert account is not None
    return account


async def left_of(world: World) -> int:
    """Return how many rows name the account, its own included; its deletion in the feed is none."""
    async with world.portal.services.store.reading() as transaction:
        count = 0
        for table in metadata.sorted_tables:
            if table.name == "accounts":
                condition = table.c.id == world.account_id
            elif "account_id" in table.c and table.name not in ("changes", "change_counters"):
                condition = table.c.account_id == world.account_id
            else:
                continue
            counted = select(func.count()).select_from(table).where(condition)
            count += (await transaction.execute(counted)).scalar_one()
    return count


async def jobs_of(world: World, kind: str) -> list[Job]:
    async with world.portal.services.store.reading() as transaction:
        jobs = await JobQueue(transaction).load(limit=100)
    return [job for job in jobs if job.kind == kind]
