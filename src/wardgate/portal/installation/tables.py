"""Accounts, and what belongs to none: operator, relays, mail, jobs (portal-domain §3.1, §3.15, §14)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    String,
    Text,
    func,
)

from wardgate.portal.schema.column_types import Uuid
from wardgate.portal.schema.columns import Words, key_bytes, one_of, secret, stamps, token_secret, words
from wardgate.portal.schema.declaration import (
    AllConnections,
    OnDelete,
    Recording,
    Reference,
    Removal,
    installation_table,
    plain_table,
)
from wardgate.portal.schema.rights import ALL, NONE, READ, READ_UPDATE, rights_of
from wardgate.portal.schema.row import UNSTAMPED_AT, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Row):
    """One tenant (§3.1). `key` is the short account code; `ingest_signing_key` is secret.

    Attributes:
        deleted_at: since when nobody finds it; its row goes last, when nothing else of it is left.
    """

    table: ClassVar[str] = "accounts"
    name: Annotated[str, Words(3, 64)]
    legal_name: Annotated[str, Words(1, 255)]
    slug: Annotated[str, Words(3, 100)]
    key: Annotated[str, Words(6, 6)]
    ingest_signing_key: bytes
    features: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    is_disabled: bool = False
    disabled_reason: str | None = None
    scheduled_deletion_at: datetime | None = None
    lock_enabled_at: datetime | None = None
    deleted_at: datetime | None = None


def _removed_with_a_disabled_account(before: Account, after: Account) -> Iterator[Removal]:
    if after.is_disabled and not before.is_disabled:
        yield Removal("policy_authorizations", {})
        yield Removal("client_tokens", {})


ACCOUNTS: Final = installation_table(
    Account,
    key_bytes("ingest_signing_key"),
    Column("disabled_reason", Text()),
    # Ours: an API client may change its account's settings, because the API offers them.
    rights=rights_of(admin=ALL, api_client=READ_UPDATE, user=READ, service_account=READ),
    heard_by=AllConnections(),
    removes_on_update=_removed_with_a_disabled_account,
)
Index("accounts_slug_index", func.lower(ACCOUNTS.c.slug), unique=True)
Index("accounts_key_index", ACCOUNTS.c.key, unique=True)
Index("accounts_deleted_at_index", ACCOUNTS.c.deleted_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayToken(Row):
    """A relay's credential; it belongs to the installation and to no account."""

    table: ClassVar[str] = "relay_tokens"
    name: str
    secret_salt: str
    secret_hash: str


