"""In which accounts an address has an actor: the one question over all accounts that a stranger may have answered, by
mail to that address (identity §10).
"""

from typing import Final

from sqlalchemy import func, select

from wardgate.portal.installation.tables import ACCOUNTS, Account
from wardgate.portal.people.tables import ACTORS
from wardgate.portal.store import Transaction

MOST_ACCOUNTS: Final = 50


async def accounts_of_address(
    transaction: Transaction, email: str, *, of_admins: bool = False
) -> list[Account]:
    """Return the accounts with an enabled actor of this address, by name; or with an enabled administrator."""
    actors = ACTORS.c
    owners = select(actors.account_id).where(
        func.lower(actors.email) == email.strip().lower(), actors.is_disabled.is_(False)
    )
    if of_admins:
        owners = owners.where(actors.type == "account_admin_user")
    statement = (
        select(ACCOUNTS.table)
        .where(ACCOUNTS.c.id.in_(owners), ACCOUNTS.c.deleted_at.is_(None))
        .order_by(func.lower(ACCOUNTS.c.name), ACCOUNTS.c.id)
        .limit(MOST_ACCOUNTS)
    )
    result = await transaction.execute(statement)
    return [ACCOUNTS.rows.of(row) for row in result]
