"""Clients, gateways, and the members of static device pools (portal-domain §3.8, §3.10)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, String, func

from wardgate.model import domain
from wardgate.portal.schema.column_types import UtcDateTime
from wardgate.portal.schema.columns import Words, key_bytes, latest_use, location, one_of, words
from wardgate.portal.schema.declaration import (
    AllConnections,
    InSnapshot,
    OnDelete,
    Reference,
    Removal,
    listing_index,
    names_index,
    tenant_table,
)
from wardgate.portal.schema.rights import ALL, READ_INSERT_UPDATE, READABLE_BY_ALL, rights_of
from wardgate.portal.schema.row import TenantRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Device(TenantRow):
    """A client or a gateway (§3.8). Addresses are drawn by the repository when left out.

    `firezone_id` is the peer's `external_id`. `draining_since`: since when a gateway is not chosen
    for new grants, because an administrator drains it. The columns of `latest_use` describe the latest connection
    only; a change of nothing else is neither audited nor broadcast.
    """

    table: ClassVar[str] = "devices"
    type: Annotated[str, Words(0, 16)]
    name: Annotated[str, Words(1, 255)]
    psk_base: bytes
    firezone_id: Annotated[str | None, Words(0, 255)] = None
    actor_id: UUID | None = None
    site_id: UUID | None = None
    ipv4: Annotated[str, Words(0, 15)] = ""
    ipv6: Annotated[str, Words(0, 45)] = ""
    hostname: Annotated[str | None, Words(3, 255)] = None
    device_serial: Annotated[str | None, Words(0, 255)] = None
    device_uuid: Annotated[str | None, Words(0, 255)] = None
    identifier_for_vendor: Annotated[str | None, Words(0, 255)] = None
    firebase_installation_id: Annotated[str | None, Words(0, 255)] = None
    verified_at: datetime | None = None
    draining_since: datetime | None = None
    public_key: str | None = None
    last_seen_user_agent: str | None = None
    last_seen_remote_ip: str | None = None
    last_seen_remote_ip_location_region: str | None = None
    last_seen_remote_ip_location_city: str | None = None
    last_seen_remote_ip_location_lat: float | None = None
    last_seen_remote_ip_location_lon: float | None = None
    last_seen_version: str | None = None
    last_seen_at: datetime | None = None
    client_token_id: UUID | None = None
    gateway_token_id: UUID | None = None


def _removed_when_a_device_loses_access(before: Device, after: Device) -> Iterator[Removal]:
    if before.verified_at is not None and after.verified_at is None:
        yield Removal("policy_authorizations", {"initiating_device_id": after.id})
    if before.type == "client" and before.hostname != after.hostname:
        # Only a dynamic pool grants access to a client by its host name.
        yield Removal("policy_authorizations", {"receiving_device_id": after.id})


DEVICES: Final = tenant_table(
    Device,
    Reference("actor_id", "actors", is_optional=True),
    Reference("site_id", "sites", is_optional=True),
    key_bytes("psk_base"),
    *latest_use(
        words("public_key", 44, 44, optional=True),
        Column("last_seen_user_agent", String(255)),
        Column("last_seen_remote_ip", String(45)),
        *location("last_seen_remote_ip"),
        Column("last_seen_version", String(255)),
        Column("last_seen_at", UtcDateTime()),
    ),
    Reference("client_token_id", "client_tokens", OnDelete.CLEAR, is_optional=True, is_latest_use=True),
    # A foreign key would close a circle with `gateway_tokens.device_id`.
    Reference(
        "gateway_token_id",
        "gateway_tokens",
        OnDelete.CLEAR,
        is_optional=True,
        is_enforced=False,
        is_latest_use=True,
    ),
    one_of("type", "client", "gateway"),
    CheckConstraint("(type = 'client') = (actor_id IS NOT NULL)", name="devices_actor_matches_type_check"),
    CheckConstraint("(type = 'gateway') = (site_id IS NOT NULL)", name="devices_site_matches_type_check"),
    CheckConstraint("type = 'client' OR verified_at IS NULL", name="devices_verified_at_check"),
    # A client makes its own row when it first connects.
    rights=rights_of(admin=ALL, api_client=ALL, user=READ_INSERT_UPDATE, service_account=READ_INSERT_UPDATE),
    # A thousand clients that come for the first time would each tell all others, to whom a new device means nothing.
    heard_by=AllConnections(of_insertions=False),
    snapshot=InSnapshot.of(domain.ClientDevice, "type"),
    removes_on_update=_removed_when_a_device_loses_access,
)
Index("devices_account_id_ipv4_index", DEVICES.c.account_id, DEVICES.c.ipv4, unique=True)
Index("devices_account_id_ipv6_index", DEVICES.c.account_id, DEVICES.c.ipv6, unique=True)
Index("devices_account_id_hostname_index", DEVICES.c.account_id, func.lower(DEVICES.c.hostname), unique=True)
Index(
    "devices_account_id_actor_id_firezone_id_index",
    DEVICES.c.account_id,
    DEVICES.c.actor_id,
    DEVICES.c.firezone_id,
    unique=True,
)
Index(
    "devices_account_id_site_id_firezone_id_index",
    DEVICES.c.account_id,
    DEVICES.c.site_id,
    DEVICES.c.firezone_id,
    unique=True,
)
Index("devices_account_id_client_token_id_index", DEVICES.c.account_id, DEVICES.c.client_token_id)
Index("devices_account_id_gateway_token_id_index", DEVICES.c.account_id, DEVICES.c.gateway_token_id)
Index("devices_account_id_id_type_index", DEVICES.c.account_id, DEVICES.c.id, DEVICES.c.type, unique=True)
listing_index(DEVICES, "type")
names_index(DEVICES, DEVICES.c.type, DEVICES.c.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticDevicePoolMember(TenantRow):
    """A client in a static device pool (§3.10)."""

    table: ClassVar[str] = "static_device_pool_members"
    resource_id: UUID
    device_id: UUID
    device_type: Annotated[str, Words(0, 16)] = "client"


def _removed_with_a_pool_member(row: StaticDevicePoolMember) -> Iterator[Removal]:
    yield Removal(
        "policy_authorizations", {"resource_id": row.resource_id, "receiving_device_id": row.device_id}
    )


STATIC_DEVICE_POOL_MEMBERS: Final = tenant_table(
    StaticDevicePoolMember,
    Reference("resource_id", "resources"),
    # The type makes the reference say that members are clients.
    Reference("device_id", "devices", together_with=(("device_type", "type"),)),
    one_of("device_type", "client"),
    rights=READABLE_BY_ALL,
    heard_by=AllConnections(),
    snapshot=InSnapshot.of(domain.PoolMember),
    removes_on_delete=_removed_with_a_pool_member,
)
Index(
    "static_device_pool_members_pair_index",
    STATIC_DEVICE_POOL_MEMBERS.c.account_id,
    STATIC_DEVICE_POOL_MEMBERS.c.resource_id,
    STATIC_DEVICE_POOL_MEMBERS.c.device_id,
    unique=True,
)
Index(
    "static_device_pool_members_device_id_index",
    STATIC_DEVICE_POOL_MEMBERS.c.account_id,
    STATIC_DEVICE_POOL_MEMBERS.c.device_id,
)
listing_index(STATIC_DEVICE_POOL_MEMBERS, "resource_id")
