"""What happened: the change feed, the log streams, answers kept for repeated calls (portal-domain §10)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, PrimaryKeyConstraint, String

from wardgate.portal.schema.column_types import UtcDateTime, Uuid
from wardgate.portal.schema.columns import Json, SequenceNumber, one_of
from wardgate.portal.schema.declaration import plain_table
from wardgate.portal.schema.rights import LOG_READERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the change feed: what a committed transaction did to one row.

    Attributes:
        sequence: gapless per account, in commit order.
        audience: `audit` (admins read it) or `internal`.
        before, after: the row as JSON, secrets as "[redacted]".
        subject: who did it (§10.2); None for the system itself.
    """

    table: ClassVar[str] = "changes"
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


CHANGES: Final = plain_table(
    Change,
    Column("account_id", Uuid(), nullable=False),
    Column("sequence", BigInteger(), nullable=False),
    Column("log_id", String(24), nullable=False),
    Column("object", String(64), nullable=False),
    Column("operation", String(16), nullable=False),
    Column("audience", String(16), nullable=False),
    Column("before", Json),
    Column("after", Json),
    Column("subject", Json),
    Column("committed_at", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "sequence", name="changes_pkey"),
    one_of("operation", "insert", "update", "delete"),
    one_of("audience", "audit", "internal"),
    rights=LOG_READERS,
    goes_with_account=True,
)
Index("changes_account_id_log_id_index", CHANGES.c.account_id, CHANGES.c.log_id, unique=True)
Index("changes_committed_at_index", CHANGES.c.committed_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCounter:
    """The number of the newest change of a feed; it outlives its account, so that no number comes twice."""

    table: ClassVar[str] = "change_counters"
    account_id: UUID
    sequence: int


CHANGE_COUNTERS: Final = plain_table(
    ChangeCounter,
    Column("account_id", Uuid(), primary_key=True),
    Column("sequence", BigInteger(), nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One answered access request, with its explanation; it outlives what it names, hence no foreign keys."""

    table: ClassVar[str] = "decisions"
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


DECISIONS: Final = plain_table(
    Decision,
    Column("seq", SequenceNumber, primary_key=True, autoincrement=True),
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
    Column("explanation", Json, nullable=False),
    Column("decided_at", UtcDateTime(), nullable=False),
    one_of("outcome", "granted", "denied"),
    rights=LOG_READERS,
    goes_with_account=True,
)
Index("decisions_account_id_seq_index", DECISIONS.c.account_id, DECISIONS.c.seq)
Index("decisions_decided_at_index", DECISIONS.c.decided_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One REST call (§10.3), written before it is carried out.

    Attributes:
        account_id: the nil UUID for the operator's calls, which have no actor.
        path: without query.
    """

    table: ClassVar[str] = "api_request_logs"
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


API_REQUEST_LOGS: Final = plain_table(
    ApiRequest,
    Column("seq", SequenceNumber, primary_key=True, autoincrement=True),
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
    rights=LOG_READERS,
    goes_with_account=True,
)
Index("api_request_logs_account_id_seq_index", API_REQUEST_LOGS.c.account_id, API_REQUEST_LOGS.c.seq)
Index(
    "api_request_logs_order_index",
    API_REQUEST_LOGS.c.account_id,
    API_REQUEST_LOGS.c.inserted_at,
    API_REQUEST_LOGS.c.log_id,
)
Index("api_request_logs_inserted_at_index", API_REQUEST_LOGS.c.inserted_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLog:
    """One connect of a client or gateway, or one sign-in to the portal (§10.3); its end is not recorded."""

    table: ClassVar[str] = "session_logs"
    account_id: UUID
    log_id: str
    context: str
    subject: dict[str, Any]
    timestamp: datetime


SESSION_LOGS: Final = plain_table(
    SessionLog,
    Column("account_id", Uuid(), nullable=False),
    Column("log_id", String(24), nullable=False),
    Column("context", String(16), nullable=False),
    Column("subject", Json, nullable=False),
    Column("timestamp", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "log_id", name="session_logs_pkey"),
    one_of("context", "client", "gateway", "portal"),
    rights=LOG_READERS,
    goes_with_account=True,
)
Index("session_logs_order_index", SESSION_LOGS.c.account_id, SESSION_LOGS.c.timestamp, SESSION_LOGS.c.log_id)
Index("session_logs_timestamp_index", SESSION_LOGS.c.timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLog:
    """What one side reported of one flow (§10.4). While `flow_end` is none the flow is open, and so are the
    counters.

    Attributes:
        inner_src_ip, tx_bytes, …: oriented from initiator to responder on both sides.
        inserted_at: when the portal first heard of it.
    """

    table: ClassVar[str] = "flow_logs"
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


FLOW_KEY: Final = (
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
"""What makes two reports of a flow the same one (portal-domain §10.4)."""

FLOW_LOGS: Final = plain_table(
    FlowLog,
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
    Column("outers", Json),
    Column("flow_start", UtcDateTime(), nullable=False),
    Column("flow_end", UtcDateTime()),
    Column("last_packet", UtcDateTime()),
    Column("rx_packets", BigInteger()),
    Column("tx_packets", BigInteger()),
    Column("rx_bytes", BigInteger()),
    Column("tx_bytes", BigInteger()),
    Column("inserted_at", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "log_id", name="flow_logs_pkey"),
    one_of("role", "initiator", "responder"),
    one_of("protocol", "tcp", "udp"),
    rights=LOG_READERS,
    goes_with_account=True,
)
Index("flow_logs_key_index", *(FLOW_LOGS.c[name] for name in FLOW_KEY), unique=True)
Index("flow_logs_order_index", FLOW_LOGS.c.account_id, FLOW_LOGS.c.flow_start, FLOW_LOGS.c.log_id)
Index("flow_logs_flow_start_index", FLOW_LOGS.c.flow_start)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """The answer to a POST that carried an `Idempotency-Key`; `answer` is encrypted."""

    table: ClassVar[str] = "idempotency_keys"
    account_id: UUID
    token_id: UUID
    key_hash: str
    request_hash: str
    answer: bytes
    inserted_at: datetime


IDEMPOTENCY_KEYS: Final = plain_table(
    KeptAnswer,
    Column("account_id", Uuid(), nullable=False),
    Column("token_id", Uuid(), nullable=False),
    Column("key_hash", String(64), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("answer", LargeBinary(), nullable=False),
    Column("inserted_at", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "token_id", "key_hash", name="idempotency_keys_pkey"),
    goes_with_account=True,
)
Index("idempotency_keys_inserted_at_index", IDEMPOTENCY_KEYS.c.inserted_at)
