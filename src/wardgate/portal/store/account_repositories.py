"""Repositories of an account that do more than the verbs that all share, and the one of accounts themselves."""

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Table,
    delete,
    func,
    select,
    tuple_,
    update,
)

from wardgate.model.addresses import LAST_TUNNEL_OFFSET, TUNNEL_IPV4, TUNNEL_IPV6
from wardgate.portal.access.tables import (
    PolicyAuthorization,
)
from wardgate.portal.devices.tables import Device
from wardgate.portal.installation.tables import ACCOUNTS, Account
from wardgate.portal.logs.tables import CHANGES, is_deletion_of_account
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

DELETED_WITH_ACCOUNT_AT_ONCE: Final = 500
"""Rows of a deleted account that one transaction deletes: each is looked for in the tables that may reference it,
which takes SQLite some ten milliseconds of the event loop.
"""

_DetailsT = TypeVar("_DetailsT", bound=AuthProviderDetails)


class AccountRepository(Repository[Account]):
    """The accounts themselves; each one's changes go to its own feed.

    A deleted account is found by nobody from the commit on; `delete_remains` then takes away what it had, a slice in
    each transaction.
    """

    def __init__(self, transaction: "Transaction") -> None:
        super().__init__(transaction, ACCOUNTS)

    @property
    def _scope(self) -> tuple[ColumnElement[bool], ...]:
        return (self.c.deleted_at.is_(None),)

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

    async def _delete_slice(self, rows: Sequence[Account]) -> None:
        """Mark accounts as deleted and give their slugs free; everything they have is still there."""
        for row in rows:
            await self._transaction.execute(
                update(self._table)
                .where(*self._scope, self.c.id == row.id)
                .values(
                    slug=f"deleted-{row.id.hex}",
                    is_disabled=True,
                    deleted_at=self._transaction.now,
                    updated_at=self._transaction.now,
                )
            )
            self._record("delete", row, None)

    async def with_remains(self) -> list[UUID]:
        """Return the deleted accounts that something is left of."""
        statement = select(self.c.id).where(self.c.deleted_at.is_not(None))
        return list((await self._transaction.execute(statement)).scalars())

    async def delete_remains(self, id_: UUID) -> int:
        """Delete the next rows, `DELETED_WITH_ACCOUNT_AT_ONCE` or fewer, of a deleted account, logs and its own row
        included; its feed then holds only its deletion. Returns how many, 0 when nothing is left.

        Whoever references goes before what is referenced. Tables are looked through from the first each time: what
        a request that was under way has added since goes too.
        """
        self._transaction.require_writable()
        await self._transaction.hold(id_)
        is_deleted = (self.c.id == id_) & self.c.deleted_at.is_not(None)
        if (await self._transaction.execute(select(self.c.id).where(is_deleted))).first() is None:
            return 0
        for dependant in DEPENDANTS_OF_ACCOUNTS:
            column = TABLES[dependant.table].c[dependant.column]
            of_account = _some(column.table, column == id_)
            if count := await self._count(update(column.table).where(of_account).values({column.name: None})):
                return count
        for name in (*ACCOUNT_TABLES_IN_DELETION_ORDER, *DELETED_WITH_ACCOUNTS):
            table = TABLES[name].table
            conditions = [table.c.account_id == id_]
            if name == CHANGES.name:
                conditions.append(~is_deletion_of_account())
            if count := await self._count(delete(table).where(_some(table, *conditions))):
                return count
        return await self._count(delete(self._table).where(is_deleted))

    async def _count(self, statement: Any) -> int:
        """Execute a statement and return how many rows it concerned."""
        return int((await self._transaction.execute(statement)).rowcount)

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

    async def _delete_slice(self, rows: Sequence[ExternalIdentity]) -> None:
        await super()._delete_slice(rows)
        tables = self._transaction.of(self._account_id)
        for row, declaration in itertools.product(rows, IDENTITY_PROVIDERS):
            providers = tables.by_name(declaration.name)
            for provider in await providers.load_all(providers.c.issuer == row.issuer):
                held_by_it = {"actor_id": row.actor_id, "auth_provider_id": provider.id}
                await tables.remove(Removal("client_tokens", held_by_it))
                await tables.remove(Removal("portal_sessions", held_by_it))

    @property
    def takes_others_along(self) -> bool:
        return True


def _some(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Be true for a slice of the rows that meet all conditions."""
    key = tuple(table.primary_key)
    return tuple_(*key).in_(select(*key).where(*conditions).limit(DELETED_WITH_ACCOUNT_AT_ONCE))
