"""Counting an attempt at a one-time code: one conditional UPDATE, so that of many guesses at once no more get through
than one after the other (identity §3).
"""

from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, exists, update

from wardgate.portal.people.tables import ACTORS
from wardgate.portal.sign_in.tables import ONE_TIME_PASSCODES, OneTimePasscode
from wardgate.portal.store import Transaction

MAX_ATTEMPTS: Final = 3


async def count_attempt(
    transaction: Transaction, account_id: UUID, code_id: UUID, actor_id: UUID, *of_actor: ColumnElement[bool]
) -> OneTimePasscode | None:
    """Count one more attempt at a code and return it; None if it is none of this actor's, has ended, or has been tried
    three times.

    Args:
        of_actor: what must be true of the actor besides being enabled, as conditions over `ACTORS.c`.
    """
    await transaction.hold(account_id)
    codes, actors = ONE_TIME_PASSCODES.table, ACTORS.c
    is_enabled = exists().where(
        actors.account_id == account_id, actors.id == actor_id, actors.is_disabled.is_(False), *of_actor
    )
    statement = (
        update(codes)
        .where(
            codes.c.account_id == account_id,
            codes.c.id == code_id,
            codes.c.actor_id == actor_id,
            codes.c.expires_at > transaction.now,
            codes.c.attempts < MAX_ATTEMPTS,
            is_enabled,
        )
        .values(attempts=codes.c.attempts + 1, updated_at=transaction.now)
        .returning(*codes.c)
    )
    row = (await transaction.execute(statement)).first()
    if row is None:
        return None
    tried = ONE_TIME_PASSCODES.rows.of(row)
    before = replace(tried, attempts=tried.attempts - 1)
    transaction.record(ONE_TIME_PASSCODES, account_id, "update", before, tried)
    return tried
