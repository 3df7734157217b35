"""The repositories of authentication providers."""

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement

from wardgate.portal.database.repositories import TenantRepository
from wardgate.portal.schema.rights import Action
from wardgate.portal.sign_in.tables import AUTH_PROVIDERS, AuthProvider, AuthProviderDetails

_DetailsT = TypeVar("_DetailsT", bound=AuthProviderDetails)


class AuthProviderRepository(TenantRepository[_DetailsT]):
    """One type of provider: the details and the parent that they share their id with come and go together."""

    async def insert(self, row: _DetailsT) -> _DetailsT:
        """Insert a provider; raises as `Repository.insert`."""
        self._require(Action.INSERT)
        parent = AuthProvider(id=row.id, account_id=row.account_id, type=row.type)
        await self._parents.insert(parent)
        return await super().insert(row)

    async def insert_all(self, rows: Sequence[_DetailsT]) -> list[_DetailsT]:
        return [await self.insert(row) for row in rows]

    async def delete(self, id_: UUID) -> bool:
        """Delete a provider with the tokens and sessions that it issued; false: there was none."""
        self._require(Action.DELETE)
        if await self.load(id_) is None:
            return False
        return await self._parents.delete(id_)

    async def delete_where(self, *conditions: ColumnElement[bool], at_most: int | None = None) -> int:
        self._require(Action.DELETE)
        rows = await self.load_all(*conditions, limit=at_most)
        for row in rows:
            await self.delete(row.id)
        return len(rows)

    @property
    def _parents(self) -> TenantRepository[AuthProvider]:
        return TenantRepository(self._transaction, AUTH_PROVIDERS, self._account_id, role=None)
