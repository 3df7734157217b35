"""A database with a row in every table there is, every column of it filled by at least one row."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import JSON, Boolean, Column, Float, Integer, LargeBinary, String, Table, insert, update

from unit.portal.store.conftest import make_account
from unit.portal.store.whole_account import fill_account
from wardgate.portal.database.consequences import ACCOUNT_TABLES_IN_DELETION_ORDER
from wardgate.portal.installation.tables import ACCOUNTS
from wardgate.portal.schema.column_types import UtcDateTime, Uuid
from wardgate.portal.store import Store, Transaction
from wardgate.portal.tables import metadata

_SOME_TIME: Final = datetime(2029, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
_WORDS: Final[dict[str, dict[str, Any]]] = {
    "changes": {"operation": "update", "audience": "audit"},
    "decisions": {"outcome": "granted"},
    "session_logs": {"context": "portal"},
    "flow_logs": {"role": "initiator", "protocol": "tcp"},
    "jobs": {"state": "executing", "finished_at": None},
    "banners": {"color": "info"},
    "outbound_emails": {"message_id": "m-1"},
    "outbound_email_deliveries": {"message_id": "m-1", "status": "bounced"},
}
"""What a value must be where not every one of its type will do."""


async def fill_database(store: Store) -> UUID:
    """Fill a store that has nothing yet; returns the account."""
    account_id = await make_account(store, "acme")
    async with store.writing({"actor_name": "Ада", "ip_lat": 52.5}) as transaction:
        await fill_account(transaction, account_id)
        for table in metadata.sorted_tables:
            if not _is_filled(table):
                await _fill(transaction, table, account_id)
        accounts = ACCOUNTS.table
        await transaction.execute(
            update(accounts)
            .where(accounts.c.id == account_id)
            .values(
                disabled_reason="why",
                scheduled_deletion_at=_SOME_TIME,
                lock_enabled_at=_SOME_TIME,
                features={"policy_conditions": True},
                limits={"users_count": 5},
                config={"search_domain": "example.org"},
            )
        )
    deleted_id = await make_account(store, "deleted")
    async with store.writing() as transaction:
        await transaction.accounts.delete(deleted_id)  # something is left of it
    return account_id


async def _fill(transaction: Transaction, table: Table, account_id: UUID) -> None:
    values = {column.name: _value(column, account_id) for column in table.c}
    await transaction.execute(insert(table).values(values | _WORDS.get(table.name, {})))


def _is_filled(table: Table) -> bool:
    """Tell whether the account brought a row of it."""
    return table.name in ("accounts", "change_counters", *ACCOUNT_TABLES_IN_DELETION_ORDER)


def _value(column: Column[Any], account_id: UUID) -> Any:
    if column.name == "account_id":
        return account_id
    kind = column.type
    if isinstance(kind, Uuid):
        return UUID(int=99)
    if isinstance(kind, UtcDateTime):
        return _SOME_TIME
    if isinstance(kind, JSON):
        return {"": ["ü", 1.5, None, True]}
    if isinstance(kind, String):
        return "é" * min(6, kind.length or 6)
    if isinstance(kind, LargeBinary):
        return bytes(range(256))
    if isinstance(kind, Boolean):
        return True
    if isinstance(kind, Float):
        return -6.9603
    assert isinstance(kind, Integer)
    return 2**31 - 1
