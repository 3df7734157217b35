"""The repository of authorizations."""

import contextlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, bindparam, select

from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS, PolicyAuthorization
from wardgate.portal.database.among import count_for, is_among, open_values
from wardgate.portal.database.errors import DanglingReference
from wardgate.portal.database.repositories import TenantRepository
from wardgate.portal.database.turns import in_turns
from wardgate.portal.schema.rights import Action


class AuthorizationRepository(TenantRepository[PolicyAuthorization]):
    """Grants: inserted in groups, never updated (portal-domain §3.12)."""

    async def load_held(self, device_ids: Sequence[UUID]) -> dict[UUID, list[PolicyAuthorization]]:
        """Return the grants of 1 to `MOST_AMONG` devices and those to them that have not ended, by device, oldest first
        of either.
        """
        self._require(Action.READ)
        await self._hold()
        count = count_for(device_ids)
        values = {
            "now": self._transaction.now,
            **open_values(_DEVICE, device_ids, count),
            **self._open_values,
        }
        held: dict[UUID, list[PolicyAuthorization]] = {id_: [] for id_ in device_ids}
        # Two statements, so that each goes by an index of its own.
        for column in ("initiating_device_id", "receiving_device_id"):
            for some in in_turns(await self._transaction.look_up(_held(column, count), values)):
                await self._transaction.take_turns(len(some))
                for row in map(self._declaration.rows.of, some):
                    held[getattr(row, column)].append(row)
        return held

    async def insert_each(self, rows: Sequence[PolicyAuthorization]) -> list[PolicyAuthorization]:
        """Insert each for itself; rows that name something gone are left out. Returns what was stored."""
        stored = []
        for row in rows:
            with contextlib.suppress(DanglingReference):
                async with self._transaction.savepoint():
                    stored.append(await self.insert(row))
        return stored


_DEVICE: Final = "device"


@cache
def _held(column: str, count: int) -> Select[Any]:
    """Return what finds the grants that name one of so many devices in this column."""
    grants = POLICY_AUTHORIZATIONS
    return (
        select(grants.table)
        .where(
            *AuthorizationRepository.open_scope(grants.table),
            is_among(grants.table.c[column], _DEVICE, count),
            grants.c.expires_at > bindparam("now"),
        )
        .order_by(grants.c.inserted_at, grants.c.id)
    )
