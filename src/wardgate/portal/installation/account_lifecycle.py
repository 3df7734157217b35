"""The end of an account (portal-domain §16): scheduled, cancelled, carried out.

    active ──schedule──▶ disabled, to be deleted at T ──T has come──▶ deleted ──nothing is left──▶ gone
       ▲                              │
       └────────────cancel────────────┘

Scheduling disables the account at once; the store cuts what follows from that. A deleted account is found by nobody;
what it had goes afterwards, in slices. Everything here happens in the caller's transaction, letters and jobs included.
The store admits one writer an account, so what is checked here still holds at the commit.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.installation.tables import Account
from wardgate.portal.mail.letters import AccountDeleted, DeletionCancelled, DeletionNear, DeletionScheduled
from wardgate.portal.mail.queue import admin_addresses, post
from wardgate.portal.outcomes import Forbidden, Invalid, WrongState
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Transaction

GRACE: Final = timedelta(days=7)
REMINDED_BEFORE: Final = timedelta(hours=48)
REASON: Final = "Scheduled for deletion"
OPERATOR: Final = "the operator of this installation"

DELETE: Final = "delete_account"
REMIND: Final = "remind_of_deletion"

LOCKED: Final = "The account is locked: it cannot be deleted."
DISABLED: Final = "The account is disabled already."
OTHER_SLUG: Final = "does not match the account's slug"
NOT_SCHEDULED: Final = "The account is not scheduled for deletion."
LOCKED_AS_IT_IS: Final = "The account is locked: its deletion cannot be cancelled."


class LifecycleError(WrongState):
    """The account stays as it is; the message is for whoever asked."""


class Locked(Forbidden, LifecycleError):
    """The operator has locked the account."""


class WrongSlug(Invalid, LifecycleError):
    """What was typed is not the account's slug."""

    def __init__(self) -> None:
        super().__init__({"slug": [OTHER_SLUG]})

    def __str__(self) -> str:
        return OTHER_SLUG


@dataclass(frozen=True, slots=True)
class Author:
    """Who decides.

    Attributes:
        name: as letters show it.
        is_operator: may call off the deletion of a locked account.
    """

    name: str
    is_operator: bool = False


async def schedule_deletion(
    transaction: Transaction, settings: PortalSettings, account: Account, *, typed_slug: str, author: Author
) -> Account:
    """Disable an account and let it be deleted in a week; its admins are notified now and 48 hours before.

    Raises:
        Locked: by the operator.
        WrongSlug: `typed_slug` is another.
        LifecycleError: the account is disabled already; a repeated request changes nothing.
    """
    if account.lock_enabled_at is not None:
        raise Locked(LOCKED)
    if account.is_disabled:
        raise LifecycleError(DISABLED)
    if typed_slug.strip().lower() != account.slug.lower():
        raise WrongSlug
    deletion_at = transaction.now + GRACE
    recipients = await admin_addresses(transaction.of(account.id))
    after = await transaction.accounts.save(
        replace(account, is_disabled=True, disabled_reason=REASON, scheduled_deletion_at=deletion_at)
    )
    await JobQueue(transaction).enqueue(
        REMIND, _about(account.id), run_at=deletion_at - REMINDED_BEFORE, unique_key=_key(REMIND, account.id)
    )
    letter = DeletionScheduled(account.name, account_url(settings, account), deletion_at, author.name)
    await post(transaction, settings, letter, recipients, account_id=account.id)
    return after


async def cancel_deletion(
    transaction: Transaction, settings: PortalSettings, account: Account, *, author: Author
) -> Account:
    """Enable the account again and forget its deletion; its admins are notified.

    Raises:
        Locked: by the operator, who is not the author.
        LifecycleError: no deletion is scheduled.
    """
    if account.scheduled_deletion_at is None:
        raise LifecycleError(NOT_SCHEDULED)
    if account.lock_enabled_at is not None and not author.is_operator:
        raise Locked(LOCKED_AS_IT_IS)
    after = await transaction.accounts.save(
        replace(account, is_disabled=False, disabled_reason=None, scheduled_deletion_at=None)
    )
    await JobQueue(transaction).cancel([_key(DELETE, account.id), _key(REMIND, account.id)])
    recipients = await admin_addresses(transaction.of(account.id))
    letter = DeletionCancelled(account.name, account_url(settings, account), author.name)
    await post(transaction, settings, letter, recipients, account_id=account.id)
    return after


async def remind(transaction: Transaction, settings: PortalSettings, account_id: UUID) -> bool:
    """Tell the admins that the deletion is near; false: it is not, any more."""
    account = await transaction.accounts.load(account_id)
    if account is None or account.scheduled_deletion_at is None or not account.is_disabled:
        return False
    if account.scheduled_deletion_at - REMINDED_BEFORE > transaction.now:
        return False  # cancelled and scheduled anew meanwhile: that has a reminder of its own
    recipients = await admin_addresses(transaction.of(account.id))
    letter = DeletionNear(account.name, account_url(settings, account), account.scheduled_deletion_at)
    await post(transaction, settings, letter, recipients, account_id=account.id)
    return True


async def due_for_deletion(transaction: Transaction) -> list[UUID]:
    """Return the accounts whose time has come, and those that something is left of; in a long transaction."""
    c = transaction.accounts.c
    due = await transaction.accounts.load_column(
        c.id,
        c.is_disabled.is_(True),
        c.scheduled_deletion_at.is_not(None),
        c.scheduled_deletion_at <= transaction.now,
    )
    return due + await transaction.accounts.with_remains()


async def enqueue_deletion(transaction: Transaction, account_id: UUID) -> bool:
    """Enqueue the deletion of an account; false: it is enqueued already."""
    return await JobQueue(transaction).enqueue(
        DELETE, _about(account_id), unique_key=_key(DELETE, account_id)
    )


async def delete_if_due(transaction: Transaction, settings: PortalSettings, account_id: UUID) -> bool:
    """Delete an account and notify its former admins; false: it is deleted already, or not due any more.

    What it had is deleted afterwards: `AccountRepository.delete_remains`.
    """
    account = await transaction.accounts.load(account_id)
    if account is None or not account.is_disabled or account.scheduled_deletion_at is None:
        return False
    if account.scheduled_deletion_at > transaction.now:
        return False
    recipients = await admin_addresses(transaction.of(account.id))
    await JobQueue(transaction).cancel([_key(REMIND, account.id)])
    await transaction.accounts.delete(account.id)
    letter = AccountDeleted(account.name, settings.web_url)
    await post(transaction, settings, letter, recipients, account_id=None)
    return True


def account_url(settings: PortalSettings, account: Account) -> str:
    """Return where the account's admins go."""
    return f"{settings.web_url}/{account.slug}"


def _about(account_id: UUID) -> dict[str, Any]:
    return {"account_id": str(account_id)}


def _key(kind: str, account_id: UUID) -> str:
    return f"{kind}:{account_id}"
