"""The tables of one account."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement

from wardgate.portal.access.tables import (
    POLICIES,
    POLICY_AUTHORIZATIONS,
    RESOURCES,
)
from wardgate.portal.devices.tables import DEVICES, STATIC_DEVICE_POOL_MEMBERS
from wardgate.portal.installation.tables import Account
from wardgate.portal.logs.tables import (
    Change,
)
from wardgate.portal.people.tables import (
    ACTORS,
    EXTERNAL_IDENTITIES,
    GROUPS,
    MEMBERSHIPS,
)
from wardgate.portal.schema.declaration import Removal, TableDeclaration
from wardgate.portal.schema.rights import Action
from wardgate.portal.schema.row import TenantRow
from wardgate.portal.sign_in.tables import (
    API_TOKENS,
    AUTH_PROVIDERS,
    CLIENT_TOKENS,
    EMAIL_OTP_AUTH_PROVIDERS,
    ENTRA_AUTH_PROVIDERS,
    GOOGLE_AUTH_PROVIDERS,
    OIDC_AUTH_PROVIDERS,
    OKTA_AUTH_PROVIDERS,
    ONE_TIME_PASSCODES,
    PASSKEYS,
    PENDING_IDENTITIES,
    PORTAL_SESSIONS,
    RECOVERY_CODES,
    SECOND_FACTOR_ATTEMPTS,
    SIGN_IN_LINKS,
    TOTP_AUTHENTICATORS,
    USERPASS_AUTH_PROVIDERS,
)
from wardgate.portal.sites.tables import GATEWAY_TOKENS, SITES
from wardgate.portal.store.account_repositories import (
    AuthorizationRepository,
    AuthProviderRepository,
    DeviceRepository,
    ExternalIdentityRepository,
)
from wardgate.portal.store.permissions import require
from wardgate.portal.store.repositories import TenantRepository
from wardgate.portal.store.tables import TABLES

if TYPE_CHECKING:
    from wardgate.portal.store.transaction import Transaction

_RowT = TypeVar("_RowT")
_TenantRowT = TypeVar("_TenantRowT", bound=TenantRow)
_RepositoryT = TypeVar("_RepositoryT", bound=TenantRepository[Any])

_MakeRepository = Callable[["Transaction", TableDeclaration[_TenantRowT], UUID, str | None], _RepositoryT]


class _InAccount(Generic[_TenantRowT, _RepositoryT]):
    """A repository of `AccountTables`, made when it is first asked for: few requests need more than three."""

    def __init__(
        self,
        declaration: TableDeclaration[_TenantRowT],
        repository: _MakeRepository[_TenantRowT, _RepositoryT],
    ) -> None:
        self.declaration = declaration
        self._repository = repository

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, tables: "AccountTables", owner: type | None = None) -> _RepositoryT:
        made = tables.make(self._repository, self.declaration)
        # What an instance has by this name comes before the class's, so that the next reader finds it there.
        vars(tables)[self._name] = made
        return made


def _of(
    declaration: TableDeclaration[_TenantRowT],
) -> _InAccount[_TenantRowT, TenantRepository[_TenantRowT]]:
    return _InAccount(declaration, TenantRepository[_TenantRowT])


class AccountTables:
    """The repositories of one account, for an actor of type `role`, or for the system itself if None."""

    actors = _of(ACTORS)
    external_identities = _InAccount(EXTERNAL_IDENTITIES, ExternalIdentityRepository)
    pending_identities = _of(PENDING_IDENTITIES)
    one_time_passcodes = _of(ONE_TIME_PASSCODES)
    auth_providers = _of(AUTH_PROVIDERS)
    email_otp_auth_providers = _InAccount(EMAIL_OTP_AUTH_PROVIDERS, AuthProviderRepository)
    userpass_auth_providers = _InAccount(USERPASS_AUTH_PROVIDERS, AuthProviderRepository)
    google_auth_providers = _InAccount(GOOGLE_AUTH_PROVIDERS, AuthProviderRepository)
    entra_auth_providers = _InAccount(ENTRA_AUTH_PROVIDERS, AuthProviderRepository)
    okta_auth_providers = _InAccount(OKTA_AUTH_PROVIDERS, AuthProviderRepository)
    oidc_auth_providers = _InAccount(OIDC_AUTH_PROVIDERS, AuthProviderRepository)
    groups = _of(GROUPS)
    memberships = _of(MEMBERSHIPS)
    sites = _of(SITES)
    resources = _of(RESOURCES)
    policies = _of(POLICIES)
    client_tokens = _of(CLIENT_TOKENS)
    gateway_tokens = _of(GATEWAY_TOKENS)
    api_tokens = _of(API_TOKENS)
    devices = _InAccount(DEVICES, DeviceRepository)
    authorizations = _InAccount(POLICY_AUTHORIZATIONS, AuthorizationRepository)
    portal_sessions = _of(PORTAL_SESSIONS)
    sign_in_links = _of(SIGN_IN_LINKS)
    totp_authenticators = _of(TOTP_AUTHENTICATORS)
    passkeys = _of(PASSKEYS)
    recovery_codes = _of(RECOVERY_CODES)
    second_factor_attempts = _of(SECOND_FACTOR_ATTEMPTS)
    pool_members = _of(STATIC_DEVICE_POOL_MEMBERS)

    def __init__(self, transaction: "Transaction", account_id: UUID, role: str | None) -> None:
        self.account_id = account_id
        self._transaction = transaction
        self._role = role

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

    async def entries(
        self,
        declaration: TableDeclaration[_RowT],
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any],
        limit: int,
    ) -> list[_RowT]:
        """Return rows of a table that has no repository: a log's."""
        self.require(Action.READ, declaration.name)
        return await self._transaction.entries(
            declaration, self.account_id, *conditions, order_by=order_by, limit=limit
        )

    async def remove(self, removal: Removal) -> None:
        """Delete rows of this account, each with what goes with it; for the deletion map and the hooks."""
        repository = self.by_name(removal.table)
        conditions = [repository.c[column] == value for column, value in removal.values.items()]
        await repository.delete_rows(await repository.load_all(*conditions))

    async def remove_where(self, table: str, column: str, ids: Sequence[UUID]) -> None:
        """Delete rows that name one of a few others, each with what goes with it; for the deletion map."""
        repository = self.by_name(table)
        await repository.delete_rows(await repository.load_all(repository.c[column].in_(ids)))

    async def clear_where(self, table: str, column: str, ids: Sequence[UUID]) -> None:
        """Set a reference to NULL in rows that name one of a few others; for the deletion map."""
        repository = self.by_name(table)
        for row in await repository.load_all(repository.c[column].in_(ids)):
            await repository.save(replace(row, **{column: None}))

    def by_name(self, table: str) -> TenantRepository[Any]:
        """Return the repository of a table."""
        name = _ATTRIBUTES.get(table)
        if name is None:
            return self.make(TenantRepository[Any], TABLES[table])
        repository: TenantRepository[Any] = getattr(self, name)
        return repository

    def make(
        self,
        repository: _MakeRepository[_TenantRowT, _RepositoryT],
        declaration: TableDeclaration[_TenantRowT],
    ) -> _RepositoryT:
        """Make a repository for this account and role."""
        return repository(self._transaction, declaration, self.account_id, self._role)


_ATTRIBUTES: Final = {
    listed.declaration.name: name
    for name, listed in vars(AccountTables).items()
    if isinstance(listed, _InAccount)
}
"""What the repository of a table is called."""
