"""What belongs to no account (portal-domain §3.15, §14)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from wardgate.portal.store.rows.base import UNSTAMPED_AT, Row


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
class Banner(Row):
    """What the operator tells all admins (§3.15): `color` is warning, info, error, success or announcement."""

    table: ClassVar[str] = "banners"
    message: str
    color: str = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailSuppression:
    """An address, in lower case, that must not be mailed (§14)."""

    table: ClassVar[str] = "email_suppressions"
    email: str
    inserted_at: datetime = UNSTAMPED_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundEmail:
    """A message that the mail provider took and named (§14); it outlives its account."""

    table: ClassVar[str] = "outbound_emails"
    message_id: str
    subject: str
    recipients: list[str]
    account_id: UUID | None = None
    inserted_at: datetime = UNSTAMPED_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundEmailDelivery:
    """What became of a message at one recipient: pending, delivered, bounced, suppressed, quarantined, filtered_spam, failed."""

    table: ClassVar[str] = "outbound_email_deliveries"
    message_id: str
    email: str
    status: str = "pending"
    inserted_at: datetime = UNSTAMPED_AT
    updated_at: datetime = UNSTAMPED_AT


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
