"""The job that hands a queued letter to the mail server, and what is kept of it.

A worker that is killed at any moment loses nothing: the job runs again, with the same message id, for whoever
has no delivery on record yet. Whoever the server took the letter for just before the kill may get it twice,
as the same message.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from wardgate.portal.installation.tables import OutboundEmail
from wardgate.portal.mail.message import MailMessage, Refusal
from wardgate.portal.mail.queue import permitted
from wardgate.portal.mail.records import MailRecords
from wardgate.portal.sealing import unseal
from wardgate.portal.services import Services

log = logging.getLogger(__name__)

FAILED: Final = "failed"
SEALED_SUBJECT: Final = "(a letter with a code or a link to sign in)"
"""What is on record as the subject of a letter whose own holds a secret."""


class _Arguments(msgspec.Struct, frozen=True):
    message_id: str
    account_id: UUID | None
    recipients: list[str]
    subject: str = ""
    text: str = ""
    html: str = ""
    sealed: str | None = None


class _Content(msgspec.Struct, frozen=True):
    """What is under the seal of a letter with a secret in it."""

    subject: str
    text: str
    html: str


class DeliveryDeferred(Exception):
    """Some recipients were refused for the moment; the job's next attempt is for them."""


async def send_mail(services: Services, arguments: Mapping[str, Any]) -> None:
    """Send one letter to those of its recipients who have not been served yet.

    Raises:
        OSError: the server could not be reached, or refused everything; another attempt may succeed.
        DeliveryDeferred: it took the letter for some recipients only.
        SealBroken: the letter was sealed under another master secret.
    """
    letter = msgspec.convert(arguments, _Arguments)
    async with services.store.reading() as transaction:
        served = {one.email for one in await MailRecords(transaction).deliveries(letter.message_id)}
        permitted_now = await permitted(transaction, letter.recipients)
    recipients = [one for one in permitted_now if one.lower() not in served]
    if not recipients:
        return
    mailer = services.environment.mailer
    if mailer is None:
        services.counters["mails_skipped"] += 1
        return
    content = _content_of(services, letter)
    message = MailMessage(
        id=letter.message_id,
        sender=services.settings.mail_from,
        subject=content.subject,
        text=content.text,
        html=content.html,
        written_at=services.environment.clock.now(),
    )
    refused = await mailer.send(message, recipients)
    await _record(services, letter, recipients, refused)
    later = sorted(address for address, refusal in refused.items() if not refusal.is_permanent)
    if later:
        raise DeliveryDeferred(
            f"{len(later)} of {len(recipients)} recipients refused for now: {refused[later[0]].code}"
        )


def _content_of(services: Services, letter: _Arguments) -> _Content:
    if letter.sealed is None:
        return _Content(letter.subject, letter.text, letter.html)
    plain = unseal(services.keys.letters, letter.sealed, owner=letter.message_id)
    return msgspec.json.decode(plain, type=_Content)


async def _record(
    services: Services, letter: _Arguments, recipients: Sequence[str], refused: Mapping[str, Refusal]
) -> None:
    """Keep what became of the letter; who was refused for the moment has no row, so that the next attempt is
    for them.
    """
    final = [one for one in recipients if one not in refused or refused[one].is_permanent]
    if not final:
        return
    async with services.store.writing() as transaction:
        account = None if letter.account_id is None else await transaction.accounts.load(letter.account_id)
        email = OutboundEmail(
            message_id=letter.message_id,
            account_id=None if account is None else account.id,
            subject=letter.subject if letter.sealed is None else SEALED_SUBJECT,
            recipients=letter.recipients,
        )
        records = MailRecords(transaction)
        await records.record(email, final)
        for address in final:
            if address in refused:
                await records.report(letter.message_id, address, FAILED)
    for address in final:
        if address in refused:
            services.counters["mail_recipients_refused"] += 1
            # The address itself is for the store only: no log line holds one.
            log.warning(
                "a mail server refused a recipient",
                extra={"message_id": letter.message_id, "code": refused[address].code},
            )
        else:
            services.counters["mail_recipients_accepted"] += 1
