"""The change feed's own tables: what every committed change of a declared table's row leaves (portal-domain §10.2)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import BigInteger, Column, ColumnElement, Index, PrimaryKeyConstraint

from wardgate.portal.schema.column_types import Uuid
from wardgate.portal.schema.columns import Words, one_of
from wardgate.portal.schema.declaration import plain_table
from wardgate.portal.schema.rights import LOG_READERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the change feed: what a committed transaction did to one row.

    Attributes:
        sequence: gapless per account, in commit order.
        audience: `audit` (admins read it) or `internal` (readers of the feed do, for a day: grants above all).
        before, after: the row as JSON, secrets as "[redacted]".
        subject: who did it (§10.2); None for the system itself.
    """

    table: ClassVar[str] = "changes"
    account_id: UUID
    sequence: int
    log_id: Annotated[str, Words(0, 24)]
    object: Annotated[str, Words(0, 64)]
    operation: Annotated[str, Words(0, 16)]
    audience: Annotated[str, Words(0, 16)]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    subject: dict[str, Any] | None
    committed_at: datetime


CHANGES: Final = plain_table(
    Change,
    Column("account_id", Uuid(), nullable=False),
    Column("sequence", BigInteger(), nullable=False),
    PrimaryKeyConstraint("account_id", "sequence", name="changes_pkey"),
    one_of("operation", "insert", "update", "delete"),
    one_of("audience", "audit", "internal"),
    rights=LOG_READERS,
    deleted_with_account=True,
)
Index("changes_account_id_log_id_index", CHANGES.c.account_id, CHANGES.c.log_id, unique=True)
Index("changes_audience_committed_at_index", CHANGES.c.audience, CHANGES.c.committed_at)


def is_deletion_of_account() -> ColumnElement[bool]:
    """Be true for the change that ends an account's feed."""
    return (CHANGES.c.object == "accounts") & (CHANGES.c.operation == "delete")


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
