"""What happened: the log streams, answers kept for repeated calls (portal-domain §10)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, LargeBinary, PrimaryKeyConstraint

from wardgate.portal.schema.column_types import Uuid
from wardgate.portal.schema.columns import SequenceNumber, Words, one_of
from wardgate.portal.schema.declaration import plain_table
from wardgate.portal.schema.rights import LOG_READERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One answered access request, with its explanation; it outlives what it names, hence no foreign keys."""

    table: ClassVar[str] = "decisions"
    account_id: UUID
    log_id: Annotated[str, Words(0, 24)]
    outcome: Annotated[str, Words(0, 16)]
    reason: Annotated[str | None, Words(0, 64)]
    actor_id: UUID
    actor_name: Annotated[str, Words(0, 255)]
    device_id: UUID
    resource_id: UUID
    resource_name: Annotated[str | None, Words(0, 255)]
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
    Column("actor_id", Uuid(), nullable=False),
    Column("device_id", Uuid(), nullable=False),
    Column("resource_id", Uuid(), nullable=False),
    Column("policy_id", Uuid()),
    Column("gateway_id", Uuid()),
    Column("authorization_id", Uuid()),
    one_of("outcome", "granted", "denied"),
    rights=LOG_READERS,
    deleted_with_account=True,
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
    log_id: Annotated[str, Words(0, 24)]
    actor_id: UUID | None
    token_id: UUID
    method: Annotated[str, Words(0, 16)]
    path: Annotated[str, Words(0, 2048)]
    content_length: int | None
    request_id: Annotated[str, Words(0, 255)]
    user_agent: Annotated[str, Words(0, 255)]
    ip: Annotated[str, Words(0, 45)]
    ip_region: Annotated[str | None, Words(0, 255)]
    ip_city: Annotated[str | None, Words(0, 255)]
    ip_lat: float | None
    ip_lon: float | None
    inserted_at: datetime
    seq: int = 0


API_REQUEST_LOGS: Final = plain_table(
    ApiRequest,
    Column("seq", SequenceNumber, primary_key=True, autoincrement=True),
    Column("account_id", Uuid(), nullable=False),
    Column("actor_id", Uuid()),
    Column("token_id", Uuid(), nullable=False),
    Column("content_length", BigInteger()),
    rights=LOG_READERS,
    deleted_with_account=True,
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
    log_id: Annotated[str, Words(0, 24)]
    context: Annotated[str, Words(0, 16)]
    subject: dict[str, Any]
    timestamp: datetime


SESSION_LOGS: Final = plain_table(
    SessionLog,
    Column("account_id", Uuid(), nullable=False),
    PrimaryKeyConstraint("account_id", "log_id", name="session_logs_pkey"),
    one_of("context", "client", "gateway", "portal"),
    rights=LOG_READERS,
    deleted_with_account=True,
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
    log_id: Annotated[str, Words(0, 24)]
    role: Annotated[str, Words(0, 16)]
    initiator_device_id: UUID
    responder_device_id: UUID
    policy_authorization_id: UUID
    policy_id: UUID
    resource_id: UUID
    resource_name: Annotated[str, Words(0, 255)]
    resource_address: Annotated[str | None, Words(0, 255)]
    initiator_actor_id: UUID
    initiator_actor_name: Annotated[str, Words(0, 255)]
    initiator_actor_email: Annotated[str | None, Words(0, 255)]
    initiator_auth_provider_id: UUID | None
    authorized_at: datetime
    authorization_expires_at: datetime
    initiator_client_version: Annotated[str | None, Words(0, 255)]
    initiator_device_os_name: Annotated[str | None, Words(0, 255)]
    initiator_device_os_version: Annotated[str | None, Words(0, 255)]
    initiator_device_serial: Annotated[str | None, Words(0, 255)]
    initiator_device_uuid: Annotated[str | None, Words(0, 255)]
    initiator_device_identifier_for_vendor: Annotated[str | None, Words(0, 255)]
    initiator_device_firebase_installation_id: Annotated[str | None, Words(0, 255)]
    protocol: Annotated[str, Words(0, 8)]
    inner_src_ip: Annotated[str, Words(0, 45)]
    inner_src_port: int
    inner_dst_ip: Annotated[str, Words(0, 45)]
    inner_dst_port: int
    inner_domain: Annotated[str | None, Words(0, 255)]
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
    Column("initiator_device_id", Uuid(), nullable=False),
    Column("responder_device_id", Uuid(), nullable=False),
    Column("policy_authorization_id", Uuid(), nullable=False),
    Column("policy_id", Uuid(), nullable=False),
    Column("resource_id", Uuid(), nullable=False),
    Column("initiator_actor_id", Uuid(), nullable=False),
    Column("initiator_auth_provider_id", Uuid()),
    Column("rx_packets", BigInteger()),
    Column("tx_packets", BigInteger()),
    Column("rx_bytes", BigInteger()),
    Column("tx_bytes", BigInteger()),
    PrimaryKeyConstraint("account_id", "log_id", name="flow_logs_pkey"),
    one_of("role", "initiator", "responder"),
    one_of("protocol", "tcp", "udp"),
    rights=LOG_READERS,
    deleted_with_account=True,
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
    key_hash: Annotated[str, Words(0, 64)]
    request_hash: Annotated[str, Words(0, 64)]
    answer: bytes
    inserted_at: datetime


IDEMPOTENCY_KEYS: Final = plain_table(
    KeptAnswer,
    Column("account_id", Uuid(), nullable=False),
    Column("token_id", Uuid(), nullable=False),
    Column("answer", LargeBinary(), nullable=False),
    PrimaryKeyConstraint("account_id", "token_id", "key_hash", name="idempotency_keys_pkey"),
    deleted_with_account=True,
)
Index("idempotency_keys_inserted_at_index", IDEMPOTENCY_KEYS.c.inserted_at)
