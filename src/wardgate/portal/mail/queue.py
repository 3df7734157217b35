"""Posting a letter: a job in the caller's transaction, so that it is written exactly if what it reports is.

What stands in a letter waits in the table of jobs until it is sent, and a week longer. So a letter with a secret in it
waits sealed, its subject included, and what is on record of it afterwards names no subject (`delivery`).
"""

import json
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.mail.letters import Letter, is_secret_letter, render
from wardgate.portal.mail.message import domain_of, is_deliverable
from wardgate.portal.mail.records import MailRecords
from wardgate.portal.sealing import seal
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
    key: bytes | None = None,
) -> None:
    """Queue a letter to these addresses, less those that must not be written to; nothing is queued if nobody
    is left.

    Args:
        key: `keys.letters`, for a letter that is secret.
    """
    addresses = await permitted(transaction, recipients)
    rendered = render(letter)
    is_secret = is_secret_letter(letter)
    if is_secret and key is None:
        raise ValueError(f"{type(letter).__name__} holds a secret: it is posted with the key that seals it")
    for first in range(0, len(addresses), RECIPIENTS_A_MESSAGE):
        message_id = f"{transaction.new_id()}@{domain_of(settings.mail_from)}"
        content = {"subject": rendered.subject, "text": rendered.text, "html": rendered.html}
        if is_secret and key is not None:
            plain = json.dumps(content).encode()
            content = {"sealed": seal(key, plain, owner=message_id, random_bytes=transaction.random_bytes)}
        await JobQueue(transaction).enqueue(
            SEND_MAIL,
            {
                "message_id": message_id,
                "account_id": None if account_id is None else str(account_id),
                "recipients": addresses[first : first + RECIPIENTS_A_MESSAGE],
                **content,
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
