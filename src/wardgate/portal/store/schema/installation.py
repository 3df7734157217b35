"""What belongs to no account: the operator's and the relays' tokens, banners, outbound e-mail, jobs (portal-domain §3.15, §14)."""

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from wardgate.portal.store.column_types import UtcDateTime, Uuid
from wardgate.portal.store.schema.columns import (
    Json,
    metadata,
    one_of,
    secret,
    stamps,
    table,
    words,
)

relay_tokens = table("relay_tokens", words("name", 1, 255), *secret())
operator_tokens = table("operator_tokens", words("name", 1, 255), *secret())

banners = table(
    "banners",
    Column("message", Text(), nullable=False),
    Column("color", String(16), nullable=False),
    one_of("banners", "color", "warning", "info", "error", "success", "announcement"),
)

# Addresses in lower case that must not be mailed.
email_suppressions = Table(
    "email_suppressions",
    metadata,
    Column("email", String(320), primary_key=True),
    Column("inserted_at", UtcDateTime(), nullable=False),
)

outbound_emails = Table(
    "outbound_emails",
    metadata,
    Column("message_id", String(255), primary_key=True),
    Column("account_id", Uuid()),
    Column("subject", String(998), nullable=False),
    Column("recipients", Json, nullable=False),
    Column("inserted_at", UtcDateTime(), nullable=False),
    ForeignKeyConstraint(
        ["account_id"], ["accounts.id"], name="outbound_emails_account_id_fkey", ondelete="RESTRICT"
    ),
)
Index("outbound_emails_account_id_index", outbound_emails.c.account_id)

outbound_email_deliveries = Table(
    "outbound_email_deliveries",
    metadata,
    Column("message_id", String(255), nullable=False),
    Column("email", String(320), nullable=False),
    Column("status", String(16), nullable=False),
    *stamps(),
    PrimaryKeyConstraint("message_id", "email", name="outbound_email_deliveries_pkey"),
    ForeignKeyConstraint(
        ["message_id"],
        ["outbound_emails.message_id"],
        name="outbound_email_deliveries_message_id_fkey",
        ondelete="RESTRICT",
    ),
    one_of(
        "outbound_email_deliveries",
        "status",
        "pending",
        "delivered",
        "bounced",
        "suppressed",
        "quarantined",
        "filtered_spam",
        "failed",
    ),
)

# Work to do belongs to the installation; what it is about stands in `arguments`.
jobs = table(
    "jobs",
    Column("kind", String(64), nullable=False),
    Column("arguments", Json, nullable=False),
    Column("unique_key", String(255)),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer(), nullable=False),
    Column("max_attempts", Integer(), nullable=False),
    Column("run_at", UtcDateTime(), nullable=False),
    Column("leased_by", Uuid()),
    Column("lease_expires_at", UtcDateTime()),
    Column("last_error", String(1000)),
    Column("finished_at", UtcDateTime()),
    one_of("jobs", "state", "available", "executing", "completed", "discarded"),
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
