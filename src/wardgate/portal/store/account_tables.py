"""The tables of one account, and where the domains' repositories come together."""

from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from wardgate.portal.access.repositories import AuthorizationRepository
from wardgate.portal.access.tables import (
    POLICIES,
    POLICY_AUTHORIZATIONS,
    RESOURCES,
)
from wardgate.portal.database.repositories import TenantRepository
from wardgate.portal.database.tenant_tables import TableOf, TenantTables
from wardgate.portal.devices.repositories import DeviceRepository
from wardgate.portal.devices.tables import DEVICES, STATIC_DEVICE_POOL_MEMBERS
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.repositories import ExternalIdentityRepository
from wardgate.portal.people.tables import (
    ACTORS,
    EXTERNAL_IDENTITIES,
    GROUPS,
    MEMBERSHIPS,
)
from wardgate.portal.schema.declaration import TableDeclaration
from wardgate.portal.schema.rights import Action
from wardgate.portal.schema.row import TenantRow
from wardgate.portal.sign_in.repositories import AuthProviderRepository
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
    SECOND_FACTOR_TRIES,
    SIGN_IN_LINKS,
    TOTP_AUTHENTICATORS,
    USERPASS_AUTH_PROVIDERS,
)
from wardgate.portal.sites.tables import GATEWAY_TOKENS, SITES

if TYPE_CHECKING:
    from wardgate.portal.store.transaction import Transaction

_TenantRowT = TypeVar("_TenantRowT", bound=TenantRow)


def _of(declaration: TableDeclaration[_TenantRowT]) -> TableOf[_TenantRowT, TenantRepository[_TenantRowT]]:
    return TableOf(declaration, TenantRepository[_TenantRowT])


class AccountTables(TenantTables):
    """The repositories of one account, for an actor of type `role`, or for the system itself if None."""

    _transaction: "Transaction"

    actors = _of(ACTORS)
    external_identities = TableOf(EXTERNAL_IDENTITIES, ExternalIdentityRepository)
    pending_identities = _of(PENDING_IDENTITIES)
    one_time_passcodes = _of(ONE_TIME_PASSCODES)
    auth_providers = _of(AUTH_PROVIDERS)
    email_otp_auth_providers = TableOf(EMAIL_OTP_AUTH_PROVIDERS, AuthProviderRepository)
    userpass_auth_providers = TableOf(USERPASS_AUTH_PROVIDERS, AuthProviderRepository)
    google_auth_providers = TableOf(GOOGLE_AUTH_PROVIDERS, AuthProviderRepository)
    entra_auth_providers = TableOf(ENTRA_AUTH_PROVIDERS, AuthProviderRepository)
    okta_auth_providers = TableOf(OKTA_AUTH_PROVIDERS, AuthProviderRepository)
    oidc_auth_providers = TableOf(OIDC_AUTH_PROVIDERS, AuthProviderRepository)
    groups = _of(GROUPS)
    memberships = _of(MEMBERSHIPS)
    sites = _of(SITES)
    resources = _of(RESOURCES)
    policies = _of(POLICIES)
    client_tokens = _of(CLIENT_TOKENS)
    gateway_tokens = _of(GATEWAY_TOKENS)
    api_tokens = _of(API_TOKENS)
    devices = TableOf(DEVICES, DeviceRepository)
    authorizations = TableOf(POLICY_AUTHORIZATIONS, AuthorizationRepository)
    portal_sessions = _of(PORTAL_SESSIONS)
    sign_in_links = _of(SIGN_IN_LINKS)
    totp_authenticators = _of(TOTP_AUTHENTICATORS)
    passkeys = _of(PASSKEYS)
    recovery_codes = _of(RECOVERY_CODES)
    second_factor_attempts = _of(SECOND_FACTOR_ATTEMPTS)
    second_factor_tries = _of(SECOND_FACTOR_TRIES)
    pool_members = _of(STATIC_DEVICE_POOL_MEMBERS)

    def __init__(self, transaction: "Transaction", account_id: UUID, role: str | None) -> None:
        super().__init__(transaction, account_id, role)

    async def account(self) -> Account | None:
        self.require(Action.READ, "accounts")
        return await self._transaction.accounts.load(self.account_id)

    async def save_account(self, account: Account) -> Account:
        """Replace the account's own row; raises as `Repository.save`."""
        self.require(Action.UPDATE, "accounts")
        if account.id != self.account_id:
            raise ValueError("accounts: a row of another account")
        return await self._transaction.accounts.save(account)
