"""Accounts and who is in them: actors, their identities at providers, groups, memberships (portal-domain §3.1 to §3.4)."""

from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Column, Index, String, Text, func

from wardgate.portal.store.column_types import UtcDateTime, Uuid
from wardgate.portal.store.schema.columns import (
    Json,
    key_bytes,
    listing_index,
    one_of,
    reference,
    table,
    tenant_table,
    words,
)

accounts = table(
    "accounts",
    words("name", 3, 64),
    words("legal_name", 1, 255),
    words("slug", 3, 100),
    words("key", 6, 6),
    key_bytes("ingest_signing_key"),
    Column("features", Json, nullable=False),
    Column("limits", Json, nullable=False),
    Column("config", Json, nullable=False),
    Column("is_disabled", Boolean(), nullable=False),
    Column("disabled_reason", Text()),
    Column("scheduled_deletion_at", UtcDateTime()),
    Column("lock_enabled_at", UtcDateTime()),
)
Index("accounts_slug_index", func.lower(accounts.c.slug), unique=True)
Index("accounts_key_index", accounts.c.key, unique=True)

actors = tenant_table(
    "actors",
    Column("type", String(32), nullable=False),
    words("name", 1, 255),
    Column("email", String(160)),
    Column("password_hash", String(255)),
    Column("allow_email_otp_sign_in", Boolean(), nullable=False),
    Column("preferences", Json, nullable=False),
    Column("is_disabled", Boolean(), nullable=False),
    one_of("actors", "type", "account_user", "account_admin_user", "service_account", "api_client"),
    CheckConstraint(
        "(type IN ('account_user', 'account_admin_user')) = (email IS NOT NULL)",
        name="actors_email_matches_type_check",
    ),
)
Index("actors_account_id_email_index", actors.c.account_id, func.lower(actors.c.email), unique=True)

listing_index(actors)


def profile() -> tuple[Column[Any], ...]:
    """Make the columns of what an identity provider says of a person."""
    return (
        Column("given_name", String(255)),
        Column("family_name", String(255)),
        Column("middle_name", String(255)),
        Column("nickname", String(255)),
        Column("preferred_username", String(255)),
        Column("profile", String(2048)),
        Column("picture", String(2048)),
    )


external_identities = tenant_table(
    "external_identities",
    Column("actor_id", Uuid(), nullable=False),
    words("issuer", 1, 2048),
    words("idp_id", 1, 255),
    Column("email", String(255)),
    Column("name", String(255)),
    *profile(),
    Column("firezone_avatar_url", String(2048)),
    reference("external_identities", "actor_id", "actors"),
)
Index(
    "external_identities_account_id_idp_id_issuer_index",
    external_identities.c.account_id,
    external_identities.c.idp_id,
    external_identities.c.issuer,
    unique=True,
)
Index(
    "external_identities_account_id_actor_id_issuer_index",
    external_identities.c.account_id,
    external_identities.c.actor_id,
    external_identities.c.issuer,
    unique=True,
)


groups = tenant_table(
    "groups",
    words("name", 1, 255),
    Column("type", String(16), nullable=False),
    Column("entity_type", String(16), nullable=False),
    Column("idp_id", String(255)),
    Column("email", String(255)),
    one_of("groups", "type", "static", "managed"),
    one_of("groups", "entity_type", "group", "org_unit"),
)
Index(
    "groups_account_id_name_index",
    groups.c.account_id,
    groups.c.name,
    unique=True,
    sqlite_where=groups.c.idp_id.is_(None),
    postgresql_where=groups.c.idp_id.is_(None),
)
Index("groups_account_id_idp_id_index", groups.c.account_id, groups.c.idp_id, unique=True)

listing_index(groups)

memberships = tenant_table(
    "memberships",
    Column("actor_id", Uuid(), nullable=False),
    Column("group_id", Uuid(), nullable=False),
    reference("memberships", "actor_id", "actors"),
    reference("memberships", "group_id", "groups"),
)
Index(
    "memberships_account_id_actor_id_group_id_index",
    memberships.c.account_id,
    memberships.c.actor_id,
    memberships.c.group_id,
    unique=True,
)
listing_index(memberships, "group_id")
