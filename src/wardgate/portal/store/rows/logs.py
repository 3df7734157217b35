"""What happened (portal-domain §10)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


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
