"""What is known of outbound e-mail: messages a provider took, what became of them, and addresses not to be
mailed (portal-domain §14).

No part of any feed, and nothing of it goes with an account. Addresses are kept in lower case.
"""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from wardgate.portal.database.refusals import check_storable
from wardgate.portal.installation.tables import (
    EMAIL_SUPPRESSIONS,
    OUTBOUND_EMAIL_DELIVERIES,
    OUTBOUND_EMAILS,
    OutboundEmail,
    OutboundEmailDelivery,
)
from wardgate.portal.store import Transaction

_EMAILS: Final = OUTBOUND_EMAILS.c
_DELIVERIES: Final = OUTBOUND_EMAIL_DELIVERIES.c
_SUPPRESSIONS: Final = EMAIL_SUPPRESSIONS.c


class MailRecords:
    """These tables inside one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def suppressed(self, emails: Collection[str]) -> frozenset[str]:
        """Return which of these addresses must not be mailed, in lower case."""
        statement = select(_SUPPRESSIONS.email).where(
            _SUPPRESSIONS.email.in_({one.lower() for one in emails})
        )
        result = await self._transaction.execute(statement)
        return frozenset(result.scalars())

    async def suppress(self, email: str) -> None:
        """Remember that an address must not be mailed."""
        await self._insert_new(
            EMAIL_SUPPRESSIONS.table, {"email": email.lower(), "inserted_at": self._transaction.now}
        )

    async def record(self, email: OutboundEmail, addresses: Collection[str]) -> None:
        """Remember a message that a provider took, with a pending delivery to each address; what is known
        already is left as it is.
        """
        now = self._transaction.now
        row = {
            "message_id": email.message_id,
            "account_id": email.account_id,
            "subject": email.subject,
            "recipients": email.recipients,
            "inserted_at": now,
        }
        await self._insert_new(OUTBOUND_EMAILS.table, row)
        for address in addresses:
            delivery = {
                "message_id": email.message_id,
                "email": address.lower(),
                "status": "pending",
                "inserted_at": now,
                "updated_at": now,
            }
            await self._insert_new(OUTBOUND_EMAIL_DELIVERIES.table, delivery)

    async def load(self, message_id: str) -> OutboundEmail | None:
        """Return a message, or none."""
        result = await self._transaction.execute(
            select(OUTBOUND_EMAILS.table).where(_EMAILS.message_id == message_id)
        )
        row = result.mappings().one_or_none()
        return None if row is None else OutboundEmail(**row)

    async def deliveries(self, message_id: str) -> list[OutboundEmailDelivery]:
        """Return what became of a message, one entry a recipient."""
        result = await self._transaction.execute(
            select(OUTBOUND_EMAIL_DELIVERIES.table)
            .where(_DELIVERIES.message_id == message_id)
            .order_by(_DELIVERIES.email)
        )
        return [OutboundEmailDelivery(**row) for row in result.mappings()]

    async def report(self, message_id: str, email: str, status: str) -> bool:
        """Note what became of a pending delivery; false: there is none pending."""
        self._transaction.require_writable()
        result = await self._transaction.execute(
            update(OUTBOUND_EMAIL_DELIVERIES.table)
            .where(
                _DELIVERIES.message_id == message_id,
                _DELIVERIES.email == email.lower(),
                _DELIVERIES.status == "pending",
            )
            .values(status=status, updated_at=self._transaction.now)
        )
        return bool(result.rowcount)

    async def _insert_new(self, table: Any, row: dict[str, Any]) -> None:
        self._transaction.require_writable()
        check_storable(table, row)
        dialect = postgresql if self._transaction.dialect == "postgresql" else sqlite
        await self._transaction.execute(dialect.insert(table).values(row).on_conflict_do_nothing())