RELAY_TOKENS: Final = installation_table(
    RelayToken, words("name", 1, 255), *token_secret(), heard_by=AllConnections()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorToken(Row):
    """The operator's credential for what belongs to no account."""

    table: ClassVar[str] = "operator_tokens"
    name: str
    secret_salt: str
    secret_hash: str


OPERATOR_TOKENS: Final = installation_table(OperatorToken, words("name", 1, 255), *token_secret())


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSession(Row):
    """A browser in which the operator is signed in. `token_id` names the token that opened it, and without which it
    is worth nothing; None: a one-time link did.
    """

    table: ClassVar[str] = "operator_sessions"
    token_id: UUID | None
    user_agent: Annotated[str, Words(0, 2000)]
    remote_ip: Annotated[str, Words(0, 45)]
    remote_ip_location_region: Annotated[str | None, Words(0, 255)]
    remote_ip_location_city: Annotated[str | None, Words(0, 255)]
    expires_at: datetime


OPERATOR_SESSIONS: Final = installation_table(
    OperatorSession,
    Column("token_id", Uuid()),
)
Index("operator_sessions_expires_at_index", OPERATOR_SESSIONS.c.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorLink(Row):
    """A one-time link that signs the operator in, made by whoever holds the data directory."""

    table: ClassVar[str] = "operator_links"
    secret_hash: str
    expires_at: datetime


OPERATOR_LINKS: Final = installation_table(
    OperatorLink,
    secret(Column("secret_hash", String(64), nullable=False)),
    recording=Recording.INTERNAL,
)
Index("operator_links_expires_at_index", OPERATOR_LINKS.c.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner(Row):
    """A message of the operator to all admins (§3.15): `color` is warning, info, error, success or announcement."""

    table: ClassVar[str] = "banners"
    message: str
    color: Annotated[str, Words(0, 16)] = "warning"


BANNERS: Final = installation_table(
    Banner,
    Column("message", Text(), nullable=False),
    one_of("color", "warning", "info", "error", "success", "announcement"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailSuppression:
    """An address, in lower case, that must not be mailed (§14)."""

    table: ClassVar[str] = "email_suppressions"
    email: str
    inserted_at: datetime = UNSTAMPED_AT


EMAIL_SUPPRESSIONS: Final = plain_table(
    EmailSuppression,
    Column("email", String(320), primary_key=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundEmail:
    """A message that the mail provider took and named (§14); it outlives its account."""

    table: ClassVar[str] = "outbound_emails"
    message_id: str
    subject: Annotated[str, Words(0, 998)]
    recipients: list[str]
    account_id: UUID | None = None
    inserted_at: datetime = UNSTAMPED_AT


OUTBOUND_EMAILS: Final = plain_table(
    OutboundEmail,
    Column("message_id", String(255), primary_key=True),
    Reference("account_id", "accounts", OnDelete.CLEAR, is_optional=True),
)
Index("outbound_emails_account_id_index", OUTBOUND_EMAILS.c.account_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundEmailDelivery:
    """What became of a message at one recipient: pending, delivered, bounced, suppressed, quarantined,
    filtered_spam, failed.
    """

    table: ClassVar[str] = "outbound_email_deliveries"
    message_id: Annotated[str, Words(0, 255)]
    email: Annotated[str, Words(0, 320)]
    status: Annotated[str, Words(0, 16)] = "pending"
    inserted_at: datetime = UNSTAMPED_AT
    updated_at: datetime = UNSTAMPED_AT


OUTBOUND_EMAIL_DELIVERIES: Final = plain_table(
    OutboundEmailDelivery,
    *stamps(),
    PrimaryKeyConstraint("message_id", "email", name="outbound_email_deliveries_pkey"),
    ForeignKeyConstraint(
        ["message_id"],
        ["outbound_emails.message_id"],
        name="outbound_email_deliveries_message_id_fkey",
        ondelete="RESTRICT",
    ),
    one_of(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Row):
    """A piece of background work; its changes are no part of any feed.

    Attributes:
        unique_key: at most one unfinished job has it.
        state: `available` (waits for `run_at`), `executing` (leased), `completed`, or `discarded` after its
            last attempt.
        attempt: how often it was begun.
        lease_expires_at: when another worker may take it over; the worker that runs it renews the lease.
    """

    table: ClassVar[str] = "jobs"
    kind: Annotated[str, Words(0, 64)]
    arguments: dict[str, Any]
    unique_key: Annotated[str | None, Words(0, 255)]
    state: Annotated[str, Words(0, 16)]
    attempt: int
    max_attempts: int
    run_at: datetime
    leased_by: UUID | None = None
    lease_expires_at: datetime | None = None
    last_error: Annotated[str | None, Words(0, 1000)] = None
    finished_at: datetime | None = None


# Work to do belongs to the installation; what it is about stands in `arguments`.
JOBS: Final = installation_table(
    Job,
    Column("leased_by", Uuid()),
    one_of("state", "available", "executing", "completed", "discarded"),
    rights=rights_of(admin=READ, api_client=NONE, user=NONE, service_account=NONE),
    recording=Recording.NONE,
)
Index(
    "jobs_unique_key_index",
    JOBS.c.unique_key,
    unique=True,
    sqlite_where=JOBS.c.finished_at.is_(None),
    postgresql_where=JOBS.c.finished_at.is_(None),
)
Index("jobs_state_run_at_index", JOBS.c.state, JOBS.c.run_at)
Index("jobs_finished_at_index", JOBS.c.finished_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSchedule:
    """Until when the jobs of a regular kind have been enqueued."""

    table: ClassVar[str] = "job_schedules"
    kind: str
    enqueued_until: datetime


JOB_SCHEDULES: Final = plain_table(
    JobSchedule,
    Column("kind", String(64), primary_key=True),
)
