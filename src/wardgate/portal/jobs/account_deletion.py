"""The jobs around an account's deletion (portal-domain §16).

Each looks again before it acts, so that repetition does no harm.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from wardgate.portal.installation import account_lifecycle
from wardgate.portal.jobs.clean_up import delete_in_slices
from wardgate.portal.jobs.cron import Cron
from wardgate.portal.jobs.runner import JobKind
from wardgate.portal.services import Services


async def sweep_accounts(services: Services, _arguments: Mapping[str, Any]) -> None:
    """Enqueue a job for each account that is due."""
    async with services.store.reading(is_long=True) as transaction:
        due = await account_lifecycle.due_for_deletion(transaction)
    for account_id in due:
        async with services.store.writing() as transaction:
            await account_lifecycle.enqueue_deletion(transaction, account_id)


async def delete_account(services: Services, arguments: Mapping[str, Any]) -> None:
    """Delete one account if it is due, then what it had; what an earlier attempt has left is taken up here."""
    account_id = UUID(arguments["account_id"])
    async with services.store.writing() as transaction:
        is_deleted = await account_lifecycle.delete_if_due(transaction, services.settings, account_id)
    services.counters["accounts_deleted"] += is_deleted
    await delete_in_slices(services, lambda transaction: transaction.accounts.delete_remains(account_id))


async def remind_of_deletion(services: Services, arguments: Mapping[str, Any]) -> None:
    """Write to the admins of an account that will be deleted soon."""
    async with services.store.writing() as transaction:
        await account_lifecycle.remind(transaction, services.settings, UUID(arguments["account_id"]))


KINDS: Final = (
    JobKind("sweep_accounts", sweep_accounts, schedule=Cron.parse("* * * * *")),
    JobKind(account_lifecycle.DELETE, delete_account),
    JobKind(account_lifecycle.REMIND, remind_of_deletion),
)
