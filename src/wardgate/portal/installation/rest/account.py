"""`GET /account` (rest-api §8.1)."""

from typing import Final

from wardgate.portal.installation.views import AccountView, Limit
from wardgate.portal.limits import limits_of, used_of
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data

routes = Routes("account", tag="Account")

LIMITS: Final = ("users", "monthly_active_users", "service_accounts", "account_admin_users", "sites")
"""Those that the account itself is shown."""


@routes.get("/account")
async def show(caller: ForAccount) -> Data[AccountView]:
    account = caller.account
    async with caller.listing() as tables:
        limits = {}
        now = caller.services.environment.clock.now()
        totals = limits_of(account)
        for name in LIMITS:
            total = totals[f"{name}_count"]
            if total is not None:
                used = await used_of(tables, f"{name}_count", now=now)
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
