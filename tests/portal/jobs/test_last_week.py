"""The last week of an account, in virtual time: letters and deletion come when they were promised."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from support.letterbox import Letterbox
from support.virtual_portal import playing
from wardgate.portal import provisioning
from wardgate.portal.app import Portal
from wardgate.portal.installation import account_lifecycle
from wardgate.portal.installation.account_lifecycle import Author
from wardgate.portal.installation.tables import Account
from wardgate.portal.jobs import Runner, account_deletion, mail

_LETTERBOX = Letterbox()


async def _last_week(portal: Portal) -> None:
    account = await _made(portal)
    async with portal.services.store.writing() as transaction:
        scheduled = await account_lifecycle.schedule_deletion(
            transaction, portal.services.settings, account, typed_slug="acme", author=Author("Ada")
        )
    assert scheduled.scheduled_deletion_at is not None
    async with _working(portal):
        await asyncio.sleep(1)
    assert _told() == ["Acme will be deleted"]
    for moment, told in (
        (scheduled.scheduled_deletion_at - timedelta(hours=48), "Acme will be deleted in two days"),
        (scheduled.scheduled_deletion_at, "Acme has been deleted"),
    ):
        before, count = moment - timedelta(minutes=2), len(_told())
        await asyncio.sleep((before - portal.services.environment.clock.now()).total_seconds())
        async with _working(portal):
            await asyncio.sleep(110)
            assert len(_told()) == count
            await asyncio.sleep(90)
        assert _told()[count:] == [told]
    async with portal.services.store.reading() as transaction:
        assert await transaction.accounts.load(account.id) is None


test_letters_and_deletion_come_when_they_were_promised = playing(
    _last_week, named="test_letters_and_deletion_come_when_they_were_promised", mailer=_LETTERBOX
)


@contextlib.asynccontextmanager
async def _working(portal: Portal) -> AsyncIterator[None]:
    task = asyncio.create_task(Runner(portal.services, (*account_deletion.KINDS, *mail.KINDS)).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _made(portal: Portal) -> Account:
    async with portal.services.store.writing() as transaction:
        made = await provisioning.provision(
            transaction, name="Acme", slug="acme", admin_email="ada@acme.example"
        )
    return made.account


def _told() -> list[str]:
    return [received.message.subject for received in _LETTERBOX.taken]
