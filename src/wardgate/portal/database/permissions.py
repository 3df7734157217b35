"""Who may do what (portal-domain §4): actor type × action × table, as the tables' declarations have it. Pure
data; the repositories ask before every statement.

`Transaction.on_behalf_of` makes repositories for an actor; those of `Transaction.of` are the system's own and
are not asked. What follows from an allowed change elsewhere (deletion map, hooks) is the system's.
"""

from collections.abc import Mapping
from typing import Final

from wardgate.portal.database.errors import NotAllowed
from wardgate.portal.schema.rights import NONE, Action, Rights, RightsByRole
from wardgate.portal.tables import TABLES

PERMISSIONS: Final[Mapping[str, RightsByRole]] = {
    declaration.name: declaration.rights for declaration in TABLES.values() if declaration.rights
}
"""By table; one that is missing here is nobody's but the system's."""


def rights(role: str, table: str) -> Rights:
    """Return what actors of a type may do to a table."""
    return PERMISSIONS.get(table, {}).get(role, NONE)


def require(role: str | None, action: Action, table: str) -> None:
    """Check an action of an actor of the type `role`; the system (none) may do everything.

    Raises:
        NotAllowed: it may not.
    """
    if role is not None and action not in rights(role, table):
        raise NotAllowed(role, action.value, table)
