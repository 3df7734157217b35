"""How many of what an account may have (portal-domain §15): the one place that knows the rule.

Checked where something is made or enabled; nothing that exists is cut when a limit is lowered. The store
admits one writer an account, so what was counted in a write transaction still holds at its commit.

    user             enabled users who connected in the last 30 days, if that is limited; else enabled users
    admin            as a user, and enabled admins
    others           of their kind: enabled service accounts and API clients, sites but the Internet site,
                     tokens of an API client
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, select

from wardgate.portal.installation.tables import Account
from wardgate.portal.outcomes import Forbidden
from wardgate.portal.store import AccountTables

USERS: Final = ("account_user", "account_admin_user")

DEFAULTS: Final[Mapping[str, int | None]] = {
    "users_count": None,
    "monthly_active_users_count": None,
    "service_accounts_count": None,
    "sites_count": None,
    "account_admin_users_count": None,
    "api_clients_count": 100,
    "api_tokens_per_client_count": 100,
    "api_refill_rate": None,
    "api_capacity": None,
    "ingestion_refill_rate": None,
    "ingestion_capacity": None,
}
"""The limits of an account that has none stored; None for no limit, or for the installation's own rate."""

_MONTH: Final = timedelta(days=30)
_TYPES: Final = {
    "users_count": USERS,
    "monthly_active_users_count": USERS,
    "service_accounts_count": ("service_account",),
    "account_admin_users_count": ("account_admin_user",),
    "api_clients_count": ("api_client",),
}
_TOLD: Final = {
    "users_count": "Users limit reached",
    "monthly_active_users_count": "Users limit reached",
    "account_admin_users_count": "Admins limit reached",
    "service_accounts_count": "Service accounts limit reached",
    "sites_count": "Sites limit reached",
    "api_clients_count": "API clients limit reached",
    "api_tokens_per_client_count": "API tokens limit reached",
}


class LimitReached(Forbidden):
    """One more would be too many; the message is for whoever asked."""

    def __init__(self, limit: str) -> None:
        super().__init__(_TOLD[limit])
        self.limit = limit


def limits_of(account: Account) -> dict[str, int | None]:
    """Return every limit of an account; None for unlimited."""
    return {name: account.limits.get(name, default) for name, default in DEFAULTS.items()}


async def check_actor(tables: AccountTables, account: Account, type_: str, *, now: datetime) -> None:
    """Check that one more enabled actor of this type may be.

    Raises:
        LimitReached: it may not.
    """
    limits = limits_of(account)
    wanted: tuple[str, ...]
    match type_:
        case "service_account":
            wanted = ("service_accounts_count",)
        case "api_client":
            wanted = ("api_clients_count",)
        case _:
            wanted = (_limit_of_users(limits),)
            if type_ == "account_admin_user":
                wanted = (*wanted, "account_admin_users_count")
    for limit in wanted:
        await _check(tables, limits, limit, now=now)


async def check_promotion(tables: AccountTables, account: Account, *, now: datetime) -> None:
    """Check that one more of the users may be an admin. Raises LimitReached."""
    await _check(tables, limits_of(account), "account_admin_users_count", now=now)


async def check_site(tables: AccountTables, account: Account, *, now: datetime) -> None:
    """Check that one more site may be. Raises LimitReached."""
    await _check(tables, limits_of(account), "sites_count", now=now)


async def check_api_token(tables: AccountTables, account: Account, actor_id: UUID) -> None:
    """Check that this API client may have one more token. Raises LimitReached."""
    total = limits_of(account)["api_tokens_per_client_count"]
    tokens = tables.api_tokens
    if total is not None and await tokens.count(tokens.c.actor_id == actor_id, at_most=total) >= total:
        raise LimitReached("api_tokens_per_client_count")


async def is_over_users_limit(tables: AccountTables, account: Account) -> bool:
    """Tell whether an account has more users than it may have, which happens when its limit is lowered."""
    return await _is_over(tables, account, _limit_of_users(limits_of(account)))


async def is_over_limit_of(tables: AccountTables, account: Account, type_: str) -> bool:
    """Tell whether an account has more than it may have of the kind of actor that a client belongs to."""
    if type_ == "service_account":
        return await _is_over(tables, account, "service_accounts_count")
    return await is_over_users_limit(tables, account)


async def _is_over(tables: AccountTables, account: Account, limit: str) -> bool:
    total = limits_of(account)[limit]
    return total is not None and await used_of(tables, limit, now=tables.now, at_most=total + 1) > total


def _limit_of_users(limits: Mapping[str, int | None]) -> str:
    """Where activity is limited the number of users is not asked (portal-domain §15)."""
    by_use = limits["monthly_active_users_count"] is not None
    return "monthly_active_users_count" if by_use else "users_count"


async def used_of(tables: AccountTables, limit: str, *, now: datetime, at_most: int | None = None) -> int:
    """Count what counts against a limit of an account's objects, up to `at_most`; without, in a long transaction."""
    actors, sites = tables.actors, tables.sites
    if limit == "sites_count":
        return await sites.count(sites.c.managed_by == "account", at_most=at_most)
    is_counted: ColumnElement[bool] = actors.c.type.in_(_TYPES[limit]) & actors.c.is_disabled.is_(False)
    if limit == "monthly_active_users_count":
        c = tables.devices.c
        active = select(c.actor_id).where(
            c.account_id == tables.account_id, c.type == "client", c.last_seen_at > now - _MONTH
        )
        is_counted &= actors.c.id.in_(active)
    return await actors.count(is_counted, at_most=at_most)


async def _check(tables: AccountTables, limits: Mapping[str, Any], limit: str, *, now: datetime) -> None:
    total = limits[limit]
    if total is not None and await used_of(tables, limit, now=now, at_most=total) >= total:
        raise LimitReached(limit)
