"""How one signs in and what one then holds: providers, passcodes, client and API tokens, sessions (portal-domain §3.5, §3.9)."""

from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
)

from wardgate.portal.store.column_types import UtcDateTime, Uuid
from wardgate.portal.store.schema.columns import (
    listing_index,
    location,
    one_of,
    reference,
    secret,
    tenant_table,
    words,
)
from wardgate.portal.store.schema.people import profile

auth_providers = tenant_table(
    "auth_providers",
    Column("type", String(16), nullable=False),
    one_of("auth_providers", "type", "google", "okta", "entra", "oidc", "email_otp", "userpass"),
)


def _provider_table(name: str, *columns: Any, issuer: int = 255) -> Table:
    """Make the details of one type of provider; each shares its id with its parent in `auth_providers`."""
    return tenant_table(
        name,
        words("name", 1, 255),
        words("issuer", 1, issuer),
        Column("context", String(32), nullable=False),
        Column("portal_session_lifetime_secs", Integer()),
        Column("client_session_lifetime_secs", Integer()),
        Column("is_disabled", Boolean(), nullable=False),
        *columns,
        ForeignKeyConstraint(
            ["account_id", "id"],
            ["auth_providers.account_id", "auth_providers.id"],
            name=f"{name}_id_fkey",
            ondelete="RESTRICT",
        ),
        one_of(name, "context", "clients_and_portal", "clients_only", "portal_only"),
        CheckConstraint(
            "portal_session_lifetime_secs BETWEEN 300 AND 86400", name=f"{name}_portal_lifetime_check"
        ),
        CheckConstraint(
            "client_session_lifetime_secs BETWEEN 3600 AND 7776000", name=f"{name}_client_lifetime_check"
        ),
    )


def _unique(table: Table, *columns: str) -> None:
    """Let no two rows of an account have the same values (none named: let there be one row)."""
    name = "_".join((table.name, "account_id", *columns, "index"))
    Index(name, table.c.account_id, *(table.c[column] for column in columns), unique=True)


email_otp_auth_providers = _provider_table(
    "email_otp_auth_providers",
    CheckConstraint("issuer = 'firezone'", name="email_otp_auth_providers_issuer_check"),
)
_unique(email_otp_auth_providers)

userpass_auth_providers = _provider_table(
    "userpass_auth_providers",
    CheckConstraint("issuer = 'firezone'", name="userpass_auth_providers_issuer_check"),
)
_unique(userpass_auth_providers)

google_auth_providers = _provider_table(
    "google_auth_providers", Column("is_default", Boolean(), nullable=False), issuer=2048
)
_unique(google_auth_providers)

entra_auth_providers = _provider_table(
    "entra_auth_providers",
    Column("is_default", Boolean(), nullable=False),
    Column("email_claim", String(32), nullable=False),
    one_of("entra_auth_providers", "email_claim", "email", "upn", "preferred_username"),
    issuer=2048,
)
_unique(entra_auth_providers, "issuer")
_unique(entra_auth_providers, "name")

okta_auth_providers = _provider_table(
    "okta_auth_providers",
    Column("is_default", Boolean(), nullable=False),
    words("okta_domain", 1, 255),
    words("client_id", 1, 255),
    words("client_secret", 1, 255),
    CheckConstraint("issuer = 'https://' || okta_domain", name="okta_auth_providers_issuer_check"),
    issuer=263,
)
_unique(okta_auth_providers, "client_id")
_unique(okta_auth_providers, "name")

oidc_auth_providers = _provider_table(
    "oidc_auth_providers",
    Column("is_default", Boolean(), nullable=False),
    words("client_id", 1, 255),
    words("client_secret", 1, 255),
    words("discovery_document_uri", 1, 2000),
    Column("email_verification_method", String(16), nullable=False),
    Column("is_legacy", Boolean(), nullable=False),
    one_of("oidc_auth_providers", "email_verification_method", "none", "claim", "proof"),
    issuer=2000,
)
_unique(oidc_auth_providers, "client_id")
_unique(oidc_auth_providers, "name")

