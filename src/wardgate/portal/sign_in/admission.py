"""Whether somebody who has proved who they are may sign in: the one rule for all kinds of provider (identity §2, §9).

Which provider can be used is known before anybody has proved anything; what depends on the person is told afterwards
only, so that no form tells strangers who is who.
"""

from dataclasses import dataclass

from wardgate.portal.installation.tables import Account
from wardgate.portal.limits import USERS, is_over_users_limit
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.failures import Failure
from wardgate.portal.sign_in.flow import Context
from wardgate.portal.sign_in.tables import AuthProviderDetails
from wardgate.portal.store import AccountTables


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody may sign in, with what stood in the store at that moment."""

    account: Account
    actor: Actor
    provider: AuthProviderDetails


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    failure: Failure


@dataclass(frozen=True, slots=True)
class AccountDisabled:
    """All would be well, but nobody connects to this account; clients have a page of their own for that."""


def is_usable(provider: AuthProviderDetails, context: Context) -> bool:
    """Tell whether a provider can be used in this context, whoever comes."""
    return not provider.is_disabled and serves(provider, context)


def serves(provider: AuthProviderDetails, context: Context) -> bool:
    """Tell whether a provider is meant for this context."""
    return provider.context == "clients_and_portal" or context.is_client == (
        provider.context == "clients_only"
    )


async def admit(
    tables: AccountTables, context: Context, actor: Actor | None, provider: AuthProviderDetails | None
) -> Admitted | NotAdmitted | AccountDisabled:
    """Decide over an actor and a provider as they stand in the store, which may have changed since the sign-in began.

    Portal sign-in to a disabled account stays possible, so that an administrator can cancel its deletion.
    """
    account = await tables.account()
    if provider is None or provider.is_disabled:
        return NotAdmitted(Failure.METHOD_UNAVAILABLE)
    if not serves(provider, context):
        return NotAdmitted(Failure.WRONG_CONTEXT)
    if account is None or actor is None or actor.is_disabled or actor.type not in USERS:
        return NotAdmitted(Failure.UNKNOWN_USER)
    if not context.is_client:
        if actor.type != "account_admin_user":
            return NotAdmitted(Failure.NEEDS_ADMIN)
        return Admitted(account, actor, provider)
    if account.is_disabled:
        return AccountDisabled()
    if await is_over_users_limit(tables, account):
        return NotAdmitted(Failure.USERS_LIMIT)
    return Admitted(account, actor, provider)
