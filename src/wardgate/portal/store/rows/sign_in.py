"""How one signs in and what one then holds (portal-domain §3.5, §3.9)."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from wardgate.portal.store.rows.base import TenantRow


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthProvider(TenantRow):
    """The parent of a provider's details; the repository of the details makes and removes it with them."""

    table: ClassVar[str] = "auth_providers"
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthProviderDetails(TenantRow):
    """What all types of provider share (§3.5). The id is the parent's.

    Attributes:
        context: where one may sign in with it: `clients_and_portal`, `clients_only`, `portal_only`.
        portal_session_lifetime_secs: 300 to 86,400; none: 28,800.
        client_session_lifetime_secs: 3,600 to 7,776,000; none: 604,800.
    """

    type: ClassVar[str]
    name: str
    issuer: str
    context: str = "clients_and_portal"
    portal_session_lifetime_secs: int | None = None
    client_session_lifetime_secs: int | None = None
    is_disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailOtpAuthProvider(AuthProviderDetails):
    """Sign-in by a code sent by e-mail; one an account."""

    table: ClassVar[str] = "email_otp_auth_providers"
    type: ClassVar[str] = "email_otp"
    name: str = "Email OTP"
    issuer: str = "firezone"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserpassAuthProvider(AuthProviderDetails):
    """Sign-in by password; one an account."""

    table: ClassVar[str] = "userpass_auth_providers"
    type: ClassVar[str] = "userpass"
    name: str = "Username & Password"
    issuer: str = "firezone"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleAuthProvider(AuthProviderDetails):
    """One an account."""

    table: ClassVar[str] = "google_auth_providers"
    type: ClassVar[str] = "google"
    name: str = "Google"
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EntraAuthProvider(AuthProviderDetails):
    """`email_claim`: `email`, `upn` or `preferred_username`."""

    table: ClassVar[str] = "entra_auth_providers"
    type: ClassVar[str] = "entra"
    name: str = "Entra"
    is_default: bool = False
    email_claim: str = "upn"


@dataclass(frozen=True, slots=True, kw_only=True)
class OktaAuthProvider(AuthProviderDetails):
    """`issuer` is https:// and `okta_domain`; `client_secret` is secret."""

    table: ClassVar[str] = "okta_auth_providers"
    type: ClassVar[str] = "okta"
    name: str = "Okta"
    okta_domain: str
    client_id: str
    client_secret: str
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcAuthProvider(AuthProviderDetails):
    """Any OpenID provider. `email_verification_method`: `none`, `claim` or `proof`; `client_secret` is secret."""

    table: ClassVar[str] = "oidc_auth_providers"
    type: ClassVar[str] = "oidc"
    name: str = "OpenID Connect"
    client_id: str
    client_secret: str
    discovery_document_uri: str
    email_verification_method: str = "claim"
    is_default: bool = False
    is_legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimePasscode(TenantRow):
    """A code sent by e-mail (§3.9). `code_hash` is argon2 and secret; at most three `attempts`."""

    table: ClassVar[str] = "one_time_passcodes"
    actor_id: UUID
    code_hash: str
    expires_at: datetime
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingIdentity(TenantRow):
    """A sign-in at a provider that waits for the proof of its e-mail address (§3.3); it dies with its passcode."""

    table: ClassVar[str] = "pending_identities"
    actor_id: UUID
    auth_provider_id: UUID
    one_time_passcode_id: UUID
    issuer: str
    idp_id: str
    email: str
    name: str
    given_name: str | None = None
    family_name: str | None = None
    middle_name: str | None = None
    nickname: str | None = None
    preferred_username: str | None = None
    profile: str | None = None
    picture: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientToken(TenantRow):
    table: ClassVar[str] = "client_tokens"
    actor_id: UUID
    secret_salt: str
    secret_hash: str
    expires_at: datetime
    auth_provider_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken(TenantRow):
    table: ClassVar[str] = "api_tokens"
    actor_id: UUID
    name: str
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalSession(TenantRow):
    """A browser's sign-in of an admin."""

    table: ClassVar[str] = "portal_sessions"
    actor_id: UUID
    user_agent: str
    remote_ip: str
    expires_at: datetime
    remote_ip_location_region: str | None = None
    remote_ip_location_city: str | None = None
    remote_ip_location_lat: float | None = None
    remote_ip_location_lon: float | None = None
    auth_provider_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInLink(TenantRow):
    """A one-time sign-in of an admin, made by who holds the data directory; using it deletes the row."""

    table: ClassVar[str] = "sign_in_links"
    actor_id: UUID
    secret_hash: str
    expires_at: datetime
