"""The repository of authorizations."""

import contextlib
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select

from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS, PolicyAuthorization
from wardgate.portal.database.errors import DanglingReference
from wardgate.portal.database.repositories import TenantRepository
from wardgate.portal.database.turns import in_turns
from wardgate.portal.schema.rights import Action


class AuthorizationRepository(TenantRepository[PolicyAuthorization]):
    """Grants: inserted in groups, never updated (portal-domain §3.12)."""

    async def load_held(self, device_id: UUID) -> list[PolicyAuthorization]:
        """Return the grants of a device and those to it that have not ended, oldest first of either."""
        self._require(Action.READ)
        await self._hold()
        values = {"device_id": device_id, "now": self._transaction.now, **self._open_values}
        held: list[PolicyAuthorization] = []
        # Two statements, so that each goes by an index of its own.
        for statement in _HELD:
            for some in in_turns(await self._transaction.look_up(statement, values)):
                await self._transaction.take_turns(len(some))
                held += map(self._declaration.rows.of, some)
        return held

    async def insert_each(self, rows: Sequence[PolicyAuthorization]) -> list[PolicyAuthorization]:
        """Insert each for itself; rows that name something gone are left out. Returns what was stored."""
        stored = []
        for row in rows:
            with contextlib.suppress(DanglingReference):
                async with self._transaction.savepoint():
                    stored.append(await self.insert(row))
        return stored


_HELD: Final = tuple(
    select(POLICY_AUTHORIZATIONS.table)
    .where(
        *AuthorizationRepository.open_scope(POLICY_AUTHORIZATIONS.table),
        column == bindparam("device_id"),
        POLICY_AUTHORIZATIONS.c.expires_at > bindparam("now"),
    )
    .order_by(POLICY_AUTHORIZATIONS.c.inserted_at, POLICY_AUTHORIZATIONS.c.id)
    for column in (
        POLICY_AUTHORIZATIONS.c.initiating_device_id,
        POLICY_AUTHORIZATIONS.c.receiving_device_id,
    )
)
