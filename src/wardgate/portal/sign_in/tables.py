"""How one signs in and what one then holds: providers, tokens, sessions (portal-domain §3.5, §3.9)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, TypeVar
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Integer, String

from wardgate.portal.schema.column_types import UtcDateTime
from wardgate.portal.schema.columns import (
    Json,
    Words,
    latest_use,
    location,
    one_of,
    profile,
    secret,
    token_secret,
    words,
)
from wardgate.portal.schema.declaration import (
    Named,
    Part,
    Recording,
    Reference,
    Removal,
    TableDeclaration,
    listing_index,
    tenant_table,
)
from wardgate.portal.schema.rights import ADMINS, ALL, MANAGERS, NONE, READ, Action, rights_of
from wardgate.portal.schema.row import TenantRow


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthProvider(TenantRow):
    """The parent of a provider's details; the repository of the details makes and removes it with them."""

    table: ClassVar[str] = "auth_providers"
    type: Annotated[str, Words(0, 16)]


_PROVIDER_RIGHTS: Final = rights_of(admin=ALL, api_client=READ, user=NONE, service_account=NONE)


AUTH_PROVIDERS: Final = tenant_table(
    AuthProvider,
    one_of("type", "google", "okta", "entra", "oidc", "email_otp", "userpass"),
    rights=_PROVIDER_RIGHTS,
    recording=Recording.INTERNAL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthProviderDetails(TenantRow):
    """What all types of provider share (§3.5). The id is the parent's.

    Attributes:
        context: where one may sign in with it: `clients_and_portal`, `clients_only`, `portal_only`.
        portal_session_lifetime_secs: 300 to 86,400; None means 28,800.
        client_session_lifetime_secs: 3,600 to 7,776,000; None means 604,800.
    """

    type: ClassVar[str]
    name: str
    issuer: str
    context: str = "clients_and_portal"
    portal_session_lifetime_secs: int | None = None
    client_session_lifetime_secs: int | None = None
    is_disabled: bool = False


_DetailsT = TypeVar("_DetailsT", bound=AuthProviderDetails)


def _provider_table(
    row_class: type[_DetailsT], *parts: Part, issuer: int = 255
) -> TableDeclaration[_DetailsT]:
    """Declare the details of one type of provider; each shares its id with its parent in `auth_providers`."""
    name = row_class.table
    return tenant_table(
        row_class,
        words("name", 1, 255),
        words("issuer", 1, issuer),
        Column("context", String(32), nullable=False),
        Column("portal_session_lifetime_secs", Integer()),
        Column("client_session_lifetime_secs", Integer()),
        Column("is_disabled", Boolean(), nullable=False),
        *parts,
        Reference("id", "auth_providers"),
        one_of("context", "clients_and_portal", "clients_only", "portal_only"),
        CheckConstraint(
            "portal_session_lifetime_secs BETWEEN 300 AND 86400", name=f"{name}_portal_lifetime_check"
        ),
        CheckConstraint(
            "client_session_lifetime_secs BETWEEN 3600 AND 7776000", name=f"{name}_client_lifetime_check"
        ),
        rights=_PROVIDER_RIGHTS,
        removes_on_update=_removed_with_a_provider,
    )


def _removed_with_a_provider(before: AuthProviderDetails, after: AuthProviderDetails) -> Iterator[Removal]:
    if after.is_disabled and not before.is_disabled:
        yield Removal("client_tokens", {"auth_provider_id": after.id})
        yield Removal("portal_sessions", {"auth_provider_id": after.id})


def _unique(declaration: TableDeclaration[Any], *columns: str) -> None:
    """Let no two rows of an account have the same values (none named: let there be one row)."""
    name = "_".join((declaration.name, "account_id", *columns, "index"))
    Index(name, declaration.c.account_id, *(declaration.c[column] for column in columns), unique=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailOtpAuthProvider(AuthProviderDetails):
    """Sign-in by a code sent by e-mail; one an account."""

    table: ClassVar[str] = "email_otp_auth_providers"
    type: ClassVar[str] = "email_otp"
    name: str = "Email OTP"
    issuer: str = "firezone"


EMAIL_OTP_AUTH_PROVIDERS: Final = _provider_table(
    EmailOtpAuthProvider,
    CheckConstraint("issuer = 'firezone'", name="email_otp_auth_providers_issuer_check"),
)
_unique(EMAIL_OTP_AUTH_PROVIDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserpassAuthProvider(AuthProviderDetails):
    """Sign-in by password; one an account."""

    table: ClassVar[str] = "userpass_auth_providers"
    type: ClassVar[str] = "userpass"
    name: str = "Username & Password"
    issuer: str = "firezone"


USERPASS_AUTH_PROVIDERS: Final = _provider_table(
    UserpassAuthProvider,
    CheckConstraint("issuer = 'firezone'", name="userpass_auth_providers_issuer_check"),
)
_unique(USERPASS_AUTH_PROVIDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityProviderDetails(AuthProviderDetails):
    """What those share whose sign-ins rest on an external identity.

    Attributes:
        is_default: whether clients are sent there without being asked.
        is_verified: whether somebody has signed in with it for a trial since its client was changed; enabled is only
            what is verified.
        fills_groups: whether the claim `groups` decides memberships.
    """

    is_default: bool = False
    is_verified: bool = False
    fills_groups: bool = False


_IdentityDetailsT = TypeVar("_IdentityDetailsT", bound=IdentityProviderDetails)


def _identity_provider_table(
    row_class: type[_IdentityDetailsT], *parts: Part, issuer: int
) -> TableDeclaration[_IdentityDetailsT]:
    return _provider_table(
        row_class,
        Column("is_default", Boolean(), nullable=False),
        Column("is_verified", Boolean(), nullable=False),
        Column("fills_groups", Boolean(), nullable=False),
        *parts,
        issuer=issuer,
    )


def _client_columns() -> Sequence[Column[Any]]:
    return Column("client_id", String(255)), secret(Column("client_secret", String(255)))


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleAuthProvider(IdentityProviderDetails):
    """One an account. `client_secret` is secret; a row of an earlier version has neither id nor secret."""

    table: ClassVar[str] = "google_auth_providers"
    type: ClassVar[str] = "google"
    name: str = "Google"
    client_id: str | None = None
    client_secret: str | None = None


GOOGLE_AUTH_PROVIDERS: Final = _identity_provider_table(GoogleAuthProvider, *_client_columns(), issuer=2048)
_unique(GOOGLE_AUTH_PROVIDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntraAuthProvider(IdentityProviderDetails):
    """`email_claim`: `email`, `upn` or `preferred_username`; `client_secret` is secret; a row of an earlier version
    has neither id nor secret.
    """

    table: ClassVar[str] = "entra_auth_providers"
    type: ClassVar[str] = "entra"
    name: str = "Entra"
    client_id: str | None = None
    client_secret: str | None = None
    email_claim: str = "upn"


ENTRA_AUTH_PROVIDERS: Final = _identity_provider_table(
    EntraAuthProvider,
    *_client_columns(),
    Column("email_claim", String(32), nullable=False),
    one_of("email_claim", "email", "upn", "preferred_username"),
    issuer=2048,
)
_unique(ENTRA_AUTH_PROVIDERS, "issuer")
_unique(ENTRA_AUTH_PROVIDERS, "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class OktaAuthProvider(IdentityProviderDetails):
    """`issuer` is https:// and `okta_domain`; `client_secret` is secret."""

    table: ClassVar[str] = "okta_auth_providers"
    type: ClassVar[str] = "okta"
    name: str = "Okta"
    okta_domain: str
    client_id: str
    client_secret: str


OKTA_AUTH_PROVIDERS: Final = _identity_provider_table(
    OktaAuthProvider,
    words("okta_domain", 1, 255),
    words("client_id", 1, 255),
    secret(words("client_secret", 1, 255)),
    CheckConstraint("issuer = 'https://' || okta_domain", name="okta_auth_providers_issuer_check"),
    issuer=263,
)
_unique(OKTA_AUTH_PROVIDERS, "client_id")
_unique(OKTA_AUTH_PROVIDERS, "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcAuthProvider(IdentityProviderDetails):
    """Any OpenID provider. `email_verification_method`: `none`, `claim` or `proof`; `client_secret` is
    secret.
    """

    table: ClassVar[str] = "oidc_auth_providers"
    type: ClassVar[str] = "oidc"
    name: str = "OpenID Connect"
    client_id: str
    client_secret: str
    discovery_document_uri: str
    email_verification_method: str = "claim"
    is_legacy: bool = False


OIDC_AUTH_PROVIDERS: Final = _identity_provider_table(
    OidcAuthProvider,
    words("client_id", 1, 255),
    secret(words("client_secret", 1, 255)),
    words("discovery_document_uri", 1, 2000),
    Column("email_verification_method", String(16), nullable=False),
    Column("is_legacy", Boolean(), nullable=False),
    one_of("email_verification_method", "none", "claim", "proof"),
    issuer=2000,
)
_unique(OIDC_AUTH_PROVIDERS, "client_id")
_unique(OIDC_AUTH_PROVIDERS, "name")

IDENTITY_PROVIDERS: Final[tuple[TableDeclaration[Any], ...]] = (
    GOOGLE_AUTH_PROVIDERS,
    ENTRA_AUTH_PROVIDERS,
    OKTA_AUTH_PROVIDERS,
    OIDC_AUTH_PROVIDERS,
)
"""Those whose sign-ins rest on an external identity."""
PROVIDERS: Final[tuple[TableDeclaration[Any], ...]] = (
    EMAIL_OTP_AUTH_PROVIDERS,
    USERPASS_AUTH_PROVIDERS,
    *IDENTITY_PROVIDERS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimePasscode(TenantRow):
    """A code sent by e-mail (§3.9). `code_hash` is argon2 and secret; at most three `attempts`."""

    table: ClassVar[str] = "one_time_passcodes"
    actor_id: UUID
    code_hash: str
    expires_at: datetime
    attempts: int = 0


ONE_TIME_PASSCODES: Final = tenant_table(
    OneTimePasscode,
    Reference("actor_id", "actors"),
    secret(words("code_hash", 1, 255)),
    CheckConstraint("attempts BETWEEN 0 AND 3", name="one_time_passcodes_attempts_check"),
)
Index(
    "one_time_passcodes_account_id_actor_id_index",
    ONE_TIME_PASSCODES.c.account_id,
    ONE_TIME_PASSCODES.c.actor_id,
)
Index("one_time_passcodes_expires_at_index", ONE_TIME_PASSCODES.c.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingIdentity(TenantRow):
    """A sign-in at a provider that waits for the proof of its e-mail address (§3.3); it dies with its
    passcode.
    """

    table: ClassVar[str] = "pending_identities"
    actor_id: UUID
    auth_provider_id: UUID
    one_time_passcode_id: UUID
    issuer: Annotated[str, Words(1, 2048)]
    idp_id: Annotated[str, Words(1, 255)]
    email: Annotated[str, Words(1, 255)]
    name: Annotated[str, Words(1, 255)]
    given_name: str | None = None
    family_name: str | None = None
    middle_name: str | None = None
    nickname: str | None = None
    preferred_username: str | None = None
    profile: str | None = None
    picture: str | None = None


PENDING_IDENTITIES: Final = tenant_table(
    PendingIdentity,
    Reference("actor_id", "actors"),
    Reference("auth_provider_id", "auth_providers"),
    Reference("one_time_passcode_id", "one_time_passcodes"),
    *profile(),
    recording=Recording.INTERNAL,
)
for _name in ("actor_id", "auth_provider_id", "one_time_passcode_id"):
    Index(
        f"pending_identities_account_id_{_name}_index",
        PENDING_IDENTITIES.c.account_id,
        PENDING_IDENTITIES.c[_name],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientToken(TenantRow):
    table: ClassVar[str] = "client_tokens"
    actor_id: UUID
    secret_salt: str
    secret_hash: str
    expires_at: datetime
    auth_provider_id: UUID | None = None


CLIENT_TOKENS: Final = tenant_table(
    ClientToken,
    Reference("actor_id", "actors"),
    Reference("auth_provider_id", "auth_providers", is_optional=True),
    *token_secret(),
    rights=MANAGERS,
    heard_by=Named(("id",)),
)
Index("client_tokens_expires_at_index", CLIENT_TOKENS.c.expires_at)
Index(
    "client_tokens_account_id_auth_provider_id_index",
    CLIENT_TOKENS.c.account_id,
    CLIENT_TOKENS.c.auth_provider_id,
)
listing_index(CLIENT_TOKENS, "actor_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken(TenantRow):
    table: ClassVar[str] = "api_tokens"
    actor_id: UUID
    name: Annotated[str, Words(1, 255)]
    secret_salt: str
    secret_hash: str
    expires_at: datetime
    last_seen_user_agent: str | None = None
    last_seen_remote_ip: str | None = None
    last_seen_remote_ip_location_region: str | None = None
    last_seen_remote_ip_location_city: str | None = None
    last_seen_remote_ip_location_lat: float | None = None
    last_seen_remote_ip_location_lon: float | None = None
    last_seen_at: datetime | None = None


API_TOKENS: Final = tenant_table(
    ApiToken,
    Reference("actor_id", "actors"),
    *token_secret(),
    *latest_use(
        Column("last_seen_user_agent", String(2000)),
        Column("last_seen_remote_ip", String(45)),
        *location("last_seen_remote_ip"),
        Column("last_seen_at", UtcDateTime()),
    ),
    rights=ADMINS,
)
Index("api_tokens_account_id_actor_id_index", API_TOKENS.c.account_id, API_TOKENS.c.actor_id)
Index("api_tokens_expires_at_index", API_TOKENS.c.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalSession(TenantRow):
    """A browser's sign-in of an admin."""

    table: ClassVar[str] = "portal_sessions"
    actor_id: UUID
    user_agent: Annotated[str, Words(0, 2000)]
    remote_ip: Annotated[str, Words(0, 45)]
    expires_at: datetime
    remote_ip_location_region: str | None = None
    remote_ip_location_city: str | None = None
    remote_ip_location_lat: float | None = None
    remote_ip_location_lon: float | None = None
    auth_provider_id: UUID | None = None


PORTAL_SESSIONS: Final = tenant_table(
    PortalSession,
    Reference("actor_id", "actors"),
    Reference("auth_provider_id", "auth_providers", is_optional=True),
    *location("remote_ip"),
    rights=ADMINS,
    recording=Recording.INTERNAL,
)
Index("portal_sessions_account_id_actor_id_index", PORTAL_SESSIONS.c.account_id, PORTAL_SESSIONS.c.actor_id)
Index(
    "portal_sessions_account_id_auth_provider_id_index",
    PORTAL_SESSIONS.c.account_id,
    PORTAL_SESSIONS.c.auth_provider_id,
)
Index("portal_sessions_expires_at_index", PORTAL_SESSIONS.c.expires_at)


# Second factors, for sign-ins without an identity provider


_FACTOR_RIGHTS: Final = rights_of(
    admin=ALL, api_client=frozenset({Action.READ, Action.DELETE}), user=NONE, service_account=NONE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpAuthenticator(TenantRow):
    """An app that shows codes which change with the time (RFC 6238).

    Attributes:
        sealed_secret: secret; opens with the installation's key for the row's id only.
        last_step: the time step of the last code that was taken; none of it or before it is taken again.
    """

    table: ClassVar[str] = "totp_authenticators"
    actor_id: UUID
    name: str
    sealed_secret: str
    last_step: int
    last_used_at: datetime | None = None


TOTP_AUTHENTICATORS: Final = tenant_table(
    TotpAuthenticator,
    Reference("actor_id", "actors"),
    words("name", 1, 64),
    secret(words("sealed_secret", 1, 255)),
    *latest_use(Column("last_step", BigInteger(), nullable=False), Column("last_used_at", UtcDateTime())),
    rights=_FACTOR_RIGHTS,
)
Index(
    "totp_authenticators_account_id_actor_id_index",
    TOTP_AUTHENTICATORS.c.account_id,
    TOTP_AUTHENTICATORS.c.actor_id,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey(TenantRow):
    """A WebAuthn credential.

    Attributes:
        credential_id: base64url.
        public_key: COSE (RFC 9052), base64url.
        sign_count: what the authenticator counted last; 0 if it does not count.
    """

    table: ClassVar[str] = "passkeys"
    actor_id: UUID
    name: str
    credential_id: str
    public_key: str
    sign_count: int
    last_used_at: datetime | None = None


PASSKEYS: Final = tenant_table(
    Passkey,
    Reference("actor_id", "actors"),
    words("name", 1, 64),
    words("credential_id", 1, 1368),  # 1,023 bytes at most (WebAuthn level 3)
    words("public_key", 1, 1024),
    *latest_use(Column("sign_count", BigInteger(), nullable=False), Column("last_used_at", UtcDateTime())),
    rights=_FACTOR_RIGHTS,
)
Index("passkeys_account_id_actor_id_index", PASSKEYS.c.account_id, PASSKEYS.c.actor_id)
_unique(PASSKEYS, "credential_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCodes(TenantRow):
    """The recovery codes of an actor that are left: `hashes` is secret, and as many as `remaining` says."""

    table: ClassVar[str] = "recovery_codes"
    actor_id: UUID
    hashes: list[str]
    remaining: int


RECOVERY_CODES: Final = tenant_table(
    RecoveryCodes,
    Reference("actor_id", "actors"),
    secret(Column("hashes", Json, nullable=False)),
    Column("remaining", Integer(), nullable=False),
    rights=_FACTOR_RIGHTS,
)
_unique(RECOVERY_CODES, "actor_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactorAttempt(TenantRow):
    """A second factor that is asked for or being set up; deleted by the answer, or when its time is over.

    Attributes:
        purpose: `sign_in`, `confirm` (on a page of the portal) or `enrol` (there).
        challenge: what a passkey signs, 32 bytes in base64url.
        sealed_secret: secret; of the authenticator app that may be set up.
        tries: wrong answers so far.
        is_proved: a factor was set up by this sign-in, which goes on when the recovery codes have been read.
    """

    table: ClassVar[str] = "second_factor_attempts"
    actor_id: UUID
    auth_provider_id: UUID | None
    purpose: str
    challenge: str
    sealed_secret: str
    expires_at: datetime
    tries: int = 0
    is_proved: bool = False


SECOND_FACTOR_ATTEMPTS: Final = tenant_table(
    SecondFactorAttempt,
    Reference("actor_id", "actors"),
    Reference("auth_provider_id", "auth_providers", is_optional=True),
    Column("purpose", String(16), nullable=False),
    Column("challenge", String(64), nullable=False),
    secret(words("sealed_secret", 1, 255)),
    Column("expires_at", UtcDateTime(), nullable=False),
    Column("tries", Integer(), nullable=False),
    Column("is_proved", Boolean(), nullable=False),
    one_of("purpose", "sign_in", "confirm", "enrol"),
    rights=_FACTOR_RIGHTS,
)
for _name in ("actor_id", "auth_provider_id"):
    Index(
        f"second_factor_attempts_account_id_{_name}_index",
        SECOND_FACTOR_ATTEMPTS.c.account_id,
        SECOND_FACTOR_ATTEMPTS.c[_name],
    )
Index("second_factor_attempts_expires_at_index", SECOND_FACTOR_ATTEMPTS.c.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactorTries(TenantRow):
    """How many codes an actor's second factors were tried with since one was right; deleted by the right one, or when
    the time is over, which each try extends.
    """

    table: ClassVar[str] = "second_factor_tries"
    actor_id: UUID
    tried: int
    expires_at: datetime


SECOND_FACTOR_TRIES: Final = tenant_table(
    SecondFactorTries,
    Reference("actor_id", "actors"),
    Column("tried", Integer(), nullable=False),
    Column("expires_at", UtcDateTime(), nullable=False),
    rights=_FACTOR_RIGHTS,
    recording=Recording.INTERNAL,
)
_unique(SECOND_FACTOR_TRIES, "actor_id")
Index("second_factor_tries_expires_at_index", SECOND_FACTOR_TRIES.c.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInLink(TenantRow):
    """A one-time sign-in of an admin, made by who holds the data directory; using it deletes the row."""

    table: ClassVar[str] = "sign_in_links"
    actor_id: UUID
    secret_hash: str
    expires_at: datetime


SIGN_IN_LINKS: Final = tenant_table(
    SignInLink,
    Reference("actor_id", "actors"),
    secret(Column("secret_hash", String(64), nullable=False)),
    recording=Recording.INTERNAL,
)
Index("sign_in_links_account_id_actor_id_index", SIGN_IN_LINKS.c.account_id, SIGN_IN_LINKS.c.actor_id)
