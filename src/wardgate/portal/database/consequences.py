"""What goes with a deleted row: the deletion map (portal-domain §2), derived from the tables' declarations.

It is carried out by the repositories inside the causing transaction, so that everything that goes is recorded
as a change and readers of the feed only send messages. What an update removes elsewhere (the hooks of
portal-domain §8.4) stands in the declarations themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wardgate.portal.schema.declaration import OnDelete
from wardgate.portal.tables import TABLES, metadata

ACCOUNTS: Final = "accounts"


@dataclass(frozen=True, slots=True)
class Dependant:
    """A column of another table that names the deleted row."""

    table: str
    column: str
    on_delete: OnDelete


def _dependants(target: str, *, of_tenants: bool) -> tuple[Dependant, ...]:
    return tuple(
        Dependant(declaration.name, reference.column, reference.on_delete)
        for declaration in TABLES.values()
        if declaration.is_tenants is of_tenants
        for reference in declaration.references
        if reference.target == target
    )


DEPENDANTS: Final[Mapping[str, tuple[Dependant, ...]]] = {
    target: dependants for target in TABLES if (dependants := _dependants(target, of_tenants=True))
}
"""Within an account, by the table of the deleted row."""

ACCOUNT_TABLES_IN_DELETION_ORDER: Final = tuple(
    table.name for table in reversed(metadata.sorted_tables) if TABLES[table.name].is_tenants
)
"""Whoever references before what is referenced."""

DEPENDANTS_OF_ACCOUNTS: Final = _dependants(ACCOUNTS, of_tenants=False)
"""Rows that belong to no account and name one."""

DELETED_WITH_ACCOUNTS: Final = tuple(
    declaration.name for declaration in TABLES.values() if declaration.deleted_with_account
)
"""Logs, which name an account without a reference."""
