"""What is remembered of outbound e-mail, and that nothing of it goes with an account."""

from uuid import UUID

import pytest

from wardgate.portal.installation.tables import OutboundEmail
from wardgate.portal.mail.records import MailRecords
from wardgate.portal.store import Store

pytestmark = pytest.mark.slow


async def test_a_suppressed_address_is_found_in_whatever_case(store: Store) -> None:
    async with store.writing() as transaction:
        mail = MailRecords(transaction)
        await mail.suppress("Ada@Example.org")
        await mail.suppress("ada@example.org")
        assert await mail.suppressed(["ADA@example.org", "bob@example.org"]) == {"ada@example.org"}


async def test_a_message_has_a_pending_delivery_to_each_address(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        mail = MailRecords(transaction)
        await mail.record(_message(account_id), ["Ada@example.org"])
        await mail.record(_message(account_id), ["ada@example.org", "bob@example.org"])
        deliveries = await mail.deliveries("m-1")
        stored = await mail.load("m-1")
    assert [(one.email, one.status) for one in deliveries] == [
        ("ada@example.org", "pending"),
        ("bob@example.org", "pending"),
    ]
    assert stored is not None
    assert (stored.account_id, stored.subject, stored.recipients) == (
        account_id,
        "Hello",
        ["Ada@example.org", "bob@example.org"],
    )


async def test_only_a_pending_delivery_is_reported_on(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        mail = MailRecords(transaction)
        await mail.record(_message(account_id), ["ada@example.org"])
        assert await mail.report("m-1", "ADA@example.org", "bounced")
        assert not await mail.report("m-1", "ada@example.org", "delivered")
        assert not await mail.report("m-2", "ada@example.org", "delivered")
        assert [one.status for one in await mail.deliveries("m-1")] == ["bounced"]
        assert await mail.load("m-2") is None


async def test_a_message_outlives_its_account(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        await MailRecords(transaction).record(_message(account_id), ["ada@example.org"])
    async with store.writing() as transaction:
        assert await transaction.accounts.delete(account_id)
        while await transaction.accounts.delete_remains(account_id):
            pass
    async with store.reading() as transaction:
        mail = MailRecords(transaction)
        message = await mail.load("m-1")
        assert len(await mail.deliveries("m-1")) == 1
    assert message is not None
    assert message.account_id is None


def _message(account_id: UUID) -> OutboundEmail:
    return OutboundEmail(
        message_id="m-1",
        account_id=account_id,
        subject="Hello",
        recipients=["Ada@example.org", "bob@example.org"],
    )
