"""A posted letter reaches whoever may be written to, and what became of it is on record."""

from typing import Any

import pytest

from support.letterbox import Letterbox
from support.portal import World, make_world, portal_running
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.installation.tables import Job
from wardgate.portal.mail.delivery import DeliveryDeferred, send_mail
from wardgate.portal.mail.letters import DeletionCancelled
from wardgate.portal.mail.queue import SEND_MAIL, post
from wardgate.portal.mail.records import MailRecords

LETTER = DeletionCancelled("Acme", "https://portal.example/acme", "Ada")
ADA, BOB = "ada@example.org", "bob@example.org"


async def test_a_posted_letter_is_sent_and_recorded(world: World, letterbox: Letterbox) -> None:
    await posted(world, ADA, BOB)
    received = await letterbox.receive()
    assert received.recipients == (ADA, BOB)
    assert received.message.subject == "Acme will not be deleted"
    assert received.message.id.endswith("@localhost")
    (job,) = await mail_jobs(world)
    assert job.arguments["account_id"] == str(world.account_id)


async def test_what_was_sent_is_on_record_and_is_not_sent_again(world: World, letterbox: Letterbox) -> None:
    arguments = {**letter_to(ADA, BOB), "account_id": str(world.account_id)}
    await send_mail(world.portal.services, arguments)
    await send_mail(world.portal.services, arguments)  # as after a kill just before the job's end was noted
    assert [one.recipients for one in letterbox.taken] == [(ADA, BOB)]
    assert await deliveries(world, arguments["message_id"]) == {ADA: "pending", BOB: "pending"}
    async with world.portal.services.store.reading() as transaction:
        email = await MailRecords(transaction).load(arguments["message_id"])
    assert email is not None
    assert (email.account_id, email.recipients) == (world.account_id, [ADA, BOB])


async def test_a_letter_is_posted_exactly_if_its_transaction_commits(
    world: World, letterbox: Letterbox
) -> None:
    async def undone() -> None:
        async with world.portal.services.store.writing() as transaction:
            await post(transaction, world.portal.services.settings, LETTER, [ADA], account_id=None)
            raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        await undone()
    assert await mail_jobs(world) == []


async def test_no_message_has_more_recipients_than_every_server_takes(world: World) -> None:
    await posted(world, *(f"admin-{number:03}@example.org" for number in range(101)))
    jobs = await mail_jobs(world)
    assert sorted(len(job.arguments["recipients"]) for job in jobs) == [1, 100]
    assert len({job.arguments["message_id"] for job in jobs}) == 2


async def test_suppressed_invented_and_malformed_addresses_are_dropped_when_posted(
    world: World, letterbox: Letterbox
) -> None:
    async with world.portal.services.store.writing() as transaction:
        await MailRecords(transaction).suppress("ADA@example.org")
    await posted(world, "Ada@Example.org", "nobody@firezone.invalid", "no address", "x@y\r\nz")
    assert await mail_jobs(world) == []
    await posted(world, ADA, BOB, "BOB@example.org")
    (job,) = await mail_jobs(world)
    assert [one.lower() for one in job.arguments["recipients"]] == [BOB]


async def test_an_address_that_is_suppressed_after_the_posting_is_not_written_to(
    world: World, letterbox: Letterbox
) -> None:
    async with world.portal.services.store.writing() as transaction:
        await MailRecords(transaction).suppress(ADA)
    await send_mail(world.portal.services, letter_to(ADA, BOB))
    assert [one.recipients for one in letterbox.taken] == [(BOB,)]


async def test_a_server_that_is_down_fails_the_attempt_and_nothing_is_recorded(
    world: World, letterbox: Letterbox
) -> None:
    arguments = letter_to(ADA)
    letterbox.is_down = True
    with pytest.raises(OSError, match="down"):
        await send_mail(world.portal.services, arguments)
    assert await deliveries(world, arguments["message_id"]) == {}
    letterbox.is_down = False
    await send_mail(world.portal.services, arguments)
    assert await deliveries(world, arguments["message_id"]) == {ADA: "pending"}


async def test_a_recipient_refused_for_good_has_failed_and_the_job_is_done(
    world: World, letterbox: Letterbox
) -> None:
    arguments = letter_to(ADA, BOB)
    letterbox.refused = {BOB: 550}
    await send_mail(world.portal.services, arguments)
    assert await deliveries(world, arguments["message_id"]) == {ADA: "pending", BOB: "failed"}
    counters = world.portal.services.counters
    assert (counters["mail_recipients_accepted"], counters["mail_recipients_refused"]) == (1, 1)


async def test_a_recipient_refused_for_now_is_tried_again_and_nobody_else(
    world: World, letterbox: Letterbox
) -> None:
    arguments = letter_to(ADA, BOB)
    letterbox.refused = {BOB: 450}
    with pytest.raises(DeliveryDeferred, match="1 of 2 recipients refused for now: 450"):
        await send_mail(world.portal.services, arguments)
    letterbox.refused = {}
    await send_mail(world.portal.services, arguments)
    assert [one.recipients for one in letterbox.taken] == [(ADA,), (BOB,)]
    assert {one.message.id for one in letterbox.taken} == {arguments["message_id"]}
    assert await deliveries(world, arguments["message_id"]) == {ADA: "pending", BOB: "pending"}


async def test_a_letter_of_an_account_that_is_gone_is_sent_all_the_same(
    world: World, letterbox: Letterbox
) -> None:
    arguments = {**letter_to(ADA), "account_id": str(world.actor.id)}
    await send_mail(world.portal.services, arguments)
    assert await deliveries(world, arguments["message_id"]) == {ADA: "pending"}


async def test_without_a_mail_server_a_letter_is_dropped_in_silence() -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        await send_mail(portal.services, letter_to(ADA))
        assert portal.services.counters["mails_skipped"] == 1
        assert await deliveries(world, "1@example.org") == {}


async def posted(world: World, *recipients: str) -> None:
    async with world.portal.services.store.writing() as transaction:
        await post(
            transaction, world.portal.services.settings, LETTER, recipients, account_id=world.account_id
        )


def letter_to(*recipients: str) -> dict[str, Any]:
    """Return the arguments of a job that nobody but the test runs."""
    return {
        "message_id": "1@example.org",
        "account_id": None,
        "recipients": list(recipients),
        "subject": "subject",
        "text": "text",
        "html": "<p>html</p>",
    }


async def mail_jobs(world: World) -> list[Job]:
    async with world.portal.services.store.reading() as transaction:
        jobs = await JobQueue(transaction).load(limit=100)
    return [job for job in jobs if job.kind == SEND_MAIL]


async def deliveries(world: World, message_id: str) -> dict[str, str]:
    async with world.portal.services.store.reading() as transaction:
        rows = await MailRecords(transaction).deliveries(message_id)
    return {row.email: row.status for row in rows}
