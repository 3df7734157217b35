"""`GET /account` (rest-api §8.1)."""

from typing import Any

from fastapi import APIRouter

from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.views import AccountView, Data, Limit
from wardgate.portal.store import AccountTables

router = APIRouter(tags=["Account"])

USERS = ("account_user", "account_admin_user")


@router.get("/account")
async def show(caller: ForAccount) -> Data[AccountView]:
    account = caller.account
    async with caller.reading() as tables:
        limits = {}
        for name, total in configured_limits(account.limits).items():
            used = await used_of(tables, name)
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
    """Return the object limits of an account that are set."""
    names = ("users", "service_accounts", "account_admin_users", "sites")
    return {name: limits[name] for name in names if isinstance(limits.get(name), int)}


async def used_of(tables: AccountTables, limit: str) -> int:
    """Count what counts against a limit: enabled actors of a type, or sites that admins manage."""
    actors, sites = tables.actors, tables.sites
    if limit == "sites":
        return await sites.count(sites.c.managed_by == "account")
    types = {"users": USERS, "service_accounts": ("service_account",), "account_admin_users": USERS[1:]}[
        limit
    ]
    return await actors.count(actors.c.type.in_(types), actors.c.is_disabled.is_(False))


async def is_reached(tables: AccountTables, limits: dict[str, Any], limit: str) -> bool:
    """Tell whether one more would exceed a limit."""
    total = configured_limits(limits).get(limit)
    return total is not None and await used_of(tables, limit) >= total
