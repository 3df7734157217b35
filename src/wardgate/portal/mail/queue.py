"""Posting a letter: a job in the caller's transaction, so that it is written exactly if what it tells is."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.mail.letters import Letter, render
from wardgate.portal.mail.message import domain_of, is_deliverable
from wardgate.portal.mail.records import MailRecords
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import AccountTables, Transaction

SEND_MAIL: Final = "send_mail"
MAX_ATTEMPTS: Final = 3
RECIPIENTS_A_MESSAGE: Final = 100  # RFC 5321 §4.5.3.1.8: what every server takes

NOWHERE: Final = "@firezone.invalid"
"""The domain of addresses that stand for none (portal-domain §14)."""


async def post(
    transaction: Transaction,
    settings: PortalSettings,
    letter: Letter,
    recipients: Iterable[str],
    *,
    account_id: UUID | None,
) -> None:
    """Queue a letter to these addresses, less those that must not be written to; nothing is queued if nobody
    is left.
    """
    addresses = await permitted(transaction, recipients)
    rendered = render(letter)
    for first in range(0, len(addresses), RECIPIENTS_A_MESSAGE):
        await JobQueue(transaction).enqueue(
            SEND_MAIL,
            {
                "message_id": f"{transaction.new_id()}@{domain_of(settings.mail_from)}",
                "account_id": None if account_id is None else str(account_id),
                "recipients": addresses[first : first + RECIPIENTS_A_MESSAGE],
                "subject": rendered.subject,
                "text": rendered.text,
                "html": rendered.html,
            },
            max_attempts=MAX_ATTEMPTS,
        )


async def permitted(transaction: Transaction, recipients: Iterable[str]) -> list[str]:
    """Return the addresses that may be written to, each once: no suppressed ones, none that is no address."""
    addresses = {address.lower(): address for address in recipients if is_deliverable(address)}
    wanted = {key: address for key, address in addresses.items() if not key.endswith(NOWHERE)}
    suppressed = await MailRecords(transaction).suppressed(list(wanted))
    return sorted(address for key, address in wanted.items() if key not in suppressed)


async def admin_addresses(tables: AccountTables) -> list[str]:
    """Return the addresses of the account's enabled admins, who get what concerns the account."""
    c = tables.actors.c
    admins = await tables.actors.load_all(c.type == "account_admin_user", c.is_disabled.is_(False))
    return [admin.email for admin in admins if admin.email is not None]
