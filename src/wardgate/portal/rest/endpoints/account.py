"""`GET /account` (rest-api §8.1)."""

from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy import select

from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.views import AccountView, Data, Limit
from wardgate.portal.store import AccountTables

router = APIRouter(tags=["Account"])

USERS: Final = ("account_user", "account_admin_user")
LIMITS: Final = ("users", "monthly_active_users", "service_accounts", "account_admin_users", "sites")

_MONTH: Final = timedelta(days=30)
_TYPES: Final = {
    "users": USERS,
    "monthly_active_users": USERS,
    "service_accounts": ("service_account",),
    "account_admin_users": ("account_admin_user",),
}


@router.get("/account")
async def show(caller: ForAccount) -> Data[AccountView]:
    account = caller.account
    async with caller.reading() as tables:
        limits = {}
        now = caller.services.environment.clock.now()
        for name, total in configured_limits(account.limits).items():
            used = await used_of(tables, name, now=now)
            limits[name] = Limit(used=used, available=max(0, total - used), total=total)
    return Data(
        data=AccountView(
            id=account.id,
            slug=account.slug,
            key=account.key,
            name=account.name,
            legal_name=account.legal_name,
            limits=limits,
        )
    )


def configured_limits(limits: dict[str, Any]) -> dict[str, int]:
    """Return the object limits of an account that are set; stored as `users_count` and so on (portal-domain §15)."""
    set_ = {name: limits.get(f"{name}_count") for name in LIMITS}
    return {name: total for name, total in set_.items() if isinstance(total, int)}


async def used_of(tables: AccountTables, limit: str, *, now: datetime) -> int:
    """Count what counts against a limit: enabled actors of a type, or sites that admins manage."""
    actors, sites = tables.actors, tables.sites
    if limit == "sites":
        return await sites.count(sites.c.managed_by == "account")
    is_counted = actors.c.type.in_(_TYPES[limit]) & actors.c.is_disabled.is_(False)
    if limit == "monthly_active_users":
        c = tables.devices.c
        active = select(c.actor_id).where(
            c.account_id == tables.account_id, c.type == "client", c.last_seen_at > now - _MONTH
        )
        is_counted &= actors.c.id.in_(active)
    return await actors.count(is_counted)


async def is_reached(tables: AccountTables, limits: dict[str, Any], limit: str, *, now: datetime) -> bool:
    """Tell whether one more would exceed a limit; monthly active users go before users."""
    totals = configured_limits(limits)
    if limit == "users" and "monthly_active_users" in totals:
        limit = "monthly_active_users"
    return limit in totals and await used_of(tables, limit, now=now) >= totals[limit]
