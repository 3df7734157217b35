"""Providers to sign in with, identities, passcodes, outbound e-mail, banners; and what listings are read from."""

from contextlib import AbstractContextManager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import SchemaItem

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_RESOURCE_CHECKS = (
    ("resources_ip_stack_check", "ip_stack IN ('dual', 'ipv4_only', 'ipv6_only')"),
    (
        "resources_site_matches_type_check",
        "type NOT IN ('static_device_pool', 'dynamic_device_pool') OR site_id IS NULL",
    ),
)
_LISTINGS = (
    ("actors_listing_index", "actors", ()),
    ("groups_listing_index", "groups", ()),
    ("memberships_group_id_listing_index", "memberships", ("group_id",)),
    ("sites_listing_index", "sites", ()),
    ("resources_listing_index", "resources", ()),
    ("policies_listing_index", "policies", ()),
    ("client_tokens_actor_id_listing_index", "client_tokens", ("actor_id",)),
    ("devices_type_listing_index", "devices", ("type",)),
    ("static_device_pool_members_resource_id_listing_index", "static_device_pool_members", ("resource_id",)),
)
_REPLACED_BY_LISTINGS = (
    ("memberships_account_id_group_id_index", "memberships", "group_id"),
    ("client_tokens_account_id_actor_id_index", "client_tokens", "actor_id"),
)
_EXPIRIES = ("api_tokens", "portal_sessions")
_LOCATED = (("api_tokens", "last_seen_remote_ip"), ("portal_sessions", "remote_ip"))
_HOLDERS = ("client_tokens", "portal_sessions")
_DETAILS = ("email_otp", "userpass", "google", "entra", "okta", "oidc")


