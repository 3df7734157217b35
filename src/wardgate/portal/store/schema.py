"""Tables of the store (portal-domain §3), in SQL that SQLite and PostgreSQL both run.

Tenant tables have the composite key (account_id, id), and foreign keys inside a tenant are composite too, so that no row
can reference another tenant's. Foreign keys are RESTRICT: `deletion.py` removes dependants itself, so that each is known to
the transaction. There are no triggers and no defaults for time or randomness. `devices.gateway_token_id` has no foreign key:
it would close a circle with `gateway_tokens.device_id`, and the deletion map clears it all the same.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from wardgate.portal.store.column_types import UtcDateTime, Uuid

metadata = MetaData()


_Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_Sequence = BigInteger().with_variant(Integer(), "sqlite")


def _table(name: str, *columns: Any) -> Table:
    return Table(
        name,
        metadata,
        Column("id", Uuid(), primary_key=True),
        *columns,
        Column("inserted_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
    )


def _tenant_table(name: str, *columns: Any) -> Table:
    return Table(
        name,
        metadata,
        Column("account_id", Uuid(), nullable=False),
        Column("id", Uuid(), nullable=False),
        *columns,
        Column("inserted_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
        PrimaryKeyConstraint("account_id", "id", name=f"{name}_pkey"),
        ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=f"{name}_account_id_fkey", ondelete="RESTRICT"
        ),
    )


def _reference(table: str, column: str, target: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["account_id", column],
        [f"{target}.account_id", f"{target}.id"],
        name=f"{table}_{column}_fkey",
        ondelete="RESTRICT",
    )


def _one_of(table: str, column: str, *words: str) -> CheckConstraint:
    return CheckConstraint(
        f"{column} IN ({', '.join(repr(word) for word in words)})", name=f"{table}_{column}_check"
    )


accounts = _table(
    "accounts",
    Column("name", String(64), nullable=False),
    Column("legal_name", String(255), nullable=False),
    Column("slug", String(100), nullable=False),
    Column("key", String(6), nullable=False),
    Column("ingest_signing_key", LargeBinary(), nullable=False),
    Column("features", _Json, nullable=False),
    Column("limits", _Json, nullable=False),
    Column("config", _Json, nullable=False),
    Column("is_disabled", Boolean(), nullable=False),
    Column("disabled_reason", Text()),
    Column("scheduled_deletion_at", UtcDateTime()),
    Column("lock_enabled_at", UtcDateTime()),
)
Index("accounts_slug_index", func.lower(accounts.c.slug), unique=True)
Index("accounts_key_index", accounts.c.key, unique=True)

actors = _tenant_table(
    "actors",
    Column("type", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("email", String(160)),
    Column("allow_email_otp_sign_in", Boolean(), nullable=False),
    Column("preferences", _Json, nullable=False),
    Column("is_disabled", Boolean(), nullable=False),
    _one_of("actors", "type", "account_user", "account_admin_user", "service_account", "api_client"),
    CheckConstraint(
        "(type IN ('account_user', 'account_admin_user')) = (email IS NOT NULL)",
        name="actors_email_matches_type_check",
    ),
)
Index("actors_account_id_email_index", actors.c.account_id, func.lower(actors.c.email), unique=True)

groups = _tenant_table(
    "groups",
    Column("name", String(255), nullable=False),
    Column("type", String(16), nullable=False),
    Column("entity_type", String(16), nullable=False),
    Column("idp_id", String(255)),
    Column("email", String(255)),
    _one_of("groups", "type", "static", "managed"),
    _one_of("groups", "entity_type", "group", "org_unit"),
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

memberships = _tenant_table(
    "memberships",
    Column("actor_id", Uuid(), nullable=False),
    Column("group_id", Uuid(), nullable=False),
    _reference("memberships", "actor_id", "actors"),
    _reference("memberships", "group_id", "groups"),
)
Index(
    "memberships_account_id_actor_id_group_id_index",
    memberships.c.account_id,
    memberships.c.actor_id,
    memberships.c.group_id,
    unique=True,
)
Index("memberships_account_id_group_id_index", memberships.c.account_id, memberships.c.group_id)

sites = _tenant_table(
    "sites",
    Column("name", String(64), nullable=False),
    Column("managed_by", String(16), nullable=False),
    Column("health_threshold", Integer(), nullable=False),
    _one_of("sites", "managed_by", "account", "system"),
    CheckConstraint("health_threshold >= 1", name="sites_health_threshold_check"),
)
Index(
    "sites_account_id_name_managed_by_index",
    sites.c.account_id,
    sites.c.name,
    sites.c.managed_by,
    unique=True,
)

resources = _tenant_table(
    "resources",
    Column("type", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("address", String(255)),
    Column("address_description", String(255)),
    Column("ip_stack", String(16)),
    Column("filters", _Json, nullable=False),
    Column("site_id", Uuid()),
    _reference("resources", "site_id", "sites"),
    _one_of(
        "resources", "type", "dns", "cidr", "ip", "internet", "static_device_pool", "dynamic_device_pool"
    ),
    CheckConstraint(
        "(type IN ('internet', 'static_device_pool')) = (address IS NULL)",
        name="resources_address_matches_type_check",
    ),
    CheckConstraint("(type = 'dns') = (ip_stack IS NOT NULL)", name="resources_ip_stack_matches_type_check"),
)
Index("resources_account_id_site_id_index", resources.c.account_id, resources.c.site_id)
Index(
    "resources_account_id_internet_index",
    resources.c.account_id,
    unique=True,
    sqlite_where=resources.c.type == "internet",
    postgresql_where=resources.c.type == "internet",
)

policies = _tenant_table(
    "policies",
    Column("group_id", Uuid()),
    Column("group_idp_id", String(255)),
    Column("resource_id", Uuid(), nullable=False),
    Column("description", String(1024)),
    Column("conditions", _Json, nullable=False),
    Column("flow_log_uploads_enabled", Boolean(), nullable=False),
    Column("is_disabled", Boolean(), nullable=False),
    _reference("policies", "group_id", "groups"),
    _reference("policies", "resource_id", "resources"),
)
Index(
    "policies_account_id_resource_id_group_id_index",
    policies.c.account_id,
    policies.c.resource_id,
    policies.c.group_id,
    unique=True,
)
Index("policies_account_id_group_id_index", policies.c.account_id, policies.c.group_id)


def _secret() -> tuple[Column[Any], Column[Any]]:
    return Column("secret_salt", String(22), nullable=False), Column(
        "secret_hash", String(64), nullable=False
    )


client_tokens = _tenant_table(
    "client_tokens",
    Column("actor_id", Uuid(), nullable=False),
    Column("auth_provider_id", Uuid()),
    *_secret(),
    Column("expires_at", UtcDateTime(), nullable=False),
    _reference("client_tokens", "actor_id", "actors"),
)
Index("client_tokens_account_id_actor_id_index", client_tokens.c.account_id, client_tokens.c.actor_id)
Index("client_tokens_expires_at_index", client_tokens.c.expires_at)

gateway_tokens = _tenant_table(
    "gateway_tokens",
    Column("site_id", Uuid()),
    Column("device_id", Uuid()),
    *_secret(),
    Column("rotated_at", UtcDateTime()),
    _reference("gateway_tokens", "site_id", "sites"),
    _reference("gateway_tokens", "device_id", "devices"),
    CheckConstraint("(site_id IS NULL) <> (device_id IS NULL)", name="gateway_tokens_owner_check"),
)
Index("gateway_tokens_account_id_site_id_index", gateway_tokens.c.account_id, gateway_tokens.c.site_id)
Index("gateway_tokens_account_id_device_id_index", gateway_tokens.c.account_id, gateway_tokens.c.device_id)

api_tokens = _tenant_table(
    "api_tokens",
    Column("actor_id", Uuid(), nullable=False),
    Column("name", String(255), nullable=False),
    *_secret(),
    Column("expires_at", UtcDateTime(), nullable=False),
    Column("last_seen_user_agent", String(2000)),
    Column("last_seen_remote_ip", String(45)),
    Column("last_seen_at", UtcDateTime()),
    _reference("api_tokens", "actor_id", "actors"),
)
Index("api_tokens_account_id_actor_id_index", api_tokens.c.account_id, api_tokens.c.actor_id)

relay_tokens = _table("relay_tokens", Column("name", String(255), nullable=False), *_secret())
operator_tokens = _table("operator_tokens", Column("name", String(255), nullable=False), *_secret())

devices = _tenant_table(
    "devices",
    Column("type", String(16), nullable=False),
    Column("name", String(255), nullable=False),
    Column("firezone_id", String(255)),
    Column("actor_id", Uuid()),
    Column("site_id", Uuid()),
    Column("psk_base", LargeBinary(), nullable=False),
    Column("ipv4", String(15), nullable=False),
    Column("ipv6", String(45), nullable=False),
    Column("hostname", String(255)),
    Column("device_serial", String(255)),
    Column("device_uuid", String(255)),
    Column("identifier_for_vendor", String(255)),
    Column("firebase_installation_id", String(255)),
    Column("verified_at", UtcDateTime()),
    Column("public_key", String(44)),
    Column("last_seen_user_agent", String(255)),
    Column("last_seen_remote_ip", String(45)),
    Column("last_seen_remote_ip_location_region", String(255)),
    Column("last_seen_remote_ip_location_city", String(255)),
    Column("last_seen_remote_ip_location_lat", Float()),
    Column("last_seen_remote_ip_location_lon", Float()),
    Column("last_seen_version", String(255)),
    Column("last_seen_at", UtcDateTime()),
    Column("client_token_id", Uuid()),
    Column("gateway_token_id", Uuid()),
    _reference("devices", "actor_id", "actors"),
    _reference("devices", "site_id", "sites"),
    _reference("devices", "client_token_id", "client_tokens"),
    _one_of("devices", "type", "client", "gateway"),
    CheckConstraint("(type = 'client') = (actor_id IS NOT NULL)", name="devices_actor_matches_type_check"),
    CheckConstraint("(type = 'gateway') = (site_id IS NOT NULL)", name="devices_site_matches_type_check"),
    CheckConstraint("type = 'client' OR verified_at IS NULL", name="devices_verified_at_check"),
)
Index("devices_account_id_ipv4_index", devices.c.account_id, devices.c.ipv4, unique=True)
Index("devices_account_id_ipv6_index", devices.c.account_id, devices.c.ipv6, unique=True)
Index("devices_account_id_hostname_index", devices.c.account_id, func.lower(devices.c.hostname), unique=True)
Index(
    "devices_account_id_actor_id_firezone_id_index",
    devices.c.account_id,
    devices.c.actor_id,
    devices.c.firezone_id,
    unique=True,
)
Index(
    "devices_account_id_site_id_firezone_id_index",
    devices.c.account_id,
    devices.c.site_id,
    devices.c.firezone_id,
    unique=True,
)
Index("devices_account_id_client_token_id_index", devices.c.account_id, devices.c.client_token_id)
Index("devices_account_id_gateway_token_id_index", devices.c.account_id, devices.c.gateway_token_id)

policy_authorizations = _tenant_table(
    "policy_authorizations",
    Column("policy_id", Uuid(), nullable=False),
    Column("resource_id", Uuid(), nullable=False),
    Column("initiating_device_id", Uuid(), nullable=False),
    Column("receiving_device_id", Uuid(), nullable=False),
    Column("token_id", Uuid(), nullable=False),
    Column("membership_id", Uuid()),
    Column("initiator_remote_ip", String(45), nullable=False),
    Column("initiator_user_agent", String(255), nullable=False),
    Column("receiver_remote_ip", String(45)),
    Column("expires_at", UtcDateTime(), nullable=False),
    _reference("policy_authorizations", "policy_id", "policies"),
    _reference("policy_authorizations", "resource_id", "resources"),
    _reference("policy_authorizations", "initiating_device_id", "devices"),
    _reference("policy_authorizations", "receiving_device_id", "devices"),
    _reference("policy_authorizations", "token_id", "client_tokens"),
    _reference("policy_authorizations", "membership_id", "memberships"),
)
for _name in ("policy_id", "resource_id", "initiating_device_id", "token_id", "membership_id"):
    Index(
        f"policy_authorizations_account_id_{_name}_index",
        policy_authorizations.c.account_id,
        policy_authorizations.c[_name],
    )
Index(
    "policy_authorizations_receiver_expiry_index",
    policy_authorizations.c.account_id,
    policy_authorizations.c.receiving_device_id,
    policy_authorizations.c.expires_at,
)
Index("policy_authorizations_expires_at_index", policy_authorizations.c.expires_at)

portal_sessions = _tenant_table(
    "portal_sessions",
    Column("actor_id", Uuid(), nullable=False),
    Column("auth_provider_id", Uuid()),
    Column("user_agent", String(2000), nullable=False),
    Column("remote_ip", String(45), nullable=False),
    Column("expires_at", UtcDateTime(), nullable=False),
    _reference("portal_sessions", "actor_id", "actors"),
)
Index("portal_sessions_account_id_actor_id_index", portal_sessions.c.account_id, portal_sessions.c.actor_id)

sign_in_links = _tenant_table(
    "sign_in_links",
    Column("actor_id", Uuid(), nullable=False),
    Column("secret_hash", String(64), nullable=False),
    Column("expires_at", UtcDateTime(), nullable=False),
    _reference("sign_in_links", "actor_id", "actors"),
)
Index("sign_in_links_account_id_actor_id_index", sign_in_links.c.account_id, sign_in_links.c.actor_id)

# Logs outlive what they describe: no foreign keys. `account_id` is the nil UUID for what belongs to no account.
changes = Table(
    "changes",
    metadata,
    Column("account_id", Uuid(), nullable=False),
    Column("sequence", BigInteger(), nullable=False),
    Column("log_id", String(24), nullable=False),
    Column("object", String(64), nullable=False),
    Column("operation", String(16), nullable=False),
    Column("audience", String(16), nullable=False),
    Column("before", _Json),
    Column("after", _Json),
    Column("subject", _Json),
    Column("committed_at", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "sequence", name="changes_pkey"),
    _one_of("changes", "operation", "insert", "update", "delete"),
    _one_of("changes", "audience", "audit", "internal"),
)
Index("changes_account_id_log_id_index", changes.c.account_id, changes.c.log_id, unique=True)
Index("changes_committed_at_index", changes.c.committed_at)

change_counters = Table(
    "change_counters",
    metadata,
    Column("account_id", Uuid(), primary_key=True),
    Column("sequence", BigInteger(), nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("account_id", Uuid(), nullable=False),
    Column("log_id", String(24), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", String(64)),
    Column("actor_id", Uuid(), nullable=False),
    Column("actor_name", String(255), nullable=False),
    Column("device_id", Uuid(), nullable=False),
    Column("resource_id", Uuid(), nullable=False),
    Column("resource_name", String(255)),
    Column("policy_id", Uuid()),
    Column("gateway_id", Uuid()),
    Column("authorization_id", Uuid()),
    Column("expires_at", UtcDateTime()),
    Column("explanation", _Json, nullable=False),
    Column("decided_at", UtcDateTime(), nullable=False),
    _one_of("decisions", "outcome", "granted", "denied"),
)
Index("decisions_account_id_seq_index", decisions.c.account_id, decisions.c.seq)
Index("decisions_decided_at_index", decisions.c.decided_at)

api_request_logs = Table(
    "api_request_logs",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("account_id", Uuid(), nullable=False),
    Column("log_id", String(24), nullable=False),
    Column("actor_id", Uuid()),
    Column("token_id", Uuid(), nullable=False),
    Column("method", String(16), nullable=False),
    Column("path", String(2048), nullable=False),
    Column("content_length", BigInteger()),
    Column("request_id", String(255), nullable=False),
    Column("user_agent", String(255), nullable=False),
    Column("ip", String(45), nullable=False),
    Column("ip_region", String(255)),
    Column("ip_city", String(255)),
    Column("ip_lat", Float()),
    Column("ip_lon", Float()),
    Column("inserted_at", UtcDateTime(), nullable=False),
)
Index("api_request_logs_account_id_seq_index", api_request_logs.c.account_id, api_request_logs.c.seq)
Index("api_request_logs_inserted_at_index", api_request_logs.c.inserted_at)

session_logs = Table(
    "session_logs",
    metadata,
    Column("account_id", Uuid(), nullable=False),
    Column("log_id", String(24), nullable=False),
    Column("context", String(16), nullable=False),
    Column("subject", _Json, nullable=False),
    Column("timestamp", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "log_id", name="session_logs_pkey"),
    _one_of("session_logs", "context", "client", "gateway", "portal"),
)
Index("session_logs_account_id_timestamp_index", session_logs.c.account_id, session_logs.c.timestamp)
Index("session_logs_timestamp_index", session_logs.c.timestamp)

FLOW_KEY = (
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
)
"""What makes two reports of a flow the same one (§10.4)."""

flow_logs = Table(
    "flow_logs",
    metadata,
    Column("account_id", Uuid(), nullable=False),
    Column("log_id", String(24), nullable=False),
    Column("role", String(16), nullable=False),
    Column("initiator_device_id", Uuid(), nullable=False),
    Column("responder_device_id", Uuid(), nullable=False),
    Column("policy_authorization_id", Uuid(), nullable=False),
    Column("policy_id", Uuid(), nullable=False),
    Column("resource_id", Uuid(), nullable=False),
    Column("resource_name", String(255), nullable=False),
    Column("resource_address", String(255)),
    Column("initiator_actor_id", Uuid(), nullable=False),
    Column("initiator_actor_name", String(255), nullable=False),
    Column("initiator_actor_email", String(255)),
    Column("initiator_auth_provider_id", Uuid()),
    Column("authorized_at", UtcDateTime(), nullable=False),
    Column("authorization_expires_at", UtcDateTime(), nullable=False),
    Column("initiator_client_version", String(255)),
    Column("initiator_device_os_name", String(255)),
    Column("initiator_device_os_version", String(255)),
    Column("initiator_device_serial", String(255)),
    Column("initiator_device_uuid", String(255)),
    Column("initiator_device_identifier_for_vendor", String(255)),
    Column("initiator_device_firebase_installation_id", String(255)),
    Column("protocol", String(8), nullable=False),
    Column("inner_src_ip", String(45), nullable=False),
    Column("inner_src_port", Integer(), nullable=False),
    Column("inner_dst_ip", String(45), nullable=False),
    Column("inner_dst_port", Integer(), nullable=False),
    Column("inner_domain", String(255)),
    Column("outers", _Json),
    Column("flow_start", UtcDateTime(), nullable=False),
    Column("flow_end", UtcDateTime()),
    Column("last_packet", UtcDateTime()),
    Column("rx_packets", BigInteger()),
    Column("tx_packets", BigInteger()),
    Column("rx_bytes", BigInteger()),
    Column("tx_bytes", BigInteger()),
    Column("inserted_at", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "log_id", name="flow_logs_pkey"),
    _one_of("flow_logs", "role", "initiator", "responder"),
    _one_of("flow_logs", "protocol", "tcp", "udp"),
)
Index("flow_logs_key_index", *(flow_logs.c[name] for name in FLOW_KEY), unique=True)
Index("flow_logs_account_id_flow_start_index", flow_logs.c.account_id, flow_logs.c.flow_start)
Index("flow_logs_flow_start_index", flow_logs.c.flow_start)

# An answer may hold a secret that is shown once: `answer` is encrypted with a key that only the caller can name again.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account_id", Uuid(), nullable=False),
    Column("token_id", Uuid(), nullable=False),
    Column("key_hash", String(64), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("answer", LargeBinary(), nullable=False),
    Column("inserted_at", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "token_id", "key_hash", name="idempotency_keys_pkey"),
)
Index("idempotency_keys_inserted_at_index", idempotency_keys.c.inserted_at)

static_device_pool_members = _tenant_table(
    "static_device_pool_members",
    Column("resource_id", Uuid(), nullable=False),
    Column("device_id", Uuid(), nullable=False),
    _reference("static_device_pool_members", "resource_id", "resources"),
    _reference("static_device_pool_members", "device_id", "devices"),
)
Index(
    "static_device_pool_members_pair_index",
    static_device_pool_members.c.account_id,
    static_device_pool_members.c.resource_id,
    static_device_pool_members.c.device_id,
    unique=True,
)
Index(
    "static_device_pool_members_device_id_index",
    static_device_pool_members.c.account_id,
    static_device_pool_members.c.device_id,
)

# Work to do belongs to the installation; what it is about stands in `arguments`.
jobs = _table(
    "jobs",
    Column("kind", String(64), nullable=False),
    Column("arguments", _Json, nullable=False),
    Column("unique_key", String(255)),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer(), nullable=False),
    Column("max_attempts", Integer(), nullable=False),
    Column("run_at", UtcDateTime(), nullable=False),
    Column("leased_by", Uuid()),
    Column("lease_expires_at", UtcDateTime()),
    Column("last_error", String(1000)),
    Column("finished_at", UtcDateTime()),
    _one_of("jobs", "state", "available", "executing", "completed", "discarded"),
)
Index(
    "jobs_unique_key_index",
    jobs.c.unique_key,
    unique=True,
    sqlite_where=jobs.c.finished_at.is_(None),
    postgresql_where=jobs.c.finished_at.is_(None),
)
Index("jobs_state_run_at_index", jobs.c.state, jobs.c.run_at)
Index("jobs_finished_at_index", jobs.c.finished_at)

job_schedules = Table(
    "job_schedules",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("enqueued_until", UtcDateTime(), nullable=False),
)
