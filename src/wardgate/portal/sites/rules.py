"""What may be done with sites (portal-domain §3.7, rest-api §8.8)."""

from dataclasses import asdict, replace
from typing import Any, Final
from uuid import UUID

from wardgate.portal.edits import Edit, Given
from wardgate.portal.installation.tables import Account
from wardgate.portal.limits import check_site
from wardgate.portal.outcomes import Forbidden, Invalid, Missing
from wardgate.portal.sites.tables import SITES, Site
from wardgate.portal.store import AccountTables, Conflict

NAME_TAKEN: Final = {"name": ["has already been taken"]}
SYSTEM_MANAGED: Final = "System managed Site cannot be modified"


async def load_site(tables: AccountTables, id_: UUID | None) -> Site:
    """Raises Missing."""
    site = None if id_ is None else await tables.sites.load(id_)
    if site is None:
        raise Missing
    return site


async def load_editable_site(tables: AccountTables, id_: UUID | None) -> Site:
    """Return a site that may be changed and deleted. Raises Missing, and Forbidden for the Internet site."""
    site = await load_site(tables, id_)
    if site.managed_by == "system":
        raise Forbidden(SYSTEM_MANAGED)
    return site


async def make_site(tables: AccountTables, account: Account, given: Given) -> Site:
    """Make a site.

    Raises:
        LimitReached: the account may have no more.
        Invalid: a value is wrong, or the name is taken.
    """
    await check_site(tables, account, now=tables.now)
    new = Site(id=tables.new_id(), account_id=tables.account_id, name="")
    values = _checked(Edit(given, {**asdict(new), "name": None}))
    try:
        return await tables.sites.insert(replace(new, **values))
    except Conflict:
        raise Invalid(NAME_TAKEN) from None


async def change_site(tables: AccountTables, before: Site, given: Given) -> Site:
    """Change a site; of the Internet site only how many gateways it takes to be healthy.

    Raises:
        Invalid: a value is wrong, or the name is taken.
        Forbidden: it is the Internet site.
    """
    if before.managed_by == "system" and given.keys() - {"health_threshold"}:
        raise Forbidden(SYSTEM_MANAGED)
    values = _checked(Edit(given, asdict(before)))
    try:
        return await tables.sites.save(replace(before, **values))
    except Conflict:
        raise Invalid(NAME_TAKEN) from None


def _checked(edit: Edit) -> dict[str, Any]:
    edit.columns(SITES)
    return edit.finish()
