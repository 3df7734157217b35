"""What all rows share."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar
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
