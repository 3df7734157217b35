"""Tokens together with whose they are, in one statement that is put together once for each kind of token."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select, bindparam, select

from wardgate.portal.database.among import count_for, is_among, open_values
from wardgate.portal.installation.tables import ACCOUNTS, Account
from wardgate.portal.people.tables import ACTORS, Actor
from wardgate.portal.schema.declaration import TableDeclaration
from wardgate.portal.store import Transaction

_TokenT = TypeVar("_TokenT")

Owned = tuple[Account, Actor, _TokenT]

Finding = Callable[[Transaction, UUID, Sequence[UUID]], Coroutine[Any, Any, Mapping[UUID, Owned[_TokenT]]]]
"""Takes a transaction, an account's id and those of 1 to `MOST_AMONG` tokens; what it finds has their ids as keys."""


def finds_with_owners(tokens: TableDeclaration[_TokenT]) -> Finding[_TokenT]:
    """Return what finds tokens of this kind, each with its account and actor; none of a deleted account."""
    accounts, actors = ACCOUNTS.c, ACTORS.c

    @cache
    def statement(count: int) -> Select[Any]:
        return (
            select(ACCOUNTS.table, ACTORS.table, tokens.table)
            .select_from(
                tokens.table.join(ACCOUNTS.table, accounts.id == tokens.c.account_id).join(
                    ACTORS.table,
                    (actors.account_id == tokens.c.account_id) & (actors.id == tokens.c.actor_id),
                )
            )
            .where(
                tokens.c.account_id == bindparam("account_id"),
                is_among(tokens.c.id, "token", count),
                accounts.deleted_at.is_(None),
            )
        )

    of_account, of_actor = len(accounts), len(accounts) + len(actors)
    id_at = of_actor + list(tokens.table.c).index(tokens.c.id)

    async def find(
        transaction: Transaction, account_id: UUID, token_ids: Sequence[UUID]
    ) -> Mapping[UUID, Owned[_TokenT]]:
        count = count_for(token_ids)
        values = {"account_id": account_id, **open_values("token", token_ids, count)}
        return {
            row[id_at]: (
                ACCOUNTS.rows.of(row[:of_account]),
                ACTORS.rows.of(row[of_account:of_actor]),
                tokens.rows.of(row[of_actor:]),
            )
            for row in await transaction.look_up(statement(count), values)
        }

    return find
