"""What the providers of an account are called, of all types."""

from uuid import UUID

from wardgate.portal.sign_in.tables import PROVIDERS
from wardgate.portal.store import AccountTables


async def provider_names(tables: AccountTables) -> dict[UUID, str]:
    """Return the names by id."""
    names: dict[UUID, str] = {}
    for declaration in PROVIDERS:
        for provider in await tables.by_name(declaration.name).load_all():
            names[provider.id] = provider.name
    return names
