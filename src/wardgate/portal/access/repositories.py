"""The repository of authorizations."""

import contextlib
from collections.abc import Sequence

from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.database.errors import DanglingReference
from wardgate.portal.database.repositories import TenantRepository


class AuthorizationRepository(TenantRepository[PolicyAuthorization]):
    """Grants: inserted in groups, never updated (portal-domain §3.12)."""

    async def insert_each(self, rows: Sequence[PolicyAuthorization]) -> list[PolicyAuthorization]:
        """Insert each for itself; rows that name something gone are left out. Returns what was stored."""
        stored = []
        for row in rows:
            with contextlib.suppress(DanglingReference):
                async with self._transaction.savepoint():
                    stored.append(await self.insert(row))
        return stored
