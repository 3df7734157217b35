"""A letter to the person whose second factors have changed: who did not do that notices it there."""

from collections.abc import Sequence
from typing import Final

from wardgate.portal.http.origin import Origin
from wardgate.portal.installation.tables import Account
from wardgate.portal.mail.letters import SecondFactorsChanged, masked
from wardgate.portal.mail.queue import post
from wardgate.portal.people.tables import Actor
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Transaction

CODES_MADE: Final = "New recovery codes were made; those before do not work any more."
RESET: Final = "All of them were removed, with the recovery codes."


def added(name: str) -> str:
    return f"“{name}” was added."


def removed(name: str) -> str:
    return f"“{name}” was removed."


async def tell_of_change(
    transaction: Transaction,
    settings: PortalSettings,
    account: Account,
    actor: Actor,
    changes: Sequence[str],
    *,
    origin: Origin,
    by: str | None = None,
) -> None:
    """Queue the letter, in the transaction of the change.

    Args:
        actor: whose factors they are.
        by: the administrator who did it; None: the person.
    """
    if actor.email is None:
        return
    letter = SecondFactorsChanged(
        account_name=account.name,
        account_url=f"{settings.web_url}/{account.slug}",
        name=actor.name,
        changes=tuple(changes),
        by=by,
        masked_ip=masked(origin.remote_ip),
        changed_at=transaction.now,
    )
    await post(transaction, settings, letter, [actor.email], account_id=account.id)
