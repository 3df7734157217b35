"""What is protected and for whom: resources, policies, grants (portal-domain §3.10 to §3.12)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, func, literal_column

from wardgate.portal.schema.columns import Editable, Words, one_of
from wardgate.portal.schema.declaration import (
    AllConnections,
    InSnapshot,
    MembersOf,
    Named,
    OnDelete,
    Recording,
    Reference,
    Removal,
    listing_index,
    names_index,
    tenant_table,
)
from wardgate.portal.schema.rights import ALL, READ_INSERT, READABLE_BY_ALL, rights_of
from wardgate.portal.schema.row import TenantRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(TenantRow):
    """What is protected (§3.10). `filters`: [{"protocol": "tcp", "ports": ["80", "8000 - 8010"]}].

    `membership_mode`: of a pool that the API calls `device_pool`, the mode of its membership criteria.
    """

    table: ClassVar[str] = "resources"
    type: Annotated[str, Words(0, 32)]
    name: Annotated[str, Words(1, 255), Editable()]
    address: Annotated[str | None, Words(1, 255)] = None
    address_description: Annotated[str | None, Words(1, 255), Editable()] = None
    ip_stack: Annotated[str | None, Words(0, 16)] = None
    filters: list[dict[str, Any]] = field(default_factory=list)
    site_id: UUID | None = None
    membership_mode: Annotated[str | None, Words(0, 16)] = None


def _removed_with_a_resources_place(before: Resource, after: Resource) -> Iterator[Removal]:
    if _place(before) != _place(after):
        yield Removal("policy_authorizations", {"resource_id": after.id})


def _place(resource: Resource) -> tuple[object, ...]:
    return resource.site_id, resource.ip_stack, resource.type, resource.address


RESOURCES: Final = tenant_table(
    Resource,
    Reference("site_id", "sites", is_optional=True),
    one_of("type", "dns", "cidr", "ip", "internet", "static_device_pool", "dynamic_device_pool"),
    CheckConstraint(
        "(type IN ('internet', 'static_device_pool')) = (address IS NULL)",
        name="resources_address_matches_type_check",
    ),
    one_of("ip_stack", "dual", "ipv4_only", "ipv6_only"),
    CheckConstraint(
        "type NOT IN ('static_device_pool', 'dynamic_device_pool') OR site_id IS NULL",
        name="resources_site_matches_type_check",
    ),
    CheckConstraint("(type = 'dns') = (ip_stack IS NOT NULL)", name="resources_ip_stack_matches_type_check"),
    rights=READABLE_BY_ALL,
    heard_by=AllConnections(),
    snapshot=InSnapshot(slice=200),
    removes_on_update=_removed_with_a_resources_place,
)
Index("resources_account_id_site_id_index", RESOURCES.c.account_id, RESOURCES.c.site_id)
Index(
    "resources_account_id_internet_index",
    RESOURCES.c.account_id,
    unique=True,
    sqlite_where=RESOURCES.c.type == "internet",
    postgresql_where=RESOURCES.c.type == "internet",
)
listing_index(RESOURCES)
# The value is in the statement: SQLite does not use an index over an expression for one with a bound value.
INTERNET_FIRST: Final = RESOURCES.c.type != literal_column("'internet'")
names_index(RESOURCES, INTERNET_FIRST, RESOURCES.c.name, RESOURCES.c.address, RESOURCES.c.type)
BY_ADDRESS: Final = func.coalesce(RESOURCES.c.address, literal_column("''"))
"""Those without an address first, on both databases."""
Index("resources_addresses_index", RESOURCES.c.account_id, INTERNET_FIRST, BY_ADDRESS, RESOURCES.c.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(TenantRow):
    """Group → resource (§3.11). `conditions`: [{"property": …, "operator": …, "values": […]}]."""

    table: ClassVar[str] = "policies"
    group_id: UUID | None
    resource_id: UUID
    group_idp_id: Annotated[str | None, Words(0, 255)] = None
    description: Annotated[str | None, Words(1, 1024), Editable()] = None
    conditions: list[dict[str, Any]] = field(default_factory=list)
    flow_log_uploads_enabled: Annotated[bool, Editable()] = True
    is_disabled: Annotated[bool, Editable()] = False


def _removed_with_what_a_policy_grants(before: Policy, after: Policy) -> Iterator[Removal]:
    if (after.is_disabled and not before.is_disabled) or _grants(before) != _grants(after):
        yield Removal("policy_authorizations", {"policy_id": after.id})


def _grants(policy: Policy) -> tuple[object, ...]:
    return policy.conditions, policy.group_id, policy.resource_id, policy.flow_log_uploads_enabled


POLICIES: Final = tenant_table(
    Policy,
    Reference("group_id", "groups", OnDelete.CLEAR, is_optional=True),
    Reference("resource_id", "resources"),
    rights=READABLE_BY_ALL,
    heard_by=MembersOf("group_id"),
    snapshot=InSnapshot(slice=100),
    removes_on_update=_removed_with_what_a_policy_grants,
)
Index(
    "policies_account_id_resource_id_group_id_index",
    POLICIES.c.account_id,
    POLICIES.c.resource_id,
    POLICIES.c.group_id,
    unique=True,
)
Index("policies_account_id_group_id_index", POLICIES.c.account_id, POLICIES.c.group_id)
listing_index(POLICIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAuthorization(TenantRow):
    """One grant (§3.12). `membership_id` is none when it came through Everyone. Never updated."""

    table: ClassVar[str] = "policy_authorizations"
    policy_id: UUID
    resource_id: UUID
    initiating_device_id: UUID
    receiving_device_id: UUID
    token_id: UUID
    membership_id: UUID | None
    initiator_remote_ip: Annotated[str, Words(0, 45)]
    initiator_user_agent: Annotated[str, Words(0, 255)]
    receiver_remote_ip: Annotated[str | None, Words(0, 45)]
    expires_at: datetime


POLICY_AUTHORIZATIONS: Final = tenant_table(
    PolicyAuthorization,
    Reference("policy_id", "policies"),
    Reference("resource_id", "resources"),
    Reference("initiating_device_id", "devices"),
    Reference("receiving_device_id", "devices"),
    Reference("token_id", "client_tokens"),
    Reference("membership_id", "memberships", is_optional=True),
    rights=rights_of(admin=ALL, api_client=READ_INSERT, user=READ_INSERT, service_account=READ_INSERT),
    recording=Recording.INTERNAL,
    heard_by=Named(("initiating_device_id", "receiving_device_id"), of_insertions=False),
)
for _name in ("policy_id", "resource_id", "initiating_device_id", "token_id", "membership_id"):
    Index(
        f"policy_authorizations_account_id_{_name}_index",
        POLICY_AUTHORIZATIONS.c.account_id,
        POLICY_AUTHORIZATIONS.c[_name],
    )
Index(
    "policy_authorizations_receiver_expiry_index",
    POLICY_AUTHORIZATIONS.c.account_id,
    POLICY_AUTHORIZATIONS.c.receiving_device_id,
    POLICY_AUTHORIZATIONS.c.expires_at,
)
Index("policy_authorizations_expires_at_index", POLICY_AUTHORIZATIONS.c.expires_at)
