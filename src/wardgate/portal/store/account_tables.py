"""The tables of one account, and those repositories that do more than the verbs that all share."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
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
    POLICIES,
    POLICY_AUTHORIZATIONS,
    RESOURCES,
    PolicyAuthorization,
)
from wardgate.portal.devices.tables import DEVICES, STATIC_DEVICE_POOL_MEMBERS, Device
from wardgate.portal.installation.tables import ACCOUNTS, Account
from wardgate.portal.logs.tables import (
    Change,
    Decision,
)
from wardgate.portal.people.tables import (
    ACTORS,
    EXTERNAL_IDENTITIES,
    GROUPS,
    MEMBERSHIPS,
    ExternalIdentity,
)
from wardgate.portal.schema.declaration import Removal
from wardgate.portal.schema.rights import Action
from wardgate.portal.sign_in.tables import (
    API_TOKENS,
    AUTH_PROVIDERS,
    CLIENT_TOKENS,
    EMAIL_OTP_AUTH_PROVIDERS,
    ENTRA_AUTH_PROVIDERS,
    GOOGLE_AUTH_PROVIDERS,
    IDENTITY_PROVIDERS,
    OIDC_AUTH_PROVIDERS,
    OKTA_AUTH_PROVIDERS,
    ONE_TIME_PASSCODES,
    PENDING_IDENTITIES,
    PORTAL_SESSIONS,
    SIGN_IN_LINKS,
    USERPASS_AUTH_PROVIDERS,
    AuthProvider,
    AuthProviderDetails,
)
from wardgate.portal.sites.tables import GATEWAY_TOKENS, SITES
from wardgate.portal.store.consequences import (
    ACCOUNT_TABLES_IN_DELETION_ORDER,
    DELETED_WITH_ACCOUNTS,
    DEPENDANTS_OF_ACCOUNTS,
)
from wardgate.portal.store.errors import AddressesExhausted, DanglingReference
from wardgate.portal.store.permissions import require
from wardgate.portal.store.repositories import Repository, TenantRepository
from wardgate.portal.store.tables import TABLES

if TYPE_CHECKING:
    from wardgate.portal.store.transaction import Transaction

_TAKEN_IN_A_ROW: Final = 16
"""Taken addresses after which it is worth asking whether any is free."""

_DetailsT = TypeVar("_DetailsT", bound=AuthProviderDetails)


class AccountTables:
    """The repositories of one account, for an actor of type `role`, or for the system itself if None."""

    def __init__(self, transaction: "Transaction", account_id: UUID, role: str | None) -> None:
        self.account_id = account_id
        self._transaction = transaction
        self._role = role
        self.actors = TenantRepository(transaction, ACTORS, account_id, role)
        self.external_identities = ExternalIdentityRepository(transaction, account_id, role)
        self.pending_identities = TenantRepository(transaction, PENDING_IDENTITIES, account_id, role)
        self.one_time_passcodes = TenantRepository(transaction, ONE_TIME_PASSCODES, account_id, role)
        self.auth_providers = TenantRepository(transaction, AUTH_PROVIDERS, account_id, role)
        self.email_otp_auth_providers = AuthProviderRepository(
            transaction, EMAIL_OTP_AUTH_PROVIDERS, account_id, role
        )
        self.userpass_auth_providers = AuthProviderRepository(
            transaction, USERPASS_AUTH_PROVIDERS, account_id, role
        )
        self.google_auth_providers = AuthProviderRepository(
            transaction, GOOGLE_AUTH_PROVIDERS, account_id, role
        )
        self.entra_auth_providers = AuthProviderRepository(
            transaction, ENTRA_AUTH_PROVIDERS, account_id, role
        )
        self.okta_auth_providers = AuthProviderRepository(transaction, OKTA_AUTH_PROVIDERS, account_id, role)
        self.oidc_auth_providers = AuthProviderRepository(transaction, OIDC_AUTH_PROVIDERS, account_id, role)
        self.groups = TenantRepository(transaction, GROUPS, account_id, role)
        self.memberships = TenantRepository(transaction, MEMBERSHIPS, account_id, role)
        self.sites = TenantRepository(transaction, SITES, account_id, role)
        self.resources = TenantRepository(transaction, RESOURCES, account_id, role)
        self.policies = TenantRepository(transaction, POLICIES, account_id, role)
        self.client_tokens = TenantRepository(transaction, CLIENT_TOKENS, account_id, role)
        self.gateway_tokens = TenantRepository(transaction, GATEWAY_TOKENS, account_id, role)
        self.api_tokens = TenantRepository(transaction, API_TOKENS, account_id, role)
        self.devices = DeviceRepository(transaction, account_id, role)
        self.authorizations = AuthorizationRepository(transaction, account_id, role)
        self.portal_sessions = TenantRepository(transaction, PORTAL_SESSIONS, account_id, role)
        self.sign_in_links = TenantRepository(transaction, SIGN_IN_LINKS, account_id, role)
        self.pool_members = TenantRepository(transaction, STATIC_DEVICE_POOL_MEMBERS, account_id, role)

    @property
    def now(self) -> datetime:
        """The instant of the transaction."""
        return self._transaction.now

    def new_id(self) -> UUID:
        return self._transaction.new_id()

    def random_bytes(self, count: int) -> bytes:
        return self._transaction.random_bytes(count)

    def require(self, action: Action, table: str) -> None:
        """Check what is done to a table beside its repository.

        Raises:
            NotAllowed: the actor may not.
        """
        require(self._role, action, table)

    async def account(self) -> Account | None:
        self.require(Action.READ, "accounts")
        return await self._transaction.accounts.load(self.account_id)

    async def save_account(self, account: Account) -> Account:
        """Replace the account's own row; raises as `Repository.save`."""
        self.require(Action.UPDATE, "accounts")
        if account.id != self.account_id:
            raise ValueError("accounts: a row of another account")
        return await self._transaction.accounts.save(account)

    async def changes(
        self, *conditions: ColumnElement[bool], limit: int, newest_first: bool = False
    ) -> list[Change]:
        self.require(Action.READ, "changes")
        return await self._transaction.changes(
            self.account_id, *conditions, limit=limit, newest_first=newest_first
        )

    async def decisions(
        self, *conditions: ColumnElement[bool], limit: int, newest_first: bool = True
    ) -> list[Decision]:
        self.require(Action.READ, "decisions")
        return await self._transaction.decisions(
            self.account_id, *conditions, limit=limit, newest_first=newest_first
        )

    async def remove(self, removal: Removal) -> None:
        """Delete rows of this account, each with what goes with it; for the deletion map and the hooks."""
        repository = self.by_name(removal.table)
        conditions = [repository.c[column] == value for column, value in removal.values.items()]
        await repository.delete_rows(await repository.load_all(*conditions))

    async def clear_where(self, table: str, column: str, value: UUID) -> None:
        """Set a reference to NULL in rows of a table of this account; for the deletion map."""
        repository = self.by_name(table)
        for row in await repository.load_all(repository.c[column] == value):
            await repository.save(replace(row, **{column: None}))

    def by_name(self, table: str) -> TenantRepository[Any]:
        """Return the repository of a table."""
        for repository in vars(self).values():
            if isinstance(repository, TenantRepository) and repository.table == table:
                return repository
        return TenantRepository(self._transaction, TABLES[table], self.account_id, self._role)


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

    def __init__(self, transaction: "Transaction", account_id: UUID, role: str | None) -> None:
        super().__init__(transaction, DEVICES, account_id, role)

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

    def __init__(self, transaction: "Transaction", account_id: UUID, role: str | None) -> None:
        super().__init__(transaction, POLICY_AUTHORIZATIONS, account_id, role)

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

    def __init__(self, transaction: "Transaction", account_id: UUID, role: str | None) -> None:
        super().__init__(transaction, EXTERNAL_IDENTITIES, account_id, role)

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
