"""What happened: the change feed, the log streams and the answers kept for repeated calls (portal-domain §10)."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
)

from wardgate.portal.store.column_types import UtcDateTime, Uuid
from wardgate.portal.store.schema.columns import Json, SequenceNumber, metadata, one_of

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
    Column("before", Json),
    Column("after", Json),
    Column("subject", Json),
    Column("committed_at", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "sequence", name="changes_pkey"),
    one_of("changes", "operation", "insert", "update", "delete"),
    one_of("changes", "audience", "audit", "internal"),
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
    one_of("decisions", "outcome", "granted", "denied"),
)
Index("decisions_account_id_seq_index", decisions.c.account_id, decisions.c.seq)
Index("decisions_decided_at_index", decisions.c.decided_at)

api_request_logs = Table(
    "api_request_logs",
    metadata,
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
)
Index("api_request_logs_account_id_seq_index", api_request_logs.c.account_id, api_request_logs.c.seq)
Index(
    "api_request_logs_order_index",
    api_request_logs.c.account_id,
    api_request_logs.c.inserted_at,
    api_request_logs.c.log_id,
)
Index("api_request_logs_inserted_at_index", api_request_logs.c.inserted_at)

session_logs = Table(
    "session_logs",
    metadata,
    Column("account_id", Uuid(), nullable=False),
    Column("log_id", String(24), nullable=False),
    Column("context", String(16), nullable=False),
    Column("subject", Json, nullable=False),
    Column("timestamp", UtcDateTime(), nullable=False),
    PrimaryKeyConstraint("account_id", "log_id", name="session_logs_pkey"),
    one_of("session_logs", "context", "client", "gateway", "portal"),
)
Index("session_logs_order_index", session_logs.c.account_id, session_logs.c.timestamp, session_logs.c.log_id)
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
    one_of("flow_logs", "role", "initiator", "responder"),
    one_of("flow_logs", "protocol", "tcp", "udp"),
)
Index("flow_logs_key_index", *(flow_logs.c[name] for name in FLOW_KEY), unique=True)
Index("flow_logs_order_index", flow_logs.c.account_id, flow_logs.c.flow_start, flow_logs.c.log_id)
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
