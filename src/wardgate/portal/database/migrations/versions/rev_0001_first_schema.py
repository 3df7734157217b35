"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("legal_name", sa.String(length=255), nullable=False),
        sa.Column("slug", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=6), nullable=False),
        sa.Column("ingest_signing_key", sa.LargeBinary(), nullable=False),
        sa.Column("features", _JSON, nullable=False),
        sa.Column("limits", _JSON, nullable=False),
        sa.Column("config", _JSON, nullable=False),
        sa.Column("is_disabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("scheduled_deletion_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lock_enabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("accounts_key_index", "accounts", ["key"], unique=True)
    op.create_table(
        "change_counters",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id"),
    )
    op.create_table(
        "changes",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("log_id", sa.String(length=24), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=16), nullable=False),
        sa.Column("audience", sa.String(length=16), nullable=False),
        sa.Column("before", _JSON, nullable=True),
        sa.Column("after", _JSON, nullable=True),
        sa.Column("subject", _JSON, nullable=True),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("audience IN ('audit', 'internal')", name="changes_audience_check"),
        sa.CheckConstraint("operation IN ('insert', 'update', 'delete')", name="changes_operation_check"),
        sa.PrimaryKeyConstraint("account_id", "sequence", name="changes_pkey"),
    )
    op.create_index("changes_account_id_log_id_index", "changes", ["account_id", "log_id"], unique=True)
    op.create_index("changes_committed_at_index", "changes", ["committed_at"], unique=False)
    op.create_table(
        "decisions",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("log_id", sa.String(length=24), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("actor_name", sa.String(length=255), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("resource_name", sa.String(length=255), nullable=True),
        sa.Column("policy_id", sa.Uuid(), nullable=True),
        sa.Column("gateway_id", sa.Uuid(), nullable=True),
        sa.Column("authorization_id", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("explanation", _JSON, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("outcome IN ('granted', 'denied')", name="decisions_outcome_check"),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("decisions_account_id_seq_index", "decisions", ["account_id", "seq"], unique=False)
    op.create_index("decisions_decided_at_index", "decisions", ["decided_at"], unique=False)
    op.create_table(
        "api_request_logs",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("log_id", sa.String(length=24), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=2048), nullable=False),
        sa.Column("content_length", sa.BigInteger(), nullable=True),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("user_agent", sa.String(length=255), nullable=False),
        sa.Column("ip", sa.String(length=45), nullable=False),
        sa.Column("ip_region", sa.String(length=255), nullable=True),
        sa.Column("ip_city", sa.String(length=255), nullable=True),
        sa.Column("ip_lat", sa.Float(), nullable=True),
        sa.Column("ip_lon", sa.Float(), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index(
        "api_request_logs_account_id_seq_index", "api_request_logs", ["account_id", "seq"], unique=False
    )
    op.create_index("api_request_logs_inserted_at_index", "api_request_logs", ["inserted_at"], unique=False)
    op.create_table(
        "operator_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("secret_salt", sa.String(length=22), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "relay_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("secret_salt", sa.String(length=22), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "actors",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=160), nullable=True),
        sa.Column("allow_email_otp_sign_in", sa.Boolean(), nullable=False),
        sa.Column("preferences", _JSON, nullable=False),
        sa.Column("is_disabled", sa.Boolean(), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(type IN ('account_user', 'account_admin_user')) = (email IS NOT NULL)",
            name="actors_email_matches_type_check",
        ),
        sa.CheckConstraint(
            "type IN ('account_user', 'account_admin_user', 'service_account', 'api_client')",
            name="actors_type_check",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="actors_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="actors_pkey"),
    )
    op.create_table(
        "groups",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("entity_type", sa.String(length=16), nullable=False),
        sa.Column("idp_id", sa.String(length=255), nullable=True),
        sa.Column("email", sa.String(length=255), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("entity_type IN ('group', 'org_unit')", name="groups_entity_type_check"),
        sa.CheckConstraint("type IN ('static', 'managed')", name="groups_type_check"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="groups_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="groups_pkey"),
    )
    op.create_index("groups_account_id_idp_id_index", "groups", ["account_id", "idp_id"], unique=True)
    op.create_index(
        "groups_account_id_name_index",
        "groups",
        ["account_id", "name"],
        unique=True,
        sqlite_where=sa.text("idp_id IS NULL"),
        postgresql_where=sa.text("idp_id IS NULL"),
    )
    op.create_table(
        "sites",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("managed_by", sa.String(length=16), nullable=False),
        sa.Column("health_threshold", sa.Integer(), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("managed_by IN ('account', 'system')", name="sites_managed_by_check"),
        sa.CheckConstraint("health_threshold >= 1", name="sites_health_threshold_check"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="sites_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="sites_pkey"),
    )
    op.create_index(
        "sites_account_id_name_managed_by_index", "sites", ["account_id", "name", "managed_by"], unique=True
    )
    op.create_table(
        "api_tokens",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("secret_salt", sa.String(length=22), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_user_agent", sa.String(length=2000), nullable=True),
        sa.Column("last_seen_remote_ip", sa.String(length=45), nullable=True),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "actor_id"],
            ["actors.account_id", "actors.id"],
            name="api_tokens_actor_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="api_tokens_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="api_tokens_pkey"),
    )
    op.create_index(
        "api_tokens_account_id_actor_id_index", "api_tokens", ["account_id", "actor_id"], unique=False
    )
    op.create_table(
        "client_tokens",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("auth_provider_id", sa.Uuid(), nullable=True),
        sa.Column("secret_salt", sa.String(length=22), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "actor_id"],
            ["actors.account_id", "actors.id"],
            name="client_tokens_actor_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="client_tokens_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="client_tokens_pkey"),
    )
    op.create_index(
        "client_tokens_account_id_actor_id_index", "client_tokens", ["account_id", "actor_id"], unique=False
    )
    op.create_index("client_tokens_expires_at_index", "client_tokens", ["expires_at"], unique=False)
    op.create_table(
        "memberships",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "actor_id"],
            ["actors.account_id", "actors.id"],
            name="memberships_actor_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "group_id"],
            ["groups.account_id", "groups.id"],
            name="memberships_group_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="memberships_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="memberships_pkey"),
    )
    op.create_index(
        "memberships_account_id_actor_id_group_id_index",
        "memberships",
        ["account_id", "actor_id", "group_id"],
        unique=True,
    )
    op.create_index(
        "memberships_account_id_group_id_index", "memberships", ["account_id", "group_id"], unique=False
    )
    op.create_table(
        "portal_sessions",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("auth_provider_id", sa.Uuid(), nullable=True),
        sa.Column("user_agent", sa.String(length=2000), nullable=False),
        sa.Column("remote_ip", sa.String(length=45), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "actor_id"],
            ["actors.account_id", "actors.id"],
            name="portal_sessions_actor_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="portal_sessions_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="portal_sessions_pkey"),
    )
    op.create_index(
        "portal_sessions_account_id_actor_id_index",
        "portal_sessions",
        ["account_id", "actor_id"],
        unique=False,
    )
    op.create_table(
        "resources",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=True),
        sa.Column("address_description", sa.String(length=255), nullable=True),
        sa.Column("ip_stack", sa.String(length=16), nullable=True),
        sa.Column("filters", _JSON, nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(type = 'dns') = (ip_stack IS NOT NULL)", name="resources_ip_stack_matches_type_check"
        ),
        sa.CheckConstraint(
            "(type IN ('internet', 'static_device_pool')) = (address IS NULL)",
            name="resources_address_matches_type_check",
        ),
        sa.CheckConstraint(
            "type IN ('dns', 'cidr', 'ip', 'internet', 'static_device_pool', 'dynamic_device_pool')",
            name="resources_type_check",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "site_id"],
            ["sites.account_id", "sites.id"],
            name="resources_site_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="resources_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="resources_pkey"),
    )
    op.create_index(
        "resources_account_id_internet_index",
        "resources",
        ["account_id"],
        unique=True,
        sqlite_where=sa.text("type = 'internet'"),
        postgresql_where=sa.text("type = 'internet'"),
    )
    op.create_index(
        "resources_account_id_site_id_index", "resources", ["account_id", "site_id"], unique=False
    )
    op.create_table(
        "sign_in_links",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "actor_id"],
            ["actors.account_id", "actors.id"],
            name="sign_in_links_actor_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="sign_in_links_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="sign_in_links_pkey"),
    )
    op.create_index(
        "sign_in_links_account_id_actor_id_index", "sign_in_links", ["account_id", "actor_id"], unique=False
    )
    op.create_table(
        "devices",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("firezone_id", sa.String(length=255), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("site_id", sa.Uuid(), nullable=True),
        sa.Column("psk_base", sa.LargeBinary(), nullable=False),
        sa.Column("ipv4", sa.String(length=15), nullable=False),
        sa.Column("ipv6", sa.String(length=45), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=True),
        sa.Column("device_serial", sa.String(length=255), nullable=True),
        sa.Column("device_uuid", sa.String(length=255), nullable=True),
        sa.Column("identifier_for_vendor", sa.String(length=255), nullable=True),
        sa.Column("firebase_installation_id", sa.String(length=255), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("public_key", sa.String(length=44), nullable=True),
        sa.Column("last_seen_user_agent", sa.String(length=255), nullable=True),
        sa.Column("last_seen_remote_ip", sa.String(length=45), nullable=True),
        sa.Column("last_seen_remote_ip_location_region", sa.String(length=255), nullable=True),
        sa.Column("last_seen_remote_ip_location_city", sa.String(length=255), nullable=True),
        sa.Column("last_seen_remote_ip_location_lat", sa.Float(), nullable=True),
        sa.Column("last_seen_remote_ip_location_lon", sa.Float(), nullable=True),
        sa.Column("last_seen_version", sa.String(length=255), nullable=True),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("client_token_id", sa.Uuid(), nullable=True),
        sa.Column("gateway_token_id", sa.Uuid(), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(type = 'client') = (actor_id IS NOT NULL)", name="devices_actor_matches_type_check"
        ),
        sa.CheckConstraint(
            "(type = 'gateway') = (site_id IS NOT NULL)", name="devices_site_matches_type_check"
        ),
        sa.CheckConstraint("type = 'client' OR verified_at IS NULL", name="devices_verified_at_check"),
        sa.CheckConstraint("type IN ('client', 'gateway')", name="devices_type_check"),
        sa.ForeignKeyConstraint(
            ["account_id", "actor_id"],
            ["actors.account_id", "actors.id"],
            name="devices_actor_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "client_token_id"],
            ["client_tokens.account_id", "client_tokens.id"],
            name="devices_client_token_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "site_id"],
            ["sites.account_id", "sites.id"],
            name="devices_site_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="devices_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="devices_pkey"),
    )
    op.create_index(
        "devices_account_id_actor_id_firezone_id_index",
        "devices",
        ["account_id", "actor_id", "firezone_id"],
        unique=True,
    )
    op.create_index(
        "devices_account_id_client_token_id_index", "devices", ["account_id", "client_token_id"], unique=False
    )
    op.create_index(
        "devices_account_id_gateway_token_id_index",
        "devices",
        ["account_id", "gateway_token_id"],
        unique=False,
    )
    op.create_index("devices_account_id_ipv4_index", "devices", ["account_id", "ipv4"], unique=True)
    op.create_index("devices_account_id_ipv6_index", "devices", ["account_id", "ipv6"], unique=True)
    op.create_index(
        "devices_account_id_site_id_firezone_id_index",
        "devices",
        ["account_id", "site_id", "firezone_id"],
        unique=True,
    )
    op.create_table(
        "policies",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=True),
        sa.Column("group_idp_id", sa.String(length=255), nullable=True),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("description", sa.String(length=1024), nullable=True),
        sa.Column("conditions", _JSON, nullable=False),
        sa.Column("flow_log_uploads_enabled", sa.Boolean(), nullable=False),
        sa.Column("is_disabled", sa.Boolean(), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "group_id"],
            ["groups.account_id", "groups.id"],
            name="policies_group_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "resource_id"],
            ["resources.account_id", "resources.id"],
            name="policies_resource_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="policies_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="policies_pkey"),
    )
    op.create_index(
        "policies_account_id_group_id_index", "policies", ["account_id", "group_id"], unique=False
    )
    op.create_index(
        "policies_account_id_resource_id_group_id_index",
        "policies",
        ["account_id", "resource_id", "group_id"],
        unique=True,
    )
    op.create_table(
        "gateway_tokens",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=True),
        sa.Column("device_id", sa.Uuid(), nullable=True),
        sa.Column("secret_salt", sa.String(length=22), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(site_id IS NULL) <> (device_id IS NULL)", name="gateway_tokens_owner_check"),
        sa.ForeignKeyConstraint(
            ["account_id", "device_id"],
            ["devices.account_id", "devices.id"],
            name="gateway_tokens_device_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "site_id"],
            ["sites.account_id", "sites.id"],
            name="gateway_tokens_site_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="gateway_tokens_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="gateway_tokens_pkey"),
    )
    op.create_index(
        "gateway_tokens_account_id_device_id_index",
        "gateway_tokens",
        ["account_id", "device_id"],
        unique=False,
    )
    op.create_index(
        "gateway_tokens_account_id_site_id_index", "gateway_tokens", ["account_id", "site_id"], unique=False
    )
    op.create_table(
        "policy_authorizations",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("policy_id", sa.Uuid(), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("initiating_device_id", sa.Uuid(), nullable=False),
        sa.Column("receiving_device_id", sa.Uuid(), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=False),
        sa.Column("membership_id", sa.Uuid(), nullable=True),
        sa.Column("initiator_remote_ip", sa.String(length=45), nullable=False),
        sa.Column("initiator_user_agent", sa.String(length=255), nullable=False),
        sa.Column("receiver_remote_ip", sa.String(length=45), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "initiating_device_id"],
            ["devices.account_id", "devices.id"],
            name="policy_authorizations_initiating_device_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "membership_id"],
            ["memberships.account_id", "memberships.id"],
            name="policy_authorizations_membership_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "policy_id"],
            ["policies.account_id", "policies.id"],
            name="policy_authorizations_policy_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "receiving_device_id"],
            ["devices.account_id", "devices.id"],
            name="policy_authorizations_receiving_device_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "resource_id"],
            ["resources.account_id", "resources.id"],
            name="policy_authorizations_resource_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "token_id"],
            ["client_tokens.account_id", "client_tokens.id"],
            name="policy_authorizations_token_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="policy_authorizations_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="policy_authorizations_pkey"),
    )
    op.create_index(
        "policy_authorizations_account_id_initiating_device_id_index",
        "policy_authorizations",
        ["account_id", "initiating_device_id"],
        unique=False,
    )
    op.create_index(
        "policy_authorizations_account_id_membership_id_index",
        "policy_authorizations",
        ["account_id", "membership_id"],
        unique=False,
    )
    op.create_index(
        "policy_authorizations_account_id_policy_id_index",
        "policy_authorizations",
        ["account_id", "policy_id"],
        unique=False,
    )
    op.create_index(
        "policy_authorizations_account_id_resource_id_index",
        "policy_authorizations",
        ["account_id", "resource_id"],
        unique=False,
    )
    op.create_index(
        "policy_authorizations_account_id_token_id_index",
        "policy_authorizations",
        ["account_id", "token_id"],
        unique=False,
    )
    op.create_index(
        "policy_authorizations_expires_at_index", "policy_authorizations", ["expires_at"], unique=False
    )
    op.create_index(
        "policy_authorizations_receiver_expiry_index",
        "policy_authorizations",
        ["account_id", "receiving_device_id", "expires_at"],
        unique=False,
    )
    op.create_index("accounts_slug_index", "accounts", [sa.text("lower(slug)")], unique=True)
    op.create_index(
        "actors_account_id_email_index", "actors", ["account_id", sa.text("lower(email)")], unique=True
    )
    op.create_index(
        "devices_account_id_hostname_index",
        "devices",
        ["account_id", sa.text("lower(hostname)")],
        unique=True,
    )

    op.create_table(
        "session_logs",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("log_id", sa.String(length=24), nullable=False),
        sa.Column("context", sa.String(length=16), nullable=False),
        sa.Column("subject", _JSON, nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("context IN ('client', 'gateway', 'portal')", name="session_logs_context_check"),
        sa.PrimaryKeyConstraint("account_id", "log_id", name="session_logs_pkey"),
    )
    op.create_index(
        "session_logs_account_id_timestamp_index", "session_logs", ["account_id", "timestamp"], unique=False
    )
    op.create_index("session_logs_timestamp_index", "session_logs", ["timestamp"], unique=False)
    op.create_table(
        "flow_logs",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("log_id", sa.String(length=24), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("initiator_device_id", sa.Uuid(), nullable=False),
        sa.Column("responder_device_id", sa.Uuid(), nullable=False),
        sa.Column("policy_authorization_id", sa.Uuid(), nullable=False),
        sa.Column("policy_id", sa.Uuid(), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("resource_name", sa.String(length=255), nullable=False),
        sa.Column("resource_address", sa.String(length=255), nullable=True),
        sa.Column("initiator_actor_id", sa.Uuid(), nullable=False),
        sa.Column("initiator_actor_name", sa.String(length=255), nullable=False),
        sa.Column("initiator_actor_email", sa.String(length=255), nullable=True),
        sa.Column("initiator_auth_provider_id", sa.Uuid(), nullable=True),
        sa.Column("authorized_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("authorization_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("initiator_client_version", sa.String(length=255), nullable=True),
        sa.Column("initiator_device_os_name", sa.String(length=255), nullable=True),
        sa.Column("initiator_device_os_version", sa.String(length=255), nullable=True),
        sa.Column("initiator_device_serial", sa.String(length=255), nullable=True),
        sa.Column("initiator_device_uuid", sa.String(length=255), nullable=True),
        sa.Column("initiator_device_identifier_for_vendor", sa.String(length=255), nullable=True),
        sa.Column("initiator_device_firebase_installation_id", sa.String(length=255), nullable=True),
        sa.Column("protocol", sa.String(length=8), nullable=False),
        sa.Column("inner_src_ip", sa.String(length=45), nullable=False),
        sa.Column("inner_src_port", sa.Integer(), nullable=False),
        sa.Column("inner_dst_ip", sa.String(length=45), nullable=False),
        sa.Column("inner_dst_port", sa.Integer(), nullable=False),
        sa.Column("inner_domain", sa.String(length=255), nullable=True),
        sa.Column("outers", _JSON, nullable=True),
        sa.Column("flow_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("flow_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_packet", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rx_packets", sa.BigInteger(), nullable=True),
        sa.Column("tx_packets", sa.BigInteger(), nullable=True),
        sa.Column("rx_bytes", sa.BigInteger(), nullable=True),
        sa.Column("tx_bytes", sa.BigInteger(), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("protocol IN ('tcp', 'udp')", name="flow_logs_protocol_check"),
        sa.CheckConstraint("role IN ('initiator', 'responder')", name="flow_logs_role_check"),
        sa.PrimaryKeyConstraint("account_id", "log_id", name="flow_logs_pkey"),
    )
    op.create_index(
        "flow_logs_account_id_flow_start_index", "flow_logs", ["account_id", "flow_start"], unique=False
    )
    op.create_index("flow_logs_flow_start_index", "flow_logs", ["flow_start"], unique=False)
    op.create_index(
        "flow_logs_key_index",
        "flow_logs",
        [
            "account_id",
            "initiator_device_id",
            "role",
            "flow_start",
            "protocol",
            "inner_src_ip",
            "inner_src_port",
            "inner_dst_ip",
            "inner_dst_port",
            "resource_id",
        ],
        unique=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "token_id", "key_hash", name="idempotency_keys_pkey"),
    )
    op.create_index("idempotency_keys_inserted_at_index", "idempotency_keys", ["inserted_at"], unique=False)


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    op.drop_table("flow_logs")
    op.drop_table("session_logs")
    op.drop_table("policy_authorizations")
    op.drop_table("gateway_tokens")
    op.drop_table("policies")
    op.drop_table("devices")
    op.drop_table("sign_in_links")
    op.drop_table("resources")
    op.drop_table("portal_sessions")
    op.drop_table("memberships")
    op.drop_table("client_tokens")
    op.drop_table("api_tokens")
    op.drop_table("sites")
    op.drop_table("groups")
    op.drop_table("actors")
    op.drop_table("relay_tokens")
    op.drop_table("operator_tokens")
    op.drop_table("api_request_logs")
    op.drop_table("decisions")
    op.drop_table("changes")
    op.drop_table("change_counters")
    op.drop_table("accounts")
