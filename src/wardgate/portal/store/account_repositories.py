"""Repositories of an account that do more than the verbs that all share, and the one of accounts themselves."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    delete,
    func,
    update,
)

from wardgate.model.addresses import LAST_TUNNEL_OFFSET, TUNNEL_IPV4, TUNNEL_IPV6
from wardgate.portal.access.tables import (
    PolicyAuthorization,
)
from wardgate.portal.devices.tables import Device
from wardgate.portal.installation.tables import ACCOUNTS, Account
from wardgate.portal.people.tables import (
    ExternalIdentity,
)
from wardgate.portal.schema.declaration import Removal
from wardgate.portal.schema.rights import Action
from wardgate.portal.sign_in.tables import (
    IDENTITY_PROVIDERS,
    AuthProvider,
    AuthProviderDetails,
)
from wardgate.portal.store.consequences import (
    ACCOUNT_TABLES_IN_DELETION_ORDER,
    DELETED_WITH_ACCOUNTS,
    DEPENDANTS_OF_ACCOUNTS,
)
from wardgate.portal.store.errors import AddressesExhausted, DanglingReference
from wardgate.portal.store.repositories import Repository, TenantRepository
from wardgate.portal.store.tables import TABLES

if TYPE_CHECKING:
    from wardgate.portal.store.transaction import Transaction

_TAKEN_IN_A_ROW: Final = 16
"""Taken addresses after which it is worth asking whether any is free."""

_DetailsT = TypeVar("_DetailsT", bound=AuthProviderDetails)


class AccountRepository(Repository[Account]):
    """The accounts themselves; each one's changes go to its own feed."""

    def __init__(self, transaction: "Transaction") -> None:
        super().__init__(transaction, ACCOUNTS)

    async def by_slug(self, slug: str) -> Account | None:
        return await self.find(func.lower(self.c.slug) == slug.lower())

    async def load(self, id_: UUID) -> Account | None:
        await self._transaction.hold(id_)
        return await super().load(id_)

    async def load_all(
        self,
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Account]:
        """Return the accounts that meet all conditions; in a write transaction, held as they are returned."""
        while True:
            rows = await super().load_all(*conditions, order_by=order_by, limit=limit, offset=offset)
            if self._transaction.holds(row.id for row in rows):
                return rows
            await self._transaction.hold(*(row.id for row in rows))

    async def _hold(self) -> None:
        """Which accounts a condition finds is known only afterwards: `load_all` holds those."""

    async def delete_row(self, row: Account) -> None:
        """Delete the account with everything it has, logs included; its feed then holds only its deletion."""
        for dependant in DEPENDANTS_OF_ACCOUNTS:
            column = TABLES[dependant.table].c[dependant.column]
            await self._transaction.execute(
                update(column.table).where(column == row.id).values({dependant.column: None})
            )
        for name in ACCOUNT_TABLES_IN_DELETION_ORDER:
            await self._delete_of_account(name, row.id)
        self._transaction.forget(row.id)
        for name in DELETED_WITH_ACCOUNTS:
            await self._delete_of_account(name, row.id)
        await super().delete_row(row)

    async def _delete_of_account(self, name: str, account_id: UUID) -> None:
        declaration = TABLES[name]
        await self._transaction.execute(
            delete(declaration.table).where(declaration.c.account_id == account_id)
        )

    def _feed_of(self, row: Account) -> UUID:
        return row.id


class DeviceRepository(TenantRepository[Device]):
    """Devices; a new one draws its tunnel addresses here (portal-domain §3.8)."""

    async def insert(self, row: Device) -> Device:
        """Insert a device; empty addresses are drawn.

        Raises:
            AddressesExhausted: no address left.
        """
        if not row.ipv4:
            row = replace(row, ipv4=await self._free_address(TUNNEL_IPV4, self.c.ipv4))
        if not row.ipv6:
            row = replace(row, ipv6=await self._free_address(TUNNEL_IPV6, self.c.ipv6))
        return await super().insert(row)

    async def _free_address(self, pool: IPv4Network | IPv6Network, column: ColumnElement[str]) -> str:
        random = int.from_bytes(self._transaction.random_bytes(8), "big")
        first = random % LAST_TUNNEL_OFFSET
        for step in range(LAST_TUNNEL_OFFSET):
            address: IPv4Address | IPv6Address = (
                pool.network_address + 1 + (first + step) % LAST_TUNNEL_OFFSET
            )
            if await self.count(column == str(address), at_most=1) == 0:
                return str(address)
            # A look at all of them is worth it where many are taken, and for nobody else.
            if step == _TAKEN_IN_A_ROW and await self.count(at_most=LAST_TUNNEL_OFFSET) == LAST_TUNNEL_OFFSET:
                break
        raise AddressesExhausted(f"all addresses of {pool} are in use")


class AuthorizationRepository(TenantRepository[PolicyAuthorization]):
    """Grants: inserted in groups, never updated (portal-domain §3.12)."""

    async def insert_each(self, rows: Sequence[PolicyAuthorization]) -> list[PolicyAuthorization]:
        """Insert what can be inserted; rows that name something gone are left out. Returns what was stored."""
        try:
            async with self._transaction.savepoint():
                return await self.insert_all(rows)
        except DanglingReference:
            stored = []
            for row in rows:
                with contextlib.suppress(DanglingReference):
                    async with self._transaction.savepoint():
                        stored.append(await self.insert(row))
            return stored


class AuthProviderRepository(TenantRepository[_DetailsT]):
    """One type of provider: the details and the parent that they share their id with come and go together."""

    async def insert(self, row: _DetailsT) -> _DetailsT:
        """Insert a provider; raises as `Repository.insert`."""
        self._require(Action.INSERT)
        parent = AuthProvider(id=row.id, account_id=row.account_id, type=row.type)
        await self._transaction.of(self._account_id).auth_providers.insert(parent)
        return await super().insert(row)

    async def insert_all(self, rows: Sequence[_DetailsT]) -> list[_DetailsT]:
        return [await self.insert(row) for row in rows]

    async def delete(self, id_: UUID) -> bool:
        """Delete a provider with the tokens and sessions that it issued; false: there was none."""
        self._require(Action.DELETE)
        if await self.load(id_) is None:
            return False
        return await self._transaction.of(self._account_id).auth_providers.delete(id_)

    async def delete_where(self, *conditions: ColumnElement[bool], at_most: int | None = None) -> int:
        self._require(Action.DELETE)
        rows = await self.load_all(*conditions, limit=at_most)
        for row in rows:
            await self.delete(row.id)
        return len(rows)


class ExternalIdentityRepository(TenantRepository[ExternalIdentity]):
    """Identities; with one goes what its actor holds by sign-ins at the same issuer (portal-domain §8.4)."""

    async def delete_row(self, row: ExternalIdentity) -> None:
        await super().delete_row(row)
        tables = self._transaction.of(self._account_id)
        for declaration in IDENTITY_PROVIDERS:
            providers = tables.by_name(declaration.name)
            for provider in await providers.load_all(providers.c.issuer == row.issuer):
                held_by_it = {"actor_id": row.actor_id, "auth_provider_id": provider.id}
                await tables.remove(Removal("client_tokens", held_by_it))
                await tables.remove(Removal("portal_sessions", held_by_it))

    @property
    def takes_others_along(self) -> bool:
        return True
