"""Rows as frozen values, one class a table, one field a column (portal-domain §3).

The repository stamps `inserted_at` and `updated_at`; callers leave them out. JSON columns are plain lists and dicts of the
shape that the specification gives them; `wardgate.model` parses them where they are used.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

UNSTAMPED_AT = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What all tables share."""

    table: ClassVar[str]
    id: UUID
    inserted_at: datetime = UNSTAMPED_AT
    updated_at: datetime = UNSTAMPED_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRow(Row):
    """A row that belongs to one account."""

    account_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Row):
    """One tenant (§3.1). `key` is the short account code; `ingest_signing_key` is secret."""

    table: ClassVar[str] = "accounts"
    name: str
    legal_name: str
    slug: str
    key: str
    ingest_signing_key: bytes
    features: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    is_disabled: bool = False
    disabled_reason: str | None = None
    scheduled_deletion_at: datetime | None = None
    lock_enabled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor(TenantRow):
    """Who can sign in or hold tokens (§3.2): account_user, account_admin_user, service_account, api_client."""

    table: ClassVar[str] = "actors"
    type: str
    name: str
    email: str | None = None
    allow_email_otp_sign_in: bool = False
    preferences: dict[str, Any] = field(default_factory=dict)
    is_disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(TenantRow):
    """A set of actors (§3.4). Everyone: `type` managed, no `idp_id`, and no membership rows."""

    table: ClassVar[str] = "groups"
    name: str
    type: str = "static"
    entity_type: str = "group"
    idp_id: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership(TenantRow):
    table: ClassVar[str] = "memberships"
    actor_id: UUID
    group_id: UUID


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
class ClientToken(TenantRow):
    table: ClassVar[str] = "client_tokens"
    actor_id: UUID
    secret_salt: str
    secret_hash: str
    expires_at: datetime
    auth_provider_id: UUID | None = None


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
class ApiToken(TenantRow):
    table: ClassVar[str] = "api_tokens"
    actor_id: UUID
    name: str
    secret_salt: str
    secret_hash: str
    expires_at: datetime
    last_seen_user_agent: str | None = None
    last_seen_remote_ip: str | None = None
    last_seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayToken(Row):
    """A relay's credential; it belongs to the installation and to no account."""

    table: ClassVar[str] = "relay_tokens"
    name: str
    secret_salt: str
    secret_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorToken(Row):
    """The operator's credential for what belongs to no account."""

    table: ClassVar[str] = "operator_tokens"
    name: str
    secret_salt: str
    secret_hash: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalSession(TenantRow):
    """A browser's sign-in of an admin."""

    table: ClassVar[str] = "portal_sessions"
    actor_id: UUID
    user_agent: str
    remote_ip: str
    expires_at: datetime
    auth_provider_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInLink(TenantRow):
    """A one-time sign-in of an admin, made by who holds the data directory; using it deletes the row."""

    table: ClassVar[str] = "sign_in_links"
    actor_id: UUID
    secret_hash: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the change feed: what a committed transaction did to one row.

    Attributes:
        sequence: gapless per account, in commit order.
        audience: `audit` (admins read it) or `internal`.
        before, after: the row as JSON, secrets as "[redacted]".
        subject: who did it (§10.2); none for the system itself.
    """

    account_id: UUID
    sequence: int
    log_id: str
    object: str
    operation: str
    audience: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    subject: dict[str, Any] | None
    committed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One answered access request, with its explanation; it outlives what it names, hence no foreign keys."""

    account_id: UUID
    log_id: str
    outcome: str
    reason: str | None
    actor_id: UUID
    actor_name: str
    device_id: UUID
    resource_id: UUID
    resource_name: str | None
    policy_id: UUID | None
    gateway_id: UUID | None
    authorization_id: UUID | None
    expires_at: datetime | None
    explanation: dict[str, Any]
    decided_at: datetime
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One REST call (§10.3), written before it is carried out.

    Attributes:
        account_id: the nil UUID for the operator's calls, which have no actor.
        path: without query.
    """

    account_id: UUID
    log_id: str
    actor_id: UUID | None
    token_id: UUID
    method: str
    path: str
    content_length: int | None
    request_id: str
    user_agent: str
    ip: str
    ip_region: str | None
    ip_city: str | None
    ip_lat: float | None
    ip_lon: float | None
    inserted_at: datetime
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLog:
    """One connect of a client or gateway, or one sign-in to the portal (§10.3); its end is not recorded."""

    account_id: UUID
    log_id: str
    context: str
    subject: dict[str, Any]
    timestamp: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLog:
    """What one side reported of one flow (§10.4). While `flow_end` is none the flow is open, and so are the counters.

    Attributes:
        inner_src_ip, tx_bytes, …: oriented from initiator to responder on both sides.
        inserted_at: when the portal first heard of it.
    """

    account_id: UUID
    log_id: str
    role: str
    initiator_device_id: UUID
    responder_device_id: UUID
    policy_authorization_id: UUID
    policy_id: UUID
    resource_id: UUID
    resource_name: str
    resource_address: str | None
    initiator_actor_id: UUID
    initiator_actor_name: str
    initiator_actor_email: str | None
    initiator_auth_provider_id: UUID | None
    authorized_at: datetime
    authorization_expires_at: datetime
    initiator_client_version: str | None
    initiator_device_os_name: str | None
    initiator_device_os_version: str | None
    initiator_device_serial: str | None
    initiator_device_uuid: str | None
    initiator_device_identifier_for_vendor: str | None
    initiator_device_firebase_installation_id: str | None
    protocol: str
    inner_src_ip: str
    inner_src_port: int
    inner_dst_ip: str
    inner_dst_port: int
    inner_domain: str | None
    outers: list[dict[str, Any]] | None
    flow_start: datetime
    flow_end: datetime | None
    last_packet: datetime | None
    rx_packets: int | None
    tx_packets: int | None
    rx_bytes: int | None
    tx_bytes: int | None
    inserted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """The answer to a POST that carried an `Idempotency-Key`; `answer` is encrypted."""

    account_id: UUID
    token_id: UUID
    key_hash: str
    request_hash: str
    answer: bytes
    inserted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Row):
    """A piece of background work; its changes are no part of any feed.

    Attributes:
        unique_key: at most one unfinished job has it.
        state: `available` (waits for `run_at`), `executing` (leased), `completed`, or `discarded` after its last attempt.
        attempt: how often it was begun.
        lease_expires_at: when another worker may take it over; the worker that runs it renews the lease.
    """

    table: ClassVar[str] = "jobs"
    kind: str
    arguments: dict[str, Any]
    unique_key: str | None
    state: str
    attempt: int
    max_attempts: int
    run_at: datetime
    leased_by: UUID | None = None
    lease_expires_at: datetime | None = None
    last_error: str | None = None
    finished_at: datetime | None = None
