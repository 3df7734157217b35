"""What is protected, by which gateways, for whom: sites, resources, policies, devices, grants (portal-domain §3.7 to §3.12)."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    func,
)

from wardgate.portal.store.column_types import UtcDateTime, Uuid
from wardgate.portal.store.schema.columns import (
    Json,
    key_bytes,
    listing_index,
    location,
    one_of,
    reference,
    secret,
    tenant_table,
    words,
)

sites = tenant_table(
    "sites",
    words("name", 1, 64),
    Column("managed_by", String(16), nullable=False),
    Column("health_threshold", Integer(), nullable=False),
    one_of("sites", "managed_by", "account", "system"),
    CheckConstraint("health_threshold >= 1", name="sites_health_threshold_check"),
)
Index(
    "sites_account_id_name_managed_by_index",
    sites.c.account_id,
    sites.c.name,
    sites.c.managed_by,
    unique=True,
)

Index(
    "sites_account_id_system_index",
    sites.c.account_id,
    unique=True,
    sqlite_where=sites.c.managed_by == "system",
    postgresql_where=sites.c.managed_by == "system",
)
listing_index(sites)

resources = tenant_table(
    "resources",
    Column("type", String(32), nullable=False),
    words("name", 1, 255),
    words("address", 1, 255, optional=True),
    words("address_description", 1, 255, optional=True),
    Column("ip_stack", String(16)),
    Column("filters", Json, nullable=False),
    Column("site_id", Uuid()),
    reference("resources", "site_id", "sites"),
    one_of("resources", "type", "dns", "cidr", "ip", "internet", "static_device_pool", "dynamic_device_pool"),
    CheckConstraint(
        "(type IN ('internet', 'static_device_pool')) = (address IS NULL)",
        name="resources_address_matches_type_check",
    ),
    one_of("resources", "ip_stack", "dual", "ipv4_only", "ipv6_only"),
    CheckConstraint(
        "type NOT IN ('static_device_pool', 'dynamic_device_pool') OR site_id IS NULL",
        name="resources_site_matches_type_check",
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

listing_index(resources)

policies = tenant_table(
    "policies",
    Column("group_id", Uuid()),
    Column("group_idp_id", String(255)),
    Column("resource_id", Uuid(), nullable=False),
    words("description", 1, 1024, optional=True),
    Column("conditions", Json, nullable=False),
    Column("flow_log_uploads_enabled", Boolean(), nullable=False),
    Column("is_disabled", Boolean(), nullable=False),
    reference("policies", "group_id", "groups"),
    reference("policies", "resource_id", "resources"),
)
Index(
    "policies_account_id_resource_id_group_id_index",
    policies.c.account_id,
    policies.c.resource_id,
    policies.c.group_id,
    unique=True,
)
Index("policies_account_id_group_id_index", policies.c.account_id, policies.c.group_id)
listing_index(policies)

gateway_tokens = tenant_table(
    "gateway_tokens",
    Column("site_id", Uuid()),
    Column("device_id", Uuid()),
    *secret(),
    Column("rotated_at", UtcDateTime()),
    reference("gateway_tokens", "site_id", "sites"),
    reference("gateway_tokens", "device_id", "devices"),
    CheckConstraint("(site_id IS NULL) <> (device_id IS NULL)", name="gateway_tokens_owner_check"),
)
Index("gateway_tokens_account_id_site_id_index", gateway_tokens.c.account_id, gateway_tokens.c.site_id)
Index("gateway_tokens_account_id_device_id_index", gateway_tokens.c.account_id, gateway_tokens.c.device_id)
# A gateway of its own token has one that counts, and beside it at most one that was rotated out.
for _state, _condition in (
    ("active", gateway_tokens.c.rotated_at.is_(None)),
    ("rotated", gateway_tokens.c.rotated_at.is_not(None)),
):
    Index(
        f"gateway_tokens_account_id_device_id_{_state}_index",
        gateway_tokens.c.account_id,
        gateway_tokens.c.device_id,
        unique=True,
        sqlite_where=_condition,
        postgresql_where=_condition,
    )

devices = tenant_table(
    "devices",
    Column("type", String(16), nullable=False),
    words("name", 1, 255),
    Column("firezone_id", String(255)),
    Column("actor_id", Uuid()),
    Column("site_id", Uuid()),
    key_bytes("psk_base"),
    Column("ipv4", String(15), nullable=False),
    Column("ipv6", String(45), nullable=False),
    words("hostname", 3, 255, optional=True),
    Column("device_serial", String(255)),
    Column("device_uuid", String(255)),
    Column("identifier_for_vendor", String(255)),
    Column("firebase_installation_id", String(255)),
    Column("verified_at", UtcDateTime()),
    words("public_key", 44, 44, optional=True),
    Column("last_seen_user_agent", String(255)),
    Column("last_seen_remote_ip", String(45)),
    *location("last_seen_remote_ip"),
    Column("last_seen_version", String(255)),
    Column("last_seen_at", UtcDateTime()),
    Column("client_token_id", Uuid()),
    Column("gateway_token_id", Uuid()),
    reference("devices", "actor_id", "actors"),
    reference("devices", "site_id", "sites"),
    reference("devices", "client_token_id", "client_tokens"),
    one_of("devices", "type", "client", "gateway"),
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
Index("devices_account_id_id_type_index", devices.c.account_id, devices.c.id, devices.c.type, unique=True)
listing_index(devices, "type")

static_device_pool_members = tenant_table(
    "static_device_pool_members",
    Column("resource_id", Uuid(), nullable=False),
    Column("device_id", Uuid(), nullable=False),
    Column("device_type", String(16), nullable=False),
    reference("static_device_pool_members", "resource_id", "resources"),
    # The type makes the reference say that members are clients.
    ForeignKeyConstraint(
        ["account_id", "device_id", "device_type"],
        ["devices.account_id", "devices.id", "devices.type"],
        name="static_device_pool_members_device_id_fkey",
        ondelete="RESTRICT",
    ),
    one_of("static_device_pool_members", "device_type", "client"),
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
listing_index(static_device_pool_members, "resource_id")

policy_authorizations = tenant_table(
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
    reference("policy_authorizations", "policy_id", "policies"),
    reference("policy_authorizations", "resource_id", "resources"),
    reference("policy_authorizations", "initiating_device_id", "devices"),
    reference("policy_authorizations", "receiving_device_id", "devices"),
    reference("policy_authorizations", "token_id", "client_tokens"),
    reference("policy_authorizations", "membership_id", "memberships"),
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
