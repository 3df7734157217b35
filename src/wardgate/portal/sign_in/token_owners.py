"""A token together with whose it is, in one statement that is put together once for each kind of token."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import bindparam, select

from wardgate.portal.installation.tables import ACCOUNTS, Account
from wardgate.portal.people.tables import ACTORS, Actor
from wardgate.portal.schema.declaration import TableDeclaration
from wardgate.portal.store import Transaction

_TokenT = TypeVar("_TokenT")

Finding = Callable[[Transaction, UUID, UUID], Coroutine[Any, Any, tuple[Account, Actor, _TokenT] | None]]
"""Takes a transaction, an account's id and a token's."""


def finds_with_owner(tokens: TableDeclaration[_TokenT]) -> Finding[_TokenT]:
    """Return what finds a token of this kind with its account and actor; None, too, if the account is deleted."""
    accounts, actors = ACCOUNTS.c, ACTORS.c
    statement = (
        select(ACCOUNTS.table, ACTORS.table, tokens.table)
        .select_from(
            tokens.table.join(ACCOUNTS.table, accounts.id == tokens.c.account_id).join(
                ACTORS.table,
                (actors.account_id == tokens.c.account_id) & (actors.id == tokens.c.actor_id),
            )
        )
        .where(
            tokens.c.account_id == bindparam("account_id"),
            tokens.c.id == bindparam("token_id"),
            accounts.deleted_at.is_(None),
        )
    )
    of_account, of_actor = len(accounts), len(accounts) + len(actors)

    async def find(
        transaction: Transaction, account_id: UUID, token_id: UUID
    ) -> tuple[Account, Actor, _TokenT] | None:
        rows = await transaction.look_up(statement, {"account_id": account_id, "token_id": token_id})
        if not rows:
            return None
        row = rows[0]
        return (
            ACCOUNTS.rows.of(row[:of_account]),
            ACTORS.rows.of(row[of_account:of_actor]),
            tokens.rows.of(row[of_actor:]),
        )

    return find
