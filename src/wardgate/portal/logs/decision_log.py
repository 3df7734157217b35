"""The log of decisions (portal-domain §10): what was asked, what was answered, and why; no part of the change feed."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement

from wardgate.portal.logs.tables import DECISIONS, Decision
from wardgate.portal.schema.row_building import values_of
from wardgate.portal.store import AccountTables, Transaction


async def append_decisions(transaction: Transaction, decisions: Sequence[Decision]) -> None:
    """Append decisions; the database numbers them."""
    await transaction.insert_rows(
        DECISIONS.table,
        [
            {name: value for name, value in values_of(decision).items() if name != "seq"}
            for decision in decisions
        ],
    )


async def newest_decisions(
    tables: AccountTables, *conditions: ColumnElement[bool], limit: int
) -> list[Decision]:
    """Return the newest decisions of an account that meet conditions over `DECISIONS.c`.

    Raises:
        NotAllowed: the actor may not read them.
    """
    return await tables.entries(DECISIONS, *conditions, order_by=(DECISIONS.c.seq.desc(),), limit=limit)
