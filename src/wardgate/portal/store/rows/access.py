"""What is protected, by which gateways, for whom (portal-domain §3.7 to §3.12)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from wardgate.portal.store.rows.base import TenantRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Site(TenantRow):
    table: ClassVar[str] = "sites"
    name: str
    managed_by: str = "account"
    health_threshold: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(TenantRow):
    """What is protected (§3.10). `filters`: [{"protocol": "tcp", "ports": ["80", "8000 - 8010"]}]."""

    table: ClassVar[str] = "resources"
    type: str
    name: str
    address: str | None = None
    address_description: str | None = None
    ip_stack: str | None = None
    filters: list[dict[str, Any]] = field(default_factory=list)
    site_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticDevicePoolMember(TenantRow):
    """A client in a static device pool (§3.10)."""

    table: ClassVar[str] = "static_device_pool_members"
    resource_id: UUID
    device_id: UUID
    device_type: str = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(TenantRow):
    """Group → resource (§3.11). `conditions`: [{"property": …, "operator": …, "values": […]}]."""

    table: ClassVar[str] = "policies"
    group_id: UUID | None
    resource_id: UUID
    group_idp_id: str | None = None
    description: str | None = None
    conditions: list[dict[str, Any]] = field(default_factory=list)
    flow_log_uploads_enabled: bool = True
    is_disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayToken(TenantRow):
    """Exactly one of `site_id` (any number of gateways) and `device_id` (one gateway) is set."""

    table: ClassVar[str] = "gateway_tokens"
    secret_salt: str
    secret_hash: str
    site_id: UUID | None = None
    device_id: UUID | None = None
    rotated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device(TenantRow):
    """A client or a gateway (§3.8). Addresses are drawn by the repository when left out.

    `firezone_id` is the peer's `external_id`. The columns of `LATEST_SESSION` describe the latest connection only; a change
    of nothing else is neither audited nor broadcast.
    """

    table: ClassVar[str] = "devices"
    type: str
    name: str
    psk_base: bytes
    firezone_id: str | None = None
    actor_id: UUID | None = None
    site_id: UUID | None = None
    ipv4: str = ""
    ipv6: str = ""
    hostname: str | None = None
    device_serial: str | None = None
    device_uuid: str | None = None
    identifier_for_vendor: str | None = None
    firebase_installation_id: str | None = None
    verified_at: datetime | None = None
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
    initiator_remote_ip: str
    initiator_user_agent: str
    receiver_remote_ip: str | None
    expires_at: datetime