def upgrade() -> None:
    _create_providers()
    _create_identities()
    _create_installation_tables()
    op.add_column("actors", sa.Column("password_hash", sa.String(length=255), nullable=True))
    for table, prefix in _LOCATED:
        for column in _location(prefix):
            op.add_column(table, column)
    for table in _EXPIRIES:
        op.create_index(f"{table}_expires_at_index", table, ["expires_at"], unique=False)
    _tie_tokens_and_sessions_to_providers()
    _tie_pool_members_to_clients()
    _check_resources()
    for state, condition in (("active", "rotated_at IS NULL"), ("rotated", "rotated_at IS NOT NULL")):
        op.create_index(
            f"gateway_tokens_account_id_device_id_{state}_index",
            "gateway_tokens",
            ["account_id", "device_id"],
            unique=True,
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
    op.create_index(
        "sites_account_id_system_index",
        "sites",
        ["account_id"],
        unique=True,
        sqlite_where=sa.text("managed_by = 'system'"),
        postgresql_where=sa.text("managed_by = 'system'"),
    )
    for name, table, leading in _LISTINGS:
        op.create_index(name, table, ["account_id", *leading, "inserted_at", "id"], unique=False)
    for name, table, _column in _REPLACED_BY_LISTINGS:
        op.drop_index(name, table)


def downgrade() -> None:
    for name, table, column in _REPLACED_BY_LISTINGS:
        op.create_index(name, table, ["account_id", column], unique=False)
    for name, table, _leading in _LISTINGS:
        op.drop_index(name, table)
    op.drop_index("sites_account_id_system_index", "sites")
    for state in ("active", "rotated"):
        op.drop_index(f"gateway_tokens_account_id_device_id_{state}_index", "gateway_tokens")
    with _altered("resources") as batch:
        for name, _condition in _RESOURCE_CHECKS:
            batch.drop_constraint(name, type_="check")
    with _altered("static_device_pool_members") as batch:
        batch.drop_constraint("static_device_pool_members_device_type_check", type_="check")
        batch.drop_constraint("static_device_pool_members_device_id_fkey", type_="foreignkey")
        batch.create_foreign_key(
            "static_device_pool_members_device_id_fkey",
            "devices",
            ["account_id", "device_id"],
            ["account_id", "id"],
            ondelete="RESTRICT",
        )
        batch.drop_column("device_type")
    op.drop_index("devices_account_id_id_type_index", "devices")
    for name in _HOLDERS:
        op.drop_index(f"{name}_account_id_auth_provider_id_index", name)
        with _altered(name) as batch:
            batch.drop_constraint(f"{name}_auth_provider_id_fkey", type_="foreignkey")
        # The older schema has no providers: nothing may go on naming one.
        op.execute(f"UPDATE {name} SET auth_provider_id = NULL")  # noqa: S608
    for name in _EXPIRIES:
        op.drop_index(f"{name}_expires_at_index", name)
    for name, prefix in _LOCATED:
        for located in _location(prefix):
            op.drop_column(name, located.name)
    op.drop_column("actors", "password_hash")
    for name in (
        "outbound_email_deliveries",
        "outbound_emails",
        "email_suppressions",
        "banners",
        "pending_identities",
        "one_time_passcodes",
        "external_identities",
        *(f"{type_}_auth_providers" for type_ in _DETAILS),
        "auth_providers",
    ):
        op.drop_table(name)


def _create_providers() -> None:
    _create_tenant_table(
        "auth_providers",
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.CheckConstraint(
            "type IN ('google', 'okta', 'entra', 'oidc', 'email_otp', 'userpass')",
            name="auth_providers_type_check",
        ),
    )
    _create_details(
        "email_otp",
        255,
        (),
        sa.CheckConstraint("issuer = 'firezone'", name="email_otp_auth_providers_issuer_check"),
    )
    _create_details(
        "userpass",
        255,
        (),
        sa.CheckConstraint("issuer = 'firezone'", name="userpass_auth_providers_issuer_check"),
    )
    _create_details("google", 2048, (), sa.Column("is_default", sa.Boolean(), nullable=False))
    _create_details(
        "entra",
        2048,
        ("issuer", "name"),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("email_claim", sa.String(length=32), nullable=False),
        sa.CheckConstraint(
            "email_claim IN ('email', 'upn', 'preferred_username')",
            name="entra_auth_providers_email_claim_check",
        ),
    )
    _create_details(
        "okta",
        263,
        ("client_id", "name"),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("okta_domain", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("client_secret", sa.String(length=255), nullable=False),
        sa.CheckConstraint("issuer = 'https://' || okta_domain", name="okta_auth_providers_issuer_check"),
    )
    _create_details(
        "oidc",
        2000,
        ("client_id", "name"),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("client_secret", sa.String(length=255), nullable=False),
        sa.Column("discovery_document_uri", sa.String(length=2000), nullable=False),
        sa.Column("email_verification_method", sa.String(length=16), nullable=False),
        sa.Column("is_legacy", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "email_verification_method IN ('none', 'claim', 'proof')",
            name="oidc_auth_providers_email_verification_method_check",
        ),
    )


def _create_identities() -> None:
    _create_tenant_table(
        "external_identities",
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("issuer", sa.String(length=2048), nullable=False),
        sa.Column("idp_id", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=255), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=True),
        *_profile(),
        sa.Column("firezone_avatar_url", sa.String(length=2048), nullable=True),
        _reference("external_identities", "actor_id", "actors"),
    )
    for column in ("actor_id", "idp_id"):
        op.create_index(
            f"external_identities_account_id_{column}_issuer_index",
            "external_identities",
            ["account_id", column, "issuer"],
            unique=True,
        )
    _create_tenant_table(
        "one_time_passcodes",
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("code_hash", sa.String(length=255), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint("attempts BETWEEN 0 AND 3", name="one_time_passcodes_attempts_check"),
        _reference("one_time_passcodes", "actor_id", "actors"),
    )
    op.create_index(
        "one_time_passcodes_account_id_actor_id_index",
        "one_time_passcodes",
        ["account_id", "actor_id"],
        unique=False,
    )
    op.create_index("one_time_passcodes_expires_at_index", "one_time_passcodes", ["expires_at"], unique=False)
    _create_tenant_table(
        "pending_identities",
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("auth_provider_id", sa.Uuid(), nullable=False),
        sa.Column("one_time_passcode_id", sa.Uuid(), nullable=False),
        sa.Column("issuer", sa.String(length=2048), nullable=False),
        sa.Column("idp_id", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        *_profile(),
        _reference("pending_identities", "actor_id", "actors"),
        _reference("pending_identities", "auth_provider_id", "auth_providers"),
        _reference("pending_identities", "one_time_passcode_id", "one_time_passcodes"),
    )
    for column in ("actor_id", "auth_provider_id", "one_time_passcode_id"):
        op.create_index(
            f"pending_identities_account_id_{column}_index",
            "pending_identities",
            ["account_id", column],
            unique=False,
        )


def _create_installation_tables() -> None:
    op.create_table(
        "banners",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("color", sa.String(length=16), nullable=False),
        *_stamps(),
        sa.CheckConstraint(
            "color IN ('warning', 'info', 'error', 'success', 'announcement')", name="banners_color_check"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "email_suppressions",
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("email"),
    )
    op.create_table(
        "outbound_emails",
        sa.Column("message_id", sa.String(length=255), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.String(length=998), nullable=False),
        sa.Column("recipients", _JSON, nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="outbound_emails_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_index("outbound_emails_account_id_index", "outbound_emails", ["account_id"], unique=False)
    op.create_table(
        "outbound_email_deliveries",
        sa.Column("message_id", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        *_stamps(),
        sa.CheckConstraint(
            "status IN ('pending', 'delivered', 'bounced', 'suppressed', 'quarantined', 'filtered_spam',"
            " 'failed')",
            name="outbound_email_deliveries_status_check",
        ),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["outbound_emails.message_id"],
            name="outbound_email_deliveries_message_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("message_id", "email", name="outbound_email_deliveries_pkey"),
    )


def _tie_tokens_and_sessions_to_providers() -> None:
    for name in _HOLDERS:
        # There was no table of providers: what stands here names nothing.
        op.execute(f"UPDATE {name} SET auth_provider_id = NULL")  # noqa: S608
        with _altered(name) as batch:
            batch.create_foreign_key(
                f"{name}_auth_provider_id_fkey",
                "auth_providers",
                ["account_id", "auth_provider_id"],
                ["account_id", "id"],
                ondelete="RESTRICT",
            )
        op.create_index(
            f"{name}_account_id_auth_provider_id_index",
            name,
            ["account_id", "auth_provider_id"],
            unique=False,
        )


def _tie_pool_members_to_clients() -> None:
    op.create_index("devices_account_id_id_type_index", "devices", ["account_id", "id", "type"], unique=True)
    op.execute(
        "DELETE FROM static_device_pool_members"
        " WHERE device_id IN (SELECT id FROM devices WHERE type <> 'client')"
    )
    with _altered("static_device_pool_members") as batch:
        batch.add_column(
            sa.Column("device_type", sa.String(length=16), nullable=False, server_default="client")
        )
    with _altered("static_device_pool_members") as batch:
        batch.alter_column("device_type", server_default=None)
        batch.create_check_constraint(
            "static_device_pool_members_device_type_check", "device_type IN ('client')"
        )
        batch.drop_constraint("static_device_pool_members_device_id_fkey", type_="foreignkey")
        batch.create_foreign_key(
            "static_device_pool_members_device_id_fkey",
            "devices",
            ["account_id", "device_id", "device_type"],
            ["account_id", "id", "type"],
            ondelete="RESTRICT",
        )


def _check_resources() -> None:
    op.execute(
        "UPDATE resources SET site_id = NULL WHERE type IN ('static_device_pool', 'dynamic_device_pool')"
    )
    with _altered("resources") as batch:
        for name, condition in _RESOURCE_CHECKS:
            batch.create_check_constraint(name, condition)


def _create_details(type_: str, issuer: int, unique: tuple[str, ...], *columns: SchemaItem) -> None:
    name = f"{type_}_auth_providers"
    _create_tenant_table(
        name,
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("issuer", sa.String(length=issuer), nullable=False),
        sa.Column("context", sa.String(length=32), nullable=False),
        sa.Column("portal_session_lifetime_secs", sa.Integer(), nullable=True),
        sa.Column("client_session_lifetime_secs", sa.Integer(), nullable=True),
        sa.Column("is_disabled", sa.Boolean(), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["account_id", "id"],
            ["auth_providers.account_id", "auth_providers.id"],
            name=f"{name}_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.CheckConstraint(
            "context IN ('clients_and_portal', 'clients_only', 'portal_only')", name=f"{name}_context_check"
        ),
        sa.CheckConstraint(
            "portal_session_lifetime_secs BETWEEN 300 AND 86400", name=f"{name}_portal_lifetime_check"
        ),
        sa.CheckConstraint(
            "client_session_lifetime_secs BETWEEN 3600 AND 7776000", name=f"{name}_client_lifetime_check"
        ),
    )
    if unique:
        for column in unique:
            op.create_index(f"{name}_account_id_{column}_index", name, ["account_id", column], unique=True)
    else:
        op.create_index(f"{name}_account_id_index", name, ["account_id"], unique=True)


def _create_tenant_table(name: str, *columns: SchemaItem) -> None:
    op.create_table(
        name,
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        *columns,
        *_stamps(),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=f"{name}_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name=f"{name}_pkey"),
    )


def _reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id", column],
        [f"{target}.account_id", f"{target}.id"],
        name=f"{table}_{column}_fkey",
        ondelete="RESTRICT",
    )


def _profile() -> list[sa.Column[str]]:
    names = ("given_name", "family_name", "middle_name", "nickname", "preferred_username")
    return [
        *(sa.Column(name, sa.String(length=255), nullable=True) for name in names),
        sa.Column("profile", sa.String(length=2048), nullable=True),
        sa.Column("picture", sa.String(length=2048), nullable=True),
    ]


def _location(prefix: str) -> list[sa.Column[str] | sa.Column[float]]:
    return [
        sa.Column(f"{prefix}_location_region", sa.String(length=255), nullable=True),
        sa.Column(f"{prefix}_location_city", sa.String(length=255), nullable=True),
        sa.Column(f"{prefix}_location_lat", sa.Float(), nullable=True),
        sa.Column(f"{prefix}_location_lon", sa.Float(), nullable=True),
    ]


def _stamps() -> list[sa.Column[object]]:
    return [
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    ]


def _altered(name: str) -> AbstractContextManager[BatchOperations]:
    """Change a table in place, or make it anew where there is no other way; what it names is left unread."""
    return op.batch_alter_table(name, reflect_kwargs={"resolve_fks": False})