one_time_passcodes = tenant_table(
    "one_time_passcodes",
    Column("actor_id", Uuid(), nullable=False),
    words("code_hash", 1, 255),
    Column("expires_at", UtcDateTime(), nullable=False),
    Column("attempts", Integer(), nullable=False),
    reference("one_time_passcodes", "actor_id", "actors"),
    CheckConstraint("attempts BETWEEN 0 AND 3", name="one_time_passcodes_attempts_check"),
)
Index(
    "one_time_passcodes_account_id_actor_id_index",
    one_time_passcodes.c.account_id,
    one_time_passcodes.c.actor_id,
)
Index("one_time_passcodes_expires_at_index", one_time_passcodes.c.expires_at)

pending_identities = tenant_table(
    "pending_identities",
    Column("actor_id", Uuid(), nullable=False),
    Column("auth_provider_id", Uuid(), nullable=False),
    Column("one_time_passcode_id", Uuid(), nullable=False),
    words("issuer", 1, 2048),
    words("idp_id", 1, 255),
    words("email", 1, 255),
    words("name", 1, 255),
    *profile(),
    reference("pending_identities", "actor_id", "actors"),
    reference("pending_identities", "auth_provider_id", "auth_providers"),
    reference("pending_identities", "one_time_passcode_id", "one_time_passcodes"),
)
for _name in ("actor_id", "auth_provider_id", "one_time_passcode_id"):
    Index(
        f"pending_identities_account_id_{_name}_index",
        pending_identities.c.account_id,
        pending_identities.c[_name],
    )

client_tokens = tenant_table(
    "client_tokens",
    Column("actor_id", Uuid(), nullable=False),
    Column("auth_provider_id", Uuid()),
    *secret(),
    Column("expires_at", UtcDateTime(), nullable=False),
    reference("client_tokens", "actor_id", "actors"),
    reference("client_tokens", "auth_provider_id", "auth_providers"),
)
Index("client_tokens_expires_at_index", client_tokens.c.expires_at)
Index(
    "client_tokens_account_id_auth_provider_id_index",
    client_tokens.c.account_id,
    client_tokens.c.auth_provider_id,
)
listing_index(client_tokens, "actor_id")

api_tokens = tenant_table(
    "api_tokens",
    Column("actor_id", Uuid(), nullable=False),
    words("name", 1, 255),
    *secret(),
    Column("expires_at", UtcDateTime(), nullable=False),
    Column("last_seen_user_agent", String(2000)),
    Column("last_seen_remote_ip", String(45)),
    *location("last_seen_remote_ip"),
    Column("last_seen_at", UtcDateTime()),
    reference("api_tokens", "actor_id", "actors"),
)
Index("api_tokens_account_id_actor_id_index", api_tokens.c.account_id, api_tokens.c.actor_id)
Index("api_tokens_expires_at_index", api_tokens.c.expires_at)

portal_sessions = tenant_table(
    "portal_sessions",
    Column("actor_id", Uuid(), nullable=False),
    Column("auth_provider_id", Uuid()),
    Column("user_agent", String(2000), nullable=False),
    Column("remote_ip", String(45), nullable=False),
    *location("remote_ip"),
    Column("expires_at", UtcDateTime(), nullable=False),
    reference("portal_sessions", "actor_id", "actors"),
    reference("portal_sessions", "auth_provider_id", "auth_providers"),
)
Index("portal_sessions_account_id_actor_id_index", portal_sessions.c.account_id, portal_sessions.c.actor_id)
Index(
    "portal_sessions_account_id_auth_provider_id_index",
    portal_sessions.c.account_id,
    portal_sessions.c.auth_provider_id,
)
Index("portal_sessions_expires_at_index", portal_sessions.c.expires_at)

sign_in_links = tenant_table(
    "sign_in_links",
    Column("actor_id", Uuid(), nullable=False),
    Column("secret_hash", String(64), nullable=False),
    Column("expires_at", UtcDateTime(), nullable=False),
    reference("sign_in_links", "actor_id", "actors"),
)
Index("sign_in_links_account_id_actor_id_index", sign_in_links.c.account_id, sign_in_links.c.actor_id)
